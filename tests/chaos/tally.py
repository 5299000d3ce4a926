"""Ask a server that fails in all the ways of `faults`, and count what became of the rows.

make chaos                         # 2,000 rows, 30 % of them with a fault
make chaos ROWS=10000 SEED=7
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from faults import FAULTS, READABLE, Fault, Healthy, kinds

from skllm_calib import LLMClassifier
from skllm_calib.backends import OpenAIBackend, clear_handles

CLASSES = ["ham", "other", "spam"]  # asked for as A, B, C
TIMEOUT = 2.0  # seconds
CLOSE = 0.02  # a probability that differs by more is wrong
Ask = Callable[[str, str, Any, Sequence[str]], np.ndarray]
_TEXT = re.compile(r"message \d+")
# How long a fault stays with its text: one request, the first run, or for good.
DURATIONS = ("once", "first run", "always")


class Plan(NamedTuple):
    """What is done to the requests about a text."""

    fault: str = ""
    lasts: str = "once"


@dataclass
class History:
    """What a server did about a text."""

    n_requests: int = 0
    answered: float = 0.0  # when a healthy answer had been sent, in good time
    asked_again: int = 0  # after that


class FaultyServer(ThreadingHTTPServer):
    """Answers about each text as planned for it; `share` of them are struck by a fault.

    The faults take turns, so that each strikes equally often; `seed` decides which texts.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, texts: Sequence[str], signal: str, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.signal = signal
        self.is_first_run = True
        self.delay = 0.0
        self.n_answered = 0
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.histories = {text: History() for text in texts}
        self.plans = dict.fromkeys(texts, Plan())
        rng = random.Random(seed)
        struck = rng.sample(list(texts), round(share * len(texts)))
        turns = [Plan(name, lasts) for name in self.faults for lasts in DURATIONS]
        rng.shuffle(turns)
        self.plans.update((text, turns[i % len(turns)]) for i, text in enumerate(struck))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        return FAULTS[self.signal]

    def healthy(self, text: str) -> Healthy:
        return Healthy(text, self.signal)

    def reply(self, text: str) -> tuple[Any, bool]:
        """Return what to send about a text, and whether it is the healthy answer."""
        healthy = self.healthy(text)
        with self.lock:
            history = self.histories.setdefault(text, History())  # a probe has a text of its own
            history.n_requests += 1
            history.asked_again += bool(history.answered)
            name, lasts = self.plans.get(text, Plan())
            strikes = {"once": history.n_requests == 1, "first run": self.is_first_run}
        if name and strikes.get(lasts, True):
            return self.faults[name](healthy), False
        return healthy.answer(), True

    def note(self, text: str) -> None:
        with self.lock:
            self.histories[text].answered = time.monotonic()
            self.n_answered += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        began = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = _TEXT.search(body["messages"][-1]["content"])
        text = found[0] if found else ""
        answer, is_healthy = self.server.reply(text)
        time.sleep(self.server.delay)
        with contextlib.suppress(OSError):
            if callable(answer):
                self.close_connection = True
                answer(self)
                return
            self._send(answer)
            # What a busy machine sends late may have been given up by the client.
            if is_healthy and time.monotonic() - began < TIMEOUT / 2:
                self.server.note(text)

    def _send(self, answer: Any) -> None:
        raw = answer.body
        kind = "text/html" if isinstance(raw, str) else "application/json"
        if not isinstance(raw, bytes):
            raw = (raw if isinstance(raw, str) else json.dumps(raw)).encode()
        headers = {"Content-Type": kind, "Content-Length": str(len(raw)), **answer.headers}
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


@dataclass
class Tally:
    """What became of the rows.

    Attributes
    ----------
    rows, struck : int
        How many rows there were, and how many of them a fault struck.
    failed, failed_for_good : int
        Rows that are NaN after one run, and after another one.
    healed : int
        Rows that failed in the first run and were answered in the second.
    not_healed : int
        Rows whose fault had passed, which are still NaN after the second run.
    wrong : int
        Rows with a number that is not what the model said.
    invented : int
        Rows with a number where no answer ever came of which one could be read.
    lost : int
        Rows that failed though a healthy answer had arrived.
    paid_twice : int
        Requests about a text for which there was a good answer already.
    ended : int
        Runs that ended with an error.
    requests : int
        Requests that were sent.
    """

    rows: int = 0
    struck: int = 0
    failed: int = 0
    healed: int = 0
    failed_for_good: int = 0
    not_healed: int = 0
    wrong: int = 0
    invented: int = 0
    lost: int = 0
    paid_twice: int = 0
    ended: int = 0
    requests: int = 0
    by_fault: Counter[str] = field(default_factory=Counter)

    BROKEN = ("not_healed", "wrong", "invented", "lost", "paid_twice", "ended")

    def count(self, what: str, plan: Plan, times: int = 1) -> None:
        setattr(self, what, getattr(self, what) + times)
        if times and what in self.BROKEN:
            self.by_fault[f"{what}: {plan.fault or 'healthy'}, {plan.lasts}"] += times

    @property
    def broken(self) -> dict[str, int]:
        """The promises that did not hold."""
        return {what: n for what in self.BROKEN if (n := getattr(self, what))}

    def __str__(self) -> str:
        counts = {name: n for name, n in asdict(self).items() if name != "by_fault"}
        lines = [f"{name.replace('_', ' '):16}{n:>8,}" for name, n in counts.items()]
        return "\n".join(
            [*lines, *(f"  {what} ({n})" for what, n in sorted(self.by_fault.items()))]
        )


