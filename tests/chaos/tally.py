"""Ask a server that fails in all the ways of `faults`, and count what became of the rows.

make chaos                         # 2,000 rows, 30 % of them with a fault; then kill -9 and others
make chaos ROWS=10000 SEED=7
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from faults_of_answers import kinds
from faulty_server import TIMEOUT, FaultyServer, Plan, faulty, messages
from healthy import PROFILES

from skllm_calib import LLMClassifier, Prompt
from skllm_calib.backends import OpenAIBackend

CLOSE = 0.02  # a probability that differs by more is wrong
N_CLASSES = 3
Ask = Callable[[str, str, Any, Sequence[str]], np.ndarray]


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

    @property
    def counts(self) -> dict[str, int]:
        return {name: n for name, n in asdict(self).items() if name != "by_fault"}

    def __add__(self, other: Tally) -> Tally:
        sums = {name: n + other.counts[name] for name, n in self.counts.items()}
        return Tally(**sums, by_fault=self.by_fault + other.by_fault)

    def __str__(self) -> str:
        return table({"rows": self})


def table(tallies: Mapping[str, Tally]) -> str:
    """Return the counts of several tallies beside each other, and what broke a promise."""
    lines = [" " * 16 + "".join(f"{name[:17]:>18}" for name in tallies)]
    for what in Tally().counts:
        numbers = "".join(f"{tally.counts[what]:>18,}" for tally in tallies.values())
        lines.append(f"{what.replace('_', ' '):16}{numbers}")
    for name, tally in tallies.items() if "all" not in tallies else list(tallies.items())[:-1]:
        lines += [f"  {name}: {what} ({n})" for what, n in sorted(tally.by_fault.items())]
    return "\n".join(lines)


def classifier(url: str, signal: str, cache: Any, timeout: float = TIMEOUT) -> LLMClassifier:
    profile = PROFILES[signal]
    backend = OpenAIBackend(
        "m",
        base_url=url,
        api=profile.api,
        timeout=timeout,
        max_retries=1,
        max_concurrency=16,
        seed=None if profile.is_one_reply else 0,
    )
    return LLMClassifier(
        backend,
        classes=list(profile.classes),
        prompt=profile.prompt or Prompt(),
        signal=profile.signal,
        cache=cache,
        on_error="nan",
    )


def ask(
    url: str, signal: str, cache: Any, texts: Sequence[str], timeout: float = TIMEOUT
) -> np.ndarray:
    """Ask about texts; an error of the library is the caller's. `signal` names a profile."""
    llm = classifier(url, signal, cache, timeout)
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
        elif not answered and not server.shows_truth(text):
            found.add(("invented", text))
        elif np.abs(row - server.healthy(text).row).max() > CLOSE:
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
            results.append(np.full((n, N_CLASSES), np.nan))
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


def tally_of(profile: str, n_rows: int, share: float, seed: int) -> Tally:
    """Play some rows of one profile."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, faulty(n_rows, profile, share, seed) as server:
        play(server, Path(folder) / "c.sqlite", tally)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.3, help="of the rows that a fault strikes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, default=20, help="that runs are stopped in each way")
    parser.add_argument("--ask", metavar="URL", help="only ask there, as a child of the tests does")
    parser.add_argument("--profile", default="logprobs")
    parser.add_argument("--cache")
    options = parser.parse_args(argv)
    os.environ.update(OPENAI_API_KEY="sk-test-chaos", NO_PROXY="127.0.0.1")
    if options.ask:
        ask(options.ask, options.profile, options.cache, messages(options.rows))
        return 0
    began, n_rows = time.monotonic(), options.rows // len(PROFILES)
    tallies = {name: tally_of(name, n_rows, options.share, options.seed) for name in PROFILES}
    tallies["all"] = sum(tallies.values(), Tally())
    sys.stdout.write(f"{table(tallies)}\n{len(kinds())} kinds of faults, ")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    import deaths

    n_broken = deaths.main(options.times, options.seed)
    return bool(tallies["all"].broken or n_broken)


if __name__ == "__main__":
    sys.exit(main())
