from __future__ import annotations

import sys

from skllm_calib import LLMClassifier
from skllm_calib.utils import progress


def test_silent_by_default(capsys):
    with progress.bar(0, "rows") as update:
        assert update is None
    assert capsys.readouterr() == ("", "")


def test_a_bar(capsys):
    with progress.bar(1, "rows") as update:
        update(2, 10)
        update(10, 10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "rows" in err


def test_lines_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with progress.bar(1, "rows") as update:
        for done in range(1, 21):
            update(done, 20)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"{n} of 20" for n in range(2, 21, 2)]


def test_the_classifier_shows_it(capsys, counted, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    clf = LLMClassifier(counted(), classes=["a", "b"], cache=None, verbose=1)
    clf.predict(["x", "y"])
    assert capsys.readouterr().err.splitlines()[-1] == "2 of 2"
