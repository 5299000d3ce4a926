"""Claims, and replies on their way into the cache: processes that are killed, disks that fail."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from storage_contract import ASK, SHARE, ClaimsContract, needs_sigkill, program, read, together

from skllm_calib import ResponseCache
from skllm_calib.evidence.storage import arrivals, sqlite_claims
from skllm_calib.evidence.workers import Worker
from skllm_calib.exceptions import StorageError
from skllm_calib.utils import sqlite

needs_locks = pytest.mark.skipif(
    arrivals.fcntl is None, reason="needs locks that end by themselves"
)


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "cache" / "replies.sqlite")


@pytest.fixture
def worker(cache):
    return Worker(cache, read)


def rows(cache, table):
    connection = sqlite3.connect(cache.path)
    (n,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
    connection.close()
    return n


def folder(cache):
    return cache.path.with_name("replies.sqlite-arrived")


@needs_locks
class TestSQLite(ClaimsContract):
    pass


def test_where_a_reply_is_on_its_way(cache, worker):
    assert worker.known(["a"]) == {}
    assert not cache.path.exists()
    assert worker.claim(["a", "b"]) == ({}, ["a", "b"])
    worker.keep("a", '"1"')
    assert rows(cache, "replies") == 0  # it waits for others,
    assert Worker(cache, read).known(["a", "b"]) == {"a": "1"}  # and is known already
    assert Worker(cache, read).claim(["a", "b"]) == ({"a": "1"}, [])
    worker.release()
    assert rows(cache, "replies") == 1
    assert rows(cache, "claims") == rows(cache, "owners") == 0
    assert list(folder(cache).iterdir()) == []
    assert Worker(cache, read).claim(["a", "b"]) == ({"a": "1"}, ["b"])


@pytest.mark.parametrize(("group", "period", "in_the_end"), [(10, 60, 20), (1_000, 0, 25)])
def test_replies_go_into_the_database_together(
    cache, worker, monkeypatch, group, period, in_the_end
):
    monkeypatch.setattr(sqlite_claims, "_GROUP", group)
    monkeypatch.setattr(sqlite_claims, "_PERIOD", period)
    keys = [f"k{i}" for i in range(25)]
    worker.claim(keys)
    for key in keys:
        worker.keep(key, f'"{key}"')
        assert key in cache.get_many([key])
    assert rows(cache, "replies") == in_the_end
    worker.release()
    assert cache.get_many(keys) == {key: f'"{key}"' for key in keys}


# -- damaged values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["'\"half'", "''", "'{}'", "'5'", "5", "2.5", "x'22fffe22'", "CAST(x'2280' AS TEXT)", "'[[[['"],
)
def test_a_damaged_value_is_replaced(cache, worker, value):
    cache.set_many({"a": '"1"', "b": '"2"'})
    connection = sqlite3.connect(cache.path)
    with connection:
        connection.execute(f"UPDATE replies SET value = {value} WHERE key = 'a'")
    connection.close()
    assert worker.known(["a", "b"]) == {"b": "2"}
    with pytest.warns(UserWarning, match=r"1 replies in .*replies.sqlite' were damaged"):
        assert worker.claim(["a", "b"]) == ({"b": "2"}, ["a"])
    worker.keep("a", '"3"')
    worker.release()
    assert Worker(cache, read).known(["a", "b"]) == {"a": "3", "b": "2"}


def test_a_file_of_arrivals_that_was_cut_off(cache, worker):
    worker.claim(["a", "b"])
    worker.keep("a", '"1"')
    (path,) = folder(cache).iterdir()
    for rubbish in (b'["b", "2"]\n', b"\xff\xfe\n", b"5\n", b'[1, "2"]\n', b'["b", "\\"2'):
        with path.open("ab") as file:
            file.write(rubbish)
        assert Worker(cache, read).claim(["a", "b"]) == ({"a": "1"}, [])
    worker.release()
    with pytest.warns(UserWarning, match="damaged"):
        assert worker.claim(["a", "b"]) == ({"a": "1"}, ["b"])


# -- processes that end ----------------------------------------------------------------------------


@needs_locks
@pytest.mark.parametrize("pid", [4194305, 1])
def test_a_container_of_the_same_name_lives(cache, worker, monkeypatch, pid):
    # Its processes have numbers of their own, and here nobody or another has this one.
    monkeypatch.setattr(os, "getpid", lambda: pid)
    other = Worker(cache, read)
    with monkeypatch.context() as patch:
        patch.setattr("skllm_calib.utils.owners._look", lambda pid: ("S", "boot.1"))
        other.claim(["a"])
    monkeypatch.undo()
    assert worker.claim(["a"]) == ({}, [])
    other.release()
    assert worker.claim(["a"]) == ({}, ["a"])


def test_links_to_a_cache_share_what_arrived(cache, worker, tmp_path):
    worker.claim(["a"])
    worker.keep("a", '"1"')
    (tmp_path / "link.sqlite").symlink_to(cache.path)
    assert ResponseCache(tmp_path / "link.sqlite").get_many(["a"]) == {"a": '"1"'}


def put_claim(cache, key, owner, until):
    cache.set_many({})
    connection = sqlite3.connect(cache.path)
    with connection:
        connection.execute("INSERT INTO owners VALUES (?, ?)", (owner, time.time() + until))
        connection.execute("INSERT INTO claims VALUES (?, ?)", (key, owner))
    connection.close()


HERE = socket.gethostname()
OLD = "0" * 32  # earlier versions did not say when the process began


@pytest.mark.parametrize(
    ("owner", "until", "waits"),
    [
        ("elsewhere/1/x", 60, True),
        ("elsewhere/1/x", -1, False),
        (f"{HERE}/{os.getpid()}/{OLD}", 60, True),
        (f"{HERE}/{os.getpid()}/{OLD}", -1, False),
        (f"{HERE}/4194305/{OLD}", 60, False),  # above the highest number of a process
        pytest.param(f"{HERE}/{os.getpid()}/another-boot.5-{OLD}", 60, False, marks=needs_locks),
    ],
    ids=["elsewhere", "elsewhere, over", "here", "here, over", "ended", "before the last boot"],
)
def test_claims_of_others(cache, worker, owner, until, waits):
    put_claim(cache, "a", owner, until)
    assert worker.claim(["a"]) == ({}, [] if waits else ["a"])


def test_a_reply_prolongs_a_claim(cache, worker, monkeypatch):
    monkeypatch.setattr(sqlite_claims, "_LEASE", 0.3)
    monkeypatch.setattr(sqlite_claims, "_PERIOD", 0)
    worker.claim(["a", "b"])
    for _ in range(3):
        time.sleep(0.15)
        worker.keep("a", '"1"')
        assert Worker(cache, read).claim(["b"]) == ({}, [])
    time.sleep(0.35)
    assert Worker(cache, read).claim(["b"]) == ({}, ["b"])


def test_without_locks_a_silent_file_is_taken_in(cache, worker, monkeypatch):
    monkeypatch.setattr(arrivals, "fcntl", None)
    worker.claim(["a", "b"])
    worker.keep("a", '"1"')
    assert Worker(cache, read).claim(["a", "b"]) == ({"a": "1"}, [])
    monkeypatch.setattr(arrivals, "_SILENCE", -1)
    other = Worker(cache, read)
    assert other.claim(["a", "b"]) == ({"a": "1"}, ["b"])
    worker.keep("b", '"2"')  # it was only slow: what it keeps counts
    worker.release()
    assert Worker(cache, read).known(["a", "b"]) == {"a": "1", "b": "2"}


def test_a_cache_that_is_removed_while_it_is_asked(cache, worker):
    worker.claim(["a", "b"])
    worker.keep("a", '"1"')
    for path in (*folder(cache).iterdir(), *cache.path.parent.glob("*.sqlite*")):
        if path.is_file():
            path.unlink()
    worker.keep("b", '"2"')
    worker.release()
    assert Worker(cache, read).known(["a", "b"]) == {"a": "1", "b": "2"}


def test_the_folder_vanishes_while_a_file_is_made_in_it(cache, worker, monkeypatch):
    real, failures = arrivals.make_private_folder, [FileExistsError, FileNotFoundError]

    def make(path):
        if failures:
            raise failures.pop()
        real(path)

    monkeypatch.setattr(arrivals, "make_private_folder", make)
    assert worker.claim(["a"]) == ({}, ["a"])
    assert failures == []
    worker.keep("a", '"1"')
    worker.release()
    monkeypatch.setattr(arrivals, "_ATTEMPTS", 1)
    failures.append(FileNotFoundError)
    with pytest.raises(StorageError, match=r"replies\.sqlite' cannot keep a reply"):
        worker.claim(["b"])


def test_a_reply_that_moves_into_the_database_is_seen(cache, worker, monkeypatch):
    worker.claim(["a", "b"])
    worker.keep("a", '"1"')
    real = arrivals.all_arrivals
    monkeypatch.setattr(
        "skllm_calib.evidence.storage.sqlite.all_arrivals",
        lambda path: worker.release() or real(path),
    )
    assert cache.get_many(["a", "b"]) == {"a": '"1"'}


# -- disks that fail -------------------------------------------------------------------------------


def test_a_full_disk(cache, worker, disks):
    cache.path.parent.mkdir()
    disks.small(cache.path.parent, "600k")
    keys = [f"k{i}" for i in range(1_000)]
    worker.claim(keys)
    kept = []

    def keep_all():
        for key in keys:
            worker.keep(key, json.dumps("x" * 1_000))
            kept.append(key)

    with pytest.raises(StorageError, match=r"replies.sqlite' .*(full|No space)"):
        keep_all()
    with pytest.raises(StorageError, match=r"replies.sqlite' .*full"):
        worker.release()
    assert len(kept) > 100
    assert len(Worker(cache, read).known(keys)) == len(kept)
    subprocess.run(["mount", "-o", "remount,size=8m", cache.path.parent], check=True)
    known, mine = worker.claim(keys)
    assert sorted(known) == sorted(kept)
    assert sorted(mine + kept) == sorted(keys)
    worker.release()
    assert len(cache) == len(kept)


def test_half_a_line_is_taken_back(cache, worker, monkeypatch):
    worker.claim(["a", "b"])
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
        with pytest.raises(StorageError, match=r"cannot keep a reply \(No space left"):
            worker.keep("a", '"1"')
    worker.keep("b", '"2"')
    assert Worker(cache, read).known(["a", "b"]) == {"b": "2"}


def test_what_arrived_is_read_on_a_read_only_disk(cache, worker, disks):
    worker.claim(["a", "b"])
    worker.keep("a", '"1"')
    disks.make_read_only(cache.path.parent)
    other = Worker(ResponseCache(cache.path), read)
    assert other.known(["a", "b"]) == {"a": "1"}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_only_the_owner_may_read(cache, worker):
    umask = os.umask(0)
    try:
        worker.claim(["a"])
        worker.keep("a", '"1"')
    finally:
        os.umask(umask)
    paths = [cache.path.parent, *cache.path.parent.rglob("*")]
    assert len(paths) == 6
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


# -- clear() ---------------------------------------------------------------------------------------


def test_clear_removes_what_has_arrived(cache, worker):
    worker.claim(["a", "b", "c"])
    worker.keep("a", '"1"')
    left = Worker(cache, read)
    left.claim(["d"])
    left.keep("d", '"4"')
    left._claims._arrivals.close()  # as by the end of its process
    assert cache.clear() == 2
    assert cache.get_many(["a", "d"]) == {}
    assert len(list(folder(cache).iterdir())) == 1
    worker.keep("b", '"2"')  # it goes on
    worker.release()
    assert cache.get_many(["a", "b", "d"]) == {"b": '"2"'}


READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT * FROM replies").fetchone()
print("reading", flush=True)
input()
"""


