"""Small files of rows, and a cache of its own for every test."""

import csv
import random

import pytest

from skllm_calib.backends import clear_handles


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    path = tmp_path / "cache" / "replies.sqlite"
    monkeypatch.setenv("SKLLM_CALIB_CACHE", str(path))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield path
    clear_handles()


@pytest.fixture
def rows_csv(tmp_path):
    """Write 120 labelled rows whose text tells the label to those who know."""
    path = tmp_path / "rows.csv"
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["id", "message", "kind"])
        for i in range(120):
            kind = "spam" if rng.random() < 0.4 else "ham"
            writer.writerow([i, f'message {i}, "quoted", for {kind}', kind])
    return path


@pytest.fixture
def calibrated_dir(rows_csv, tmp_path, capsys):
    """Calibrate the testing backend on 60 of the rows."""
    from skllm_calib.cli import main

    out = tmp_path / "classifier"
    argv = ["calibrate", str(rows_csv), "--text", "message", "--label", "kind", "--out", str(out)]
    assert main([*argv, "--model", "testing:cli", "--n-rows", "60", "--quiet"]) == 0
    capsys.readouterr()
    return out
