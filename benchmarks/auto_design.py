"""What `auto` would do on a recording that it has not seen: its free numbers, learnt and judged.

``python benchmarks/auto_design.py FOLDER`` fits every member of `auto`, and every method of other
packages that is installed, to n labelled rows of each recording, and keeps what they predict in a
cache (``--cache``): for our members also their cross-validated predictions of the n rows. The free
numbers of `auto` are then learnt on all recordings but one and judged on the one left out. A
recording is one family of models in one file. Nothing is learnt from recordings whose rows belong
together in groups, as their cross-validation is too sure; they are judged in a table of their own.

The table has the mean log-loss over recordings, the standard error of the difference to `auto`
over recordings, and the share of cells in which `auto` is the best or within .002 of it.

The folder may hold what ``calibration_quality.py`` reads, and ``.npz`` files with ``log_proba``
(n, K) and ``y`` (n,) as class numbers, one recording each. ``--constants`` learns from all of them
and prints the numbers that `auto` ships. Remove the cache when a member has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from calibration_quality import LOWEST, Cell, Floats, find_sources, make_methods, split
from numpy.typing import NDArray
from recorded_signals import RECORDED
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators.auto import (
    _CLASSES_SEEN,
    _PRIOR_ROWS,
    _ROWS_SEEN,
    _cross_validated,
    _members,
    _prior_temperature,
    _stack,
    _takes_few_values,
    merge_copies,
    stacking_loss,
)
from skllm_calib.calibrators import VectorScaling
from skllm_calib.log_proba.folds import deal_folds, n_parts
from skllm_calib.log_proba.numerics import floor_and_normalise, log_normalise

N_LABELS = (25, 50, 100, 200, 500, 1000)
N_TEST = 2000
FAMILIES = "llama|mistral|mixtral|solar|yi|qwen|falcon|deepseek|internlm|mpt|gpt|claude|gemma|phi"
CLOSE = 0.002
RIDGE = 5e-5


# -- recordings ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A cell, and the recording that it belongs to."""

    source: str
    family: str
    cell: Cell

    @property
    def name(self) -> str:
        return f"{self.source}: {self.cell.name}"

    @property
    def recording(self) -> tuple[str, str]:
        return self.source, self.family


def family_of(name: str) -> str:
    found = re.findall(FAMILIES, name.lower())
    return found[0] if found else "one"


def kind_of(name: str) -> str:
    return "chat" if re.search("chat|instruct", name.lower()) else "base"


def only_used_classes(cell: Cell) -> Cell | None:
    """Return the cell without the classes that are never right; None where all are used."""
    used = np.unique(cell.y)
    if len(used) == cell.log_proba.shape[1]:
        return None
    scores = floor_and_normalise(cell.log_proba[:, used])
    return Cell(f"{cell.name} / used", scores, np.searchsorted(used, cell.y), cell.groups)


def find_cases(folder: Path, per_recording: int) -> list[Case]:
    """Return cells of every recording: at most so many of base models, and so many of chat models.

    Where some of the options are never right, as many again without those options.
    """
    out = []
    for source, read in find_sources(folder).items():
        cells = read()
        drawn = np.random.default_rng(0).permutation(len(cells))
        count: dict[tuple[Any, ...], int] = {}
        for cell in (cells[i] for i in drawn):
            for used in (False, True):
                kept = only_used_classes(cell) if used else cell
                key = (family_of(cell.name), kind_of(cell.name), used)
                if kept is None or count.get(key, 0) >= per_recording:
                    continue
                count[key] = count.get(key, 0) + 1
                out.append(Case(source, key[0], kept))
                break  # the view without the unused options is of another cell
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            cell = Cell(path.stem, floor_and_normalise(data["log_proba"]), data["y"])
        out.append(Case(path.stem, path.stem, cell))
    return out


