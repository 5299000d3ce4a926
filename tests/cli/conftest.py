"""Small files of rows, and a cache of its own for every test."""

import contextlib
import csv
import io
import random
import shutil

import pytest

from skllm_calib.backends import clear_handles


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    path = tmp_path / "cache" / "replies.sqlite"
    monkeypatch.setenv("SKLLM_CALIB_CACHE", str(path))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield path
    clear_handles()


def write_rows(path):
    """Write 120 labelled rows whose text tells the label to those who know."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["id", "message", "kind"])
        for i in range(120):
            kind = "spam" if rng.random() < 0.4 else "ham"
            writer.writerow([i, f'message {i}, "quoted", for {kind}', kind])
    return path


@pytest.fixture
def rows_csv(tmp_path):
    return write_rows(tmp_path / "rows.csv")


@pytest.fixture(scope="session")
def calibrated_once(tmp_path_factory):
    """Calibrate the testing backend on 60 of the rows, once for all tests."""
    from skllm_calib.cli import main

    folder = tmp_path_factory.mktemp("calibrated")
    rows = write_rows(folder / "rows.csv")
    argv = ["calibrate", str(rows), "--text", "message", "--label", "kind", "--cache", "none"]
    argv += ["--model", "testing:cli", "--n-rows", "60", "--quiet", "--out"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([*argv, str(folder / "classifier")]) == 0
    return folder / "classifier"


@pytest.fixture
def calibrated_dir(calibrated_once, tmp_path):
    """Copy that classifier, so that a test may change it."""
    return shutil.copytree(calibrated_once, tmp_path / "classifier")
