"""ReviewClassifier on few labels: rows held apart against cross-fitting.

The true chance of each label is known, so the precision of what is accepted is that of the
population. A promise may be broken in 10 % of the draws of labelled rows; "accepted" is the mean
share of the rows to come, zero where nothing could be certified.

    python benchmarks/cross_fitted_promises.py [--draws N]
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression

from skllm_calib import ReviewClassifier, ReviewPolicy

N_ROWS, N_FEATURES, TARGET = 200, 5, 0.9


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = rng.normal(size=(size, N_FEATURES))
    chance = 1 / (1 + np.exp(-rows @ np.full(N_FEATURES, 4 / np.sqrt(N_FEATURES))))
    return rows, chance, rng.random(size) < chance


def run(n_draws: int, **options: object) -> tuple[float, float, float]:
    """Return the fractions of draws with a promise and with a broken one, and of rows accepted."""
    population, chance, _ = draw(np.random.default_rng(0), 20_000)
    policy = ReviewPolicy(TARGET, confidence=0.9, on_not_certifiable="review")
    certified, broken, accepted = (np.zeros(n_draws) for _ in range(3))
    for k in range(n_draws):
        rows, _, y = draw(np.random.default_rng([1, k]), N_ROWS)
        clf = ReviewClassifier(LogisticRegression(), policy, random_state=k, **options)
        clf.fit(rows, y)
        proba = clf.predict_proba(population)
        passes = clf.policy_.decide(proba) == "accept"
        accepted[k], certified[k] = passes.mean(), passes.any()
        right = np.where(clf.policy_.predict(proba), chance, 1 - chance)[passes]
        broken[k] = passes.any() and right.mean() < TARGET
    return certified.mean(), broken.mean(), accepted.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    print(f"{N_ROWS} labelled rows, a precision of {TARGET:.0%}, {args.draws} draws, in %")
    print(f"{'':<12}{'certified':>10}{'broken':>8}{'accepted':>10}")
    for name, options in (("holdout=0.5", {"holdout": 0.5}), ("cv=5", {"cv": 5})):
        found = [100 * share for share in run(args.draws, **options)]
        print(f"{name:<12}{found[0]:>10.0f}{found[1]:>8.1f}{found[2]:>10.0f}")


if __name__ == "__main__":
    main()