# -- members and other packages, fitted once -------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """The rows to fit and to test on, of one case."""

    case: Case
    n_labels: int
    number: int
    cache: Path

    @cached_property
    def rows(self) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        found = split(self.case.cell, self.n_labels, self.number)
        return None if found is None else (found[0], found[1][-N_TEST:])

    @cached_property
    def fit(self) -> tuple[Floats, NDArray[np.intp], Floats]:
        assert self.rows is not None
        cell, rows = self.case.cell, self.rows[0]
        return merge_copies(cell.log_proba[rows], cell.y[rows], np.ones(len(rows)))

    @cached_property
    def parts(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """The parts of rows, their folds and their weights, as `auto` deals them."""
        _, codes, weight = self.fit
        n_folds = min(5, int(n_parts(weight, 5).sum()))
        part, fold = deal_folds(codes, n_folds, 0, n_parts(weight, n_folds))
        return part, fold, weight[part] / np.bincount(part)[part]

    @property
    def test(self) -> tuple[Floats, NDArray[np.intp]]:
        assert self.rows is not None
        return self.case.cell.log_proba[self.rows[1]], self.case.cell.y[self.rows[1]]

    @property
    def grouped(self) -> bool:
        return self.case.cell.groups is not None

    def path(self, name: str) -> Path:
        key = f"{self.case.name} {self.n_labels} {self.number} {name}"
        where = self.cache / f"{zlib.crc32(self.case.name.encode()):08x}"
        return where / f"{zlib.crc32(key.encode()):08x}-{self.n_labels}-{self.number}-{name}.npz"

    def fill_member(self, name: str) -> None:
        path = self.path(name)
        if path.exists():
            return
        scores, codes, weight = self.fit
        classes = np.arange(scores.shape[1])
        part, fold, share = self.parts
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            member = self.members[name]
            held = _cross_validated(member, scores[part], codes[part], share, fold, classes=classes)
            member._fit_encoded(scores, codes, weight, classes)
            test = log_normalise(member._transform(self.test[0]))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, held=held.astype(np.float32), test=np.maximum(test, -25).astype(np.float16))

    @cached_property
    def members(self) -> dict[str, Any]:
        """What `auto` would fit to these rows."""
        scores, _, weight = self.fit
        return _members(weight.sum(), scores.shape[1], _prior_temperature(scores, weight))

    def fill_peer(self, name: str, make: Callable[[], Any]) -> None:
        path = self.path(name)
        if path.exists():
            return
        assert self.rows is not None
        cell, rows = self.case.cell, self.rows[0]
        loss = np.nan
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception):
                predict = make()(cell.log_proba[rows], cell.y[rows])
                scores, y = self.test
                proba = np.maximum(np.asarray(predict(scores), dtype=np.float64), LOWEST)
                if np.isfinite(proba).all():
                    proba /= proba.sum(axis=1, keepdims=True)
                    loss = -np.log(proba[np.arange(len(y)), y]).mean()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, loss=loss)


def all_draws(cases: list[Case], counts: tuple[int, ...], n_draws: int, cache: Path) -> list[Draw]:
    made = [Draw(c, n, d, cache) for n in counts for d in range(n_draws) for c in cases]
    return [draw for draw in made if draw.rows is not None]


def fill(draws: list[Draw], peers: dict[str, Any]) -> None:
    start = time.perf_counter()
    for number, draw in enumerate(draws, start=1):
        for name in draw.members:
            draw.fill_member(name)
        for name, make in peers.items():
            draw.fill_peer(name, make)
        if number % 50 == 0:
            seconds = time.perf_counter() - start
            print(f"fitted {number} of {len(draws)} ({seconds:.0f} s)", flush=True)


# -- learning the prior of the weights -------------------------------------------------------------


