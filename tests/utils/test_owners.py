from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from skllm_calib.utils import owners
from skllm_calib.utils.owners import has_ended, new_owner

NAME = "from skllm_calib.utils.owners import new_owner; print(new_owner(), flush=True)"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other processes cannot be seen")
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


def start(code):
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return worker, worker.stdout.readline().strip()


def test_a_name_is_used_once_and_of_a_process_that_runs():
    assert new_owner() != new_owner()
    assert not has_ended(new_owner())


def test_a_process_that_runs_and_one_that_has_ended():
    worker, owner = start(f"{NAME}; input()")
    assert not has_ended(owner)
    worker.kill()
    worker.communicate()
    assert has_ended(owner)


@needs_proc
def test_a_zombie_has_ended():
    worker, owner = start(f"{NAME}; input()")
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and not reaped
    assert has_ended(owner)
    worker.communicate()


@needs_proc
@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["this", "its parent"])
def test_a_number_that_was_given_again(pid):
    host, _, rest = new_owner().split("/")
    boot, _, ticks = rest.rpartition("-")[0].rpartition(".")
    for began in (f"{boot}.1", f"another-boot.{ticks}"):
        assert has_ended(f"{host}/{pid}/{began}-{'0' * 32}")


def test_without_proc_the_number_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    mine = new_owner()
    assert not has_ended(mine)
    monkeypatch.undo()
    assert not has_ended(mine)


def test_a_process_of_another_user_counts_as_running(monkeypatch):
    def refuse(pid, signal):
        raise PermissionError

    mine = new_owner()
    monkeypatch.setattr(os, "kill", refuse)
    assert not has_ended(mine)


@pytest.mark.parametrize(
    "owner",
    [
        "elsewhere/1/x",
        f"{socket.gethostname()}/{os.getpid()}/{'0' * 32}",  # as earlier versions wrote them
        f"{socket.gethostname()}/none/x",
        "x",
        "",
    ],
    ids=["elsewhere", "earlier", "no number", "one part", "nothing"],
)
def test_what_cannot_be_seen_may_run(owner):
    assert not has_ended(owner)
