"""Rows -> bins of similar confidence, and what each bin says about calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import shown
from skllm_calib.log_proba.parameters import check_choice, check_count
from skllm_calib.log_proba.validation import Checked, two_columns

Strategy = Literal["uniform", "quantile"]
Norm = Literal["l1", "l2", "max"]
NumberOfBins = int | Literal["sweep"]

# Confidences that differ by rounding only (1 - 0.45 and 0.55) must share a bin and a threshold.
DECIMALS = 12
# Sums of fractional weights differ in the last digits with the order of the rows.
_DUST = 5e-10
# So many bins at most are tried: only rows that are nearly all right get there.
_MOST_SWEPT = 10_000
# Rows at a time, so that what is computed on the way stays in the cache.
_BLOCK = 1 << 15


class Judged(NamedTuple):
    """One stated confidence per row, whether it came true, and the weight of the row."""

    confidence: NDArray[np.float64]
    hit: NDArray[np.float64]
    weight: NDArray[np.float64]


class Bins(NamedTuple):
    """Figures of the non-empty bins, each an array of shape (n_bins,).

    ``gap`` is accuracy minus mean confidence. ``noise`` estimates the sampling variance of the gap
    from the rows; ``null_noise`` is that variance if every confidence were right.
    """

    number: NDArray[np.int64]
    counts: NDArray[np.int64]
    effective_count: NDArray[np.float64]
    mass: NDArray[np.float64]
    mean_confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    gap: NDArray[np.float64]
    noise: NDArray[np.float64]
    null_noise: NDArray[np.float64]


def judge(checked: Checked, kind: object = "top-label") -> Judged:
    """Pick the confidence to be evaluated: of the most probable class, or of one named class."""
    _check_kind(checked, kind)
    confidence, hit = np.empty((2, checked.codes.size))
    for rows in blocks(hit.size):
        confidence[rows], hit[rows], _ = _judge(checked, kind, rows)
    return Judged(confidence, hit, checked.weight)


def _is_top_label(kind: object) -> bool:
    return isinstance(kind, str) and kind == "top-label"


def _check_kind(checked: Checked, kind: object) -> None:
    names = checked.classes.tolist()
    if not _is_top_label(kind) and kind not in names:
        raise InvalidInput(
            f"kind must be 'top-label' or one of the labels {shown(names)}, got {kind!r}",
            "kind",
            value=kind,
        )


def _judge(checked: Checked, kind: object, rows: slice) -> Judged:
    """Judge some of the rows."""
    proba, codes, weight = checked.proba[rows], checked.codes[rows], checked.weight[rows]
    if proba.ndim == 1:
        proba = two_columns(proba)
    if not _is_top_label(kind):
        column = checked.classes.tolist().index(kind)
        return Judged(proba[:, column], (codes == column).astype(np.float64), weight)
    if proba.shape[1] == 2:  # of equals the first, as argmax says
        top = (proba[:, 1] > proba[:, 0]).astype(np.int64)
        confidence = np.maximum(proba[:, 0], proba[:, 1])
    else:
        top = proba.argmax(axis=1)
        confidence = proba[np.arange(top.size), top]  # several times faster than max(axis=1)
    return Judged(confidence, (top == codes).astype(np.float64), weight)


def is_sweep(n_bins: object) -> bool:
    """Tell whether the number of bins is to be found from the rows."""
    return isinstance(n_bins, str) and n_bins == "sweep"


def check_bins(n_bins: object, strategy: object) -> None:
    """Refuse binning parameters that mean nothing."""
    check_count(n_bins, "n_bins")
    check_choice(strategy, "strategy", ("uniform", "quantile"))


def assign_bins(
    confidence: NDArray[np.float64],
    weight: NDArray[np.float64],
    n_bins: NumberOfBins,
    strategy: Strategy,
) -> NDArray[np.int64]:
    """Number the bin of every row, 0 to ``n_bins - 1``, from confidences and weights alone.

    Equal confidences always share a bin, so the order of the rows cannot matter. Equal-mass bins
    place each distinct confidence by the middle of its share of the total weight: without ties the
    bins are exactly equal, and a weight of 2 acts as two rows.

    Parameters
    ----------
    confidence, weight : ndarray of shape (n_samples,)
        Confidence in [0, 1] and positive weight of every row.
    n_bins : int
        Number of bins.
    strategy : {"uniform", "quantile"}
        Equal width, each bin ``(low, high]`` as in scikit-learn, or equal mass.

    Returns
    -------
    number : ndarray of shape (n_samples,)
        The bin of every row.
    """
    check_bins(n_bins, strategy)
    n_bins = int(n_bins)
    if strategy == "uniform":
        # An edge belongs to the bin below it, and so does what rounding puts just above it.
        high = np.ceil(confidence * n_bins - 0.5 * 10.0**-DECIMALS * n_bins)
        return np.asarray(np.maximum(high - 1, 0), dtype=np.int64)
    if (weight == 1).all():
        rounded = np.round(confidence, DECIMALS)
        edges = _lowest_of_bins(np.sort(rounded), n_bins)
        return np.asarray(np.searchsorted(edges, rounded, side="right"), dtype=np.int64)
    group, mass = _distinct(confidence, weight)
    return np.asarray(_spread(_cuts(_middles(mass), n_bins))[group])


def place(judged: Judged, n_bins: NumberOfBins, strategy: Strategy) -> NDArray[np.int64]:
    """Number the bin of every row as `assign_bins`, for a fixed number of bins or by sweep."""
    if not is_sweep(n_bins):
        return assign_bins(judged.confidence, judged.weight, n_bins, strategy)
    group, mass = _distinct(judged.confidence, judged.weight)
    right = np.bincount(group, weights=judged.weight * judged.hit)
    behind = np.concatenate([[0.0], np.cumsum(mass)]), np.concatenate([[0.0], np.cumsum(right)])
    if _rises(np.arange(mass.size + 1), *behind):  # then it does so in any coarser bins as well
        return group
    middle = _middles(mass)
    swept = 1
    while swept < _MOST_SWEPT and _rises(_cuts(middle, swept + 1), *behind):
        swept += 1
    return np.asarray(_spread(_cuts(middle, swept))[group])


def bins_of(checked: Checked, kind: object, n_bins: NumberOfBins, strategy: Strategy) -> Bins:
    """Judge the rows, bin them and sum up every bin."""
    if strategy != "uniform" or is_sweep(n_bins):
        judged = judge(checked, kind)
        return summarise(judged, place(judged, n_bins, strategy))
    # These bins do not depend on the rows, so that one look at each row is enough.
    check_bins(n_bins, strategy)
    _check_kind(checked, kind)
    n_bins = int(n_bins)
    sums = np.zeros((6, 2 * n_bins))
    for rows in blocks(checked.codes.size, 8 * n_bins):
        judged = _judge(checked, kind, rows)
        number = assign_bins(judged.confidence, judged.weight, n_bins, strategy)
        sums += _sums(judged, number, n_bins)
    return _figures(sums)


def blocks(n_rows: int, least: int = 0) -> Iterator[slice]:
    """Cut the rows into pieces whose intermediate results fit the cache."""
    size = max(_BLOCK, least)
    return (slice(start, start + size) for start in range(0, n_rows, size))


def _distinct(
    confidence: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which distinct confidence each row has, and the weight of each distinct confidence."""
    _, group = np.unique(np.round(confidence, DECIMALS), return_inverse=True)
    return group, np.asarray(np.bincount(group, weights=weight), dtype=np.float64)