class Problem:
    """One draw, as the choice of weights sees it."""

    def __init__(self, draw: Draw, names: list[str]) -> None:
        self.draw = draw
        self.recording = draw.case.recording
        self.index = np.array([names.index(name) for name in draw.members])
        kept = [np.load(draw.path(name)) for name in draw.members]
        part, _, self.weight = draw.parts
        codes = draw.fit[1][part]
        self.held = np.array([k["held"] for k in kept], dtype=np.float64)
        self.label = self.held[:, np.arange(len(codes)), codes]
        self.codes = codes
        self.test = np.array([k["test"] for k in kept], dtype=np.float32)
        self.y = draw.test[1]
        n_classes = self.held.shape[2]
        rows = np.clip(draw.n_labels, *_ROWS_SEEN) / 200
        classes = np.clip(n_classes, *_CLASSES_SEEN) / 4
        few = float(_takes_few_values(draw.fit[0], draw.fit[2]))
        self.start = np.zeros(len(self.index))
        self.features = np.array([1.0, np.log(rows), np.log(classes), few])

    def prior(self, powers: Floats) -> Floats:
        return np.exp(np.clip(powers[self.index] @ self.features, -6.0, 6.0))

    def loss(self, weights: Floats, every: int = 1) -> tuple[float, Floats]:
        """Return the loss on the test rows, and its slope by the weights."""
        test, y = self.test[:, ::every], self.y[::every]
        mixed = np.tensordot(weights.astype(np.float32), test, axes=1)
        norm = logsumexp(mixed, axis=1)
        label = test[:, np.arange(len(y)), y]
        proba = np.exp(mixed - norm[:, None])
        slope = (np.einsum("nk,mnk->mn", proba, test) - label).mean(axis=1)
        return float((norm - weights @ label).mean()), slope

    def curvature(self, weights: Floats, prior: Floats) -> Floats:
        """Return the second derivatives of what `_stack` minimises, by logarithms of weights."""
        mixed = np.tensordot(weights, self.held, axes=1)
        proba = np.exp(mixed - logsumexp(mixed, axis=1)[:, None])
        mean = np.einsum("nk,mnk->mn", proba, self.held)
        slope = (mean - self.label) @ self.weight
        moved = self.held * (proba * self.weight[:, None])
        second = np.einsum("mnk,lnk->ml", moved, self.held) - (mean * self.weight) @ mean.T
        spread = np.diag(weights) - np.outer(weights, weights)
        pull = weights * slope
        bend = np.diag(pull) - np.outer(pull, weights) - np.outer(weights, pull)
        bend -= (weights @ slope) * (np.diag(weights) - 2 * np.outer(weights, weights))
        return np.asarray(spread @ second @ spread + bend + prior.sum() * spread)

    def solve(self, prior: Floats) -> Floats:
        """Return what `_stack` finds, from where the last search ended."""
        free = np.full(len(prior), np.inf)
        self.start = minimise(
            stacking_loss(self.held, self.codes, self.weight, prior),
            lambda at: self.curvature(softmax(at), prior),
            self.start - self.start.mean(),
            lower=-free,
            upper=free,
            tolerance=1e-7,
        )
        return np.asarray(softmax(self.start))

    def learn(self, powers: Floats) -> tuple[float, Floats]:
        """Return the loss on test rows under a prior of the weights, and its slope (m, 4)."""
        prior = self.prior(powers)
        weights = self.solve(prior)
        loss, slope = self.loss(weights, every=3)
        slope = weights * (slope - weights @ slope)
        answer = np.linalg.pinv(self.curvature(weights, prior), rcond=1e-8) @ slope
        by_prior = (answer - weights @ answer) * prior
        out = np.zeros_like(powers)
        out[self.index] = np.outer(by_prior, self.features)
        return loss, out


