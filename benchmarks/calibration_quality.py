"""Every calibrator of ours, and of other packages, on recorded outputs of real language models.

``python benchmarks/calibration_quality.py [FOLDER]`` draws n labelled rows of a recording, fits
every method to them and tests it on (at most 5,000 of) the rows that are left: log-loss, Brier
score and debiased calibration error of the top label (10 bins of equal mass). A cell is
one model under one prompt and so on; every method sees the same splits, and a standard error is
that of the mean over cells of the cells' mean differences. Cells that share a model or its
questions are not independent, so standard errors are on the small side.

A file is known by its columns, not by its name: ``logit_*`` or ``prob_*`` with ``label``; ``msp``
with ``grade``; ``extracted_answer`` with ``correct_answer`` and ``stated_confidence``;
``pred_theme`` with ``gold_theme`` and ``confidence``. Other packages are compared when they are
installed: ``pip install betacal netcal probmetrics venn-abers``. No probability counts as less
than e**-25. Needs the ``tables`` extra. All cells with all packages take some ten hours on one
core, half of them for netcal's beta; ``--cells 10`` an hour and a half, ``--quick`` a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import sys
import time
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from joblib import Parallel, delayed
from numpy.typing import NDArray
from recorded_signals import RECORDED, stated
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold

from skllm_calib.calibrators import CALIBRATORS
from skllm_calib.log_proba.numerics import floor_and_normalise
from skllm_calib.metrics import brier_score, debiased_calibration_error

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Predict = Callable[[Floats], Floats]
Fit = Callable[[Floats, Codes], Predict]

FIGURES = ("log-loss", "Brier", "dECE")
N_LABELS = (50, 100, 200, 500, 1000)
MOST_TEST_ROWS, LEAST_TEST_ROWS = 5000, 200
SLOW_SECONDS = 5.0
CLOSE = 0.002
LOWEST = np.exp(-25.0)  # other packages may answer 0, which would make any mean infinite


# -- recordings ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """Log-probabilities (n, K), class numbers, and groups of rows that stay on one side."""

    name: str
    log_proba: Floats
    y: Codes
    groups: NDArray[np.intp] | None = None


def by_columns(data: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[tuple[str, pd.DataFrame]]:
    keys = [c for c in columns if c in data]
    if not keys:
        yield "all", data
        return
    for values, part in data.groupby(keys, observed=True, sort=True):
        yield " / ".join(map(str, values)), part


def distributions(data: pd.DataFrame, prefix: str) -> Iterator[Cell]:
    """Logits or probabilities of every option."""
    columns = sorted(c for c in data if c.startswith(prefix))
    letters = [c.removeprefix(prefix) for c in columns]
    for name, part in by_columns(data, ("dataset", "variant", "model", "prompt")):
        scores = part[columns].to_numpy(np.float64)
        if prefix == "prob_":
            with np.errstate(divide="ignore"):
                scores = np.log(scores)
        known = part.label.isin(letters).to_numpy() & np.isfinite(scores.max(axis=1))
        y = np.searchsorted(letters, part.label[known].astype(str))
        yield Cell(name, floor_and_normalise(scores[known]), y)


def top_probability(data: pd.DataFrame) -> Iterator[Cell]:
    """The highest probability alone: is the answer wrong (0) or right (1)?"""
    data = data[data.grade.isin(["Correct", "Wrong"])]
    for name, part in by_columns(data, ("dataset", "model", "prompt")):
        msp = part.msp.to_numpy(np.float64)
        with np.errstate(divide="ignore"):
            scores = np.log(np.column_stack([1 - msp, msp]))
        yield Cell(name, floor_and_normalise(scores), (part.grade == "Correct").to_numpy(np.intp))


def stated_letters(data: pd.DataFrame) -> Iterator[Cell]:
    """One of ten letters with a stated confidence; the others share the rest."""
    letters = list("ABCDEFGHIJ")
    sure = data.stated_confidence.between(0, 1)
    data = data[sure & data.extracted_answer.isin(letters) & data.correct_answer.isin(letters)]
    for name, part in by_columns(data, ("model",)):
        said = np.searchsorted(letters, part.extracted_answer)
        scores = stated(said, part.stated_confidence.to_numpy(np.float64), len(letters))
        yield Cell(name, scores, np.searchsorted(letters, part.correct_answer))


def stated_themes(data: pd.DataFrame) -> Iterator[Cell]:
    """A theme of six with a stated confidence; all contexts of a claim stay on one side."""
    data = data.assign(theme=data.pred_theme.str.removeprefix("THEME: "))
    themes = sorted(data.gold_theme.unique())
    data = data[data.theme.isin(themes) & data.confidence.between(0, 1) & (data.run == 1)]
    for name, part in by_columns(data, ("model",)):
        said = np.searchsorted(themes, part.theme)
        scores = stated(said, part.confidence.to_numpy(np.float64), len(themes))
        groups = np.unique(part.paper_id, return_inverse=True)[1]
        yield Cell(name, scores, np.searchsorted(themes, part.gold_theme), groups)


FORMATS: list[tuple[tuple[str, ...], Callable[[pd.DataFrame], Iterator[Cell]]]] = [
    (("logit_A", "label"), lambda data: distributions(data, "logit_")),
    (("prob_A", "label"), lambda data: distributions(data, "prob_")),
    (("msp", "grade"), top_probability),
    (("extracted_answer", "correct_answer", "stated_confidence"), stated_letters),
    (("pred_theme", "gold_theme", "confidence", "paper_id", "run"), stated_themes),
]


def find_sources(folder: Path) -> dict[str, Callable[[], list[Cell]]]:
    """Return the files of the folder whose format is known, by their names without ending."""

    def reader(path: Path, read: Callable[[pd.DataFrame], Iterator[Cell]]) -> Any:
        load = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
        return lambda: list(read(load(path)))

    found = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*.csv")]):
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq  # noqa: PLC0415

            columns = set(pq.read_schema(path).names)
        else:
            columns = set(pd.read_csv(path, nrows=0).columns)
        for needed, read in FORMATS:
            if columns.issuperset(needed):
                found[path.stem] = reader(path, read)
                break
    return found


# -- methods -------------------------------------------------------------------------------------


def ours(name: str) -> Fit:
    def fit(log_proba: Floats, y: Codes) -> Predict:
        calibrator = CALIBRATORS[name]()
        calibrator.fit(log_proba, y, classes=np.arange(log_proba.shape[1]))

        def predict(scores: Floats) -> Floats:
            return calibrator.predict_proba(scores)

        predict.chosen = getattr(calibrator, "chosen_", None)  # type: ignore[attr-defined]
        return predict

    return fit


class LogProba(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is the log-probabilities it is given."""

    def __init__(self, n_classes: int = 2) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X: Floats, y: Codes) -> LogProba:
        return self

    def decision_function(self, X: Floats) -> Floats:
        return X[:, 1] - X[:, 0] if self.n_classes == 2 else X

    def predict(self, X: Floats) -> Codes:
        return X.argmax(axis=1)


