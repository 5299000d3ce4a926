"""Which rows to label next, so that figures computed on them hold for all."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import check_choice, check_count
from skllm_calib.log_proba.validation import check_proba

__all__ = ["RowsToLabel", "suggest_rows_to_label"]

_N_STRATA = 10
# What confidences say of their own errors is not to be trusted near 0 and 1: no row is taken to
# have less than this chance of being wrong when labels are shared out.
_LEAST_ERROR = 0.05


class RowsToLabel(NamedTuple):
    """Rows drawn for labelling.

    Attributes
    ----------
    indices : ndarray of shape (n,)
        Their positions, in rising order.
    probability : ndarray of shape (n,)
        Probability with which each was to be drawn. ``1 / probability`` is its ``sample_weight``.
    """

    indices: NDArray[np.int64]
    probability: NDArray[np.float64]


def suggest_rows_to_label(
    y_proba: ArrayLike,
    n: int,
    *,
    strategy: Literal["stratified", "random"] = "stratified",
    random_state: int | np.random.Generator | None = 0,
) -> RowsToLabel:
    """Draw rows to label, with the probabilities that keep weighted figures unbiased.

    ``"stratified"`` puts the rows into ten strata of equal width by their top-label confidence and
    draws at random within each, more often where a label tells more: in proportion to the number
    of rows and to the standard deviation of the outcome that the confidence implies (Neyman's
    allocation [1]_). Labels of the many rows that are surely right would mostly confirm each other.

    Every row has a positive probability. With ``sample_weight=1 / probability``, sums over the
    drawn rows are unbiased for those over all rows (Horvitz and Thompson [2]_); leave the weights
    out, and the accuracy of the drawn rows is lower than that of all.

    Parameters
    ----------
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities of unlabelled rows, in [0, 1]; 1-D holds those of one of two classes.
    n : int
        Number of rows to draw. At least one falls into each stratum that has rows.
    strategy : {"stratified", "random"}, default="stratified"
        How to draw; "random" gives every row the same probability.
    random_state : int, Generator or None, default=0
        Seed of the draw.

    Returns
    -------
    rows : RowsToLabel
        ``indices`` and ``probability``.

    Raises
    ------
    ValueError
        If an input does not fit, `n` exceeds the number of rows, or is smaller than the number of
        strata with rows.

    References
    ----------
    .. [1] J. Neyman (1934). On the two different aspects of the representative method. Journal of
       the Royal Statistical Society 97.
    .. [2] D. G. Horvitz, D. J. Thompson (1952). A generalization of sampling without replacement
       from a finite universe. JASA 47.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import suggest_rows_to_label
    >>> p_spam = np.random.default_rng(0).beta(0.3, 0.3, 5000)
    >>> rows = suggest_rows_to_label(p_spam, 200)
    >>> len(rows.indices), bool(abs((1 / rows.probability).sum() - 5000) < 1e-6)
    (200, True)
    """
    check_choice(strategy, "strategy", ("stratified", "random"))
    confidence = check_proba(y_proba, "y_proba").max(axis=1)
    if check_count(n, "n") > confidence.size:
        raise InvalidInput(f"n={n} exceeds the {confidence.size} rows there are", "n", value=n)
    if strategy == "random":
        stratum = np.zeros(confidence.size, dtype=np.int64)
    else:
        lowest = confidence.min()
        width = max(1 - lowest, 1e-12) / _N_STRATA
        stratum = np.minimum((confidence - lowest) // width, _N_STRATA - 1).astype(np.int64)
    names, stratum = np.unique(stratum, return_inverse=True)
    if n < names.size:
        raise InvalidInput(
            f"n={n} rows cannot cover the {names.size} strata of confidence: take at least "
            f"{names.size}, or strategy='random'",
            "n",
            value=n,
        )
    available = np.bincount(stratum)
    share = np.clip(confidence, _LEAST_ERROR, 1 - _LEAST_ERROR)
    variance = np.bincount(stratum, weights=share * (1 - share)) / available
    wanted = np.asarray(available * np.sqrt(variance), dtype=np.float64)
    drawn = _allocate(int(n), available, wanted)
    rng = np.random.default_rng(random_state)
    indices = np.concatenate(
        [
            rng.choice(np.flatnonzero(stratum == at), size, replace=False)
            for at, size in enumerate(drawn)
        ]
    )
    indices.sort()
    return RowsToLabel(indices.astype(np.int64), (drawn / available)[stratum[indices]])


def _allocate(
    n: int, available: NDArray[np.int64], wanted: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Share n out in proportion, with at least one and no more than there are in each stratum."""
    out = np.ones_like(available)
    while (left := n - int(out.sum())) > 0:
        open_ = out < available
        ideal = np.where(open_, wanted, 0.0)
        more = np.minimum(np.floor(left * ideal / ideal.sum()), available - out).astype(np.int64)
        if not more.any():  # fewer are left than strata: one each, the neediest first
            need = np.where(open_, wanted / out, -np.inf)
            more[np.argsort(-need, kind="stable")[: min(left, int(open_.sum()))]] = 1
        out = out + more
    return out
