"""Matrix scaling: every class may borrow from the scores of the others, where labels show it."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._affine import AffinePosterior
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.vector import VectorScaling
from skllm_calib.log_proba.numerics import Codes, Floats

__all__ = ["MatrixScaling"]

MATRIX_SCALES = (0.01, 0.03, 0.1, 0.3)
# The average of few rows is little known: so many rows without any preference join it.
_ROWS_OF_EVEN_SCORES = 30.0


class MatrixScaling(BaseCalibrator):
    r"""Map log-probabilities by a full matrix and a bias, shrunk to one temperature.

    The calibrated probabilities are::

        softmax(matrix @ log_proba + bias)

    Left alone the K * (K + 1) numbers follow the noise of a few hundred labels. They are
    therefore the mode of a posterior, in which the matrix is close to a multiple of the identity
    (a structured ridge; compare [1]_ and [2]_):

    1. Scores are centred: from each column its average is taken, with thirty rows added that
       prefer no class.
    2. A `VectorScaling` without uniform part is fitted to them. Its temperature ``T``, and the
       scale of its biases, are taken over.
    3. A diagonal entry of the matrix is normal around ``1 / T`` with the standard deviation
       ``matrix_scale``; an entry off the diagonal is normal around 0 with ``matrix_scale / sqrt(K
       - 1)``, so that all of a row together may do as much as its diagonal entry.
    4. Biases, added to the centred scores, are normal around 0 with ``bias_scale``: without labels
       that say otherwise, no class is the more frequent one, whatever the scores prefer.

    ``matrix_scale`` is averaged over, not picked: the modes for 0.01, 0.03, 0.1 and 0.3 are
    weighted by their evidence in Laplace's approximation, the search going upwards and ending
    where the evidence falls. With few labels nearly all weight is on 0.01, which is
    `VectorScaling` of centred scores for all purposes. Beyond thirty classes the evidence is
    approximated class by class, which shrinks somewhat more.

    Not monotone: a class may lose when its own score rises.

    Parameters
    ----------
    matrix_scale : "auto" or float, default="auto"
        Standard deviation of the diagonal of the matrix under its prior.
    bias_scale : "auto" or float, default="auto"
        Standard deviation of the biases under their prior; "auto" as in `VectorScaling`.
    prior_temperature : float, default=2.0
        Median of the prior of the temperature.
    prior_scale : float, default=0.7
        Standard deviation of the logarithm of the temperature under the prior.

    Attributes
    ----------
    temperature_ : float
        The temperature that the matrix was shrunk to.
    matrix_ : ndarray of shape (n_classes, n_classes)
        The fitted matrix; rows are the classes that come out.
    bias_ : ndarray of shape (n_classes,)
        The fitted bias, to be added to ``matrix_ @ log_proba``.
    matrix_scale_, bias_scale_ : float
        The scales of the priors; the geometric mean over those averaged.
    log_evidence_ : dict
        Logarithm of the evidence of each matrix scale tried, up to a common constant.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] M. Kull, M. Perello-Nieto, M. Kängsepp, T. Silva Filho, H. Song and P. Flach (2019).
       Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with
       Dirichlet calibration. NeurIPS.
    .. [2] E. Berta, D. Holzmüller, M. I. Jordan and F. Bach (2025). Structured matrix scaling for
       multi-class calibration. arXiv:2511.03685.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import MatrixScaling
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(scale=2, size=(4000, 3))
    >>> y = (logits + rng.gumbel(size=(4000, 3))).argmax(axis=1)
    >>> mixed = logits.copy()
    >>> mixed[:, 2] = 0.6 * logits[:, 2] + 0.4 * logits[:, 1]  # partly that of another class
    >>> calibrator = MatrixScaling().fit(2 * mixed, y)
    >>> bool(calibrator.matrix_[2, 1] < calibrator.matrix_[0, 1] - 0.2)  # it is taken out again
    True
    >>> bool(calibrator.matrix_scale_ > 0.05)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "matrix_scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "bias_scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "prior_temperature": [Interval(Real, 0, None, closed="neither")],
        "prior_scale": [Interval(Real, 0, None, closed="neither")],
    }

    temperature_: float
    matrix_: Floats
    bias_: Floats
    matrix_scale_: float
    bias_scale_: float
    log_evidence_: dict[float, float]

    def __init__(
        self,
        *,
        matrix_scale: str | float = "auto",
        bias_scale: str | float = "auto",
        prior_temperature: float = 2.0,
        prior_scale: float = 0.7,
    ) -> None:
        self.matrix_scale = matrix_scale
        self.bias_scale = bias_scale
        self.prior_temperature = prior_temperature
        self.prior_scale = prior_scale

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        n_classes = log_proba.shape[1]
        vector = VectorScaling(
            bias_scale=self.bias_scale,
            uniform_mix=False,
            prior_temperature=self.prior_temperature,
            prior_scale=self.prior_scale,
        )
        # All priors are about centred scores: what a score above its average means is then not
        # mixed up with how large it is on average, which is the business of the bias.
        average = weight @ log_proba / (weight.sum() + _ROWS_OF_EVEN_SCORES)
        average -= average.mean()
        centred = log_proba - average
        vector._fit_encoded(centred, codes, weight, self.classes_)
        self.temperature_ = vector.temperature_
        self.bias_scale_ = vector.bias_scale_

        scales = MATRIX_SCALES if self.matrix_scale == "auto" else (float(self.matrix_scale),)
        design = np.column_stack([centred, np.ones(len(centred))])
        posterior = AffinePosterior(design, codes, weight, offset=np.zeros(n_classes))
        start = np.column_stack([np.eye(n_classes) / self.temperature_, vector.bias_])
        centre = start.copy()
        centre[:, -1] = 0.0
        fits = posterior.climb(centre, (self._precision(n_classes, s) for s in scales), start)
        tried = scales[: len(fits)]
        evidence = [found for _, found in fits]
        self.log_evidence_ = dict(zip(tried, evidence, strict=True))
        share = softmax(evidence)
        self.matrix_scale_ = float(np.exp(share @ np.log(tried)))
        mean = np.tensordot(share, np.array([mode for mode, _ in fits]), axes=1)
        self.matrix_ = mean[:, :-1]
        self.bias_ = mean[:, -1] - self.matrix_ @ average

    def _precision(self, n_classes: int, scale: float) -> Floats:
        """Return one over the variance of each coefficient under the prior (K, K + 1)."""
        off_diagonal = scale / np.sqrt(max(n_classes - 1, 1))
        deviation = np.full((n_classes, n_classes + 1), off_diagonal)
        np.fill_diagonal(deviation, scale)
        deviation[:, -1] = self.bias_scale_
        return np.asarray(deviation**-2)

    def _transform(self, log_proba: Floats) -> Floats:
        return np.asarray(log_proba @ self.matrix_.T + self.bias_)

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers and lists; ``matrix_0`` is the first row."""
        check_is_fitted(self)
        out: Parameters = {
            "temperature": self.temperature_,
            "matrix_scale": self.matrix_scale_,
            "bias": self.bias_.tolist(),
            "bias_scale": self.bias_scale_,
        }
        return out | {f"matrix_{number}": row.tolist() for number, row in enumerate(self.matrix_)}
