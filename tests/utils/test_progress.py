from __future__ import annotations

import sys
import threading
import time

import pytest

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, LLMEnsembleClassifier
from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils import progress


class Terminal:
    """A stream that somebody watches."""

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize("verbose", [0, False])
def test_silent_where_it_is_not_wanted(verbose, capsys):
    with progress.bar(verbose, "rows") as update:
        assert update is None
    assert capsys.readouterr() == ("", "")


def test_what_is_short_shows_nothing(capsys):
    with progress.bar("auto", "rows") as update:
        update(1, 2)
        update(2, 2)
    assert capsys.readouterr() == ("", "")


def test_a_line_every_ten_seconds_where_nobody_watches(capsys, clock):
    with progress.bar("auto", "rows") as update:
        for n in range(31):  # one each second
            update(n, 60, f"${n}")
            clock.now += 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "10 of 60 rows, 1 per second, 50 s left, $10",
        "20 of 60 rows, 1 per second, 40 s left, $20",
        "30 of 60 rows, 1 per second, 30 s left, $30",
    ]


def test_at_once_if_wanted_and_once_more_at_the_end(capsys, clock):
    with progress.bar(1, "rows") as update:
        for n in range(4):
            update(n, 3)
            clock.now += 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["0 of 3 rows", "3 of 3 rows"]


def test_what_was_there_at_the_start_does_not_count_as_speed(capsys, clock):
    with progress.bar("auto", "rows") as update:
        update(900, 1_000)
        clock.now += 10
        update(910, 1_000)
    assert capsys.readouterr().err == "910 of 1,000 rows, 1 per second, 1 min 30 s left\n"


def test_bars_inside_of_one_another_are_one(capsys, clock):
    with progress.stage("calibrating"):
        for k in range(2):
            with progress.stage(f"fold {k + 1} of 2"), progress.bar("auto", "requests") as update:
                for n in range(8):
                    update(n, 8)
                    clock.now += 1
    # The time counts from the beginning of the whole.
    assert [line.split(",")[1] for line in capsys.readouterr().err.splitlines()] == [
        " fold 2 of 2: 2 of 8 requests",
        " fold 2 of 2: 7 of 8 requests",
    ]


def test_bars_of_several_threads_are_one(capsys, clock):
    with progress.bar(1, "requests") as first, progress.bar(1, "requests") as second:
        first(1, 10)
        clock.now += 10
        thread = threading.Thread(target=second, args=(2, 10, ""))
        thread.start()
        thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["1 of 10 requests", "3 of 20 requests"]


def test_a_bar_in_a_terminal(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress.stage("fold 1 of 5"), progress.bar(1, "rows") as update:
        update(2, 10, "$0.01")
        time.sleep(0.15)
        update(10, 10, "$0.05")
    assert "fold 1 of 5: 100%" in terminal.written
    assert "10/10" in terminal.written
    assert "$0.05" in terminal.written


def test_lines_in_a_terminal_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress.bar(1, "rows") as update:
        update(10, 10)
    assert terminal.written.startswith("10 of 10 rows")


def test_what_the_parts_of_a_call_share():
    assert progress.shared_in_call("x", list) is not progress.shared_in_call("x", list)
    with progress.stage("outer"):
        mine = progress.shared_in_call("x", list)
        with progress.stage("inner"):
            assert progress.shared_in_call("x", list) is mine
        call, found = progress.current_call(), []
        thread = threading.Thread(
            target=lambda: found.append(progress.in_call(call, progress.shared_in_call, "x", list))
        )
        thread.start()
        thread.join()
        assert found[0] is mine
    with progress.stage("another"):
        assert progress.shared_in_call("x", list) is not mine


# ------------------------------------------------------------------------------- estimators

TEXTS = [f"message number {i}" for i in range(40)]
LABELS = ["a", "b"] * 20


def lines(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_classifier_shows_it(counted, capsys):
    clf = LLMClassifier(counted(), classes=["a", "b"], cache=None, verbose=1)
    clf.predict(TEXTS[:2])
    assert lines(capsys)[-1].startswith("2 of 2 ")
    clf.set_params(verbose="auto").predict(TEXTS[:2])
    clf.set_params(verbose=0).predict(TEXTS[:2])
    assert lines(capsys) == []


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_calibration_and_ensembles_say_what_they_are_at(n_jobs, counted, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_BETWEEN_LINES", 0.0)
    clf = LLMClassifier(counted(), classes=["a", "b"], n_shots=1, cache=None, verbose=1)
    both = LLMEnsembleClassifier([("one", clf), ("two", clf)], n_jobs=n_jobs)
    CalibratedLLMClassifier(both).fit(TEXTS, LABELS)
    said = {line.split(":")[0] for line in lines(capsys)}
    if n_jobs is not None:  # two threads show one line, whichever of them is first
        said = {f"{at.partition(', member')[0]}, member {i} of 2" for at in said for i in (1, 2)}
    assert {f"calibration, fold {k} of 5, member {i} of 2" for k in (1, 5) for i in (1, 2)} <= said


def test_an_unknown_verbose_is_an_error(counted):
    with pytest.raises(InvalidInput, match="verbose='often'"):
        LLMClassifier(counted(), classes=["a"], cache=None, verbose="often").predict(["x"])


def test_what_everybody_waits_for_is_shown_although_nothing_is_done(capsys, clock):
    with progress.bar(1, "rows") as update:
        progress.note("waiting 9 s")  # nothing to show yet
        progress.note("")
        update(1, 4, "$1")
        clock.now += 10
        progress.note("waiting 12 s")
        progress.note("waiting 12 s")
        clock.now += 10
        progress.note("waiting 2 s")
        progress.note("")
        update(4, 4, "$4")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "1 of 4 rows, $1",
        "1 of 4 rows, $1, waiting 12 s",
        "1 of 4 rows, $1, waiting 2 s",
        "4 of 4 rows, 0.15 per second, $4",
    ]
