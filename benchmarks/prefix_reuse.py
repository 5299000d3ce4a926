"""Rows per second of the local backend with and without reuse of the prompt's beginning.

Both ways are timed in one run, on the same rows, in turns, so that what else the machine does hits
both alike; the figure to look at is the ratio. Run: ``python benchmarks/prefix_reuse.py``.
"""

from __future__ import annotations

import argparse
import statistics
import time

from skllm_calib import LlamaCppBackend, LLMClassifier, Prompt
from skllm_calib.datasets import load_messages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-rows", type=int, default=20, help="rows a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="smollm2", help="'smollm2' or the path of a GGUF file")
    args = parser.parse_args()

    X, y = load_messages(return_X_y=True)
    ways = {
        reuse: LLMClassifier(
            LlamaCppBackend(args.model, reuse_prefix=reuse, n_parallel=1),
            prompt=Prompt(instruction="Classify the customer message. {hint}"),
            n_shots=2,  # a prompt with examples: most of it is the same for every row
            cache=None,
        ).fit(X[:100], y[:100])
        for reuse in (True, False)
    }
    rounds = [X[100 + i * args.n_rows : 100 + (i + 1) * args.n_rows] for i in range(args.rounds)]
    for clf in ways.values():
        clf.predict_proba(X[:2])  # load the model and read the common beginning once
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for i, rows in enumerate(rounds):
        for reuse in (True, False) if i % 2 == 0 else (False, True):
            start = time.perf_counter()
            ways[reuse].predict_proba(rows)
            seconds[reuse].append(time.perf_counter() - start)

    tokens = [record["prompt_tokens"] for record in ways[True].explain(rounds[0])]
    print(
        f"{args.rounds} rounds of {args.n_rows} rows, {statistics.mean(tokens):.0f} tokens a prompt"
    )
    for reuse, name in ((True, "prefix reused"), (False, "read anew")):
        rate = args.n_rows / statistics.median(seconds[reuse])
        print(f"  {name:<14} {rate:6.2f} rows/s (median round)")
    ratios = [slow / fast for fast, slow in zip(seconds[True], seconds[False], strict=True)]
    print(
        f"  ratio          {statistics.median(ratios):6.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