def test_clear_while_another_process_reads(cache, monkeypatch):
    cache.set_many({f"k{i}": "secret" * 1_000 for i in range(50)})
    command = [sys.executable, "-c", READ, str(cache.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as reader:
        reader.stdout.readline()
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "_TIMEOUT", 0)
            with pytest.raises(StorageError, match=r"another process is reading it\. End that"):
                cache.clear()
        assert len(cache) == 0
        end = threading.Timer(0.5, lambda: os.write(reader.stdin.fileno(), b"\n"))
        end.start()
        assert cache.clear() == 0  # waits for the reader
        end.join()
    assert not any(b"secret" in path.read_bytes() for path in cache.path.parent.iterdir())


@needs_sigkill
@needs_locks
def test_a_claim_takes_in_what_a_killed_process_left(cache, worker):
    with program(ASK, cache) as child:
        for _ in range(50):
            child.stdout.readline()
        child.kill()
        n = 50 + len(child.stdout.read().split())
    worker.claim(["k99999"])
    assert rows(cache, "replies") >= n
    assert rows(cache, "owners") == 1
    assert len(list(folder(cache).iterdir())) == 1  # that of the worker here


def test_the_folder_goes_with_the_processes(cache):
    together(SHARE, cache, 2)
    assert len(cache) == 600
    assert not folder(cache).exists()
