"""What review policies promise, against what was seen, next to the rules that people write.

A population of 200,000 rows with three predicted classes is the truth: labelled samples are drawn
from it with replacement, so what a policy does with rows to come is known exactly. The confidences
are 0.5 + 0.5 * Beta(1.75, 0.75), 0.85 on average, and either calibrated or five points too high;
the rarest class is three points worse than the others.

The naive rules: the lowest threshold at which the labelled rows keep the target; the threshold with
the wanted share of labelled rows below it; the mean cost with a normal interval.

Run: ``python benchmarks/review_promises.py`` (minutes on one core; ``--quick`` for a rough table).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from skllm_calib.decisions import ReviewPolicy
from skllm_calib.exceptions import NotCertifiableError

CONFIDENCE = 0.9
SIZES = (100, 200, 500, 2000)
GAPS = {"calibrated": 0.0, "5 points too sure": 0.05}
SHARES, WORSE = (0.5, 0.3, 0.2), (0.0, 0.0, 0.03)
TARGETS: dict[str, dict[str, object]] = {
    "precision 90 %": {"target_precision": 0.9},
    "precision 95 %": {"target_precision": 0.95},
    "error 2 %": {"max_error": 0.02},
    "precision 90 %, each class": {"target_precision": 0.9, "per_class": True},
    "review at most 20 %": {"max_reviews": 0.2},
    "the same: precision stated": {"max_reviews": 0.2},
    "at most 20 of 100 a day": {"max_reviews": (20, 100)},
    "cost: error 10, review 1": {"costs": 10, "review_cost": 1},
}


class Outcome(NamedTuple):
    """Whether a rule spoke at all, broke its promise, and which share of all rows it accepts."""

    spoke: bool
    broken: bool
    coverage: float


SILENT = Outcome(False, False, 0.0)


class World:
    """The population, and what becomes of it above any thresholds."""

    def __init__(self, rng: np.random.Generator, gap: float, size: int = 200_000) -> None:
        self.stated = 0.5 + 0.5 * rng.beta(1.75, 0.75, size)
        self.label = rng.choice(3, size, p=SHARES)
        right = rng.random(size) < self.stated - gap - np.array(WORSE)[self.label]
        self.y = np.where(right, self.label, (self.label + rng.integers(1, 3, size)) % 3)
        self.proba = np.repeat((1 - self.stated)[:, None] / 2, 3, axis=1)
        self.proba[np.arange(size), self.label] = self.stated
        self._sorted = []
        for code in range(3):
            mine = np.flatnonzero(self.label == code)
            mine = mine[np.argsort(-self.stated[mine])]
            hits = np.concatenate([[0], np.cumsum(right[mine])])
            self._sorted.append((-self.stated[mine], hits))

    def above(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and right rows of each predicted class that are accepted."""
        cuts = [
            int(np.searchsorted(stated, -at, side="right"))
            for (stated, _), at in zip(self._sorted, thresholds, strict=True)
        ]
        right = [hits[cut] for (_, hits), cut in zip(self._sorted, cuts, strict=True)]
        return np.array(cuts), np.array(right)


def judged(world: World, thresholds: np.ndarray, target: float, per_class: bool) -> Outcome:
    rows, right = world.above(thresholds)
    coverage = rows.sum() / world.y.size
    if not per_class:
        rows, right = rows.sum(keepdims=True), right.sum(keepdims=True)
    used = rows > 0
    broken = bool((right[used] / rows[used] < target).any())
    return Outcome(bool(used.any()), broken, coverage)


def lowest_threshold(stated: np.ndarray, right: np.ndarray, target: float) -> float:
    order = np.argsort(-stated)
    precision = np.cumsum(right[order]) / np.arange(1, order.size + 1)
    good = np.flatnonzero(precision >= target)
    return float(stated[order[good[-1]]]) if good.size else np.inf


