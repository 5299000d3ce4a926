from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from skllm_calib.backends import clear_handles
from skllm_calib.evidence.backends.handles import get_handle


class Handle:
    closed = False

    def close(self):
        self.closed = True


def test_made_once_and_closed():
    made = []

    def make():
        made.append(Handle())
        return made[-1]

    handle = get_handle("registry-once", make)
    assert get_handle("registry-once", make) is handle
    assert get_handle("registry-other", object) is not handle
    clear_handles()
    assert handle.closed
    assert get_handle("registry-once", make) is not handle
    assert len(made) == 2
    clear_handles()


def test_threads_share_one():
    together = threading.Barrier(8)
    made = []

    def make():
        made.append(object())
        return made[-1]

    def ask(_):
        together.wait()
        return get_handle("registry-threads", make)

    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(ask, range(8)))
    assert len(made) == 1
    assert set(handles) == set(made)
    clear_handles()


def test_making_one_does_not_block_another():
    begun, finish = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert finish.wait(60)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(get_handle, "registry-slow", slow)
        assert begun.wait(60)
        assert get_handle("registry-fast", lambda: "fast") == "fast"
        finish.set()
        assert future.result() == "slow"
    clear_handles()


def test_a_failure_is_not_remembered():
    with pytest.raises(ZeroDivisionError):
        get_handle("registry-fails", lambda: 1 / 0)
    assert get_handle("registry-fails", lambda: 1) == 1
    clear_handles()


def test_another_process_makes_its_own(monkeypatch):
    first = get_handle("registry-fork", object)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert get_handle("registry-fork", object) is not first
    clear_handles()
