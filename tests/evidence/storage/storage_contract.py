"""What a cache promises, whatever the database under it. Each storage has a test that inherits it.

A subclass has a fixture ``cache``: an empty one, whose path another process can open.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from sklearn.base import clone

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.evidence.storage import failure_key
from skllm_calib.evidence.storage.base import BATCH
from skllm_calib.evidence.workers import Worker

needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def read(value):
    """Read a value as these tests keep it: a string in JSON."""
    found = json.loads(value)
    if not isinstance(found, str):
        raise ValueError(value)
    return found


def program(code, cache, *arguments, **pipes):
    """Start a process with the path of a cache as its first argument."""
    command = [sys.executable, "-W", "error", "-c", code, str(cache.path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **pipes)


def together(code, cache, n):
    """Run a program in several processes at once, and return what they printed."""
    children = [program(code, cache, str(i), stderr=subprocess.PIPE) for i in range(n)]
    done = [child.communicate() for child in children]
    assert [errors for _, errors in done] == [""] * n
    return [out for out, _ in done]


SET = """
import sys
from skllm_calib import ResponseCache
cache, me = ResponseCache(sys.argv[1]), sys.argv[2]
for i in range(100):
    cache.set_many({f"{me}-{i}": me, f"shared-{i}": me})
    assert cache.get_many([f"{me}-{i}"]) == {f"{me}-{i}": me}
    cache.storage.change("count", lambda n: str(int(n or 0) + 1))
"""

ASK = """
import socket, sys
from skllm_calib import ResponseCache
from skllm_calib.evidence.workers import Worker
if len(sys.argv) > 2:
    socket.gethostname = lambda: sys.argv[2]
worker, i = Worker(ResponseCache(sys.argv[1]), str), 0
worker.claim([f"k{i}" for i in range(100_000)])
while True:
    worker.keep(f"k{i}", '"v"')
    print(i, flush=True)
    i += 1
"""

FORK = """
import os, signal, sys, time
from skllm_calib import ResponseCache
from skllm_calib.evidence.workers import Worker
worker = Worker(ResponseCache(sys.argv[1]), str)
worker.claim(["a", "b"])
worker.keep("a", '"1"')
if os.fork() == 0:
    os.close(1)
    worker.known(["a"])
    time.sleep(60)
    os._exit(0)
print("forked", flush=True)
while True:
    assert worker.known(["a"])
    time.sleep(0.02)
"""

SHARE = """
import sys
from skllm_calib import ResponseCache
from skllm_calib.evidence.workers import Worker
cache, me = ResponseCache(sys.argv[1]), sys.argv[2]
for turn in range(30):
    keys = [f"shared-{turn}-{i}" for i in range(20)]
    worker, left = Worker(cache, str), keys
    while left:
        try:
            known, mine = worker.claim(left)
            for key in mine:
                worker.keep(key, me)
                print(key)
        finally:
            worker.release()
        left = [key for key in left if key not in known and key not in mine]
    assert len(worker.known(keys)) == 20