def of_all_classes(fit: Fit) -> Fit:
    """For packages that take probabilities and bear classes without a label."""

    def fit_all(log_proba: Floats, y: Codes) -> Predict:
        predict = fit(np.exp(log_proba), y)
        return lambda scores: predict(np.exp(scores))

    return fit_all


def of_seen_classes(fit: Fit) -> Fit:
    """For packages that do not: a class without a label keeps its uncalibrated probability."""

    def fit_seen(log_proba: Floats, y: Codes) -> Predict:
        seen, codes = np.unique(y, return_inverse=True)
        if len(seen) == 1:
            raise ValueError("all labels are of one class")

        def narrow(scores: Floats) -> Floats:
            part = scores[:, seen]
            return np.exp(part - logsumexp(part, axis=1, keepdims=True))

        predict_seen = fit(narrow(log_proba), codes)

        def predict(scores: Floats) -> Floats:
            proba = np.exp(scores)
            share = proba[:, seen].sum(axis=1, keepdims=True)
            proba[:, seen] = share * np.asarray(predict_seen(narrow(scores)), dtype=np.float64)
            return proba

        return predict

    return fit_seen


def scikit_learn(method: str) -> Fit:
    from sklearn.calibration import CalibratedClassifierCV  # noqa: PLC0415
    from sklearn.frozen import FrozenEstimator  # noqa: PLC0415

    def fit(proba: Floats, y: Codes) -> Predict:
        scores = FrozenEstimator(LogProba(proba.shape[1]))
        # A frozen estimator predicts each fold alike, but the default folds refuse rare classes.
        model = CalibratedClassifierCV(scores, method=method, cv=KFold(2))
        model.fit(np.log(proba), y)
        return lambda p: model.predict_proba(np.log(p))

    return of_seen_classes(fit)