def learn_prior(problems: list[Problem], n_members: int, steps: int) -> Floats:
    """Return the powers (m, 4) under which weights found by `auto` do best on test rows.

    Every recording counts the same, whatever its number of cells; a weak ridge holds the powers
    close to those of Dirichlet(2), which are zero.
    """
    count = Counter((p.recording, p.draw.n_labels) for p in problems)
    share = [1 / count[p.recording, p.draw.n_labels] / len(count) for p in problems]

    def mean_loss(flat: Floats) -> tuple[float, Floats]:
        powers = flat.reshape(n_members, 4)
        total, slope = RIDGE * np.vdot(powers, powers), 2 * RIDGE * powers
        for problem, part in zip(problems, share, strict=True):
            loss, by_power = problem.learn(powers)
            total += part * loss
            slope = slope + part * by_power
        return 100 * total, 100 * slope.ravel()

    start = np.zeros(4 * n_members)
    options = {"maxiter": steps}
    found = minimize(mean_loss, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(n_members, 4))


def judge(problems: list[Problem], names: list[str], n_parts: int, steps: int) -> pd.DataFrame:
    """Return the loss of `auto` and of its members on recordings that taught it nothing."""
    recordings = sorted({p.recording for p in problems})
    shuffled = np.random.default_rng(1).permutation(len(recordings))
    rows = []
    for held in np.array_split(shuffled, min(n_parts, len(recordings))):
        out = {recordings[i] for i in held}
        learn_from = [p for p in problems if p.recording not in out and not p.draw.grouped]
        powers = learn_prior(learn_from, len(names), steps)
        for problem in (p for p in problems if p.recording in out):
            here = {"n": problem.draw.n_labels, "case": problem.draw.case}
            weights = {
                "auto": problem.prior(powers),
                "auto, Dirichlet(2)": np.ones(len(problem.index)),
            }
            for name, prior in weights.items():
                found = _stack(problem.held, problem.codes, problem.weight, prior)
                rows.append(here | {"method": name, "loss": problem.loss(found)[0]})
            for alone, number in zip(np.eye(len(problem.index)), problem.index, strict=True):
                rows.append(here | {"method": names[number], "loss": problem.loss(alone)[0]})
    return pd.DataFrame(rows)


# -- showing ---------------------------------------------------------------------------------------


def peer_losses(draws: list[Draw], peers: Iterable[str]) -> pd.DataFrame:
    rows = []
    for draw in draws:
        for name in peers:
            if draw.path(name).exists():
                loss = float(np.load(draw.path(name))["loss"])
                rows.append({"n": draw.n_labels, "case": draw.case, "method": name, "loss": loss})
    return pd.DataFrame(rows, columns=["n", "case", "method", "loss"])


def show(found: pd.DataFrame, members: list[str]) -> None:
    """Print means over recordings of the difference to `auto`, and shares of cells."""
    data = found.assign(
        cell=[case.name for case in found.case], recording=[case.recording for case in found.case]
    )
    data = data.groupby(["n", "recording", "cell", "method"]).loss.mean().unstack()
    less = data.sub(data["auto"], axis=0)
    by_recording = less.groupby(["n", "recording"]).mean().groupby("n")
    count = by_recording.count()
    mean, error = by_recording.mean(), by_recording.std() / np.sqrt(count)
    order = mean.mean().sort_values().index
    print("Log-loss less that of auto (standard error over recordings)\n")
    print("| method |" + "".join(f" {n} |" for n in mean.index))
    print("|---" * (len(mean) + 1) + "|")
    for name in order:
        cells = [
            f" {mean.loc[n, name]:+.4f} ({error.loc[n, name]:.4f}) |"
            if count.loc[n, name]
            else " - |"
            for n in mean.index
        ]
        print(f"| {name} |" + "".join(cells))
    print(f"\nCells in which auto is the best or within {CLOSE} of it\n")
    others = [name for name in data if name != "auto, Dirichlet(2)"]
    for title, rivals in (("of its members", ["auto", *members]), ("of all", others)):
        near = data["auto"] <= data[rivals].min(axis=1) + CLOSE
        shares = near.groupby("n").mean()
        print(f"- {title}: " + ", ".join(f"{100 * shares[n]:.0f} % with {n}" for n in mean.index))
    print(flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDED, help="the recordings")
    parser.add_argument("--cache", type=Path, default=Path("auto_design_cache"))
    parser.add_argument("--n", type=int, nargs="+", default=N_LABELS, help="numbers of labels")
    parser.add_argument("--draws", type=int, default=1, help="random splits per cell")
    parser.add_argument("--cells", type=int, default=2, help="cells per recording, at most")
    parser.add_argument("--parts", type=int, default=99, help="leave out so many parts in turn")
    parser.add_argument("--steps", type=int, default=8, help="of the search for the prior")
    parser.add_argument("--no-peers", action="store_true", help="members of auto only")
    parser.add_argument("--constants", action="store_true", help="learn from all, and print")
    return parser.parse_args()


