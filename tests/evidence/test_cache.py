from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.base import clone

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.evidence.cache import default_cache_path, resolve_cache


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "deep" / "er" / "replies.sqlite")


def test_values_by_key(cache):
    assert cache.get_many(["a"]) == {}
    assert not cache.path.exists()
    cache.set_many({"a": "1", "b": "é"})
    assert cache.get_many(["a", "b", "c", "a"]) == {"a": "1", "b": "é"}
    assert len(cache) == 2


def test_the_first_value_is_kept(cache):
    cache.set_many({"a": "1"})
    cache.set_many({"a": "2", "b": "3"})
    assert cache.get_many(["a", "b"]) == {"a": "1", "b": "3"}


def test_many_keys_at_once(cache):
    items = {f"k{i}": str(i) for i in range(1_234)}
    cache.set_many(items)
    assert cache.get_many(list(items)) == items


def test_a_failed_write_leaves_nothing(cache):
    with pytest.raises(sqlite3.Error):
        cache.set_many({"a": "1", "b": {"no": "text"}})
    cache.set_many({"c": "3"})
    assert cache.get_many(["a", "b", "c"]) == {"c": "3"}


def test_stats_and_clear(cache):
    assert cache.stats()[1:] == (0, 0, 0, 0)
    assert cache.clear() == 0
    cache.set_many({f"k{i}": "x" * 1000 for i in range(500)})
    cache.get_many(["k1", "k2", "zz"])
    stats = cache.stats()
    assert (stats.n_replies, stats.hits, stats.misses) == (500, 2, 1)
    assert stats.path == str(cache.path)
    assert stats.n_bytes > 500_000
    assert cache.clear() == 500
    stats = cache.stats()
    assert stats[1:2] + stats[3:] == (0, 0, 0)
    assert stats.n_bytes < 100_000


def test_copies_share_the_file(cache):
    cache.set_many({"a": "1"})
    clf = LLMClassifier(cache=cache)
    assert clone(clf).cache is cache
    copy = pickle.loads(pickle.dumps(cache))
    assert copy == cache
    assert hash(copy) == hash(cache)
    assert copy != ResponseCache("elsewhere.sqlite")
    assert copy != "elsewhere"
    assert copy.get_many(["a"]) == {"a": "1"}
    assert copy.stats().hits == 1
    assert len(pickle.dumps(cache)) < 500
    assert str(cache.path) in repr(cache)


def test_threads(cache):
    def work(i):
        cache.set_many({f"{i}-{j}": "v" for j in range(20)} | {"all": str(i)})
        return len(cache.get_many([f"{i}-{j}" for j in range(20)]))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(32))) == [20] * 32
    assert len(cache) == 32 * 20 + 1


HAMMER = """
import sys
from skllm_calib.evidence.cache import ResponseCache
cache, me = ResponseCache(sys.argv[1]), sys.argv[2]
for i in range(100):
    cache.set_many({f"{me}-{i}": me, f"shared-{i}": me})
    assert cache.get_many([f"{me}-{i}"]) == {f"{me}-{i}": me}
"""


def test_processes(cache):
    command = [sys.executable, "-W", "error", "-c", HAMMER, str(cache.path)]
    workers = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE) for i in range(3)]
    errors = [worker.communicate()[1] for worker in workers]
    assert errors == [b""] * 3
    assert len(cache) == 3 * 100 + 100
    assert set(cache.get_many([f"shared-{i}" for i in range(100)]).values()) <= {"0", "1", "2"}


WRITE = """
import sys
from skllm_calib.evidence.cache import ResponseCache
cache, i = ResponseCache(sys.argv[1]), 0
while True:
    cache.set_many({f"k{i}": "v"})
    print(i, flush=True)
    i += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_loses_nothing_written(cache):
    command = [sys.executable, "-c", WRITE, str(cache.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        for _ in range(50):
            worker.stdout.readline()
        os.kill(worker.pid, signal.SIGKILL)
        rest = worker.stdout.read().split()
    last = int(rest[-1]) if rest else 49
    known = cache.get_many([f"k{i}" for i in range(last + 1)])
    assert len(known) == last + 1
    cache.set_many({"after": "1"})
    assert cache.get_many(["after"]) == {"after": "1"}


def test_a_file_that_is_no_cache(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, not replies. " * 100)
    with pytest.raises(ValueError, match=r"notes.txt' cannot be used as a response cache"):
        ResponseCache(path).get_many(["a"])
    assert path.read_text().startswith("These are notes")
    with pytest.raises(ValueError, match="'cache' must be a file made by"):
        ResponseCache(tmp_path).get_many(["a"])


def test_a_file_removed_meanwhile(cache):
    cache.set_many({"a": "1"})
    for file in cache.path.parent.iterdir():
        file.unlink()
    assert cache.get_many(["a"]) == {}
    cache.set_many({"a": "2"})
    assert cache.get_many(["a"]) == {"a": "2"}


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "~/.cache/skllm-calib/replies.sqlite"),
        ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/skllm-calib/replies.sqlite"),
        ("darwin", {}, "~/Library/Caches/skllm-calib/replies.sqlite"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/skllm-calib/replies.sqlite"),
        ("linux", {"SKLLM_CALIB_CACHE": "~/mine.sqlite"}, "~/mine.sqlite"),
    ],
)
def test_default_path(monkeypatch, platform, variables, expected):
    for name in ("SKLLM_CALIB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert default_cache_path() == Path(expected).expanduser()
    assert ResponseCache().path == Path(expected).expanduser()


def test_the_parameter_of_an_estimator(tmp_path, cache):
    assert resolve_cache(None) is None
    assert resolve_cache(cache) is cache
    assert resolve_cache("default").path == default_cache_path()
    assert resolve_cache(tmp_path / "x").path == tmp_path / "x"
    with pytest.raises(TypeError, match="cache=3"):
        resolve_cache(3)
