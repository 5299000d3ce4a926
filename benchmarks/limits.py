"""Servers with limits: what the limiter makes of them, beside what SDKs do by themselves.

In simulated time (a run of minutes takes a second), every client against the same server in the
same run: the limiter; no limiter and the retries of the SDKs (2, and 5), which each request does
for itself; and few requests at a time instead. Rows that fail are those that were refused every
time. "Most in a minute" is what the server saw in any sliding minute, what it refused included.

With ``--processes``, in real time: worker processes with a common cache send to a server on the
loopback address, one of them is killed, and the server counts in every sliding minute. Run:
``python benchmarks/limits.py`` (add ``--processes 4 --cache postgresql://...``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from http.server import ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = [ROOT, ROOT / "tests" / "evidence" / "backends", ROOT / "tests" / "evidence" / "limits"]
sys.path[:0] = [str(path) for path in SHARED if str(path) not in sys.path]

from loopback import Loopback, completion, refusal  # noqa: E402
from simulated import Database, Plain, Process, Server, Time  # noqa: E402

SERVERS = {
    "600 a minute, says when": {"limit": 600},
    "600 a minute, silent": {"limit": 600, "tells_when": False},
    "600 a minute, headers": {"limit": 600, "has_headers": True},
    "10 a second, says when": {"limit": 600, "kind": "bucket"},
    "20 at once": {"limit": 1e9, "most_at_once": 20},
    "no limit": {"limit": 1e9},
}
CLIENTS = {
    "limiter": (Process, 32, {}),
    "limiter, limit given": (Process, 32, {"limits": (600, None)}),
    "limiter, 8 workers": (Process, 32, {"database": True}),
    "SDK retries (2)": (Plain, 32, {"n_retries": 2}),
    "SDK retries (5)": (Plain, 32, {"n_retries": 5}),
    "2 in flight, retries (5)": (Plain, 2, {"n_retries": 5}),
}


def simulate(n_rows: int, server: dict, client: str) -> tuple[float, int, int, int]:
    """Return the seconds, the requests refused, the rows failed, and the most in a minute."""
    make, n_threads, options = CLIENTS[client]
    clock = Time()
    target, began = Server(clock, **server), clock.now
    n_processes = 1
    if options.get("database"):
        n_processes, options = 8, {"database": Database(clock)}
    made = [
        make(clock, target, n_rows // n_processes, n_threads // n_processes, **options)
        for _ in range(n_processes)
    ]
    clock.run()
    took = max(process.ended_at for process in made) - began
    n_failed = sum(process.n_failed for process in made)
    return took, target.n_refused, n_failed, target.most_in(60.0)


def compare(n_rows: int) -> None:
    for name, server in SERVERS.items():
        print(f"\n{name}: {n_rows} rows")
        print(f"{'':26}{'seconds':>9}{'refused':>9}{'failed':>8}{'most in a minute':>18}")
        for client in CLIENTS:
            if "given" in client and server["limit"] != 600:
                continue
            took, n_refused, n_failed, most = simulate(n_rows, server, client)
            print(f"{client:26}{took:9.0f}{n_refused:9,}{n_failed:8,}{most:18,}")


ThreadingHTTPServer.handle_error = lambda *_: None  # of those that were killed


class Minutes:
    """A server that answers `limit` requests in any sliding minute."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n_refused = self.n_answered = self.most = 0
        self.n_of_the_victim = 0
        self._arrived: deque[float] = deque()
        self._answered: deque[float] = deque()
        self._lock = threading.Lock()

    def __call__(self, body):
        now = time.monotonic()
        with self._lock:
            for moments in (self._arrived, self._answered):
                while moments and moments[0] <= now - 60.0:
                    moments.popleft()
            self._arrived.append(now)
            self.most = max(self.most, len(self._arrived))
            if len(self._answered) >= self.limit:
                self.n_refused += 1
                wait = self._answered[0] + 60.0 - now
                return refusal(429, "slow down", headers={"Retry-After": f"{wait:.3f}"})
            self._answered.append(now)
            self.n_answered += 1
            self.n_of_the_victim += len(body["messages"][-1]["content"]) == len(str(_VICTIM))
        return completion("yes")


_VICTIM = 10_000_000  # the number of its first row
WORKER = """
import sys
from skllm_calib import ResponseCache
from skllm_calib.backends import Message, OpenAIBackend, Request
from skllm_calib.evidence.sharing import sharing
url, cache, limit, first, n = *sys.argv[1:3], *map(int, sys.argv[3:])
texts = [Request((Message("user", str(first + i)),), max_tokens=5) for i in range(n)]
model = OpenAIBackend("m", base_url=url, requests_per_minute=limit or None, max_concurrency=16)
with sharing(ResponseCache(cache).storage):
    failed = [answer for _, answer in model.run(texts) if not hasattr(answer, "text")]
print(len(failed), "failed", *failed[:1], file=sys.stderr)
"""


def run_processes(n: int, cache: str, limit: int, n_rows: int, *, given: bool) -> None:
    server = Minutes(limit)
    env = {**os.environ, "OPENAI_API_KEY": "sk-0123456789", "PYTHONPATH": str(ROOT)}
    with Loopback(server) as loopback:
        began = time.monotonic()

        def start(first: int, rows: int) -> subprocess.Popen:
            numbers = map(str, (limit if given else 0, first, rows))
            command = [sys.executable, "-c", WORKER, loopback.base_url, cache, *numbers]
            return subprocess.Popen(command, env=env)

        victim = start(_VICTIM, 20_000)
        workers = [start(i * n_rows, n_rows // n) for i in range(n)]
        while server.n_of_the_victim < limit / 10:
            time.sleep(0.05)
        victim.kill()
        victim.wait()
        seconds, n_gone = time.monotonic() - began, server.n_of_the_victim
        print(f"killed one worker after {seconds:.0f} s and {n_gone} answers")
        codes = [worker.wait() for worker in workers]
        took = time.monotonic() - began
    print(
        f"{n} processes, {limit} a minute {'given' if given else 'unknown'}, {n_rows} rows: "
        f"{took:.0f} s, {server.n_answered} answered, {server.n_refused} refused, at most "
        f"{server.most} in a sliding minute, exit codes {codes}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=0, help="run in real time")
    parser.add_argument("--cache", help="a path or an address (default: a file of its own)")
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--unknown", action="store_true", help="do not give the limit")
    args = parser.parse_args()
    if not args.processes:
        compare(args.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or f"{folder}/replies.sqlite"
        run_processes(args.processes, cache, args.limit, args.rows, given=not args.unknown)


if __name__ == "__main__":
    main()
