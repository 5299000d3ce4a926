"""Platt scaling: a logistic regression on log-odds, one class against the rest."""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.log_proba.numerics import (
    Codes,
    Floats,
    log_normalise,
    one_vs_rest_log_odds,
    warn_at_bound,
)

__all__ = ["SLOPE_BOUNDS", "PlattScaling", "fit_sigmoid"]

SLOPE_BOUNDS = (-100.0, 100.0)


class PlattScaling(BaseCalibrator):
    r"""Fit a sigmoid to the log-odds of every class.

    With two classes, the log-odds ``x`` of the second class become ``slope * x + intercept``.
    With more, every class is set against the rest in this way and the results are normalised.
    The sigmoid is fitted to the smoothed targets of [1]_, (n_pos + 1) / (n_pos + 2) and
    1 / (n_neg + 2) in place of 1 and 0, so that the answer is finite when the scores separate
    the classes.

    Sigmoids belong on log-odds: fitted to probabilities themselves, as is often done, they
    cannot exceed about 0.88 on typical data. A slope may turn out negative, which reverses the
    order of the scores, when they point the wrong way. With more than two classes and few rows
    `VectorScaling` has fewer parameters and is the better choice.

    Attributes
    ----------
    slope_, intercept_ : ndarray of shape (n_classes,) or (1,)
        One line per class; with two classes only that of the second.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] J. Platt (1999). Probabilistic outputs for support vector machines and comparisons to
       regularized likelihood methods. Advances in large margin classifiers.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import PlattScaling
    >>> log_proba = np.log([[0.99, 0.01], [0.9, 0.1], [0.2, 0.8], [0.01, 0.99]])
    >>> calibrator = PlattScaling().fit(log_proba, [0, 0, 1, 1])
    >>> calibrator.predict_proba(log_proba[:1]).round(2)
    array([[0.78, 0.22]])
    """

    slope_: Floats
    intercept_: Floats

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        odds = self._log_odds(log_proba)
        first = 1 if log_proba.shape[1] == 2 else 0
        lines = [
            fit_sigmoid(odds[:, column], codes == column + first, weight)
            for column in range(odds.shape[1])
        ]
        self.slope_, self.intercept_ = (np.array(part) for part in zip(*lines, strict=True))
        for slope in self.slope_:
            warn_at_bound("A slope of slope_", slope, SLOPE_BOUNDS)

    @staticmethod
    def _log_odds(log_proba: Floats) -> Floats:
        if log_proba.shape[1] == 2:
            return log_proba[:, 1:] - log_proba[:, :1]
        return one_vs_rest_log_odds(log_proba)

    def _transform(self, log_proba: Floats) -> Floats:
        line = self._log_odds(log_proba) * self.slope_ + self.intercept_
        if log_proba.shape[1] == 2:
            line = np.hstack([-line, line])
        return log_normalise(-np.logaddexp(0.0, -line))

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain lists."""
        check_is_fitted(self)
        return {"slope": self.slope_.tolist(), "intercept": self.intercept_.tolist()}


def fit_sigmoid(x: Floats, positive: Floats, weight: Floats) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression on smoothed targets."""
    n_positive = weight @ positive
    n_negative = weight.sum() - n_positive
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    # Around its mean, slope and intercept of the line hardly depend on each other.
    centre = weight @ x / weight.sum()
    design = np.stack([x - centre, np.ones_like(x)])

    def loss(theta: Floats) -> tuple[float, Floats]:
        line = theta @ design
        value = weight @ (np.logaddexp(0.0, line) - target * line)
        return float(value), design @ (weight * (expit(line) - target))

    def hessian(theta: Floats) -> Floats:
        line = theta @ design
        return np.asarray((design * (weight * expit(line) * expit(-line))) @ design.T)

    slope, height = minimise(
        loss,
        hessian,
        np.array([0.0, np.log((n_positive + 1) / (n_negative + 1))]),
        lower=np.array([SLOPE_BOUNDS[0], -np.inf]),
        upper=np.array([SLOPE_BOUNDS[1], np.inf]),
        tolerance=1e-12,
    )
    return float(slope), float(height - slope * centre)
