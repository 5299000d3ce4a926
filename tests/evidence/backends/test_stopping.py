"""Ctrl-C ends a run whatever the server does, and loses nothing that has arrived.

A child process with a real server on the loopback interface in it, and a real SIGINT.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from skllm_calib import ResponseCache
from skllm_calib.evidence.storage.arrivals import all_arrivals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

ANSWER = {"role": "assistant", "content": '{"A": 0.3, "B": 0.7}'}
CHOICE = {"index": 0, "finish_reason": "stop", "message": ANSWER}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
COMPLETION = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
BODY = json.dumps({**COMPLETION, "choices": [CHOICE], "usage": USAGE}).encode()


class Server:
    """Answers by the socket, so that it can do what no HTTP server does; after `n_good` answers.

    Kinds: "healthy", "slow" (a second each), "stalled", "dripping" (a byte of the body at a time),
    "dripping head" (of the header), "retrying" (status 503), "waiting" (Retry-After: 30).
    """

    def __init__(self, kind: str, n_good: int = 3) -> None:
        self.kind, self.n_good = kind, n_good
        self.n_seen = self.n_answered = 0
        self.n_open = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def __enter__(self) -> Server:
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listener.close()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with self.lock:
            self.n_open += 1
        with connection, contextlib.suppress(OSError):
            while self.read_request(connection):
                with self.lock:
                    self.n_seen += 1
                    is_good = self.n_seen <= self.n_good
                if is_good or self.kind == "healthy":
                    time.sleep(0.02)
                    self.answer(connection, 200, BODY)
                    with self.lock:
                        self.n_answered += 1
                elif not self.misbehave(connection):
                    break
        with self.lock:
            self.n_open -= 1

    def misbehave(self, connection: socket.socket) -> bool:
        """Return whether the connection can still be used."""
        if self.kind == "slow":
            time.sleep(1)
            self.answer(connection, 200, BODY)
        elif self.kind == "stalled":
            connection.recv(1)  # until it is closed
        elif self.kind.startswith("dripping"):
            begun = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            if self.kind == "dripping":
                begun += b"Content-Length: 5000\r\n\r\n"
            connection.sendall(begun)
            while True:
                connection.sendall(b"X" if self.kind == "dripping head" else b" ")
                time.sleep(0.05)
        else:
            wait = b"Retry-After: 30\r\n" if self.kind == "waiting" else b""
            self.answer(connection, 503, b'{"error": {"message": "later"}}', wait)
            return True
        return self.kind == "slow"

    @staticmethod
    def answer(connection: socket.socket, status: int, body: bytes, head: bytes = b"") -> None:
        connection.sendall(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
            % (status, len(body), head, body)
        )

    @staticmethod
    def read_request(connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (part := connection.recv(65536)):
                return False
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            if not (part := connection.recv(65536)):
                return False
            body += part
        return True


CHILD = """
import signal, sys, threading, time, warnings
import skllm_calib
from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.backends import OpenAIBackend
from sklearn.model_selection import cross_val_predict

def interrupt(*signal):
    global began
    began = time.monotonic()
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
warnings.simplefilter("ignore")
n_jobs, *runs = sys.argv[1:]
texts = [f"text {i}" for i in range(2000)]
for url, cache in zip(runs[::2], runs[1::2]):
    backend = OpenAIBackend("m", base_url=url, timeout=30, max_retries=9, max_concurrency=4)
    llm = LLMClassifier(backend, classes=["ham", "spam"], signal="self_reported", cache=cache)
    try:
        if n_jobs == "1":
            llm.predict_proba(texts)
        else:
            y = ["ham", "spam"] * 1000
            cross_val_predict(llm, texts, y, cv=2, n_jobs=int(n_jobs), method="predict_proba")
    except KeyboardInterrupt:
        took = time.monotonic() - began
        left = [t.name for t in threading.enumerate() if "skllm-calib worker" in t.name]
        print(took, *left, flush=True)
"""


def within(seconds, condition):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@contextlib.contextmanager
def started(servers, folder, n_jobs=1):
    """A child that asks one server after the other, each until it is interrupted."""
    runs = [part for s in servers for part in (s.url, str(folder / f"{s.kind}.sqlite"))]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(n_jobs), *runs],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OPENAI_API_KEY": "sk-test", "NO_PROXY": "127.0.0.1"},
    )
    try:
        yield child
        child.wait(10)  # a busy machine needs seconds to unload an interpreter
        assert child.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def check_interrupt(server, child, folder, kill=os.kill, seconds=2):
    """Interrupt a run and check that it ends, that nothing is lost, and that nobody goes on."""
    cache = ResponseCache(folder / f"{server.kind}.sqlite")

    def n_kept():
        waiting = sum(len(arrivals.read()) for arrivals in all_arrivals(cache.path))
        return len(cache) + waiting  # what killed workers leave is taken in by the next one

    assert within(60, lambda: server.n_seen > server.n_good and n_kept() >= server.n_good)
    time.sleep(0.3)
    n_arrived = server.n_answered
    kill(child.pid, signal.SIGINT)
    took = float(child.stdout.readline())  # other words on this line are threads that are left
    n_seen = server.n_seen
    assert took < seconds, server.kind
    assert n_kept() >= n_arrived
    if server.kind in ("stalled", "dripping", "dripping head"):
        assert within(5, lambda: not server.n_open)  # it need not go on computing
    assert server.n_seen == n_seen


def test_one_interrupt_ends_a_run_and_keeps_what_has_arrived(tmp_path):
    kinds = ["healthy", "slow", "dripping", "dripping head", "retrying", "waiting", "stalled"]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server(kind)) for kind in kinds]
        child = stack.enter_context(started(servers, tmp_path))
        for server in servers:
            check_interrupt(server, child, tmp_path)


@pytest.mark.parametrize("kill", ["killpg", "kill"], ids=["Ctrl-C", "parent only"])
def test_one_interrupt_ends_worker_processes(kill, tmp_path):
    with Server("stalled") as server, started([server], tmp_path, n_jobs=2) as child:
        check_interrupt(server, child, tmp_path, getattr(os, kill), seconds=3)