def netcal(group: str, name: str, **options: Any) -> Fit:
    module = importlib.import_module(f"netcal.{group}")

    def fit(proba: Floats, y: Codes) -> Predict:
        binary = proba.shape[1] == 2
        model = getattr(module, name)(**options).fit(proba[:, 1] if binary else proba, y)

        def predict(p: Floats) -> Floats:
            found = np.asarray(model.transform(p[:, 1] if binary else p)).squeeze()
            return np.column_stack([1 - found, found]) if binary else found

        return predict

    return of_all_classes(fit)


def probmetrics(name: str) -> Fit:
    from probmetrics.calibrators import get_calibrator  # noqa: PLC0415

    def fit(proba: Floats, y: Codes) -> Predict:
        return get_calibrator(name).fit(proba, y).predict_proba

    return of_all_classes(fit)


def betacal() -> Fit:
    from betacal import BetaCalibration  # noqa: PLC0415

    def fit(proba: Floats, y: Codes) -> Predict:
        columns = [1] if proba.shape[1] == 2 else range(proba.shape[1])
        models = [BetaCalibration("abm").fit(proba[:, [k]], y == k) for k in columns]

        def predict(p: Floats) -> Floats:
            found = [m.predict(p[:, [k]]) for m, k in zip(models, columns, strict=True)]
            if len(found) == 1:
                return np.column_stack([1 - found[0], found[0]])
            one_vs_rest = np.column_stack(found)
            return one_vs_rest / one_vs_rest.sum(axis=1, keepdims=True)

        return predict

    return of_seen_classes(fit)


def venn_abers() -> Fit:
    from venn_abers.venn_abers import VennAbers, predict_proba_prefitted_va  # noqa: PLC0415

    def fit(proba: Floats, y: Codes) -> Predict:
        if proba.shape[1] > 2:
            return lambda p: predict_proba_prefitted_va(proba, y, p)[0]
        model = VennAbers()
        model.fit(proba, y)
        return lambda p: model.predict_proba(p)[0]

    return of_seen_classes(fit)


