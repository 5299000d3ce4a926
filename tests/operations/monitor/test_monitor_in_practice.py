"""Rows that failed, batches without rows, files that are damaged, several processes at once."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest

from skllm_calib import CalibrationMonitor, ReviewPolicy
from skllm_calib.calibration import CalibrationCard
from skllm_calib.exceptions import DamagedFile
from skllm_calib.utils.files import locked

fork = multiprocessing.get_context("fork")


@pytest.fixture
def monitor():
    p = np.random.default_rng(0).beta(3, 1, size=300)
    return CalibrationMonitor().fit(None, p, classes=["no", "yes"])


def proba(n, seed=1):
    p = np.random.default_rng(seed).beta(3, 1, size=n)
    return np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize("failed", [[0], [3, 4], list(range(10))])
def test_rows_that_failed_are_counted_and_not_watched(monitor, failed):
    rows = proba(10)
    rows[failed] = np.nan
    good = np.delete(rows, failed, axis=0)
    y = np.resize(["yes", "no", None], 10).astype(object)
    monitor.update(y, rows, ids=[f"r{i}" for i in range(10)])
    summary = monitor.summary()
    assert (summary["rows"], summary["failed_rows"]) == (10, len(failed))
    assert monitor.n_labels_ == sum(y[i] is not None for i in range(10) if i not in failed)
    expected = good.max(axis=1).mean() if len(good) else None
    assert summary["mean_confidence"] == (None if expected is None else pytest.approx(expected))
    again = CalibrationMonitor.from_json(monitor.to_json())
    before = again.n_labels_
    again.add_labels(["r2", "r5", "r8"], ["yes"] * 3)
    assert again.n_labels_ - before == sum(i not in failed for i in (2, 5, 8))


def test_reference_rows_that_failed_are_left_out(monitor):
    p = np.random.default_rng(0).beta(3, 1, size=300)
    with_holes = np.insert(p, [3, 100], np.nan)
    found = CalibrationMonitor().fit(None, with_holes, classes=["no", "yes"])
    assert found.to_json() == monitor.to_json()
    with pytest.raises(ValueError, match="NaN in every row"):
        CalibrationMonitor().fit(None, [np.nan] * 5, classes=["no", "yes"])


@pytest.mark.parametrize("y", [None, [], np.array([])])
@pytest.mark.parametrize(
    "rows", [[], np.empty((0, 2)), np.empty(0), pd.DataFrame({"no": [], "yes": []})]
)
def test_an_empty_batch_changes_nothing(monitor, rows, y):
    before = monitor.to_json()
    assert monitor.update(y, rows, ids=[]) == []
    assert monitor.add_labels([], []) == []
    assert monitor.to_json() == before


def _damage(text):
    content = json.loads(text)
    yield ""
    yield text[: len(text) // 2]
    yield text[:-20] + "\0" * 20
    yield "[1, 2]"
    yield "{}"
    for name in ("n_rows", "n_labels", "pending", "classes", "reference", "labels"):
        for value in (None, "x", -1, {}):
            broken = json.loads(text)
            broken["state"][name] = value
            yield json.dumps(broken)
    del content["parameters"]
    yield json.dumps(content)


def test_a_damaged_monitor_is_one_clear_error(monitor, tmp_path):
    monitor.update(None, proba(5), ids=range(5))
    path = tmp_path / "state of march.json"
    for text in _damage(monitor.to_json()):
        path.write_text(text)
        with pytest.raises(DamagedFile, match=r"state of march\.json.*Restore a backup") as caught:
            CalibrationMonitor.load(path)
        assert isinstance(caught.value, ValueError)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFile, match="march"):
        CalibrationMonitor.load(path)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        CalibrationMonitor.load(tmp_path / "elsewhere.json")


@pytest.mark.parametrize("kind", [ReviewPolicy, CalibrationCard])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"format": 3'])
def test_other_damaged_files(kind, content, tmp_path):
    (tmp_path / "kept.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"kept\.json"):
        kind.load(tmp_path / "kept.json")


def _update(path, barrier, k, times):
    barrier.wait()
    for i in range(times):
        with CalibrationMonitor.updating(path) as kept:
            kept.update(None, proba(7, seed=100 * k + i))
    os._exit(0)


def test_processes_at_once_lose_nothing(monitor, tmp_path):
    path = tmp_path / "m.json"
    monitor.save(path)
    barrier = fork.Barrier(3)
    workers = [fork.Process(target=_update, args=(path, barrier, k, 6)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert CalibrationMonitor.load(path).n_rows_ == 3 * 6 * 7
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def _hold(path, ready):
    with locked(path):
        ready.set()
        time.sleep(60)


def test_a_killed_owner_blocks_nobody(monitor, tmp_path):
    path = tmp_path / "m.json"
    monitor.save(path)
    ready = fork.Event()
    owner = fork.Process(target=_hold, args=(path, ready))
    owner.start()
    assert ready.wait(30)
    another = locked(path, timeout=0.1)
    with pytest.raises(TimeoutError, match=r"m\.json.*in use by another process"):
        another.__enter__()
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(30)
    with CalibrationMonitor.updating(path) as kept:
        kept.update(None, proba(3))
    assert CalibrationMonitor.load(path).n_rows_ == 3


def test_a_failed_update_leaves_the_file(monitor, tmp_path):
    path = tmp_path / "m.json"
    monitor.save(path)
    before = path.read_bytes()

    def half_done():
        with CalibrationMonitor.updating(path) as kept:
            kept.update(None, proba(3))
            kept.update(None, np.ones((2, 2)))

    with pytest.raises(ValueError, match="sum to 1"):
        half_done()
    assert path.read_bytes() == before
