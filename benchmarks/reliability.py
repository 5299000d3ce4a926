"""What other libraries make of the failing server of ``tests/chaos``, and of being stopped.

The same server, faults and tally as ``make chaos``; each library is asked in a process of its own
(``reliability_clients.py``). A library that needs other versions than this one may have its own
Python; one that is not installed is left out, which is said. Run, in the repository:

python benchmarks/reliability.py tally --python langchain=/path/to/python
python benchmarks/reliability.py ctrl-c
python benchmarks/reliability.py kill

``tally`` asks 2,000 rows, 30 % of them struck by a fault, and then once more: all rows where the
library keeps answers, else those that came back without a number. ``ctrl-c`` interrupts a run while
the server is healthy, slow, silent, or asks to retry in 30 s. ``kill`` ends a run with ``kill -9``
and counts what is asked again by the next one although its answer had been sent half a second
before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SHARED = [ROOT, ROOT / "tests" / "chaos", ROOT / "tests" / "evidence" / "backends"]
sys.path[:0] = [str(path) for path in SHARED if str(path) not in sys.path]

import tally as chaos  # noqa: E402
from faults import Fault  # noqa: E402
from faults_of_answers import FAULTS  # noqa: E402
from faulty_server import TIMEOUT, FaultyServer, messages  # noqa: E402
from healthy import KEYS, Healthy  # noqa: E402
from loopback import refusal  # noqa: E402

CLIENTS = Path(__file__).with_name("reliability_clients.py")
PACKAGES = {
    "skllm-calib": "skllm-calib",
    "openai": "openai",
    "openai, all caught": "openai",
    "langchain": "langchain-openai",
    "langchain, cached": "langchain-community",
    "scikit-llm": "scikit-llm",
    "scikit-llm, row by row": "scikit-llm",
}
KEEPS = {"skllm-calib", "langchain, cached"}  # asked about all rows again
SIGNALS = ("logprobs", "self_reported")
ASKED_FOR_LABELS = {"scikit-llm", "scikit-llm, row by row"}
WITHOUT_A_LABEL = {  # faults of stated probabilities, which say nothing about a stated label
    "stated_percent_and_fraction",
    "stated_negative",
    "stated_nan",
    "stated_nothing",
    "stated_three_ones",
    "stated_two_answers",
}
MOMENT = 0.5  # seconds after which what was sent has arrived
PATIENCE = 10.0  # seconds that an interrupted run is waited for
N_ROWS, N_ARRIVED = 300, 60  # of runs that are stopped


class Labelled(Healthy):
    """An answer with nothing but a label."""

    @property
    def truth(self) -> dict[str, float]:
        said = super().truth
        best = max(KEYS, key=said.__getitem__)
        return {key: float(key == best) for key in KEYS}

    @property
    def stated(self) -> str:
        return json.dumps({"label": self.best})

    def wrong(self) -> Healthy:
        others = (Labelled(f"another text {i}", self.signal) for i in range(100))
        return next(other for other in others if other.best != self.best)


class Server(FaultyServer):
    """The failing server; with the signal "label" one that is asked for labels only.

    `instead` is sent in the place of every answer, healthy or not, once it is set.
    """

    instead: Any = None

    @property
    def faults(self) -> Mapping[str, Fault]:
        if self.signal != "label":
            return super().faults
        stated = FAULTS["self_reported"].items()
        return {name: make for name, make in stated if name not in WITHOUT_A_LABEL}

    def healthy(self, text: str, stage: int = 0, body: Any = None) -> Healthy:
        return (Labelled if self.signal == "label" else Healthy)(text, self.signal, stage, body)

    def reply(self, body: dict[str, Any]) -> tuple[Any, Any]:
        answer = super().reply(body)
        return answer if self.instead is None else (self.instead, None)


class Client:
    """A library in a process of its own.

    Called again, it asks for all rows, if the library keeps answers, else for those that it has no
    number of.
    """

    def __init__(self, name: str, python: str, timeout: float | None = None) -> None:
        self.name, self.timeout = name, timeout
        self.seconds = 0.0
        self.proba: np.ndarray | None = None
        self.process = subprocess.Popen(
            [python, str(CLIENTS), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT) if name == "skllm-calib" else ""},
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def send(self, url: str, signal_name: str, cache: Any, texts: Sequence[str]) -> None:
        task = {"url": url, "signal": signal_name, "cache": str(cache), "texts": list(texts)}
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({**task, "timeout": self.timeout}) + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process has ended"}

    def __call__(self, url: str, signal_name: str, cache: Any, texts: Sequence[str]) -> np.ndarray:
        if self.proba is None or self.name in KEEPS:
            self.proba = np.full((len(texts), len(KEYS)), np.nan)
        missing = np.flatnonzero(np.isnan(self.proba).any(axis=1))
        self.send(url, signal_name, cache, [texts[i] for i in missing])
        result = self.receive()
        self.seconds += result.get("seconds", 0.0)
        if "error" in result:
            raise RuntimeError(result["error"])
        self.proba[missing] = [row or [np.nan] * len(KEYS) for row in result["rows"]]
        return self.proba.copy()


def signals_of(name: str, only: Sequence[str] | None = None) -> Sequence[str]:
    return ["label"] if name in ASKED_FOR_LABELS else list(only or SIGNALS)


def tally_of(
    name: str,
    python: str,
    n_rows: int,
    *,
    seed: int = 0,
    timeout: float = TIMEOUT,
    signals: Sequence[str] | None = None,
) -> tuple[chaos.Tally, int, float]:
    """Ask about `n_rows` rows in equal parts with each signal.

    Return the tally, how many of the invented numbers are those of the model all the same (a broken
    list may have the right proportions), and the seconds.
    """
    tally, n_right, seconds = chaos.Tally(), 0, 0.0
    signals = signals_of(name, signals)
    with tempfile.TemporaryDirectory() as folder:
        for signal_name in signals:
            texts = messages(n_rows // len(signals))
            with (
                Server(texts, signal_name, 0.3, seed) as server,
                Client(name, python, timeout) as client,
            ):
                chaos.play(server, Path(folder) / f"{signal_name}.sqlite", tally, client)
                seconds += client.seconds
                n_right += invented_but_right(server, client.proba)
    return tally, n_right, seconds


def invented_but_right(server: Server, proba: np.ndarray) -> int:
    rows = dict(zip(server.plans, proba, strict=True))
    return sum(
        np.abs(rows[text] - list(server.healthy(text).truth.values())).max() <= chaos.CLOSE
        for what, text in chaos.verdicts(server, proba)
        if what == "invented"
    )


# Runs that are stopped

KINDS = {
    "healthy": None,
    "slow": None,
    "silent": lambda handler: handler.server.over.wait(60),
    "retry in 30 s": refusal(503, "later", headers={"Retry-After": "30"}),
}


@contextlib.contextmanager
def started(name: str, python: str, cache: Path, n_arrived: int) -> Iterator[tuple[Server, Client]]:
    """Start a run, and wait until some answers have been sent."""
    signal_name = signals_of(name, ["logprobs"])[0]
    with (
        Server(messages(N_ROWS), signal_name, 0.0, 0) as server,
        Client(name, python) as client,
    ):
        server.delay = 0.1
        client.send(server.url, signal_name, cache, list(server.plans))
        until = time.monotonic() + 120
        while server.n_answered < n_arrived and time.monotonic() < until:
            time.sleep(0.005)
        if client.process.poll() is not None or server.n_answered < n_arrived:
            raise RuntimeError(f"{name} did not get as far as {n_arrived} answers")
        yield server, client


def asked_again(server: Server, rerun: Client, cache: Path, stopped: float) -> tuple[int, int]:
    """Ask about all texts again; return how many had an answer, and how many of them were asked."""
    arrived = {
        text: history.n_requests
        for text, history in server.histories.items()
        if text in server.plans and history.answered and history.answered < stopped
    }
    server.instead, server.delay = None, 0.0
    rerun.proba = None
    rerun(server.url, server.signal, cache, list(arrived))
    again = sum(server.histories[text].n_requests > n for text, n in arrived.items())
    return len(arrived), again


def interrupt(
    name: str, python: str, kind: str, cache: Path, rerun: Client
) -> tuple[float, float, int, int]:
    """Return the seconds until the call was left and until the process was gone, and what is lost.

    Both are infinite where it takes longer than `PATIENCE`.
    """
    with started(name, python, cache, N_ARRIVED) as (server, client):
        server.instead = KINDS[kind]
        server.delay = {"slow": 0.9}.get(kind, 0.1)
        time.sleep(0.0 if kind == "healthy" else 1.5)
        before = time.monotonic()
        client.process.send_signal(signal.SIGINT)
        ready, *_ = select.select([client.process.stdout], [], [], PATIENCE)
        left = client.receive().get("interrupted", np.inf) - before if ready else np.inf
        try:
            client.process.wait(max(0.01, PATIENCE - (time.monotonic() - before)))
            gone = time.monotonic() - before
        except subprocess.TimeoutExpired:
            gone = np.inf
            client.process.kill()
            client.process.wait()
        return left, gone, *asked_again(server, rerun, cache, before)


def kill(name: str, python: str, cache: Path, rerun: Client) -> tuple[int, int]:
    """End a run at a random moment; return how many had an answer, and how many were asked."""
    with started(name, python, cache, random.randint(100, 200)) as (server, client):
        killed = time.monotonic()
        client.process.kill()
        client.process.wait()
        return asked_again(server, rerun, cache, killed - MOMENT)


# The command line


def version(name: str, python: str) -> str:
    """Return which version is installed; empty for none."""
    code = f"import importlib.metadata as m; print(m.version({PACKAGES[name]!r}))"
    found = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return found.stdout.strip()


def print_tally(pythons: Mapping[str, str], args: argparse.Namespace) -> None:
    for name, python in pythons.items():
        tally, n_right, seconds = tally_of(name, python, args.rows, seed=args.seed)
        # In a run that ended, most rows were lost by another one.
        passed_on = ("lost", "not_healed", "paid_twice") if tally.ended else ()
        for what in [what for what in tally.by_fault if what.startswith(passed_on)]:
            del tally.by_fault[what]
        print(f"\n{chaos.table({name: tally})}")
        print(f"{'invented, right':16}{n_right:>18}\n{'seconds':16}{seconds:>18.0f}", flush=True)


def print_ctrl_c(pythons: Mapping[str, str], args: argparse.Namespace) -> None:
    print(f"{'':24}{'server':16}{'left, s':>10}{'gone, s':>10}{'arrived':>10}{'lost':>8}")
    for name, python in pythons.items():
        with tempfile.TemporaryDirectory() as folder, Client(name, python) as rerun:
            for kind in args.servers:
                runs = [
                    interrupt(name, python, kind, Path(folder) / f"{kind} {i}.sqlite", rerun)
                    for i in range(args.times or 5)
                ]
                left, gone, arrived, lost = (
                    statistics.median(figures) for figures in zip(*runs, strict=True)
                )
                seconds = f"{left:>10.2f}{gone:>10.2f}"
                print(f"{name:24}{kind:16}{seconds}{arrived:>10}{lost:>8}", flush=True)


def print_kill(pythons: Mapping[str, str], args: argparse.Namespace) -> None:
    for name, python in pythons.items():
        with tempfile.TemporaryDirectory() as folder, Client(name, python) as rerun:
            runs = [
                kill(name, python, Path(folder) / f"{i}.sqlite", rerun)
                for i in range(args.times or 20)
            ]
        arrived, again = (sum(figures) for figures in zip(*runs, strict=True))
        print(f"{name:24}{len(runs)} times: {arrived:,} had arrived, {again:,} asked again")


PRINTERS = {"tally": print_tally, "ctrl-c": print_ctrl_c, "kill": print_kill}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PRINTERS)
    parser.add_argument("--rows", type=int, default=2000, help="of the tally")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, help="to stop each: 5 for ctrl-c, 20 for kill")
    parser.add_argument("--servers", nargs="+", choices=KINDS, default=[*KINDS], help="of ctrl-c")
    parser.add_argument("--only", nargs="+", choices=PACKAGES, help="these libraries")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH", help="for names that begin so"
    )
    args = parser.parse_args()
    os.environ.update(OPENAI_API_KEY="sk-test-chaos", NO_PROXY="127.0.0.1")
    own = dict(each.split("=", 1) for each in args.python)
    pythons = {}
    for name in args.only or PACKAGES:
        python = next((own[start] for start in own if name.startswith(start)), sys.executable)
        if found := version(name, python):
            pythons[name] = python
            print(f"{name}: {PACKAGES[name]} {found}")
        else:
            print(f"{name}: left out, {PACKAGES[name]} is not installed")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    PRINTERS[args.part](pythons, args)


if __name__ == "__main__":
    main()