def messages(n_rows: int) -> list[str]:
    return [f"message {i:05}" for i in range(n_rows)]


def ask(url: str, signal: str, cache: Any, texts: Sequence[str]) -> np.ndarray:
    """Ask about texts; an error of the library is the caller's."""
    backend = OpenAIBackend("m", base_url=url, timeout=TIMEOUT, max_retries=1, max_concurrency=16)
    llm = LLMClassifier(backend, classes=CLASSES, signal=signal, cache=cache, on_error="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return llm.predict_proba(texts)


def verdicts(server: FaultyServer, proba: np.ndarray) -> set[tuple[str, str]]:
    """Return what is wrong with a run, as pairs of a count of `Tally` and a text."""
    found = set()
    for text, row in zip(server.plans, proba, strict=True):
        answered = bool(server.histories[text].answered)
        if np.isnan(row).any():
            if answered:
                found.add(("lost", text))
        elif not answered and server.plans[text].fault not in READABLE:
            found.add(("invented", text))
        elif np.abs(row - list(server.healthy(text).truth.values())).max() > CLOSE:
            found.add(("wrong", text))
    return found


def play(server: FaultyServer, cache: Any, tally: Tally, ask: Ask = ask) -> None:
    """Run, run again, and count; a row that is wrong in both runs counts once."""
    n = len(server.plans)
    results = []
    found: set[tuple[str, str]] = set()
    for server.is_first_run in (True, False):
        before = {text: history.n_requests for text, history in server.histories.items()}
        try:
            results.append(ask(server.url, server.signal, cache, list(server.plans)))
        except Exception as error:
            tally.count("ended", Plan(f"{type(error).__name__}: {str(error)[:200]}"))
            results.append(np.full((n, len(CLASSES)), np.nan))
        found |= verdicts(server, results[-1])
    for what, text in found:
        tally.count(what, server.plans[text])
    first, second = (np.isnan(proba).any(axis=1) for proba in results)
    tally.rows += n
    tally.failed += int(first.sum())
    tally.healed += int((first & ~second).sum())
    tally.failed_for_good += int(second.sum())
    tally.requests += sum(history.n_requests for history in server.histories.values())
    for i, (text, plan) in enumerate(server.plans.items()):
        history = server.histories[text]
        tally.struck += bool(plan.fault)
        if second[i] and plan.lasts != "always":
            tally.count("not_healed", plan)
        again = history.asked_again
        if not first[i] and not again:  # was read, though it was no healthy answer
            again = history.n_requests - before[text]
        tally.count("paid_twice", plan, again)


@contextlib.contextmanager
def faulty(n_rows: int, signal: str, share: float = 0.3, seed: int = 0) -> Iterator[FaultyServer]:
    """Start a server that knows `n_rows` texts; forget about it afterwards."""
    with FaultyServer(messages(n_rows), signal, share, seed) as server:
        clear_handles()
        yield server
        clear_handles()


def tally_of(n_rows: int, share: float, seed: int) -> Tally:
    """Play half of the rows with each signal."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for signal in FAULTS:
            with faulty(n_rows // 2, signal, share, seed) as server:
                play(server, Path(folder) / f"{signal}.sqlite", tally)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.3, help="of the rows that a fault strikes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ask", metavar="URL", help="only ask there, as a child of the tests does")
    parser.add_argument("--signal", default="logprobs")
    parser.add_argument("--cache")
    options = parser.parse_args(argv)
    os.environ.update(OPENAI_API_KEY="sk-test-chaos", NO_PROXY="127.0.0.1")
    if options.ask:
        ask(options.ask, options.signal, options.cache, messages(options.rows))
        return 0
    began = time.monotonic()
    tally = tally_of(options.rows, options.share, options.seed)
    took = time.monotonic() - began
    sys.stdout.write(f"{tally}\n{len(kinds())} kinds of faults, {took:.0f} s\n")
    return bool(tally.broken)


if __name__ == "__main__":
    sys.exit(main())
