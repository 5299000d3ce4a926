"""What affine maps leave over: a curve from the confidence in the top class to a better one.

The maps that a few hundred labels can support are affine in the log-probabilities. Real scores
are not quite, and from some five hundred rows on the difference shows in the calibration error.
This is a second stage on predictions for rows held out, shrunk to changing nothing.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators._top_label import replace_top_log_odds, top_log_odds
from skllm_calib.log_proba.numerics import Codes, Floats

__all__ = ["ConfidenceCurve"]

_KNOTS = (0.2, 0.4, 0.6, 0.8)
# Standard deviation of each coefficient under its prior; the scores are standardised.
_PRIOR_SCALE = 0.1


class ConfidenceCurve:
    """Add a broken line to the log-odds of the top class against the others.

    Parameters
    ----------
    log_proba : ndarray of shape (n, K)
        Calibrated log-probabilities of rows that the calibrator has not seen.
    codes : ndarray of shape (n,)
        Class numbers.
    weight : ndarray of shape (n,)
        Weights of the rows.
    """

    def __init__(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        top, odds = top_log_odds(log_proba)
        self._middle = float(np.average(odds, weights=weight))
        spread = np.sqrt(np.average((odds - self._middle) ** 2, weights=weight))
        self._spread = float(max(spread, 1e-9))  # all rows may be equally sure
        self.knots = np.quantile(self._standardised(odds), _KNOTS)
        design = self._design(odds)
        right = (codes == top).astype(np.float64)
        precision = _PRIOR_SCALE**-2

        def loss(coefficients: Floats) -> tuple[float, Floats]:
            logit = odds + design @ coefficients
            value = weight @ (np.logaddexp(0.0, logit) - right * logit)
            value += precision * coefficients @ coefficients / 2
            slope = design.T @ (weight * (expit(logit) - right)) + precision * coefficients
            return float(value), slope

        def hessian(coefficients: Floats) -> Floats:
            p = expit(odds + design @ coefficients)
            inner = (design * (weight * p * (1 - p))[:, None]).T @ design
            return np.asarray(inner + precision * np.eye(design.shape[1]))

        start = np.zeros(design.shape[1])
        bound = np.full(len(start), np.inf)
        self.coefficients = minimise(
            loss, hessian, start, lower=-bound, upper=bound, tolerance=1e-12
        )

    def _standardised(self, odds: Floats) -> Floats:
        return np.asarray((odds - self._middle) / self._spread)

    def _design(self, odds: Floats) -> Floats:
        """Return level, slope and a bend at each knot (n, 6)."""
        x = self._standardised(odds)
        bends = np.maximum(x[:, None] - self.knots, 0.0)
        return np.column_stack([np.ones_like(x), x, bends])

    def apply(self, log_proba: Floats) -> Floats:
        """Return log-probabilities (n, K) with the new confidence; the top class stays on top."""
        _, odds = top_log_odds(log_proba)
        return replace_top_log_odds(log_proba, odds + self._design(odds) @ self.coefficients)
