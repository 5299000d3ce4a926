"""The file of a queue on a disk that fails; the rest is in tests/utils/test_sqlite.py."""

from __future__ import annotations

import os

import pytest

from skllm_calib import ResponseCache
from skllm_calib.exceptions import InvalidInput, StorageError
from skllm_calib.operations.queue import ReviewQueue
from skllm_calib.utils import sqlite

ROW = {"id": 1, "text": "a", "proba": [0.3, 0.7], "action": "review"}


@pytest.fixture
def queue(tmp_path):
    queue = ReviewQueue(tmp_path / "made" / "queue.sqlite", classes=["ham", "spam"])
    queue.add([ROW])
    return queue


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_only_the_owner_may_read(queue):
    paths = [queue.path.parent, *queue.path.parent.iterdir()]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def test_a_full_disk_takes_all_rows_or_none(queue):
    sqlite.SQLiteFile(queue.path, queue._file.schema).connect().execute("PRAGMA max_page_count=30")
    more = [ROW | {"id": i, "text": "x" * 1_000} for i in range(2, 300)]
    with pytest.raises(StorageError, match=r"review queue '.*queue.sqlite' .*disk is full"):
        queue.add(more)
    assert [row["id"] for row in queue.waiting()] == ["1"]
    assert queue.add_label(1, "ham", reviewer="Ann")


def test_a_damaged_file(queue):
    queue._file.connect().execute("PRAGMA journal_mode = DELETE")
    queue._file.connect().close()
    sqlite._local.__dict__.clear()
    os.truncate(queue.path, 6_000)
    with pytest.raises(StorageError, match=r"queue.sqlite' is damaged .*another 'path'"):
        ReviewQueue(queue.path).waiting()


def test_a_read_only_disk(queue, disks):
    queue._file.connect().close()
    sqlite._local.__dict__.clear()
    disks.make_read_only(queue.path.parent)
    assert [row["id"] for row in queue.waiting()] == ["1"]
    with pytest.raises(StorageError, match=r"queue.sqlite' cannot be written: it is read-only"):
        queue.add_label(1, "ham", reviewer="Ann")


def test_a_cache_is_no_queue(queue, tmp_path):
    cache = ResponseCache(tmp_path / "replies.sqlite")
    cache.set_many({"a": "1"})
    with pytest.raises(InvalidInput, match="SQLite file, but not a review queue"):
        ReviewQueue(cache.path, classes=["ham", "spam"])
    with pytest.raises(InvalidInput, match="SQLite file, but not a response cache") as caught:
        ResponseCache(queue.path).get_many(["a"])
    assert caught.value.parameter == "cache"
