"""Venn-Abers calibration: two isotonic fits per row, one of which is calibrated by construction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._distinct import RESOLUTION, distinct_values, sum_by
from skllm_calib.calibration.calibrators._top_label import binary_log_odds
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.numerics import (
    Codes,
    Floats,
    log_normalise,
    one_vs_rest_log_odds,
)

__all__ = ["VennAbersCalibration"]

_Point = tuple[float, float]


class VennAbersCalibration(BaseCalibrator):
    r"""Fit a rising function twice for every row, with either label added for the row itself.

    Inductive Venn-Abers prediction [1]_. The row to predict joins the calibration rows with label
    0, and isotonic regression gives ``p0``; it joins them with label 1, which gives ``p1``. Of
    the two, the one with the true label is perfectly calibrated if rows are exchangeable, with no
    assumption about the scores; how far they lie apart says how much is known there.
    `predict_interval` returns them, and the probability is the merged one, ``p1 / (1 - p0 +
    p1)``, which minimises the largest regret in log-loss and is never 0 or 1.

    All values ``p0`` and ``p1`` can take are found in one pass while fitting [2]_, so predicting
    is a search in a sorted list; nothing is approximated.

    With more than two classes, each is set against the rest on its own log-odds, and the merged
    probabilities are normalised. That has no guarantee any more, and a known weakness: each of
    them is pulled towards one half, by as much as one row weighs among its neighbours, so with
    many classes and a few hundred labels the answers are under-confident. This method is for two
    classes, from about a thousand labels on, and for its interval; `VectorScaling` has the lower
    log-loss otherwise.

    Monotone in the log-odds of each class (before normalising, with more than two classes).

    Attributes
    ----------
    scores_ : list of ndarray of shape (n_values,)
        Distinct log-odds seen, rising, one array per class; with two classes only that of the
        second.
    p0_, p1_ : list of ndarray of shape (n_values + 1,)
        The lower probability of a row whose log-odds have ``i`` distinct values at or below them
        is ``p0_[.][i]``; the upper one of a row with ``i`` of them below it is ``p1_[.][i]``.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] V. Vovk and I. Petej (2014). Venn-Abers predictors. UAI.
    .. [2] V. Vovk, I. Petej and V. Fedorova (2015). Large-scale probabilistic predictors with and
       without guarantees of validity. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import VennAbersCalibration
    >>> rng = np.random.default_rng(0)
    >>> odds = rng.normal(scale=4, size=2000)
    >>> y = rng.uniform(size=2000) < 1 / (1 + np.exp(-odds / 4))  # four times over-confident
    >>> log_proba = np.stack([np.zeros(2000), odds], axis=1)
    >>> calibrator = VennAbersCalibration().fit(log_proba, y)
    >>> low, high = calibrator.predict_interval([[0, 4]])
    >>> bool(0.6 < low[0] < high[0] < 0.85)
    True
    """

    scores_: list[Floats]
    p0_: list[Floats]
    p1_: list[Floats]

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        odds = _columns(log_proba)
        first = 1 if log_proba.shape[1] == 2 else 0
        self.scores_, self.p0_, self.p1_ = [], [], []
        for number, column in enumerate(odds):
            scores, which = distinct_values(column)
            n_rows = sum_by(which, weight)
            n_positive = sum_by(which, weight * (codes == number + first))
            # Label 0 added to these labels is label 1 added to the opposite ones, read backwards.
            p0 = 1 - _with_one_more(n_rows[::-1], (n_rows - n_positive)[::-1])[::-1]
            p1 = _with_one_more(n_rows, n_positive)
            self.scores_.append(scores)
            # Below all scores a further 0 is 0, above them a further 1 is 1.
            self.p0_.append(np.concatenate([[0.0], p0]))
            self.p1_.append(np.concatenate([p1, [1.0]]))

    def _interval(self, column: Floats, number: int) -> tuple[Floats, Floats]:
        """Return p0 and p1 of log-odds (n,), for one of the functions."""
        # A score that equals a known one but for rounding counts as equal.
        not_above = np.searchsorted(self.scores_[number], column + RESOLUTION, side="right")
        below = np.searchsorted(self.scores_[number], column - RESOLUTION, side="left")
        return self.p0_[number][not_above], self.p1_[number][below]

    def predict_interval(self, log_proba: ArrayLike) -> tuple[Floats, Floats]:
        """Return both probabilities of the second class, for two classes.

        Parameters
        ----------
        log_proba : array-like of shape (n_samples, 2)
            Log-probabilities, columns in the order of `classes_`.

        Returns
        -------
        p0, p1 : ndarray of shape (n_samples,)
            Probability of ``classes_[1]`` if the row had the first label, and if it had the
            second; ``p0 < p1``, and that of `predict_proba` lies between them.

        Raises
        ------
        ValueError
            If there are not two classes: the interval is about one class and its complement.
        """
        check_is_fitted(self)
        if len(self.classes_) != 2:
            raise InvalidInput(
                f"predict_interval is for two classes, there are {len(self.classes_)}. Use "
                "predict_proba, or fit one calibrator for each class against the rest.",
                "log_proba",
                value=self.classes_.tolist(),
            )
        return self._interval(binary_log_odds(self._read(log_proba)), 0)

    def _transform(self, log_proba: Floats) -> Floats:
        merged = []
        for number, column in enumerate(_columns(log_proba)):
            p0, p1 = self._interval(column, number)
            merged.append(p1 / (1 - p0 + p1))
        if log_proba.shape[1] == 2:
            merged.insert(0, 1 - merged[0])
        return log_normalise(np.log(np.stack(merged, axis=1)))

    @property
    def parameters_(self) -> Parameters:
        """The functions as plain lists, ``log_odds_0``, ``p0_0``, ``p1_0`` and so on."""
        check_is_fitted(self)
        out: Parameters = {}
        for number, parts in enumerate(zip(self.scores_, self.p0_, self.p1_, strict=True)):
            for name, part in zip(("log_odds", "p0", "p1"), parts, strict=True):
                out[f"{name}_{number}"] = part.tolist()
        return out


def _columns(log_proba: Floats) -> Floats:
    """Return log-odds with one row a function: one of two classes, or each of more."""
    if log_proba.shape[1] == 2:
        return binary_log_odds(log_proba)[None]
    return one_vs_rest_log_odds(log_proba).T


def _with_one_more(n_rows: Floats, n_positive: Floats) -> Floats:
    """Return the isotonic fit at each value after one more positive row at that value.

    Isotonic regression is the slope of the lower convex hull of cumulative counts. Moving the
    further row up by one value moves one point of the diagram by (-1, -1), from the right of the
    row to its left. The hull to the left of the row is not needed beyond the last corner, so the
    whole sweep takes linear time: algorithms 1 and 2 of Vovk, Petej and Fedorova.
    """
    x, y = (np.cumsum(np.concatenate([[0.0], counts])).tolist() for counts in (n_rows, n_positive))
    points: list[_Point] = list(zip(x, y, strict=True))
    corners: list[_Point] = []  # of the hull to the right, the leftmost last
    for point in [*points[::-1], (-1.0, -1.0)]:
        _add_corner(corners, point)
    fit = np.empty(len(n_rows))
    for i, (right, up) in enumerate(points[1:]):
        (x1, y1), (x0, y0) = corners[-2:]
        fit[i] = (y1 - y0) / (x1 - x0)
        moved = right - 1, up - 1
        if _turn(corners[-1], corners[-2], moved) < 0:
            corners.pop()
            _add_corner(corners, moved)
    return fit


def _add_corner(corners: list[_Point], point: _Point) -> None:
    """Extend a lower hull to the left, dropping what is no corner any more."""
    while len(corners) > 1 and _turn(point, corners[-1], corners[-2]) <= 0:
        corners.pop()
    corners.append(point)


def _turn(first: _Point, second: _Point, third: _Point) -> float:
    """Return a positive number for a turn to the left, a negative one for a turn to the right."""
    (x0, y0), (x1, y1), (x2, y2) = first, second, third
    return (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