def outcomes(
    world: World, rng: np.random.Generator, n_rows: int
) -> Iterator[tuple[str, Outcome, Outcome]]:
    """Yield name, policy and naive rule for every target, on one labelled sample."""
    rows = rng.integers(0, world.y.size, n_rows)
    stated, label, y = world.stated[rows], world.label[rows], world.y[rows]
    right = label == y
    for name, options in TARGETS.items():
        policy = ReviewPolicy(confidence=CONFIDENCE, **options)
        try:
            policy.fit(y, world.proba[rows], classes=[0, 1, 2])
        except NotCertifiableError:
            policy = None
        if "costs" in options:
            yield name, *cost_outcomes(world, policy, rows)
        elif "max_reviews" in options:
            yield name, *budget_outcomes(world, rng, policy, name, rows)
        else:
            target = options.get("target_precision") or 1 - options["max_error"]
            per_class = "per_class" in options
            groups = [label == code for code in range(3)] if per_class else [label >= 0] * 3
            naive = np.array([lowest_threshold(stated[g], right[g], target) for g in groups])
            certified = policy and judged(world, policy.thresholds_, target, per_class)
            yield name, certified or SILENT, judged(world, naive, target, per_class)


def budget_outcomes(
    world: World, rng: np.random.Generator, policy: ReviewPolicy, name: str, rows: np.ndarray
) -> list[Outcome]:
    stated = world.stated[rows]
    naive = np.quantile(stated, 0.2)
    shown = (world.label == world.y)[rows][stated >= naive].mean()
    both = []
    for threshold, precision in (
        (policy.thresholds_[0], policy.certified_precision_),
        (naive, shown),
    ):
        accepted, right = (part.sum() for part in world.above(np.full(3, threshold)))
        reviews = 1 - accepted / world.y.size
        if "stated" in name:
            broken = right / accepted < precision
        elif "day" in name:
            broken = rng.binomial(100, reviews) > 20
        else:
            broken = reviews > 0.2
        both.append(Outcome(True, bool(broken), 1 - reviews))
    return both


def cost_outcomes(world: World, policy: ReviewPolicy, rows: np.ndarray) -> tuple[Outcome, Outcome]:
    accepted = world.stated >= 0.9
    cost = np.where(accepted, 10 * (world.y != world.label), 1)
    truth, coverage = cost.mean(), accepted.mean()
    low, high = policy.expected_cost_interval_
    half = 1.645 * cost[rows].std(ddof=1) / np.sqrt(rows.size)
    return (
        Outcome(True, not low <= truth <= high, coverage),
        Outcome(True, bool(abs(cost[rows].mean() - truth) > half), coverage),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-draws", type=int, default=1000, help="labelled samples per cell")
    parser.add_argument("--quick", action="store_true", help="100 samples per cell")
    parser.add_argument("--random-state", type=int, default=0)
    args = parser.parse_args()
    n_draws = 100 if args.quick else args.n_draws

    rng = np.random.default_rng(args.random_state)
    print(f"{n_draws} labelled samples per cell; every promise may be broken in 10 % of them.\n")
    print("| world | target | rows | certified | broken | accepted | naive: broken | accepted |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, gap in GAPS.items():
        world = World(rng, gap)
        found = {
            n_rows: [list(outcomes(world, rng, n_rows)) for _ in range(n_draws)] for n_rows in SIZES
        }
        for number, name in enumerate(TARGETS):
            for n_rows, draws in found.items():
                cells = [f"| {kind} | {name} | {n_rows:,}"]
                for side in (1, 2):
                    seen = [draw[number][side] for draw in draws]
                    spoke = np.mean([one.spoke for one in seen])
                    broken = np.mean([one.broken for one in seen])
                    coverage = np.mean([one.coverage for one in seen])
                    cells += [f"{spoke:.2f}"] * (side == 1)
                    cells += [f"{broken:.3f}", f"{coverage:.2f}"]
                print(" | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
