"""Calibration of scores that take few values, such as stated confidences and shares of votes."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import isotonic_regression
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._distinct import distinct_values, sum_by
from skllm_calib.calibration.calibrators._top_label import replace_top_log_odds, top_log_odds
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.platt import SLOPE_BOUNDS, fit_sigmoid
from skllm_calib.log_proba.numerics import Codes, Floats, warn_at_bound

__all__ = ["DiscreteCalibration"]

_SPREAD = 0.005


class DiscreteCalibration(BaseCalibrator):
    r"""Learn how often the first choice is right, for every confidence there is.

    For signals with one number per row: a model that says "90" most of the time, or seven votes out
    of ten. Such scores have few values, and no smooth curve passes through all of them. In three
    steps, all about the confidence in the most probable class:

    1. A sigmoid is fitted to all values [1]_, as in `PlattScaling`.
    2. For every distinct value, the share of right answers is shrunk to the sigmoid as if that
       had been seen in ``pseudo_count`` further rows: the mean of a Beta posterior, one table
       with an empirical prior.
    3. The table is made rising by the pool-adjacent-violators algorithm [2]_, each value
       weighing its rows and its pseudo-rows.

    Values never seen lie on the lines between their neighbours, in log-odds, and are those of the
    last neighbour outside the range. The other classes keep their proportions in what the top
    class leaves.

    Monotone in the confidence in the top class, which stays the top class: where its calibrated
    probability would fall below that of the second, it stops just above. The prediction, and with
    it the accuracy, does not change. With two classes the floor is one half: first choices that
    are wrong more often than right are better left to `VectorScaling`, which may turn them round.

    Parameters
    ----------
    pseudo_count : float, default=20.0
        How many rows the sigmoid is worth at each value.

    Attributes
    ----------
    confidence_ : ndarray of shape (n_values,)
        Distinct probabilities of the top class seen, rising.
    calibrated_ : ndarray of shape (n_values,)
        What has become of them, never falling.
    n_rows_ : ndarray of shape (n_values,)
        Sum of the weights behind each value.
    slope_, intercept_ : float
        The sigmoid, in log-odds that end at about plus and minus 5.3: 0.005 is added to
        probability and counter-probability, for a stated "100 %" is not infinitely sure.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] J. Platt (1999). Probabilistic outputs for support vector machines and comparisons to
       regularized likelihood methods. Advances in large margin classifiers.
    .. [2] M. Ayer, H. Brunk, G. Ewing, W. Reid and E. Silverman (1955). An empirical
       distribution function for sampling with incomplete information. Annals of Mathematical
       Statistics 26(4).

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import DiscreteCalibration
    >>> rng = np.random.default_rng(0)
    >>> stated = rng.choice([0.8, 0.9, 0.95, 1.0], size=400)
    >>> right = rng.uniform(size=400) < np.where(stated < 1, 0.6, 0.95)  # "100" is 95
    >>> with np.errstate(divide="ignore"):
    ...     log_proba = np.log(np.stack([stated, 1 - stated], axis=1))
    >>> calibrator = DiscreteCalibration().fit(log_proba, np.where(right, 0, 1))
    >>> calibrator.confidence_.round(2)
    array([0.8 , 0.9 , 0.95, 1.  ])
    >>> calibrator.calibrated_.round(2)
    array([0.59, 0.59, 0.59, 0.97])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "pseudo_count": [Interval(Real, 0, None, closed="neither")],
    }

    confidence_: Floats
    calibrated_: Floats
    n_rows_: Floats
    slope_: float
    intercept_: float

    def __init__(self, *, pseudo_count: float = 20.0) -> None:
        self.pseudo_count = pseudo_count

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        top, odds = top_log_odds(log_proba)
        x = _bounded_log_odds(odds)
        right = (codes == top).astype(np.float64)
        self.slope_, self.intercept_ = fit_sigmoid(x, right, weight)
        warn_at_bound("slope_", self.slope_, SLOPE_BOUNDS)

        self._knots, which = distinct_values(x)
        self.n_rows_ = sum_by(which, weight)
        prior = expit(self.slope_ * self._knots + self.intercept_)
        total = self.n_rows_ + self.pseudo_count
        posterior = (sum_by(which, weight * right) + self.pseudo_count * prior) / total
        self.calibrated_ = np.asarray(isotonic_regression(posterior, sample_weight=total))
        self.confidence_ = _confidence(self._knots)

    def _transform(self, log_proba: Floats) -> Floats:
        _, odds = top_log_odds(log_proba)
        calibrated = np.interp(_bounded_log_odds(odds), self._knots, logit(self.calibrated_))
        return replace_top_log_odds(log_proba, calibrated)

    @property
    def parameters_(self) -> Parameters:
        """The fitted table as plain lists."""
        check_is_fitted(self)
        return {
            "confidence": self.confidence_.tolist(),
            "calibrated": self.calibrated_.tolist(),
            "n_rows": self.n_rows_.tolist(),
        }


def _bounded_log_odds(odds: Floats) -> Floats:
    """Return log-odds after adding 0.005 to both sides; still rising, never beyond about 5.3."""
    return np.asarray(np.log(expit(odds) + _SPREAD) - np.log(expit(-odds) + _SPREAD))


def _confidence(bounded: Floats) -> Floats:
    """Undo `_bounded_log_odds` and return the probability."""
    return np.asarray(expit(bounded) * (1 + 2 * _SPREAD) - _SPREAD)
