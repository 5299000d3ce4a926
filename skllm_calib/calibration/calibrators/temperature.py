"""Temperature scaling: one number for how much to trust the scores."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.log_proba.numerics import Codes, Floats, blocks, warn_at_bound

__all__ = ["TEMPERATURE_BOUNDS", "TemperatureScaling"]

TEMPERATURE_BOUNDS = (0.01, 100.0)
_N_GRID = 33
_N_SAMPLE = 5000


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
        columns = np.empty(log_proba.shape[::-1])  # numpy is fast along long axes
        for rows in blocks(log_proba.shape):
            turned = log_proba[rows].T.copy()
            np.subtract(turned, turned.max(axis=0), out=columns[:, rows])
        own = columns[codes, np.arange(len(codes))]
        # A sample of many rows finds the neighbourhood, then all of them the place.
        part = slice(None, None, max(len(codes) // _N_SAMPLE, 1))
        share = weight.sum() / weight[part].sum()
        found = self._search(columns[:, part], own[part], share * weight[part])
        if part.step > 1:
            found = self._search(columns, own, weight, start=found)
        self.temperature_ = float(np.exp(-found))
        warn_at_bound("temperature_", self.temperature_, TEMPERATURE_BOUNDS)

    def _search(
        self, columns: Floats, own: Floats, weight: Floats, start: float | None = None
    ) -> float:
        """Return the most probable logarithm of 1 / T, near the start if there is one."""
        centre = -np.log(self.prior_temperature)
        precision = 0.0 if self.prior_scale is None else self.prior_scale**-2

        @lru_cache(maxsize=1)
        def posterior(theta: float) -> tuple[float, float, float]:
            """Negative log posterior and its derivatives, in the logarithm of 1 / T."""
            slope, off = np.exp(theta), theta - centre
            value, first, second = _likelihood(columns, own, weight, slope)
            return (
                value + precision * off**2 / 2,
                slope * first + precision * off,
                slope**2 * second + slope * first + precision,
            )

        def loss(theta: Floats) -> tuple[float, Floats]:
            value, first, _ = posterior(theta[0])
            return value, np.array([first])

        low, high = (-np.log(edge) for edge in reversed(TEMPERATURE_BOUNDS))
        if start is None:
            # The likelihood is convex in 1 / T, but with the prior there can be two valleys when
            # the scores hardly differ. A coarse grid finds the deeper one, Newton its bottom.
            grid = np.linspace(low, high, _N_GRID)
            losses = [posterior(point)[0] for point in grid]
            # Of equal losses the last, so that a likelihood without an optimum ends at the bound.
            best = _N_GRID - 1 - int(np.argmin(losses[::-1]))
            start, low, high = grid[best], grid[max(best - 1, 0)], grid[min(best + 1, _N_GRID - 1)]
        found = minimise(
            loss,
            lambda theta: np.array([[posterior(theta[0])[2]]]),
            np.array([start]),
            lower=np.array([low]),
            upper=np.array([high]),
            tolerance=max(1e-12, 1e-15 * weight.sum()),  # below, a sum over the rows is rounded
        )
        # The derivatives of one more step are known, which leaves no error but that of rounding.
        _, first, second = posterior(found[0])
        return float(np.clip(found[0] - first / second if second > 0 else found[0], low, high))

    def _transform(self, log_proba: Floats) -> Floats:
        return log_proba / self.temperature_

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers."""
        check_is_fitted(self)
        return {"temperature": self.temperature_}


def _likelihood(columns: Floats, own: Floats, weight: Floats, slope: float) -> Floats:
    """Return the negative log-likelihood and its two derivatives by the slope 1 / T.

    From scores on their side (K, n), the highest of each row being 0, and those of the labels (n,).
    """
    total = np.zeros(3)
    for rows in blocks(columns.shape[::-1]):
        scores, label = columns[:, rows], own[rows]
        share = np.exp(slope * scores)
        norm = share.sum(axis=0)
        share *= scores
        mean = share.sum(axis=0) / norm
        share *= scores
        variance = share.sum(axis=0) / norm - mean**2
        terms = np.stack([np.log(norm) - slope * label, mean - label, variance])
        total += terms @ weight[rows]
    return total
