"""How long fits and metrics take, beside other packages on the same machine at the same moment.

Three tables: every calibrator fitted to 200 rows (and one row answered, as some packages do their
work only then); temperature scaling of a million rows of ten classes; the calibration error of ten
million binary rows (positive class) and of a million rows of ten classes (top label), 15 bins.
Methods take turns within each repeat, so that other work on the machine hits all alike: a time is
the median of the repeats, a ratio the median of the repeats' ratios to ours (above 1: ours is
faster). A method that takes more than five seconds is measured once and left out at larger K.

Run: ``python benchmarks/speed.py`` (some ten minutes with all packages; ``--quick`` for a hundredth
of the rows). On cores that others use too, set ``OMP_NUM_THREADS=1``: threads that wait for each
other make fits of small matrices up to twenty times slower, ours included. Other packages are
compared when they are installed: ``pip install betacal netcal probmetrics venn-abers``. Needs the
``tables`` extra.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import math
import os
import platform
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from calibration_quality import LogProba, make_methods
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold

from skllm_calib.calibrators import TemperatureScaling
from skllm_calib.metrics import expected_calibration_error

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Job = Callable[[], object]

N_CLASSES = (2, 4, 10, 77)
SLOW_SECONDS = 5.0
PACKAGES = ("scikit-learn", "netcal", "probmetrics", "betacal", "venn-abers")
BY_PROBA = ("netcal", "probmetrics")
# What each method of another package does is done by this one of skllm-calib.
COUNTERPARTS = {
    "sklearn sigmoid": "platt",
    "sklearn isotonic": "isotonic",
    "sklearn temperature": "temperature",
    "netcal temperature": "temperature",
    "netcal logistic": "vector",
    "netcal beta": "beta",
    "netcal histogram": "histogram",
    "probmetrics temperature": "temperature",
    "probmetrics logistic": "matrix",
    "probmetrics svs": "vector",
    "betacal": "beta",
    "venn_abers package": "venn_abers",
}


def draw(n_rows: int, n_classes: int) -> tuple[Floats, Codes]:
    """Log-probabilities that are over-confident by a factor of two, and labels."""
    rng = np.random.default_rng(n_classes)
    logits = rng.normal(scale=3.0, size=(n_rows, n_classes))
    y = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return log_softmax(logits, axis=1), y


def seconds(job: Job) -> float:
    started = time.perf_counter()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(io.StringIO()):
            job()
    return time.perf_counter() - started


def race(jobs: dict[str, Job], n_repeats: int) -> dict[str, list[float]]:
    """Let the jobs take turns; NaN for one that fails, nothing more of one that is slow."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(n_repeats):
        for name, job in jobs.items():
            if times[name] and not times[name][0] < SLOW_SECONDS:
                continue
            try:
                times[name].append(seconds(job))
            except Exception as error:
                print(f"({name} failed: {type(error).__name__})")
                times[name].append(float("nan"))
    return times


def ratio(times: dict[str, list[float]], name: str, ours: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[ours], strict=False))


def cell(times: dict[str, list[float]], name: str, ours: str | None) -> str:
    taken = 1e3 * statistics.median(times[name])
    if math.isnan(taken):
        return "fails"
    shown = f"{taken:,.1f}" if taken < 100 else f"{taken:,.0f}"
    return shown if ours is None else f"{shown} ({ratio(times, name, ours):.3g}x)"


def fits(n_repeats: int) -> None:
    methods = {name: make() for name, make in make_methods()[0].items() if name != "uncalibrated"}
    columns: dict[str, list[str]] = {name: [] for name in methods}
    slow: set[str] = set()
    for n_classes in N_CLASSES:
        log_proba, y = draw(200, n_classes)
        jobs = {
            name: (lambda fit=fit: fit(log_proba, y)(log_proba[:1]))  # noqa: B023
            for name, fit in methods.items()
            if name not in slow
        }
        if n_classes == N_CLASSES[0]:
            race(jobs, 1)  # imports and compilations
        times = race(jobs, n_repeats)
        for name, cells in columns.items():
            cells.append(cell(times, name, COUNTERPARTS.get(name)) if name in jobs else "-")
        slow |= {name for name in jobs if name in COUNTERPARTS and times[name][0] > SLOW_SECONDS}
    print("\nFit of 200 rows, one row answered: milliseconds (ratio to the one here)\n")
    print(f"| method | {' | '.join(f'K = {k}' for k in N_CLASSES)} | counterpart |")
    print("|---|" + "---|" * (len(N_CLASSES) + 1))
    for name, cells in columns.items():
        print(f"| {name} | {' | '.join(cells)} | {COUNTERPARTS.get(name, '')} |")


def show(title: str, jobs: dict[str, Job], n_repeats: int) -> None:
    times = race(jobs, n_repeats)
    print(f"\n{title}\n\n| method | seconds | ratio to ours |\n|---|---|---|")
    for name, taken in times.items():
        print(f"| {name} | {statistics.median(taken):.3f} | {ratio(times, name, 'ours'):.3g} |")


