"""Ensemble temperature scaling: scaled scores, raw scores and ignorance, mixed."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.temperature import TemperatureScaling
from skllm_calib.log_proba.numerics import Codes, Floats, log_normalise

__all__ = ["EnsembleTemperatureScaling"]

# Rows the prior of the shares is worth: scaled, raw, uniform.
_PRIOR_COUNTS = np.array([38.0, 1.0, 1.0])
_FURTHEST = 30.0


class EnsembleTemperatureScaling(BaseCalibrator):
    r"""Mix temperature-scaled, raw and uniform probabilities with fitted weights.

    The calibrated probabilities are::

        w_scaled * softmax(log_proba / T) + w_raw * softmax(log_proba) + w_uniform / n_classes

    As in [1]_, the temperature is fitted first and the weights, which are positive and sum to one,
    afterwards, both to the likelihood of the labels. The temperature is that of
    `TemperatureScaling` with its prior; the weights have a Dirichlet prior worth forty rows, 38 of
    them scaled, one raw and one uniform, so that a handful of labels leaves nearly all to the
    temperature, and no weight becomes zero.

    Monotone: within a row, order and prediction never change, and with two classes a probability
    rises with its log-odds.

    Parameters
    ----------
    prior_temperature : float, default=2.0
        Median of the prior of the temperature.
    prior_scale : float or None, default=0.7
        Standard deviation of the logarithm of the temperature under the prior; ``None`` for no
        prior of the temperature.

    Attributes
    ----------
    temperature_ : float
        The fitted temperature.
    weights_ : ndarray of shape (3,)
        The fitted weights: scaled, raw, uniform. They sum to one.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] J. Zhang, B. Kailkhura and T. Y.-J. Han (2020). Mix-n-match: ensemble and compositional
       methods for uncertainty calibration in deep learning. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import EnsembleTemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=500)
    >>> log_proba = np.stack([np.zeros(500), 4 * rng.normal(2 * y - 1)], axis=1)
    >>> y[:50] = rng.integers(2, size=50)  # some labels are anything
    >>> calibrator = EnsembleTemperatureScaling().fit(log_proba, y)
    >>> bool(calibrator.temperature_ > 2)
    True
    >>> calibrator.weights_.sum().round(6)
    np.float64(1.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "prior_temperature": [Interval(Real, 0, None, closed="neither")],
        "prior_scale": [Interval(Real, 0, None, closed="neither"), None],
    }

    temperature_: float
    weights_: Floats

    def __init__(self, *, prior_temperature: float = 2.0, prior_scale: float | None = 0.7) -> None:
        self.prior_temperature = prior_temperature
        self.prior_scale = prior_scale

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        scaling = TemperatureScaling(
            prior_temperature=self.prior_temperature, prior_scale=self.prior_scale
        )
        scaling._fit_encoded(log_proba, codes, weight, self.classes_)
        self.temperature_ = scaling.temperature_
        label = self._members(log_proba)[:, np.arange(len(codes)), codes]
        self.weights_ = _fit_weights(label, weight)

    def _members(self, log_proba: Floats) -> Floats:
        """Return log-probabilities (3, n, K): scaled, raw, uniform."""
        scaled = log_normalise(log_proba / self.temperature_)
        uniform = np.full_like(log_proba, -np.log(log_proba.shape[1]))
        return np.stack([scaled, log_proba, uniform])

    def _transform(self, log_proba: Floats) -> Floats:
        log_weights = np.log(self.weights_)[:, None, None]
        return np.asarray(logsumexp(self._members(log_proba) + log_weights, axis=0))

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers and lists."""
        check_is_fitted(self)
        return {"temperature": self.temperature_, "weights": self.weights_.tolist()}


def _fit_weights(label: Floats, weight: Floats) -> Floats:
    """Return the most probable weights, given log-probabilities of the labels (3, n).

    The search is in logarithms of weights, relative to the first; with r the posterior weight of
    each member in each row, all derivatives are differences of counts.
    """
    total = weight.sum() + _PRIOR_COUNTS.sum()

    def log_weights(free: Floats) -> Floats:
        logits = np.concatenate([[0.0], free])
        return np.asarray(logits - logsumexp(logits))

    def loss(free: Floats) -> tuple[float, Floats]:
        log_w = log_weights(free)
        log_mixed = logsumexp(label + log_w[:, None], axis=0)
        counts = np.exp(label + log_w[:, None] - log_mixed) @ weight + _PRIOR_COUNTS
        value = -weight @ log_mixed - _PRIOR_COUNTS @ log_w
        return float(value), (total * np.exp(log_w) - counts)[1:]

    def hessian(free: Floats) -> Floats:
        log_w = log_weights(free)
        w = np.exp(log_w)
        r = softmax(label + log_w[:, None], axis=0)
        from_prior = total * (np.diag(w) - np.outer(w, w))
        from_rows = np.diag(r @ weight) - (r * weight) @ r.T
        return np.asarray((from_prior - from_rows)[1:, 1:])

    found = minimise(
        loss,
        hessian,
        np.log(_PRIOR_COUNTS[1:] / _PRIOR_COUNTS[0]),
        lower=np.full(2, -_FURTHEST),
        upper=np.full(2, _FURTHEST),
        tolerance=1e-12,
    )
    return np.asarray(np.exp(log_weights(found)))
