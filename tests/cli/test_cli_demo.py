"""demo: the story, told with a stand-in and, on few rows, with the real model."""

import builtins

import pytest

from skllm_calib.backends import TestingBackend
from skllm_calib.cli import demo, main
from skllm_calib.datasets import load_messages
from skllm_calib.exceptions import ModelNotFound


@pytest.fixture
def stand_in(monkeypatch):
    """Put a model that knows most answers, and doubts the others, in place of the real one."""
    data = load_messages()
    rules = {}
    for i, (text, label) in enumerate(zip(data.data, data.target.tolist(), strict=True)):
        other = "positive" if label == "negative" else "negative"
        if i % 4 == 0:
            rules[text] = {other: 0.6, label: 0.4}
        else:
            share = 0.93 + 0.069 * (i % 97) / 97
            rules[text] = {label: share, other: 1 - share}
    monkeypatch.setattr(
        "skllm_calib.evidence.binding.resolve_model",
        lambda model: TestingBackend(rules, name="demo"),
    )
    monkeypatch.setattr(demo, "find_smollm2", lambda: None)


def test_the_story(stand_in, tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main(["demo", "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "reads 765 short customer messages" in out
    assert "200 labelled messages are enough" in " ".join(out.split())
    for word in ("log-loss", "Brier", "ECE", "noise floor", "accept from probability"):
        assert word in out
    assert "\n  accept  " in out
    assert "\n  review  " in out
    assert f"Written to {folder}: card.json, reliability.png" in out
    assert (folder / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "card.json").is_file()


def test_without_a_picture(stand_in, tmp_path, monkeypatch, capsys):
    argv = ["demo", "--out", str(tmp_path / "d"), "--n-rows", "80"]
    assert main([*argv, "--no-plot"]) == 0
    assert "card.json\n" in capsys.readouterr().out
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(argv) == 0
    assert "No picture: the reliability diagram needs matplotlib" in capsys.readouterr().err


def test_when_nothing_can_be_promised(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "skllm_calib.evidence.binding.resolve_model", lambda model: TestingBackend()
    )
    monkeypatch.setattr(demo, "find_smollm2", lambda: None)
    assert main(["demo", "--out", str(tmp_path), "--n-rows", "60", "--no-plot"]) == 0
    assert "No threshold can be promised" in capsys.readouterr().out


def test_when_no_row_reaches_the_threshold(stand_in, monkeypatch, tmp_path, capsys):
    found = {"target": 0.8, "threshold": 1.0, "coverage": 0.1, "n_accepted": 1, "n_errors": 0}
    monkeypatch.setattr(demo, "threshold", lambda *args: found)
    assert main(["demo", "--out", str(tmp_path), "--n-rows", "60", "--no-plot"]) == 0
    assert "none reaches it, so all go to a person" in " ".join(capsys.readouterr().out.split())


def test_errors(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "find_smollm2", lambda: None)
    assert main(["demo", "--n-rows", "5", "--no-plot", "--quiet", "--out", str(tmp_path)]) == 1
    assert "--n-rows 5 is too few" in capsys.readouterr().err

    def missing():
        raise ModelNotFound("not installed: run 'skllm-calib download smollm2'")

    monkeypatch.setattr(demo, "find_smollm2", missing)
    assert main(["demo"]) == 1
    assert "run 'skllm-calib download smollm2'" in capsys.readouterr().err


@pytest.mark.local_llm
def test_the_real_model(smollm2, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--n-rows", "40", "--no-plot"]) == 0
    out = capsys.readouterr().out
    assert "20 labelled messages" in " ".join(out.split())
    assert "Done in" in out
