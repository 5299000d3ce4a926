"""Isotonic calibration: any rising step function, for those who have thousands of labels."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.log_proba.numerics import Codes, Floats, log_normalise, one_vs_rest_log_odds

__all__ = ["IsotonicCalibration"]

_ENOUGH_ROWS = 1000


class IsotonicCalibration(BaseCalibrator):
    r"""Fit a rising function to the log-odds of every class.

    The pool-adjacent-violators algorithm, one class against the rest, normalised afterwards
    [1]_; with two classes, for the second only. The function is constant outside the range seen
    and linear between its steps.

    Left alone it says exactly 0 and 1 at both ends, and a single exception then costs an
    infinite log-loss. Values are therefore clipped by Laplace's rule of succession: with the
    weights summing to ``n``, no class gets more than ``1 - 1 / (n + 2)``, and none less than an
    equal part of the remaining ``1 / (n + 2)`` among the other classes (both before
    normalising). A class without a label has that smallest value everywhere.

    Below about 1000 rows the steps follow the noise, and a warning says so; use
    `VectorScaling` or `TemperatureScaling` instead.

    Attributes
    ----------
    knots_ : list of tuple of two ndarrays
        Log-odds and calibrated values at the corners of each function, one pair per class; with
        two classes only that of the second.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] B. Zadrozny and C. Elkan (2002). Transforming classifier scores into accurate
       multiclass probability estimates. KDD.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import IsotonicCalibration
    >>> rng = np.random.default_rng(0)
    >>> odds = rng.normal(scale=4, size=2000)
    >>> y = rng.uniform(size=2000) < 1 / (1 + np.exp(-odds / 4))  # four times over-confident
    >>> log_proba = np.stack([np.zeros(2000), odds], axis=1)
    >>> calibrator = IsotonicCalibration().fit(log_proba, y)
    >>> calibrator.predict_proba([[0, 4]]).round(1)
    array([[0.3, 0.7]])
    """

    knots_: list[tuple[Floats, Floats]]

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        n_classes = log_proba.shape[1]
        total = weight.sum()
        if total < _ENOUGH_ROWS:
            warnings.warn(
                f"Isotonic calibration of {total:g} rows follows their noise; it needs about "
                f"{_ENOUGH_ROWS}. Use VectorScaling or TemperatureScaling.",
                UserWarning,
                stacklevel=4,
            )
        spare = 1 / (total + 2)
        first = 1 if n_classes == 2 else 0
        odds = one_vs_rest_log_odds(log_proba)
        self.knots_ = []
        for column in range(first, n_classes):
            curve = IsotonicRegression(
                y_min=spare / max(n_classes - 1, 1), y_max=1 - spare, out_of_bounds="clip"
            )
            curve.fit(odds[:, column], (codes == column).astype(np.float64), weight)
            self.knots_.append((curve.X_thresholds_, curve.y_thresholds_))

    def _transform(self, log_proba: Floats) -> Floats:
        n_classes = log_proba.shape[1]
        columns = one_vs_rest_log_odds(log_proba).T[-len(self.knots_) :]
        values = np.stack(
            [np.interp(x, *knots) for x, knots in zip(columns, self.knots_, strict=True)], axis=1
        )
        if n_classes == 2:
            values = np.hstack([1 - values, values])
        return log_normalise(np.log(values))

    @property
    def parameters_(self) -> Parameters:
        """Corners of the functions as plain lists, ``log_odds_0``, ``value_0`` and so on."""
        check_is_fitted(self)
        out: Parameters = {}
        for number, (log_odds, value) in enumerate(self.knots_):
            out[f"log_odds_{number}"] = log_odds.tolist()
            out[f"value_{number}"] = value.tolist()
        return out