def make_methods() -> tuple[dict[str, Callable[[], Fit]], dict[str, str]]:
    """Return all methods that can be used here, and why others cannot."""
    one_name_each = {cls: name for name, cls in reversed(list(CALIBRATORS.items()))}
    peers: dict[str, Callable[[], Fit]] = {
        "sklearn sigmoid": lambda: scikit_learn("sigmoid"),
        "sklearn isotonic": lambda: scikit_learn("isotonic"),
        "sklearn temperature": lambda: scikit_learn("temperature"),
        "netcal temperature": lambda: netcal("scaling", "TemperatureScaling"),
        "netcal logistic": lambda: netcal("scaling", "LogisticCalibration"),
        "netcal beta": lambda: netcal("scaling", "BetaCalibration"),
        "netcal histogram": lambda: netcal("binning", "HistogramBinning", bins=10),
        "probmetrics temperature": lambda: probmetrics("temp-scaling"),
        "probmetrics logistic": lambda: probmetrics("logistic"),
        "probmetrics svs": lambda: probmetrics("svs"),
        "probmetrics sms": lambda: probmetrics("sms"),
        "betacal": betacal,
        "venn_abers package": venn_abers,
    }
    methods: dict[str, Callable[[], Fit]] = {"uncalibrated": lambda: lambda _, __: np.exp}
    methods |= {name: lambda name=name: ours(name) for name in sorted(one_name_each.values())}
    missing = {}
    for name, make in peers.items():
        package = name.split()[0]
        if importlib.util.find_spec(package) is None:
            missing[name] = "not installed"
            continue
        release = tuple(map(int, sklearn.__version__.split(".")[:2]))
        if name == "sklearn temperature" and release < (1, 8):
            missing[name] = "needs scikit-learn 1.8"
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make()
        except Exception as error:  # a broken installation is no reason to stop the others
            missing[name] = f"cannot be imported: {error}".splitlines()[0][:120]
            continue
        methods[name] = make
    return methods, missing


# -- measuring -----------------------------------------------------------------------------------


def figures(proba: Floats, y: Codes) -> list[float]:
    if proba.ndim != 2 or not np.isfinite(proba).all():
        raise ValueError("the probabilities are not all finite")
    proba = np.maximum(proba, LOWEST)
    proba = proba / proba.sum(axis=1, keepdims=True)
    labels = np.arange(proba.shape[1])
    return [
        -np.log(proba[np.arange(len(y)), y]).mean(),
        brier_score(y, proba, labels=labels),
        debiased_calibration_error(
            y, proba, n_bins=10, strategy="quantile", norm="l1", labels=labels
        ),
    ]


@dataclass
class Measured:
    """What one cell gave at one n: figures (split, figure) and more, by method."""

    cell: str
    n_labels: int
    values: dict[str, Floats]
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    chosen: Counter[str] = field(default_factory=Counter)


def split(cell: Cell, n_labels: int, number: int) -> tuple[Codes, Codes] | None:
    """Return rows to fit and to test on; the same order of rows whatever the number of labels."""
    groups = np.arange(len(cell.y)) if cell.groups is None else cell.groups
    rng = np.random.default_rng([number, zlib.crc32(cell.name.encode())])
    place = rng.permutation(groups.max() + 1)[groups]
    order = np.argsort(place, kind="stable")
    if n_labels >= len(order):
        return None
    cut = np.searchsorted(place[order], place[order][n_labels - 1], side="right")
    rest = order[cut:]
    return (order[:cut], rest[-MOST_TEST_ROWS:]) if len(rest) >= LEAST_TEST_ROWS else None


def measure(cell: Cell, n_labels: int, n_splits: int, names: list[str]) -> Measured | None:
    """Fit and test every method on every split; None where the cell has too few rows."""
    methods = make_methods()[0]
    found = Measured(cell.name, n_labels, {m: np.full((n_splits, 4), np.nan) for m in names})
    for number in range(n_splits):
        rows = split(cell, n_labels, number)
        if rows is None:
            return None
        fit, test = rows
        for name in names:
            start = time.perf_counter()
            try:
                # Some packages print, some warn of every fit.
                with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                    warnings.simplefilter("ignore")
                    with contextlib.redirect_stderr(io.StringIO()):
                        predict = methods[name]()(cell.log_proba[fit], cell.y[fit])
                        found.seconds[name].append(time.perf_counter() - start)
                        proba = np.asarray(predict(cell.log_proba[test]), dtype=np.float64)
                    found.values[name][number] = figures(proba, cell.y[test])
            except Exception as error:  # told in the table, not dropped
                found.failures[name].append(f"{type(error).__name__}: {error}".splitlines()[0])
                continue
            if chosen := getattr(predict, "chosen", None):
                found.chosen[chosen] += 1
    return found


