"""Vector scaling: a temperature and one bias per class, fitted together and shrunk by the data."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import betaln, expit, logsumexp, softmax
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.temperature import TEMPERATURE_BOUNDS
from skllm_calib.log_proba.numerics import Codes, Floats, log_normalise, warn_at_bound

__all__ = ["VectorScaling"]

BIAS_SCALES = (0.1, 0.3, 0.6, 1.0, 2.0)
_LOG_SLOPE_BOUNDS = (-np.log(TEMPERATURE_BOUNDS[1]), -np.log(TEMPERATURE_BOUNDS[0]))
_MIX_PRIOR = (1.2, 20.0)
_MIX_LOGIT_BOUNDS = (-12.0, 12.0)


class VectorScaling(BaseCalibrator):
    r"""Scale log-probabilities by one temperature and shift them by one bias per class.

    The calibrated probabilities are::

        (1 - eps) * softmax(log_proba / T + bias) + eps / n_classes

    "Bias-corrected temperature scaling" [2]_ of the family of [1]_, with all parameters fitted
    together as the mode of a posterior: ``log T`` is normal, every bias is normal around 0 with
    a common scale, and ``2 * eps`` has a Beta(1.2, 20) prior (its mode taken for its logit).

    How far the biases are shrunk, and whether to mix at all, is averaged over, not picked: the
    modes for the scales 0.1, 0.3, 0.6, 1 and 2, with and without the mixture, are weighted by
    their evidence in Laplace's approximation [3]_. Without a visible bias the method falls back
    to temperature scaling by itself, without cross-validation and hence without its noise, and
    also where some classes have no label at all.

    Parameters
    ----------
    bias_scale : "auto" or float, default="auto"
        Standard deviation of the biases under the prior.
    uniform_mix : "auto" or bool, default="auto"
        Whether to mix in the uniform distribution with a fitted weight. Some labels are wrong or
        ambiguous; the mixture keeps those few from flattening every confident answer.
    prior_temperature : float, default=2.0
        Median of the prior of the temperature.
    prior_scale : float, default=0.7
        Standard deviation of the logarithm of the temperature under the prior.

    Attributes
    ----------
    temperature_ : float
        The fitted temperature.
    bias_ : ndarray of shape (n_classes,)
        The fitted biases; they sum to zero.
    uniform_mix_ : float
        The fitted weight ``eps`` of the uniform distribution; 0 if it is not mixed in.
    bias_scale_ : float
        The scale of the prior; the geometric mean over those averaged.
    log_evidence_ : dict
        Logarithm of the evidence of each scale tried, up to a common constant.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger (2017). On calibration of modern neural
       networks. ICML.
    .. [2] A. Alexandari, A. Kundaje and A. Shrikumar (2020). Maximum likelihood with
       bias-corrected calibration is hard-to-beat at label shift adaptation. ICML.
    .. [3] D. J. C. MacKay (1992). Bayesian interpolation. Neural Computation 4(3).

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import VectorScaling
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> evidence = rng.normal(2 * y - 1, 1.0)  # the true log-odds are twice this
    >>> log_proba = np.stack([np.zeros(200), 4 * evidence + 1.5], axis=1)
    >>> calibrator = VectorScaling().fit(log_proba, y)
    >>> bool(1.2 < calibrator.temperature_ < 2.8)
    True
    >>> bool(calibrator.bias_[1] < 0)  # the second class was favoured
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "bias_scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "uniform_mix": [StrOptions({"auto"}), "boolean"],
        "prior_temperature": [Interval(Real, 0, None, closed="neither")],
        "prior_scale": [Interval(Real, 0, None, closed="neither")],
    }

    temperature_: float
    bias_: Floats
    uniform_mix_: float
    bias_scale_: float
    log_evidence_: dict[float, float]

    def __init__(
        self,
        *,
        bias_scale: str | float = "auto",
        uniform_mix: str | bool = "auto",
        prior_temperature: float = 2.0,
        prior_scale: float = 0.7,
    ) -> None:
        self.bias_scale = bias_scale
        self.uniform_mix = uniform_mix
        self.prior_temperature = prior_temperature
        self.prior_scale = prior_scale

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        scales = BIAS_SCALES if self.bias_scale == "auto" else (float(self.bias_scale),)
        mixtures = (False, True) if self.uniform_mix == "auto" else (bool(self.uniform_mix),)
        log_evidence, modes = [], []
        for mixed in mixtures:
            posterior = _Posterior(
                log_proba,
                codes,
                weight,
                centre=-np.log(self.prior_temperature),
                precision=self.prior_scale**-2,
                mixed=mixed,
            )
            theta = posterior.start()
            for scale in scales:
                # The mode under one scale is a good start for the next one.
                theta = posterior.mode(theta, scale)
                log_evidence.append(posterior.log_evidence(theta, scale))
                slope, bias, mix = posterior.unpack(theta)
                modes.append(np.array([np.log(scale), np.log(slope), mix, *bias]))
        table = np.reshape(log_evidence, (len(mixtures), len(scales)))
        self.log_evidence_ = dict(zip(scales, logsumexp(table, axis=0).tolist(), strict=True))
        average = softmax(log_evidence) @ np.array(modes)
        self.bias_scale_, slope = np.exp(average[:2]).tolist()
        self.temperature_ = 1 / slope
        self.uniform_mix_ = float(average[2])
        self.bias_ = average[3:]
        warn_at_bound("temperature_", self.temperature_, TEMPERATURE_BOUNDS)

    def _transform(self, log_proba: Floats) -> Floats:
        logits = log_proba / self.temperature_ + self.bias_
        if self.uniform_mix_ == 0:
            return np.asarray(logits)
        log_uniform = np.log(self.uniform_mix_ / len(self.bias_))
        log_model = np.log1p(-self.uniform_mix_) + log_normalise(logits)
        return np.asarray(np.logaddexp(log_model, log_uniform), dtype=np.float64)

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers and lists."""
        check_is_fitted(self)
        return {
            "temperature": self.temperature_,
            "bias": self.bias_.tolist(),
            "uniform_mix": self.uniform_mix_,
            "bias_scale": self.bias_scale_,
        }


class _Posterior:
    """Log posterior of ``theta = (log 1/T, bias_1..bias_K[, logit 2 eps])`` with derivatives.

    With q = softmax(log_proba / T + bias), a label has probability (1 - eps) q_y + eps / K, and
    the share r of its first part is how much the row is explained by the scores at all. The
    derivatives with respect to the logits are those of a softmax, weighted by r.
    """

    def __init__(
        self,
        log_proba: Floats,
        codes: Codes,
        weight: Floats,
        *,
        centre: float,
        precision: float,
        mixed: bool,
    ) -> None:
        self.log_proba = log_proba
        self.weight = weight
        self.centre = centre
        self.precision = precision
        self.mixed = mixed
        self.n_classes = log_proba.shape[1]
        self.label = (np.arange(len(codes)), codes)

    def start(self) -> Floats:
        """Return the mode of the prior."""
        theta = np.zeros(1 + self.n_classes + self.mixed)
        theta[0] = self.centre
        if self.mixed:
            theta[-1] = np.log(_MIX_PRIOR[0] / _MIX_PRIOR[1])
        return theta

    def unpack(self, theta: Floats) -> tuple[float, Floats, float]:
        """Return 1 / T, the biases and eps."""
        mix = expit(theta[-1]) / 2 if self.mixed else 0.0
        return np.exp(theta[0]), theta[1 : 1 + self.n_classes], mix

    def _shares(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Return q (n, K), the log-probability of each label (n,) and the shares r (n,)."""
        slope, bias, mix = self.unpack(theta)
        log_q = log_normalise(slope * self.log_proba + bias)
        log_label = log_q[self.label]
        if not self.mixed:
            return np.exp(log_q), log_label, np.ones(len(log_label))
        log_model = np.log1p(-mix) + log_label
        log_label = np.logaddexp(log_model, np.log(mix / self.n_classes))
        return np.exp(log_q), log_label, np.exp(log_model - log_label)

    def loss(self, theta: Floats, scale: float) -> tuple[float, Floats]:
        """Return the negative log posterior and its gradient."""
        slope, bias, mix = self.unpack(theta)
        q, log_label, share = self._shares(theta)
        off = theta[0] - self.centre
        loss = -self.weight @ log_label + self.precision * off**2 / 2 + bias @ bias / scale**2 / 2

        residual = q * (self.weight * share)[:, None]
        residual[self.label] -= self.weight * share
        gradient = np.empty_like(theta)
        gradient[0] = slope * np.vdot(residual, self.log_proba) + self.precision * off
        gradient[1 : 1 + self.n_classes] = residual.sum(axis=0) + bias / scale**2
        if self.mixed:
            x = 2 * mix
            alpha, beta = _MIX_PRIOR
            loss -= alpha * np.log(x) + beta * np.log1p(-x)
            # d log P / d logit: the mixed-in part gains what the model part loses.
            pull = (1 - share) * (1 - x) - share * x * (1 - x) / (2 - x)
            gradient[-1] = -self.weight @ pull - alpha * (1 - x) + beta * x
        return loss, gradient

    def hessian(self, theta: Floats, scale: float) -> Floats:
        """Return the matrix of second derivatives of the loss."""
        n_classes = self.n_classes
        slope, _, mix = self.unpack(theta)
        q, _, share = self._shares(theta)
        weight = self.weight
        inner = weight * share
        outer = inner * (1 - share)
        towards = -q
        towards[self.label] += 1.0
        moved = slope * self.log_proba
        centred = moved - np.einsum("nk,nk->n", q, moved)[:, None]
        along = centred[self.label]

        out = np.zeros((len(theta), len(theta)))
        bias = slice(1, 1 + n_classes)
        out[bias, bias] = np.diag(q.T @ inner) - (q * inner[:, None]).T @ q
        out[bias, bias] -= (towards * outer[:, None]).T @ towards
        out[bias, bias] += np.eye(n_classes) / scale**2
        out[0, bias] = inner @ (q * centred) - (outer * along) @ towards
        spread = np.einsum("nk,nk->n", q, centred**2)
        out[0, 0] = inner @ (spread - along) - outer @ along**2 + self.precision
        if self.mixed:
            x = 2 * mix
            alpha, beta = _MIX_PRIOR
            # eps = x / 2 and x = expit(logit): chain rule, with s = share.
            model_pull = x * (1 - x) / (2 - x)
            share_slope = -share * (1 - share) * (1 - x + model_pull)
            model_pull_slope = x * (1 - x) * (2 - 4 * x + x**2) / (2 - x) ** 2
            pull_slope = (
                -share_slope * (1 - x + model_pull)
                - (1 - share) * x * (1 - x)
                - share * model_pull_slope
            )
            out[-1, -1] = -weight @ pull_slope + (alpha + beta) * x * (1 - x)
            out[bias, -1] = -(weight * share_slope) @ towards
            out[0, -1] = -(weight * share_slope) @ along
        upper = np.triu(out)
        return np.asarray(upper + np.triu(upper, 1).T)

    def mode(self, start: Floats, scale: float) -> Floats:
        """Return the most probable parameters, searching from `start`."""
        lower = np.full(len(start), -np.inf)
        upper = -lower
        lower[0], upper[0] = _LOG_SLOPE_BOUNDS
        if self.mixed:
            lower[-1], upper[-1] = _MIX_LOGIT_BOUNDS
        return minimise(
            lambda theta: self.loss(theta, scale),
            lambda theta: self.hessian(theta, scale),
            start,
            lower=lower,
            upper=upper,
            tolerance=1e-10,
        )

    def log_evidence(self, theta: Floats, scale: float) -> float:
        """Laplace's approximation of the log evidence, up to what all models share."""
        curvature = np.linalg.eigvalsh(self.hessian(theta, scale))
        # The mixture makes the posterior slightly non-convex; at a bound it may even show.
        log_volume = np.log(np.maximum(curvature, 1e-6)).sum() / 2
        out = -self.loss(theta, scale)[0] - self.n_classes * np.log(scale) - log_volume
        if self.mixed:  # one more parameter, under a prior of its own
            out += np.log(2 * np.pi) / 2 - betaln(*_MIX_PRIOR)
        return float(out)
