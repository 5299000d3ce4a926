"""Beta calibration: a curve with its own slope at either end."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators._top_label import binary_log_odds
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.log_proba.numerics import (
    Codes,
    Floats,
    log_normalise,
    one_vs_rest_log_odds,
    warn_at_bound,
)

__all__ = ["BetaCalibration"]

_SLOPE_BOUNDS = (0.0, 100.0)
_INTERCEPT_RATIO = 3.0


class BetaCalibration(BaseCalibrator):
    r"""Fit slopes of their own to the logarithms of a probability and of its complement.

    With two classes and the probability ``s`` of the second, the calibrated log-odds are::

        a * log(s) - b * log(1 - s) + c

    which is the right form if ``s`` has a beta distribution within either class [1]_. With
    ``a = b`` it is a line in log-odds, as in `PlattScaling`; with ``a != b`` it is asymmetric: low
    and high scores may be off by different factors. With more classes, each is set against the
    rest in this way and the results are normalised.

    The fit is exact under ``a >= 0`` and ``b >= 0``: where the likelihood asks for a negative
    slope, that slope is zero and the others are the best there are with it. Normal priors keep
    the answer finite when the scores separate the classes, and give classes without a label a
    small probability.

    Monotone in the log-odds of each class (before normalising, with more than two classes).

    Parameters
    ----------
    prior_slope : float, default=0.5
        Mean of ``a`` and ``b`` under the prior. Instruction-tuned models are over-confident by
        about a factor of 2.
    prior_scale : float, default=1.0
        Standard deviation of ``a`` and ``b`` under the prior; that of ``c``, around 0, is three
        times as large. With 200 labels the default is a weak ridge; 1e6 is practically maximum
        likelihood.

    Attributes
    ----------
    a_, b_, c_ : ndarray of shape (n_classes,) or (1,)
        One curve per class; with two classes only that of the second.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] M. Kull, T. Silva Filho and P. Flach (2017). Beta calibration: a well-founded and
       easily implemented improvement on logistic calibration for binary classifiers. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import BetaCalibration
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=5000)
    >>> s = np.where(y, rng.beta(4, 1, size=5000), rng.beta(1, 2, size=5000))
    >>> log_proba = np.log(np.stack([1 - s, s], axis=1))
    >>> calibrator = BetaCalibration().fit(log_proba, y)  # the truth is a = 3, b = 1
    >>> calibrator.a_.round(), calibrator.b_.round()
    (array([3.]), array([1.]))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "prior_slope": [Interval(Real, 0, None, closed="left")],
        "prior_scale": [Interval(Real, 0, None, closed="neither")],
    }

    a_: Floats
    b_: Floats
    c_: Floats

    def __init__(self, *, prior_slope: float = 0.5, prior_scale: float = 1.0) -> None:
        self.prior_slope = prior_slope
        self.prior_scale = prior_scale

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        odds = _log_odds(log_proba)
        first = 1 if log_proba.shape[1] == 2 else 0
        curves = [
            self._fit_curve(odds[:, column], codes == column + first, weight)
            for column in range(odds.shape[1])
        ]
        self.a_, self.b_, self.c_ = np.array(curves).T
        for slope in np.maximum(self.a_, self.b_):
            # One slope of zero is an ordinary answer, both of zero ignore the scores.
            warn_at_bound("A slope of a_ and b_", slope, _SLOPE_BOUNDS)

    def _fit_curve(self, odds: Floats, positive: Floats, weight: Floats) -> Floats:
        """Return the most probable a, b and c."""
        design = np.stack([*_log_sides(odds), np.ones_like(odds)])
        centre = np.array([self.prior_slope, self.prior_slope, 0.0])
        precision = (self.prior_scale * np.array([1.0, 1.0, _INTERCEPT_RATIO])) ** -2

        def loss(theta: Floats) -> tuple[float, Floats]:
            line = theta @ design
            off = theta - centre
            value = weight @ (np.logaddexp(0.0, line) - positive * line) + precision @ off**2 / 2
            return float(value), design @ (weight * (expit(line) - positive)) + precision * off

        def hessian(theta: Floats) -> Floats:
            line = theta @ design
            curvature = (design * (weight * expit(line) * expit(-line))) @ design.T
            return np.asarray(curvature + np.diag(precision))

        low, high = _SLOPE_BOUNDS
        return minimise(
            loss,
            hessian,
            centre,
            lower=np.array([low, low, -np.inf]),
            upper=np.array([high, high, np.inf]),
            tolerance=1e-12,
        )

    def _transform(self, log_proba: Floats) -> Floats:
        log_s, minus_log_rest = _log_sides(_log_odds(log_proba))
        line = self.a_ * log_s + self.b_ * minus_log_rest + self.c_
        if log_proba.shape[1] == 2:
            line = np.hstack([-line, line])
        return log_normalise(-np.logaddexp(0.0, -line))

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain lists."""
        check_is_fitted(self)
        return {"a": self.a_.tolist(), "b": self.b_.tolist(), "c": self.c_.tolist()}


def _log_odds(log_proba: Floats) -> Floats:
    """Return log-odds (n, K), or (n, 1) of the second of two classes."""
    if log_proba.shape[1] == 2:
        return binary_log_odds(log_proba)[:, None]
    return one_vs_rest_log_odds(log_proba)


def _log_sides(odds: Floats) -> tuple[Floats, Floats]:
    """Return log s and -log(1 - s), exact at both ends."""
    return np.asarray(-np.logaddexp(0.0, -odds)), np.asarray(np.logaddexp(0.0, odds))