# -- showing -------------------------------------------------------------------------------------


def mean_over_splits(values: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a figure that no split gave
        return np.nanmean(values, axis=0)


def by_cell(cells: list[Measured], name: str) -> Floats:
    """Return the mean figures (cell, figure) of a method."""
    return np.array([mean_over_splits(cell.values[name]) for cell in cells])


def gaps(cells: list[Measured], name: str) -> tuple[Floats, Floats]:
    """Return the mean difference to `auto` and its standard error over cells."""
    each = np.array([mean_over_splits(c.values[name] - c.values["auto"]) for c in cells])
    known = np.isfinite(each).sum(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.nanmean(each, axis=0), np.nanstd(each, axis=0, ddof=1) / np.sqrt(known)


def show_number(value: float, digits: int, sign: str = "", error: float | None = None) -> str:
    if not np.isfinite(value):
        return "-"
    text = f"{value:{sign}.{digits}f}"
    return text if error is None or not np.isfinite(error) else f"{text} ({error:.{digits}f})"


def show(title: str, cells: list[Measured], names: list[str]) -> None:
    """Print the table of one source and one number of labels, best log-loss first."""
    n_splits = len(cells[0].values["auto"])
    print(f"### {title}, {cells[0].n_labels} labels ({len(cells)} cells, {n_splits} splits each)\n")
    print(
        "| method | log-loss | Brier | dECE % | log-loss less auto | Brier less auto "
        "| dECE less auto | ms a fit | failed |\n" + "|---" * 9 + "|"
    )
    rows = []
    for name in names:
        means = mean_over_splits(by_cell(cells, name)) * [1, 1, 100]
        gap, error = gaps(cells, name)
        gap, error = gap * [1, 1, 100], error * [1, 1, 100]
        digits = (4, 4, 2)
        shown = [show_number(m, d) for m, d in zip(means, digits, strict=True)]
        for g, e, d in zip(gap, error, digits, strict=True):
            shown.append("" if name == "auto" else show_number(g, d, "+", e))
        seconds = [s for cell in cells for s in cell.seconds[name]]
        shown.append(f"{1000 * np.mean(seconds):.1f}" if seconds else "-")
        failed = sum(len(cell.failures[name]) for cell in cells)
        shown.append(f"{failed} of {n_splits * len(cells)}" if failed else "")
        label = f"**{name}**" if name == "auto" else name
        rows.append((means[0], f"| {label} | " + " | ".join(shown) + " |"))
    rows.sort(key=lambda row: (np.isnan(row[0]), row[0]))
    print("\n".join(row for _, row in rows) + "\n")
    show_problems(cells, names)
    sys.stdout.flush()


def show_problems(cells: list[Measured], names: list[str]) -> None:
    for name in names:
        why = Counter(text for cell in cells for text in cell.failures[name])
        if why:
            text, _ = why.most_common(1)[0]
            print(f"- {name} failed {why.total()} times, most often with: {text[:160]}")
        slow = [s for cell in cells for s in cell.seconds[name] if s > SLOW_SECONDS]
        if slow:
            print(f"- {name}: {len(slow)} fits above {SLOW_SECONDS:g} s, up to {max(slow):.0f} s")
    partly = [m for m in names if any(cell.failures[m] for cell in cells)]
    if partly:
        print("\nFigures of methods that failed are of the splits they survived.\n")


def show_auto(results: dict[str, list[Measured]], names: list[str]) -> None:
    """Print how often `auto` was about the best, and what it chose."""
    rivals = [name for name in names if name != "auto"]
    print(
        f"## How good is auto?\n\nShare of cells in which no other method is better by more than "
        f"{CLOSE} (mean over splits; the best is known in hindsight only, so its lead is partly "
        "luck), and the mean lead of the best one.\n\n| source | labels | cells | log-loss: share "
        "| lead | Brier: share | lead | most often best in log-loss | chosen by auto |\n"
        + "|---" * 9
        + "|"
    )
    for source, measured in results.items():
        for n in sorted({m.n_labels for m in measured}):
            cells = [m for m in measured if m.n_labels == n]
            leads = np.array(
                [[mean_over_splits(c.values["auto"] - c.values[m]) for c in cells] for m in rivals]
            )
            failed = np.array([[bool(c.failures[m]) for c in cells] for m in rivals])
            leads[failed] = -np.inf  # the splits that a method survives may be the easy ones
            lead = np.maximum(leads.max(axis=0), 0)
            shown = []
            for column in (0, 1):
                shown.append(f"{100 * (lead[:, column] <= CLOSE).mean():.0f} %")
                shown.append(f"{lead[:, column].mean():.4f}")
            winners = np.where(lead[:, 0] > 0, leads[:, :, 0].argmax(axis=0), len(rivals))
            wins = Counter([*rivals, "auto"][i] for i in winners).most_common(3)
            chosen = sum((cell.chosen for cell in cells), Counter())
            picks = [f"{k} {100 * v / chosen.total():.0f} %" for k, v in chosen.most_common()]
            best = ", ".join(f"{name} {count}" for name, count in wins)
            print(
                f"| {source} | {n} | {len(cells)} | "
                + " | ".join(shown)
                + f" | {best} | {', '.join(picks)} |"
            )
    print()


def show_overall(results: dict[str, list[Measured]], names: list[str]) -> None:
    """Print differences to `auto` by number of labels, sources weighing the same."""
    counts = sorted({m.n_labels for measured in results.values() for m in measured})
    tested = [sum(any(m.n_labels == n for m in r) for r in results.values()) for n in counts]
    few = ", ".join(f"{t} with {n} labels" for n, t in zip(counts, tested, strict=True))
    print(f"The rest averages over sources, however many cells they have: {few}.\n")
    for column, figure in enumerate(FIGURES):
        scale, digits = (1, 4) if column < 2 else (100, 2)
        unit = "" if scale == 1 else ", points"
        print(f"## {figure} less that of auto{unit} (mean of sources)\n")
        print(
            "| method | " + " | ".join(map(str, counts)) + " |\n" + "|---" * (len(counts) + 1) + "|"
        )
        for name in names:
            shown = []
            for n in counts:
                pairs = []
                for measured in results.values():
                    if cells := [m for m in measured if m.n_labels == n]:
                        gap, error = gaps(cells, name)
                        pairs.append((gap[column], error[column]))
                gap, error = scale * np.array(pairs).T
                total = np.sqrt((error**2).sum()) / len(error)
                shown.append(show_number(gap.mean(), digits, "+", total))
            if name != "auto":
                print(f"| {name} | " + " | ".join(shown) + " |")
        print()


def as_json(results: dict[str, list[Measured]], settings: dict[str, Any]) -> str:
    """Return every cell's means over splits; a figure that is not known is null."""

    def numbers(values: Floats) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in values]

    rows = [
        {
            "source": source,
            "cell": cell.cell,
            "n_labels": cell.n_labels,
            "method": name,
            **dict(zip(FIGURES, numbers(mean_over_splits(values)), strict=True)),
            "log-loss by split": numbers(values[:, 0]),
            "seconds a fit": float(np.mean(cell.seconds[name])) if cell.seconds[name] else None,
            "failures": dict(Counter(cell.failures[name])),
            "chosen": dict(cell.chosen) if name == "auto" else {},
        }
        for source, measured in results.items()
        for cell in measured
        for name, values in cell.values.items()
    ]
    return json.dumps({"settings": settings, "rows": rows}, indent=1)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDED, help="the recordings")
    parser.add_argument("--n", type=int, nargs="+", help="numbers of labels")
    parser.add_argument("--splits", type=int, help="random splits per cell; default 30")
    parser.add_argument("--methods", nargs="+", help="names; default all; auto is always there")
    parser.add_argument("--sources", nargs="+", help="(beginnings of) file names; default all")
    parser.add_argument("--cells", type=int, help="how many cells to draw a source; default all")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--quick", action="store_true", help="3 splits, 200 labels, 3 cells")
    parser.add_argument("--json", type=Path, help="file to write all means to")
    args = parser.parse_args()
    args.n = args.n or ([200] if args.quick else list(N_LABELS))
    args.splits = args.splits or (3 if args.quick else 30)
    args.cells = args.cells or (3 if args.quick else None)
    if min(*args.n, args.splits, args.cells or 1) < 1:
        sys.exit("--n, --splits and --cells must be positive")
    return args


