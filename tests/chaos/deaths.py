"""Runs that are stopped, and caches that fail, at a random moment.

Each function plays one run on a failing server and the one after it, and returns what broke a
promise: texts whose answer had arrived and that were asked for again, and rows that are wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tally as chaos
from faulty_server import FaultyServer, Plan, faulty
from joblib import Parallel, delayed

from skllm_calib.exceptions import StorageError

SLOW = {"body_drips", "stalls", "stalls_in_the_middle"}
MOMENT = 0.5  # seconds after which what was sent has arrived
N_ROWS = 200
DELAY = 0.1  # seconds that each answer takes


@contextlib.contextmanager
def slow_server(seed: int) -> Iterator[FaultyServer]:
    """Start a server whose faults take no time, and whose answers do."""
    with faulty(N_ROWS, "logprobs", seed=seed) as server:
        server.delay = DELAY
        plans = server.plans.items()
        server.plans.update({text: Plan() for text, plan in plans if plan.fault in SLOW})
        yield server


def child(server: FaultyServer, cache: Path) -> subprocess.Popen[bytes]:
    """Start a process that asks about all texts."""
    return subprocess.Popen(
        [
            *(sys.executable, chaos.__file__, "--ask", server.url),
            *("--rows", str(N_ROWS), "--cache", str(cache)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )


def wait_for(server: FaultyServer, n_answered: int) -> None:
    """Wait until so many answers have been sent."""
    until = time.monotonic() + 60
    while server.n_answered < n_answered and time.monotonic() < until:
        time.sleep(0.005)
    assert server.n_answered >= n_answered, "the run did not get so far"


def arrived(server: FaultyServer, before: float) -> dict[str, int]:
    """Return how often was asked about the texts whose answers had been sent by then."""
    return {
        text: history.n_requests
        for text, history in server.histories.items()
        if history.answered and history.answered < before
    }


def resume(server: FaultyServer, cache: Path, known: dict[str, int]) -> set[tuple[str, str]]:
    """Ask about all texts, and return what is wrong."""
    server.delay, server.is_first_run = 0.0, False
    proba = chaos.ask(server.url, server.signal, cache, list(server.plans))
    again = {("asked again", t) for t, n in known.items() if server.histories[t].n_requests > n}
    return again | chaos.verdicts(server, proba)


def stopped(cache: Path, rng: random.Random, how: signal.Signals) -> set[tuple[str, str]]:
    """Stop a process with a signal."""
    with slow_server(rng.randrange(10**6)) as server:
        process = child(server, cache)
        try:
            wait_for(server, rng.randint(20, 100))
            before = time.monotonic() - MOMENT
            assert process.poll() is None, "too late to stop it"
            process.send_signal(how)
            process.wait(20)
        finally:
            process.kill()
            process.wait()
        known = arrived(server, before)
        return resume(server, cache, known)


def killed(cache: Path, rng: random.Random) -> set[tuple[str, str]]:
    return stopped(cache, rng, signal.SIGKILL)


def interrupted(cache: Path, rng: random.Random) -> set[tuple[str, str]]:
    return stopped(cache, rng, signal.SIGINT)


def _overlapping(url: str, cache: Path, texts: list[str]) -> np.ndarray:
    os.environ.update(OPENAI_API_KEY="sk-test-chaos", NO_PROXY="127.0.0.1")
    return chaos.ask(url, "logprobs", cache, texts)


def shared(cache: Path, rng: random.Random) -> set[tuple[str, str]]:
    """Let processes of loky ask about the same texts, in other orders, with one cache."""
    with slow_server(rng.randrange(10**6)) as server:
        server.plans.update(dict.fromkeys(server.plans, Plan()))
        texts = list(server.plans)
        orders = [rng.sample(texts, len(texts)) for _ in range(2)]
        results = Parallel(n_jobs=2, backend="loky")(
            delayed(_overlapping)(server.url, cache, order) for order in orders
        )
        found = {("asked again", t) for t in texts if server.histories[t].n_requests > 1}
        for order, proba in zip(orders, results, strict=True):
            rows = dict(zip(order, proba, strict=True))
            found |= chaos.verdicts(server, np.array([rows[text] for text in texts]))
        return found


def disk_full(cache: Path, rng: random.Random) -> set[tuple[str, str]]:
    """Fill the small disk that a cache is on, in the middle of a run; make room for the next."""
    filler = cache.with_name("filler")
    with slow_server(rng.randrange(10**6)) as server:
        before = [0.0]

        def fill() -> None:
            wait_for(server, rng.randint(20, 100))
            before[0] = time.monotonic() - MOMENT
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        thread = threading.Thread(target=fill)
        thread.start()
        try:
            chaos.ask(server.url, server.signal, cache, list(server.plans))
            return {("no error", str(cache))}
        except StorageError:  # the one error that such a run may end with
            pass
        finally:
            thread.join()
            filler.unlink()
        return resume(server, cache, arrived(server, before[0]))


def damaged(cache: Path, rng: random.Random) -> set[tuple[str, str]]:
    """Damage some values between two runs: these rows alone are asked again."""
    with slow_server(rng.randrange(10**6)) as server:
        server.delay = 0.0
        server.plans.update(dict.fromkeys(server.plans, Plan()))
        chaos.ask(server.url, server.signal, cache, list(server.plans))
        known = arrived(server, time.monotonic())
        n_damaged = rng.randint(1, 20)
        with contextlib.closing(sqlite3.connect(cache)) as database:
            keys = [key for (key,) in database.execute("SELECT key FROM replies ORDER BY key")]
            values = ["", "{", "[]", b"\xed\xa0\x80", b"\xff\x00"]
            for key in rng.sample(keys, n_damaged):
                value = rng.choice(values)
                database.execute("UPDATE replies SET value = ? WHERE key = ?", (value, key))
            database.commit()
        found = resume(server, cache, known)
        again = {text for what, text in found if what == "asked again"}
        others = {(what, text) for what, text in found if what != "asked again"}
        return others if len(again) == n_damaged else {*found, ("damaged", str(n_damaged))}


def main(n_times: int, seed: int) -> int:
    """Stop runs, many times each, and count what broke a promise."""
    n_broken = 0
    for play in (killed, interrupted, shared, damaged):
        rng, found = random.Random(seed), set()
        with tempfile.TemporaryDirectory() as folder:
            for i in range(n_times):
                found |= {(i, *broken) for broken in play(Path(folder) / f"{i}.sqlite", rng)}
        n_broken += len(found)
        sys.stdout.write(f"{play.__name__:16}{n_times:>4} times, {len(found)} broken promises\n")
        sys.stdout.writelines(f"  {broken}\n" for broken in sorted(found))
        sys.stdout.flush()
    return n_broken