"""


class CacheContract:
    """Values by key."""

    def test_values_by_key(self, cache):
        assert cache.get_many(["a"]) == {}
        assert len(cache) == 0
        cache.set_many({"a": "1", "b": "é"})
        assert cache.get_many(["a", "b", "c", "a"]) == {"a": "1", "b": "é"}
        assert len(cache) == 2

    def test_the_first_value_is_kept(self, cache):
        cache.set_many({"a": "1"})
        cache.set_many({"a": "2", "b": "3"})
        assert cache.get_many(["a", "b"]) == {"a": "1", "b": "3"}

    def test_many_keys_at_once(self, cache):
        items = {f"k{i}": str(i) for i in range(1_234)}
        cache.set_many(items)
        assert cache.get_many(list(items)) == items

    def test_a_failed_write_leaves_nothing(self, cache):
        with pytest.raises(self.refused):
            cache.set_many({"a": "1", "b": {"no": "text"}})
        cache.set_many({"c": "3"})
        assert cache.get_many(["a", "b", "c"]) == {"c": "3"}

    def test_stats_and_clear(self, cache):
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

    def test_copies_share_the_storage(self, cache):
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

    def test_failures_beside_replies(self, cache):
        began = time.time()
        assert cache.get_failures(["a"]) == {}
        cache.set_many({failure_key("a"): "x", failure_key("b"): "x", "b": "1"})
        assert cache.get_failures(["a", "b", "c"]) == {"a": "x"}
        assert len(cache) == 1
        cache.set_many({failure_key("a"): "y"})  # the last one counts
        assert cache.get_failures(["a"], began - 1) == {"a": "y"}
        assert cache.get_failures(["a"], time.time() + 1) == {}
        assert cache.clear_failures() == 2
        assert cache.clear_failures() == 0
        assert cache.get_many(["b"]) == {"b": "1"}

    def test_what_is_known_of_batches_is_no_reply(self, cache):
        cache.set_many({"a": "1", f"{BATCH}x": "2", failure_key(f"{BATCH}x"): "3"})
        assert len(cache) == 1
        assert cache.clear_failures() == 1
        assert cache.get_many([f"{BATCH}x"]) == {f"{BATCH}x": "2"}
        assert cache.clear() == 1
        assert cache.get_many([f"{BATCH}x"]) == {}

    def test_remove_earlier(self, cache):
        cache.set_many({"a": "1", "b": "2", "c": "3"})
        assert cache.remove_earlier(["a", "b"], time.time() + 1)
        assert cache.remove_earlier(["c"], time.time() - 1)
        assert cache.get_many(["a", "b", "c"]) == {"c": "3"}

    def test_threads(self, cache):
        def work(i):
            cache.set_many({f"{i}-{j}": "v" for j in range(20)} | {"all": str(i)})
            return len(cache.get_many([f"{i}-{j}" for j in range(20)]))

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(32))) == [20] * 32
        assert len(cache) == 32 * 20 + 1

    def test_processes(self, cache):
        together(SET, cache, 3)
        assert len(cache) == 3 * 100 + 100
        found = set(cache.get_many([f"shared-{i}" for i in range(100)]).values())
        assert found <= {"0", "1", "2"}
        seen = []
        assert cache.storage.change("count", lambda n: seen.append(n) or "0") == "0"
        assert seen == ["300"]  # nobody changed it in between

    def test_what_workers_share_is_all_or_nothing(self, cache):
        with pytest.raises(ZeroDivisionError):
            cache.storage.change("spent", lambda n: str(1 / 0))
        assert cache.storage.change("spent", lambda n: f"{n}, then 1") == "None, then 1"
        cache.clear()
        assert cache.storage.change("spent", lambda n: f"{n}, 2") == "None, then 1, 2"

    def test_who_changes_what_workers_share_sees_one_clock(self, cache, another):
        moments, is_held = [], threading.Event()

        def hold(value, now):
            is_held.set()
            time.sleep(0.2)
            return str(now)

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(cache.storage.change_at, "t", hold)
            is_held.wait(10)
            another.storage.change_at("t", lambda value, now: moments.append((value, now)) or "")
        ((held_at, now),) = moments
        assert held_at == first.result()
        assert 0.2 <= now - float(held_at) < 60  # read when the other one had ended
        assert abs(now - time.time()) < 60


class ClaimsContract:
    """Workers that claim keys, keep replies and are killed."""

    @pytest.fixture
    def worker(self, cache):
        return Worker(cache, read)

    def test_some_claims_are_given_up_before_the_others(self, cache):
        first, second = Worker(cache, read), Worker(cache, read)
        first.claim(["failed", "kept", "open"])
        first.keep("kept", '"1"')
        first.release(["failed", "kept"])
        assert second.claim(["failed", "kept", "open"]) == ({"kept": "1"}, ["failed"])
        first.keep("open", '"2"')
        first.release()
        second.release()
        assert second.known(["kept", "open"]) == {"kept": "1", "open": "2"}

    def test_the_way_of_a_reply(self, cache, worker):
        assert worker.known(["a"]) == {}
        assert worker.claim(["a", "b"]) == ({}, ["a", "b"])
        worker.keep("a", '"1"')
        assert Worker(cache, read).known(["a", "b"]) == {"a": "1"}
        assert Worker(cache, read).claim(["a", "b"]) == ({"a": "1"}, [])
        assert worker.claim(["a", "b", "c"]) == ({"a": "1"}, ["b", "c"])
        assert Worker(cache, read).claim(["c"]) == ({}, [])
        worker.release()
        assert Worker(cache, read).claim(["a", "b", "c"]) == ({"a": "1"}, ["b", "c"])

    def test_any_text_is_kept(self, worker, cache):
        texts = ["é\n\r\u2028", "\x00", '"', "\\", "🙂" * 1000, ""]
        worker.claim([str(i) for i in range(len(texts))])
        for i, text in enumerate(texts):
            worker.keep(str(i), json.dumps(text, ensure_ascii=False))
        for _ in range(2):
            known = Worker(cache, read).known([str(i) for i in range(len(texts))])
            assert [known[str(i)] for i in range(len(texts))] == texts
            worker.release()

    def test_an_interrupted_claim_can_be_made_again(self, worker):
        worker.release()
        worker.claim(["a"])
        worker.release()
        worker.release()
        assert worker.claim(["a"]) == ({}, ["a"])

    def test_a_failure_is_kept_for_those_who_wait(self, cache, worker):
        began = time.time()
        worker.claim(["a"])
        worker.keep(failure_key("a"), "x")
        worker.release()
        worker.claim(["a"])
        worker.keep(failure_key("a"), "y")
        worker.release()
        assert cache.get_failures(["a"], began - 1) == {"a": "y"}
        assert len(cache) == 0

    def test_a_value_that_cannot_be_read_is_replaced(self, cache, worker):
        cache.set_many({"a": "half", "b": '"2"'})
        assert worker.known(["a", "b"]) == {"b": "2"}
        with pytest.warns(UserWarning, match="1 replies in .* were damaged"):
            assert worker.claim(["a", "b"]) == ({"b": "2"}, ["a"])
        worker.keep("a", '"3"')
        worker.release()
        assert Worker(cache, read).known(["a", "b"]) == {"a": "3", "b": "2"}

    def test_no_warning_where_nothing_is_damaged(self, worker):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            worker.claim(["a"])

    @needs_sigkill
    @pytest.mark.parametrize("seed", range(2))
    def test_a_killed_process_loses_nothing_that_arrived(self, cache, worker, seed):
        with program(ASK, cache) as child:
            n = random.Random(seed).randrange(1, 3_000)
            lines = [child.stdout.readline() for _ in range(n)]
            child.kill()
            lines += child.stdout.read().split()
        keys = [f"k{i}" for i in range(int(lines[-1]) + 1)]
        assert len(worker.known(keys)) == len(keys)
        known, mine = worker.claim([*keys, "k99999"])
        assert known == dict.fromkeys(keys, "v")
        assert mine == ["k99999"]

    @needs_sigkill
    @pytest.mark.parametrize("host", ["here", "a container that is no more"])
    def test_the_claims_of_a_process_end_with_it(self, cache, worker, host):
        with program(ASK, cache, *([] if host == "here" else [host])) as child:
            child.stdout.readline()
            assert worker.claim(["k99999"]) == ({}, [])
            os.kill(child.pid, signal.SIGKILL)
            # A zombie: dead, and not reaped
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            self.wait_for_claim(worker, "k99999")
            child.stdout.read()

    @needs_sigkill
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_process_does_not_hold_the_claims_of_its_parent(self, cache, worker):
        with program(FORK, cache, start_new_session=True) as child:
            child.stdout.readline()
            time.sleep(0.2)
            assert child.poll() is None
            assert worker.claim(["b"]) == ({}, [])
            child.kill()
            child.wait()
            self.wait_for_claim(worker, "b")
            assert worker.known(["a"]) == {"a": "1"}
            os.killpg(child.pid, signal.SIGKILL)

    @staticmethod
    def wait_for_claim(worker, key):
        """Claim what a process held that was just killed."""
        deadline = time.monotonic() + 2
        while worker.claim([key])[1] != [key]:
            assert time.monotonic() < deadline, "its claims did not end with it"
            time.sleep(0.02)

    def test_processes_share_the_work(self, cache):
        asked = [key for out in together(SHARE, cache, 3) for key in out.split()]
        assert len(asked) == len(set(asked)) == len(cache) == 600  # nothing was asked twice