def main() -> None:
    args = read_arguments()
    if not args.folder.is_dir():
        sys.exit(f"no recordings: there is no folder {args.folder}")
    draws = all_draws(find_cases(args.folder, args.cells), tuple(args.n), args.draws, args.cache)
    if not draws:
        sys.exit(f"no recordings: no file in {args.folder} has rows enough in a format known here")
    peers = {} if args.no_peers else {n: m for n, m in make_methods()[0].items() if is_peer(n)}
    fill(draws, peers)
    names = [n for n in _PRIOR_ROWS if any(n in draw.members for draw in draws)]
    problems = [Problem(draw, names) for draw in draws]
    if args.constants:
        print_constants(draws, problems, names, args.steps)
        return
    found = pd.concat(
        [judge(problems, names, args.parts, args.steps), peer_losses(draws, peers)],
        ignore_index=True,
    )
    grouped = np.array([case.cell.groups is not None for case in found.case])
    kept = found.case[~grouped]
    print(f"{len({c.name for c in kept})} cells of {len({c.recording for c in kept})} recordings\n")
    show(found[~grouped], names)
    if grouped.any():
        print("Recordings whose rows belong together, from which nothing is learnt:\n")
        show(found[grouped], names)


def is_peer(name: str) -> bool:
    return name.startswith(("sklearn ", "netcal ", "probmetrics ", "betacal", "venn_abers package"))


def entropy_and_temperature(case: Case) -> tuple[float, float]:
    """Return the logarithms of the mean entropy of the scores and of their best temperature."""
    rows = np.random.default_rng(0).permutation(len(case.cell.y))[:3000]
    scores, y = case.cell.log_proba[rows], case.cell.y[rows]
    n_classes = scores.shape[1]
    vector = VectorScaling(uniform_mix=False).fit(scores, y, classes=np.arange(n_classes))
    entropy = -(np.exp(scores) * scores).sum(axis=1).mean() / np.log(n_classes)
    return np.log(entropy), np.log(vector.temperature_)


def print_constants(
    draws: list[Draw], problems: list[Problem], names: list[str], steps: int
) -> None:
    """Print what `auto` ships: the prior of the temperature, and that of the weights."""
    cases = {draw.case.name: draw.case for draw in draws if not draw.grouped}
    count = Counter(case.recording for case in cases.values())
    part = np.array([1 / count[case.recording] for case in cases.values()])
    sure, fitted = np.array([entropy_and_temperature(case) for case in cases.values()]).T

    def loss(line: Floats) -> float:
        return float(part @ np.abs(fitted - line[0] - line[1] * sure))

    # A model that knows nothing has any temperature, so distances count, not their squares.
    level, power = minimize(loss, [0.0, -0.5], method="Nelder-Mead").x
    spread = 1.4826 * np.median(np.abs(fitted - level - power * sure))
    print(f"temperature: level {np.exp(level):.2f}, power {power:.2f}, scale {spread:.2f}")
    powers = learn_prior([p for p in problems if not p.draw.grouped], len(names), steps)
    for name, (count, rows, classes, few) in zip(names, powers, strict=True):
        print(f'    "{name}": ({np.exp(count):.2g}, {rows:.2g}, {classes:.2g}, {np.exp(few):.2g}),')


if __name__ == "__main__":
    main()
