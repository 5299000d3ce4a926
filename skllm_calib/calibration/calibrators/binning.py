"""Binning: one probability for all rows with similar scores."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._distinct import distinct_values, sum_by
from skllm_calib.calibration.calibrators._top_label import (
    binary_log_odds,
    replace_top_log_odds,
    split_problem,
    top_log_odds,
)
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.vector import VectorScaling
from skllm_calib.log_proba.numerics import (
    LOWEST_LOG_PROBA,
    Codes,
    Floats,
    log_normalise,
)

__all__ = ["HistogramBinning", "ScalingBinning"]


class HistogramBinning(BaseCalibrator):
    r"""Answer every row with the share of right answers in its bin.

    Rows are sorted by their score and cut into bins of about equal weight [1]_; rows with equal
    scores stay together. With two classes the score is that of the second class and its share in
    the bin becomes its probability. With more, it is the confidence in the top class ("top-label"
    binning, [2]_): its probability becomes the share of rows in the bin in which it was right,
    and the other classes keep their proportions in what it leaves. The top class stays the top
    class, just above the second where the bin would put it below.

    No bin says 0 or 1: shares are shrunk to the one of all rows as if ``pseudo_count`` further
    rows of each bin had it, and that one to one half as if there were two further rows.

    Not monotone: a bin may lie below its left neighbour. Information within bins is lost, which
    lowers the calibration error measured in bins and raises the log-loss; below some thousand
    rows `VectorScaling` is better.

    Parameters
    ----------
    n_bins : int, default=10
        Number of bins; there are fewer if there are fewer distinct scores.
    pseudo_count : float, default=2.0
        How many rows the share of all rows is worth in each bin.

    Attributes
    ----------
    edges_ : ndarray of shape (n_bins - 1,)
        Where one bin ends and the next begins, in log-odds.
    values_ : ndarray of shape (n_bins,)
        Probability of each bin.
    n_rows_ : ndarray of shape (n_bins,)
        Sum of the weights in each bin.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] B. Zadrozny and C. Elkan (2001). Obtaining calibrated probability estimates from
       decision trees and naive Bayesian classifiers. ICML.
    .. [2] C. Gupta and A. Ramdas (2022). Top-label calibration and multiclass-to-binary
       reductions. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import HistogramBinning
    >>> rng = np.random.default_rng(0)
    >>> odds = rng.normal(scale=4, size=4000)
    >>> y = rng.uniform(size=4000) < 1 / (1 + np.exp(-odds / 4))  # four times over-confident
    >>> log_proba = np.stack([np.zeros(4000), odds], axis=1)
    >>> calibrator = HistogramBinning(n_bins=5).fit(log_proba, y)
    >>> calibrator.values_.round(1)
    array([0.2, 0.4, 0.5, 0.6, 0.8])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "pseudo_count": [Interval(Real, 0, None, closed="neither")],
    }

    edges_: Floats
    values_: Floats
    n_rows_: Floats

    def __init__(self, *, n_bins: int = 10, pseudo_count: float = 2.0) -> None:
        self.n_bins = n_bins
        self.pseudo_count = pseudo_count

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        score, positive = split_problem(log_proba, codes)
        self.edges_, which = _equal_mass_bins(score, weight, self.n_bins)
        self.n_rows_ = sum_by(which, weight)
        n_positive = sum_by(which, weight * positive)
        overall = (n_positive.sum() + 1) / (weight.sum() + 2)
        self.values_ = (n_positive + self.pseudo_count * overall) / (
            self.n_rows_ + self.pseudo_count
        )

    def _transform(self, log_proba: Floats) -> Floats:
        return _answer_from_bins(log_proba, self.edges_, logit(self.values_))

    @property
    def parameters_(self) -> Parameters:
        """Edges and probabilities of the bins as plain lists."""
        check_is_fitted(self)
        return {"edges": self.edges_.tolist(), "values": self.values_.tolist()}


