"""Where a calibration error below 2 % is reached, and where it can be said to be.

``python benchmarks/ece_goal.py [FOLDER]`` calibrates the recordings of ``calibration_quality.py``
with ``method="auto"`` on n labelled rows, and measures the error of the top label on the other rows
(10 bins of equal mass, bias-corrected, so that it may be averaged). The cells, a model under a
prompt on a data set, are sorted by the accuracy after calibration. Beside it:

* "floor": what an n-label fit must be expected to miss: the mean error of one proportion, the
  accuracy, estimated from n rows, ``sqrt(2 a (1 - a) / (pi n))``;
* "constant": the error of the forecast that gives every row the class shares of the n labels. It is
  low, and the forecast is worthless, which is why no calibration error should stand alone;
* "may be said": how often `can_claim` allows, with 95 % confidence, to say that the error of this
  one calibrated classifier is below 2 %, and how often it finds the opposite.

The interval is that of the mean over cells (90 %, cells redrawn with all their splits; cells that
share a model or questions are not independent, so it is on the narrow side). ``--cells 20
--splits 5`` takes half an hour on one core.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from calibration_quality import Cell, find_sources, split
from joblib import Parallel, delayed
from recorded_signals import RECORDED

from skllm_calib.calibrators import AutoCalibrator, ConstantCalibration
from skllm_calib.metrics import can_claim, debiased_calibration_error

GOAL = 0.02
ACCURACIES = (0.0, 0.7, 0.8, 0.9, 1.0)


def error(y: np.ndarray, proba: np.ndarray) -> float:
    labels = np.arange(proba.shape[1])
    return debiased_calibration_error(
        y, proba, n_bins=10, strategy="quantile", norm="l1", labels=labels
    )


def measure(cell: Cell, n_labels: int, n_splits: int) -> list[list[float]] | None:
    """Return a row a split: accuracy, errors raw / calibrated / constant, floor, claims, rows."""
    classes = np.arange(cell.log_proba.shape[1])
    found = []
    for number in range(n_splits):
        parts = split(cell, n_labels, number)
        if parts is None:
            return None
        fit, test = parts
        y = cell.y[test]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            auto = AutoCalibrator().fit(cell.log_proba[fit], cell.y[fit], classes=classes)
            constant = ConstantCalibration().fit(cell.log_proba[fit], cell.y[fit], classes=classes)
        proba = auto.predict_proba(cell.log_proba[test])
        claim = can_claim(y, proba, GOAL, n_resamples=200, labels=classes)
        raw = np.exp(cell.log_proba[test])
        accuracy = float((proba.argmax(axis=1) == y).mean())
        found.append(
            [
                accuracy,
                error(y, raw / raw.sum(axis=1, keepdims=True)),
                error(y, proba),
                error(y, constant.predict_proba(cell.log_proba[test])),
                np.sqrt(2 * accuracy * (1 - accuracy) / (np.pi * n_labels)),
                claim.verdict == "yes",
                claim.verdict == "no",
                len(test),
            ]
        )
    return found


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 90 % bootstrap interval of the mean over cells."""
    drawn = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.05, 0.95])
    return float(low), float(high)


def show(title: str, cells: list[np.ndarray]) -> None:
    """Print one line: `cells` holds a (split, figure) array for each."""
    rows = np.concatenate(cells)
    means = rows.mean(axis=0)
    low, high = interval(np.array([cell[:, 2].mean() for cell in cells]))
    within = (rows[:, 2] <= 1.5 * rows[:, 4]).mean()
    print(
        f"| {title} | {len(cells)} | {means[0]:.3f} | {100 * means[1]:.1f} "
        f"| {100 * means[2]:.1f} ({100 * low:.1f}-{100 * high:.1f}) | {100 * means[4]:.1f} "
        f"| {100 * means[3]:.1f} | {(rows[:, 2] < GOAL).mean():.0%} | {within:.0%} "
        f"| {means[5]:.0%} / {means[6]:.0%} | {means[7]:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDED)
    parser.add_argument("--n", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--cells", type=int, help="how many cells to draw a source; default all")
    parser.add_argument("--sources", nargs="+", default=[""], help="(beginnings of) file names")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    args = parser.parse_args()
    print(
        "| labels, accuracy | cells | accuracy | ECE raw | calibrated (90 % interval) | floor "
        "| constant | below 2 | within 1.5 floors | may be said / opposite | rows tested |\n"
        + "|---" * 11
        + "|"
    )
    sources = {
        name: read()
        for name, read in find_sources(args.folder).items()
        if name.startswith(tuple(args.sources))
    }
    for n_labels in args.n:
        by_accuracy: dict[str, list[np.ndarray]] = defaultdict(list)
        by_source: dict[str, list[np.ndarray]] = defaultdict(list)
        for source, cells in sources.items():
            order = np.random.default_rng(0).permutation(len(cells))[: args.cells]
            found = Parallel(args.jobs)(
                delayed(measure)(cells[i], n_labels, args.splits) for i in sorted(order)
            )
            for cell in (np.array(f, dtype=float) for f in found if f is not None):
                by_source[source].append(cell)
                band = np.searchsorted(ACCURACIES, cell[:, 0].mean(), side="right")
                low, high = ACCURACIES[band - 1 : band + 1]
                by_accuracy[f"{low:.0%} to {high:.0%}"].append(cell)
        for title, measured in [*sorted(by_accuracy.items()), *by_source.items()]:
            show(f"{n_labels}, {title}", measured)


if __name__ == "__main__":
    main()