def _middles(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the weight below the middle of each distinct confidence."""
    return np.asarray((np.cumsum(mass) - mass / 2) / mass.sum())


def _cuts(middle: NDArray[np.float64], n_bins: int) -> NDArray[np.int64]:
    """Return where each bin of equal mass begins among the distinct confidences, and their end."""
    inside = np.searchsorted(middle, (np.arange(1, n_bins) - _DUST) / n_bins)
    return np.concatenate([[0], inside, [middle.size]])


def _lowest_of_bins(ordered: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
    """Return the lowest confidence of each bin of equal mass but the first, for equal weights.

    The same bins as by `_cuts`, without a look at every distinct value: of sorted values, only
    those equal to the one that stands where a bin should begin can have their middle around there.
    """
    wanted = (np.arange(1, n_bins) - _DUST) / n_bins * ordered.size
    there = ordered[wanted.astype(np.int64)]
    first = np.searchsorted(ordered, there, side="left")
    end = np.searchsorted(ordered, there, side="right")
    behind = np.where(end < ordered.size, ordered[np.minimum(end, ordered.size - 1)], np.inf)
    return np.where((first + end) / 2 >= wanted, there, behind)


def _spread(cuts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bin of each distinct confidence."""
    return np.repeat(np.arange(cuts.size - 1), np.diff(cuts))


def _rises(
    cuts: NDArray[np.int64],
    mass_behind: NDArray[np.float64],
    right_behind: NDArray[np.float64],
) -> bool:
    """Tell whether no bin is less accurate than the one below it."""
    cuts = cuts[np.append(np.diff(cuts) > 0, True)]  # bins that ties left empty do not count
    accuracy = np.diff(right_behind[cuts]) / np.diff(mass_behind[cuts])
    return bool((np.diff(accuracy) > -_DUST).all())


def summarise(judged: Judged, number: NDArray[np.int64]) -> Bins:
    """Sum up every non-empty bin."""
    n_bins = int(number.max()) + 1
    sums = np.zeros((6, 2 * n_bins))
    for rows in blocks(number.size, 8 * n_bins):
        part = Judged(*(column[rows] for column in judged))
        sums += _sums(part, number[rows], n_bins)
    return _figures(sums)


def _sums(judged: Judged, number: NDArray[np.int64], n_bins: int) -> NDArray[np.float64]:
    """Return six sums (6, 2 * n_bins) over the misses and over the hits of each bin.

    With `off` for the distance between confidence and outcome: of 1, weight, weight**2,
    weight * off, weight**2 * off and (weight * off)**2. They say all, for `off` is the confidence
    of a miss, and one minus the confidence of a hit.
    """
    confidence, hit, weight = judged
    off = np.abs(hit - confidence)
    cell = 2 * number + hit.astype(np.int64)

    def total(amount: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.asarray(np.bincount(cell, amount, minlength=2 * n_bins), dtype=np.float64)

    if (weight == 1).all():
        count, once, twice = total(), total(off), total(off * off)
        return np.stack([count, count, count, once, once, twice])
    scaled = weight * off
    amounts = weight, weight * weight, scaled, weight * scaled, scaled * scaled
    return np.stack([total(), *map(total, amounts)])


def _figures(sums: NDArray[np.float64]) -> Bins:
    kept = np.flatnonzero(sums[0, ::2] + sums[0, 1::2])
    misses, hits = sums[:, ::2][:, kept], sums[:, 1::2][:, kept]
    count, weight_sum, square_sum, _, off_sum, residual_squares = misses + hits
    gap = (hits[3] - misses[3]) / weight_sum
    null_noise = np.maximum(off_sum - residual_squares, 0.0) / weight_sum**2
    # Variance of a weighted mean, estimated without bias: gap**2 - noise is then the mean of
    # residual_i * residual_j over pairs of different rows. One row says nothing of its own
    # variance and borrows the one its confidence claims.
    pairs = weight_sum**2 - square_sum
    alone = count == 1
    noise = (residual_squares - square_sum * gap**2) / np.where(alone, 1.0, pairs)
    return Bins(
        number=kept,
        counts=count.astype(np.int64),
        effective_count=weight_sum**2 / square_sum,
        mass=weight_sum / weight_sum.sum(),
        mean_confidence=(misses[3] + hits[1] - hits[3]) / weight_sum,
        accuracy=hits[1] / weight_sum,
        gap=gap,
        noise=np.where(alone, null_noise, np.maximum(noise, 0.0)),
        null_noise=null_noise,
    )


def combine(mass: NDArray[np.float64], gap: NDArray[np.float64], norm: Norm) -> float:
    """Pool the gaps of the bins into one non-negative figure."""
    if norm == "l1":
        return float(mass @ np.abs(gap))
    if norm == "l2":
        return float(np.sqrt(mass @ gap**2))
    if norm == "max":
        return float(np.abs(gap).max())
    raise InvalidInput(f"norm must be 'l1', 'l2' or 'max', got {norm!r}", "norm", value=norm)
