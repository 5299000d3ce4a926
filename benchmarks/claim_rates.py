"""How often "the calibration error is below 2 %" is said, and how often it is false.

Test sets are drawn from classifiers whose true error is known. Each rule is asked whether the error
is below 2 %: at a true error of 2 % a "yes" is false, and at 0 or 1 % a "no" is a missed chance.
The confidences are 0.5 + 0.5 * Beta, with a mean of 0.85 or 0.95; the error is either
over-confidence everywhere ("shift"), or under-confidence below the mean and over-confidence above
it ("turn").

Run: ``python benchmarks/claim_rates.py`` (minutes on one core; ``--quick`` for a rough table).
"""

from __future__ import annotations

import argparse

import numpy as np

from skllm_calib.metrics import (
    calibration_test,
    can_claim,
    debiased_calibration_error,
    expected_calibration_error,
)

TARGET = 0.02
CONFIDENCES = {0.85: (1.75, 0.75), 0.95: (2.7, 0.3)}
ERRORS = ((0.0, "none"), (0.01, "shift"), (0.02, "shift"), (0.02, "turn"))
SIZES = (200, 500, 1000, 2000, 5000, 10_000)
RULES = ("plug-in < 2 %", "debiased < 2 %", "can_claim", "says no", "test rejects")


def draw(
    rng: np.random.Generator, n_rows: int, middle: float, error: float, form: str
) -> tuple[np.ndarray, np.ndarray]:
    confidence = 0.5 + 0.5 * rng.beta(*CONFIDENCES[middle], n_rows)
    sign = np.where((form == "turn") & (confidence < middle), -1, 1)
    return (rng.random(n_rows) < confidence - error * sign).astype(int), confidence


def rates(
    rng: np.random.Generator, n_draws: int, n_rows: int, world: tuple[float, float, str]
) -> np.ndarray:
    mean, error, form = world
    said = np.zeros(len(RULES))
    known = {"labels": [0, 1], "strategy": "quantile"}
    for seed in range(n_draws):
        y, p = draw(rng, n_rows, mean, error, form)
        claim = can_claim(y, p, TARGET, n_resamples=200, random_state=seed, labels=[0, 1])
        test = calibration_test(y, p, n_simulations=99, random_state=seed, labels=[0, 1])
        said += [
            expected_calibration_error(y, p, **known) < TARGET,
            debiased_calibration_error(y, p, norm="l1", **known) < TARGET,
            claim.verdict == "yes",
            claim.verdict == "no",
            test.p_value <= 0.05,
        ]
    return said / n_draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-draws", type=int, default=200, help="test sets per cell")
    parser.add_argument("--quick", action="store_true", help="20 test sets per cell, no more rows")
    parser.add_argument("--random-state", type=int, default=0)
    args = parser.parse_args()
    n_draws, sizes = (20, SIZES[:4]) if args.quick else (args.n_draws, SIZES)

    rng = np.random.default_rng(args.random_state)
    print(f"{n_draws} test sets per cell.\n")
    print(f"| confidence | true error | rows | {' | '.join(RULES)} |")
    print("|---|---|---|" + "---|" * len(RULES))
    for mean in CONFIDENCES:
        for error, form in ERRORS:
            for n_rows in sizes:
                cells = rates(rng, n_draws, n_rows, (mean, error, form))
                figures = " | ".join(f"{cell:.2f}" for cell in cells)
                print(f"| {mean} | {error:.0%} {form} | {n_rows:,} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