def main() -> None:
    args = read_arguments()
    if not args.folder.is_dir():
        sys.exit(f"no recordings: there is no folder {args.folder}")
    sources = find_sources(args.folder)
    if not sources:
        sys.exit(f"no recordings: no file in {args.folder} has one of the formats known here")
    chosen = [s for s in sources if any(s.startswith(w) for w in args.sources or [""])]
    unknown = [w for w in args.sources or [] if not any(s.startswith(w) for s in sources)]
    if unknown:
        sys.exit(f"no source {unknown[0]!r}: choose from {', '.join(sources)}")
    methods, missing = make_methods()
    names = list(methods)
    if args.methods:
        wrong = [name for name in args.methods if name not in {*methods, *missing, *CALIBRATORS}]
        if wrong:
            sys.exit(f"no method {wrong[0]!r}: choose from {', '.join([*methods, *missing])}")
        wanted = {args.methods[0], *args.methods, "auto"}
        wanted |= {
            n for w in args.methods for n in methods if CALIBRATORS.get(w, 0) is CALIBRATORS.get(n)
        }
        names = [name for name in methods if name in wanted]
    same = [
        f"{n} is {m}"
        for n in CALIBRATORS
        for m in methods
        if n not in methods and CALIBRATORS.get(m) is CALIBRATORS[n]
    ]
    print("# Calibrators on recorded outputs\n\nMethods: " + ", ".join(names) + ".")
    print(
        f"Another name: {', '.join(same) or 'none'}. Not compared: "
        + (", ".join(f"{name} ({why})" for name, why in missing.items()) or "none")
        + ".\n"
    )
    results: dict[str, list[Measured]] = {}
    settings = {"n": args.n, "splits": args.splits, "cells": args.cells, "not compared": missing}
    begin = time.perf_counter()
    for source in chosen:
        start = time.perf_counter()
        cells = sources[source]()
        if args.cells and args.cells < len(cells):
            drawn = np.random.default_rng(0).permutation(len(cells))[: args.cells]
            cells = [cells[i] for i in sorted(drawn)]
        print(
            f"## {source}\n\n{len(cells)} cells, {cells[0].log_proba.shape[1]} classes, "
            f"{min(len(c.y) for c in cells)} to {max(len(c.y) for c in cells)} rows\n",
            flush=True,
        )
        measured: list[Measured] = []
        for n in args.n:
            found = Parallel(args.jobs)(
                delayed(measure)(cell, n, args.splits, names) for cell in cells
            )
            enough = [m for m in found if m is not None]
            if len(enough) < len(cells):
                print(
                    f"{len(cells) - len(enough)} cells are too small for {n} labels and "
                    f"{LEAST_TEST_ROWS} rows to test on.\n"
                )
            if enough:
                show(source, enough, names)
            measured += enough
        print(f"({time.perf_counter() - start:.0f} s)\n", flush=True)
        if measured:
            results[source] = measured
        if args.json:  # after each source, so that a run that is stopped has not been for nothing
            args.json.write_text(as_json(results, settings))
    if not results:
        sys.exit("no cell has rows enough: ask for fewer labels with --n")
    if len(names) > 1:  # auto is always one of them
        show_auto(results, names)
        show_overall(results, names)
    print(f"({time.perf_counter() - begin:.0f} s in all)")


if __name__ == "__main__":
    main()
