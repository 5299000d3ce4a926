"""What a row costs with a model on this machine, beside the model alone and beside cappr.

llama.cpp: this package, and the same loaded model that is given the same token ids and writes one
token, without lists of probabilities ("alone"): the time that no reading of labels can fall below.
"text alone" stops at the end of the row's text, without the mark behind it and the end of the turn.
What prompts share is known to all. transformers: this package, prompts one by one and eight at a
time, and cappr (in an interpreter of its own), which reads whole prompts.

Times are those of the processor, which other work on the machine changes little, and all take
turns on the same rows. A figure is the median of the rounds, a ratio the median of their ratios.

Run: ``python benchmarks/local.py``, with ``--cappr /path/to/python`` where cappr is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from skllm_calib import LLMClassifier
from skllm_calib.backends import LlamaCppBackend, TransformersBackend
from skllm_calib.datasets import load_messages
from skllm_calib.evidence.backends.base import Message
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2

Job = Callable[[Sequence[str]], float]

LABELS = ["negative", "positive", "praise", "complaint", "question", "order", "refund", "delivery"]
LABELS += ["account", "technical"]


def texts(n: int, n_words: int, start: int) -> list[str]:
    """Messages of so many words, no two of them alike."""
    words = " ".join(load_messages().data).split()
    return [
        " ".join((words * 2)[(at := (start + i) * 97 % len(words)) : at + n_words])
        for i in range(n)
    ]


def classifier(backend: object, n_labels: int) -> LLMClassifier:
    labels = sorted(LABELS[:n_labels])
    return LLMClassifier(backend, classes=labels, max_off_label=1.0, cache=None)


def timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def race(jobs: dict[str, Job], rows: Callable[[int], list[str]], n: int) -> dict[str, list[float]]:
    """Let the jobs take turns on the same rows, in another order each round."""
    for job in jobs.values():
        job(rows(-1)[:2])  # load the model, read what prompts share
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for i in range(n):
        names = list(jobs)[i % len(jobs) :] + list(jobs)[: i % len(jobs)]
        for name in names:
            times[name].append(jobs[name](rows(i)))
    return times


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))


def n_common(rows: Sequence[Sequence[int]]) -> int:
    """Tokens with which all rows begin."""
    return next(i for i, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1)


class LlamaCpp:
    """This package and the model alone, in one process and with one loaded model."""

    def __init__(self, n_labels: int, n_threads: int | None) -> None:
        backend = LlamaCppBackend(n_threads=n_threads)
        self.clf = classifier(backend, n_labels)
        self.engine = backend._engine()

    def prompts(self, rows: Sequence[str]) -> list[list[int]]:
        turns = self.clf.render(rows)
        return [self.engine._prompt([Message(**m) for m in messages]) for messages in turns]

    def alone(self, rows: Sequence[str], without: int = 0) -> float:
        prompts = [ids[: len(ids) - without] for ids in self.prompts(rows)]
        options = {"n_predict": 1, "temperature": 0.0, "cache_prompt": True, "id_slot": 0}
        ask = self.engine._server.handle_completions
        return timed(lambda: [ask({"prompt": ids, **options}) for ids in prompts])

    def compare(self, n_words: int, n_rows: int, n_rounds: int) -> str:
        def rows(i: int) -> list[str]:
            return texts(n_rows, n_words, n_rows * (i + 1))

        prompts = self.prompts(rows(0))
        begin = n_common(prompts)
        end = n_common([ids[::-1] for ids in prompts])
        jobs: dict[str, Job] = {
            "ours": lambda rows: timed(lambda: self.clf.predict_proba(rows)),
            "alone": self.alone,
            "text": lambda rows: self.alone(rows, end),
        }
        times = race(jobs, rows, n_rounds)
        n_read = statistics.mean(r["completion_tokens"] for r in self.clf.explain(rows(0)))
        unshared = statistics.mean(map(len, prompts)) - begin
        cells = [
            f"{unshared:.0f} ({unshared - end:.0f})",
            f"{n_read:.1f}",
            f"{1e3 * statistics.median(times['ours']) / n_rows:.0f}",
            f"{ratio(times, 'ours', 'alone'):.2f}",
            f"{ratio(times, 'ours', 'text'):.2f}",
        ]
        return ", ".join(cells)


class Cappr:
    """cappr in an interpreter of its own."""

    def __init__(self, python: str, clf: LLMClassifier, engine: Any, n_threads: int) -> None:
        worker = str(Path(__file__).with_name("local_cappr.py"))
        command = [python, worker, str(find_smollm2()), str(n_threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.clf, self.engine = clf, engine
        assert self._answer() == "ready\n", "cappr does not start: run local_cappr.py with it"

    def _answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def __call__(self, rows: Sequence[str], batch_size: int) -> float:
        chat = self.engine._framing._chat
        turns = [[Message(**m) for m in messages] for messages in self.clf.render(rows)]
        asked = {
            "prompts": [chat.render(messages) for messages in turns],
            "labels": [str(label) for label in self.clf.classes_],
            "batch_size": batch_size,
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return float(json.loads(self._answer())[0])


def transformers(n_rows: int, n_rounds: int, n_threads: int, cappr: str | None) -> None:
    jobs: dict[str, Job] = {}
    for n_together in (1, 8):
        backend = TransformersBackend(device="cpu", n_threads=n_threads, n_together=n_together)
        clf = classifier(backend, 2)
        jobs[f"{n_together} together"] = lambda rows, clf=clf: timed(
            lambda: clf.predict_proba(rows)
        )
    if cappr:
        worker = Cappr(cappr, clf, backend._engine(), n_threads)
        jobs |= {f"cappr, {n} together": partial(worker, batch_size=n) for n in (1, 8)}
    try:
        for n_words in (10, 40):
            times = race(jobs, lambda i: texts(n_rows, n_words, n_rows * (i + 1)), n_rounds)  # noqa: B023
            for name, taken in times.items():
                ms = 1e3 * statistics.median(taken) / n_rows
                print(
                    f"   {n_words} words, {name}, {ms:.0f}, {ratio(times, name, '1 together'):.2f}"
                )
    finally:
        if cappr:
            worker.process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-rows", type=int, default=8, help="rows a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n-threads", type=int, default=1)
    parser.add_argument("--cappr", metavar="PYTHON", help="an interpreter that has cappr")
    parser.add_argument("--only", choices=("llama_cpp", "transformers"))
    args = parser.parse_args()

    names = ("xllamacpp", "torch", "transformers")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {args.n_threads} used")
    print(", ".join(f"{name} {version(name)}" for name in names), flush=True)
    if args.only in (None, "llama_cpp"):
        print("llama.cpp: labels, words, rows, unshared tokens (of the text), continuations a row,")
        print("   processor ms a row, ratio to the model alone, to the text alone")
        cases = [(2, 10, 1), (2, 40, 1), (2, 160, 1), (4, 40, 1), (10, 40, 1), (2, 40, 4)]
        for n_labels, n_words, times_n in cases:
            n_rows = args.n_rows * times_n
            line = LlamaCpp(n_labels, args.n_threads).compare(n_words, n_rows, args.rounds)
            print(f"   {n_labels}, {n_words}, {n_rows}, {line}", flush=True)
    if args.only in (None, "transformers"):
        print("transformers: words, way, processor ms a row, ratio to one by one", flush=True)
        transformers(args.n_rows, args.rounds, args.n_threads, args.cappr)


if __name__ == "__main__":
    main()