def peak_memory(job: Job) -> int:
    """Return the most bytes that numpy held at once on top of what there was."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    seconds(job)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before


def temperatures(n_rows: int, n_repeats: int, installed: set[str]) -> None:
    log_proba, y = draw(n_rows, 10)
    proba = np.exp(log_proba)
    fitted: dict[str, Any] = {}

    def ours() -> None:
        fitted["ours"] = TemperatureScaling().fit(log_proba, y).predict_proba

    def scikit_learn() -> None:
        scores = FrozenEstimator(LogProba(10))
        model = CalibratedClassifierCV(scores, method="temperature", cv=KFold(2))
        fitted["scikit-learn"] = model.fit(log_proba, y).predict_proba

    def netcal() -> None:
        from netcal.scaling import TemperatureScaling as Netcal  # noqa: PLC0415

        fitted["netcal"] = Netcal().fit(proba, y).transform

    def probmetrics() -> None:
        from probmetrics.calibrators import get_calibrator  # noqa: PLC0415

        fitted["probmetrics"] = get_calibrator("temp-scaling").fit(proba, y).predict_proba

    jobs: dict[str, Job] = {"ours": ours}
    known = {"scikit-learn": scikit_learn, "netcal": netcal, "probmetrics": probmetrics}
    jobs |= {name: job for name, job in known.items() if name in installed}
    show(f"Temperature scaling, fit of {n_rows:,} x 10", jobs, n_repeats)
    answers: dict[str, Job] = {
        name: (lambda name=name: fitted[name](proba if name in BY_PROBA else log_proba))
        for name in jobs
        if name in fitted
    }
    show(f"Temperature scaling, probabilities of {n_rows:,} x 10", answers, n_repeats)
    for what, job in (("fit", ours), ("probabilities", answers["ours"])):
        print(f"\nPeak memory here, {what}: {peak_memory(job) / log_proba.nbytes:.1f} x input")


def plain(y: Codes, confidence: Floats, hit: NDArray[np.bool_]) -> float:
    """Return the error as few lines of numpy have it, without any check."""
    number = np.minimum((confidence * 15).astype(int), 14)
    return float(np.abs(np.bincount(number, hit - confidence, 15)).sum() / len(y))


def errors(n_rows: int, n_classes: int, n_repeats: int, installed: set[str]) -> None:
    log_proba, y = draw(n_rows, n_classes)
    rows = np.exp(log_proba)
    binary = n_classes == 2
    proba = rows[:, 1].copy() if binary else rows
    kind = 1 if binary else "top-label"

    def by_numpy() -> float:
        if binary:
            return plain(y, proba, y == 1)
        return plain(y, proba.max(axis=1), proba.argmax(axis=1) == y)

    def netcal() -> None:
        from netcal.metrics import ECE  # noqa: PLC0415

        ECE(15).measure(proba, y)

    def probmetrics() -> None:
        import torch  # noqa: PLC0415
        from probmetrics.metrics import CalibrationError  # noqa: PLC0415

        metric = CalibrationError(15)
        metric.compute_all_from_labels_probs(torch.from_numpy(y), torch.from_numpy(rows))

    def ours() -> float:
        return expected_calibration_error(y, proba, kind=kind)

    assert abs(ours() - by_numpy()) < 1e-6  # but for confidences on the edge of a bin
    jobs: dict[str, Job] = {"ours": ours, "plain numpy, nothing checked": by_numpy}
    jobs["ours, bins of equal mass"] = lambda: expected_calibration_error(
        y, proba, kind=kind, strategy="quantile"
    )
    jobs |= {
        name: job
        for name, job in {"netcal": netcal, "probmetrics": probmetrics}.items()
        if name in installed
    }
    show(f"Calibration error of {n_rows:,} x {n_classes}", jobs, n_repeats)
    print(f"\nPeak memory here: {peak_memory(ours) / (proba.nbytes + y.nbytes):.2f} x input")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows, 3 repeats")
    parser.add_argument("--only", choices=("fits", "temperature", "errors"), default=None)
    args = parser.parse_args()
    n_repeats = 3 if args.quick else args.n_repeats
    share = 100 if args.quick else 1

    module = {"scikit-learn": "sklearn", "venn-abers": "venn_abers"}
    installed = {p for p in PACKAGES if importlib.util.find_spec(module.get(p, p))}
    names = ["numpy", "scipy", *(p for p in PACKAGES if p in installed)]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores")
    print(", ".join(f"{name} {version(name)}" for name in names))
    if args.only in (None, "fits"):
        fits(n_repeats)
    if args.only in (None, "temperature"):
        temperatures(1_000_000 // share, n_repeats, installed)
    if args.only in (None, "errors"):
        errors(10_000_000 // share, 2, n_repeats, installed)
        errors(1_000_000 // share, 10, n_repeats, installed)


if __name__ == "__main__":
    main()
