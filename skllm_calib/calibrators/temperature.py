"""Temperature scaling: one number for how much to trust the scores."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibrators._newton import minimise
from skllm_calib.calibrators._numerics import Codes, Floats, log_normalise, warn_at_bound
from skllm_calib.calibrators.base import BaseCalibrator, Parameters

__all__ = ["TEMPERATURE_BOUNDS", "TemperatureScaling"]

TEMPERATURE_BOUNDS = (0.01, 100.0)
_N_GRID = 33


class TemperatureScaling(BaseCalibrator):
    r"""Divide log-probabilities by one fitted temperature.

    The calibrated probabilities are ``softmax(log_proba / T)``. The temperature maximises the
    likelihood of the labels [1]_ times a log-normal prior, which decides where labels say
    nothing: a handful of rows, or rows that are all right, for which the likelihood alone would
    send ``T`` to zero. From a hundred rows on the default prior hardly matters. Order and
    prediction never change.

    Parameters
    ----------
    prior_temperature : float, default=2.0
        Median of the prior. Instruction-tuned models are over-confident by about a factor of 2.
    prior_scale : float or None, default=0.7
        Standard deviation of the logarithm of the temperature under the prior; ``None`` for no
        prior, that is maximum likelihood within [0.01, 100].

    Attributes
    ----------
    temperature_ : float
        The fitted temperature; above 1 the scores were over-confident.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger (2017). On calibration of modern neural
       networks. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import TemperatureScaling
    >>> log_proba = np.log([[0.98, 0.02], [0.97, 0.03], [0.02, 0.98], [0.99, 0.01]])
    >>> y = ["ham", "spam", "spam", "ham"]
    >>> calibrator = TemperatureScaling().fit(log_proba, y)
    >>> round(calibrator.temperature_, 2)
    2.41
    >>> calibrator.predict_proba(log_proba[:1]).round(2)
    array([[0.83, 0.17]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "prior_temperature": [Interval(Real, 0, None, closed="neither")],
        "prior_scale": [Interval(Real, 0, None, closed="neither"), None],
    }

    temperature_: float

    def __init__(self, *, prior_temperature: float = 2.0, prior_scale: float | None = 0.7) -> None:
        self.prior_temperature = prior_temperature
        self.prior_scale = prior_scale

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        centre = -np.log(self.prior_temperature)
        precision = 0.0 if self.prior_scale is None else self.prior_scale**-2

        rows = np.arange(len(codes))

        def loss(theta: Floats) -> tuple[float, Floats]:
            """Negative log posterior and its derivative, in the logarithm of 1 / T."""
            scaled = np.exp(theta[0]) * log_proba
            log_q = log_normalise(scaled)
            mean = np.einsum("nk,nk->n", np.exp(log_q), scaled)
            off = theta[0] - centre
            value = -weight @ log_q[rows, codes] + precision * off**2 / 2
            return value, np.array([weight @ (mean - scaled[rows, codes]) + precision * off])

        def hessian(theta: Floats) -> Floats:
            scaled = np.exp(theta[0]) * log_proba
            q = np.exp(log_normalise(scaled))
            mean = np.einsum("nk,nk->n", q, scaled)
            variance = np.einsum("nk,nk->n", q, (scaled - mean[:, None]) ** 2)
            return np.array([[weight @ (variance + mean - scaled[rows, codes]) + precision]])

        # The likelihood is convex in 1 / T, but with the prior there can be two valleys when
        # the scores hardly differ. A coarse grid finds the deeper one, Newton its bottom.
        low, high = (-np.log(edge) for edge in reversed(TEMPERATURE_BOUNDS))
        grid = np.linspace(low, high, _N_GRID)
        losses = [loss(np.array([point]))[0] for point in grid]
        # Of equal losses the last, so that a likelihood without an optimum ends at the bound.
        best = _N_GRID - 1 - int(np.argmin(losses[::-1]))
        found = minimise(
            loss,
            hessian,
            grid[[best]],
            lower=grid[[max(best - 1, 0)]],
            upper=grid[[min(best + 1, _N_GRID - 1)]],
            tolerance=1e-12,
        )
        self.temperature_ = float(np.exp(-found[0]))
        warn_at_bound("temperature_", self.temperature_, TEMPERATURE_BOUNDS)

    def _transform(self, log_proba: Floats) -> Floats:
        return log_normalise(log_proba / self.temperature_)

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers."""
        check_is_fitted(self)
        return {"temperature": self.temperature_}