class ScalingBinning(BaseCalibrator):
    r"""Fit a smooth calibrator, then answer with the mean of its outputs in each bin.

    Sorted by the outputs of the smooth calibrator, rows are cut into bins of about equal weight,
    and every row gets the mean output of its bin [1]_. These means vary much less than the shares
    of labels that `HistogramBinning` takes; and as there are finitely many answers, their
    calibration error can be measured, which that of a smooth calibrator cannot. As in the
    experiments of [1]_, all steps use the same rows.

    With two classes the output is that for the second class. With more it is that for the top
    class, after scaling; the other classes keep their proportions in what it leaves, and the top
    class stays the top class, just above the second where the bin would put it below.

    Monotone in the output of the smooth calibrator, and so in the score where that is. As with
    all binning, information within bins is lost.

    Parameters
    ----------
    scaling : BaseCalibrator, default=None
        The smooth calibrator; it is copied before it is fitted. By default a `VectorScaling`.
    n_bins : int, default=10
        Number of bins; there are fewer if there are fewer distinct outputs.

    Attributes
    ----------
    scaling_ : BaseCalibrator
        The fitted smooth calibrator.
    edges_ : ndarray of shape (n_bins - 1,)
        Where one bin ends and the next begins, in log-odds of the output.
    values_ : ndarray of shape (n_bins,)
        Probability of each bin; it rises from bin to bin.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] A. Kumar, P. Liang and T. Ma (2019). Verified uncertainty calibration. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import ScalingBinning
    >>> rng = np.random.default_rng(0)
    >>> odds = rng.normal(scale=4, size=400)
    >>> y = rng.uniform(size=400) < 1 / (1 + np.exp(-odds / 4))  # four times over-confident
    >>> log_proba = np.stack([np.zeros(400), odds], axis=1)
    >>> calibrator = ScalingBinning(n_bins=5).fit(log_proba, y)
    >>> calibrator.values_.round(1)
    array([0.2, 0.3, 0.5, 0.6, 0.8])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scaling": [BaseCalibrator, None],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    }

    scaling_: BaseCalibrator
    edges_: Floats
    values_: Floats

    def __init__(self, *, scaling: BaseCalibrator | None = None, n_bins: int = 10) -> None:
        self.scaling = scaling
        self.n_bins = n_bins

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        self.scaling_ = VectorScaling() if self.scaling is None else clone(self.scaling)
        self.scaling_._fit_encoded(log_proba, codes, weight, self.classes_)
        score, _ = split_problem(self._scale(log_proba), codes)
        self.edges_, which = _equal_mass_bins(score, weight, self.n_bins)
        n_rows = sum_by(which, weight)
        # Both sides are averaged: one minus a mean near one would have no digits left. And neither
        # may be zero, whatever the smooth calibrator says.
        score = np.clip(score, LOWEST_LOG_PROBA, -LOWEST_LOG_PROBA)
        above = sum_by(which, weight * expit(score)) / n_rows
        below = sum_by(which, weight * expit(-score)) / n_rows
        self.values_ = above / (above + below)
        self._log_odds = np.log(above) - np.log(below)

    def _scale(self, log_proba: Floats) -> Floats:
        return log_normalise(self.scaling_._transform(log_proba))

    def _transform(self, log_proba: Floats) -> Floats:
        return _answer_from_bins(self._scale(log_proba), self.edges_, self._log_odds)

    @property
    def parameters_(self) -> Parameters:
        """Edges and probabilities of the bins, and the parameters of the smooth calibrator."""
        check_is_fitted(self)
        bins: Parameters = {"edges": self.edges_.tolist(), "values": self.values_.tolist()}
        return bins | self.scaling_.parameters_


def _equal_mass_bins(score: Floats, weight: Floats, n_bins: int) -> tuple[Floats, Codes]:
    """Return edges halfway between scores, and the bin of each row.

    A distinct score goes where the middle of its weight falls. Bins without a score do not exist.
    """
    values, which = distinct_values(score)
    mass = sum_by(which, weight)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    # Sums of fractional weights may differ in the last digit with the order of the rows.
    wanted = np.floor(n_bins * middle + 1e-9).astype(np.intp)
    _, bins = np.unique(wanted, return_inverse=True)
    last = np.flatnonzero(np.diff(bins))
    return (values[last] + values[last + 1]) / 2, bins[which]


def _answer_from_bins(log_proba: Floats, edges: Floats, log_odds: Floats) -> Floats:
    """Give the score that was binned the log-odds (n_bins,) of its bin."""
    if log_proba.shape[1] == 2:
        binned = log_odds[np.searchsorted(edges, binary_log_odds(log_proba))]
        return np.asarray(-np.logaddexp(0.0, np.stack([binned, -binned], axis=1)))
    _, score = top_log_odds(log_proba)
    return replace_top_log_odds(log_proba, log_odds[np.searchsorted(edges, score)])
