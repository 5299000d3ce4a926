"""Dirichlet calibration: a matrix on log-probabilities, regularised off its diagonal."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._affine import AffinePosterior
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.log_proba.numerics import Codes, Floats, log_normalise

__all__ = ["DirichletCalibration"]

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01)
# The diagonal is free in the paper; this ridge is felt only where labels say nothing about it.
_DIAGONAL_CENTRE = 1.0
_DIAGONAL_SCALE = 1.0


class DirichletCalibration(BaseCalibrator):
    r"""Map log-probabilities by a matrix whose off-diagonal entries and biases are penalised.

    The calibrated probabilities are ``softmax(matrix @ log_proba + bias)``, which is the right
    form if the vectors of probabilities have a Dirichlet distribution within each class [1]_.
    The form is that of `MatrixScaling`, and so is the code; the regularisation differs. Here it
    is ODIR of the same paper: the loss is::

        mean log-loss + off_diagonal_penalty * mean of squared off-diagonal entries
                      + bias_penalty * mean of squared biases

    As these are means, the penalties do not fade as labels come in. The diagonal is free but for
    a weak normal prior (mean 1, standard deviation 1), needed where a class has no label or the
    scores separate the classes. There is one slope per class to learn, where `MatrixScaling`
    shrinks all to a common temperature: with a few hundred labels that or `VectorScaling` does
    better.

    The paper takes the penalties by cross-validation. Here "auto" takes, of 100, 10, 1, 0.1
    and 0.01, that with the most evidence in Laplace's approximation, which needs no folds: first
    for the biases, with the matrix all but diagonal, then for the matrix. Each search goes
    downwards and ends where the evidence falls.

    Not monotone: a class may lose when its own score rises.

    Parameters
    ----------
    off_diagonal_penalty : "auto" or float, default="auto"
        Lambda of the paper.
    bias_penalty : "auto" or float, default="auto"
        Mu of the paper.

    Attributes
    ----------
    matrix_ : ndarray of shape (n_classes, n_classes)
        The fitted matrix; rows are the classes that come out.
    bias_ : ndarray of shape (n_classes,)
        The fitted bias.
    off_diagonal_penalty_, bias_penalty_ : float
        The penalties in use.
    log_evidence_ : dict of dict
        For ``"bias_penalty"`` and ``"off_diagonal_penalty"``, the logarithm of the evidence of
        each value tried, up to a common constant.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] M. Kull, M. Perello-Nieto, M. Kängsepp, T. Silva Filho, H. Song and P. Flach (2019).
       Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with
       Dirichlet calibration. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import DirichletCalibration
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=2000)
    >>> proba = np.array([rng.dirichlet(1 + np.eye(3)[label]) for label in y])  # right as it is
    >>> calibrator = DirichletCalibration().fit(2 * np.log(proba), y)  # and now over-confident
    >>> bool(np.abs(calibrator.predict_proba(2 * np.log(proba)) - proba).mean() < 0.02)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "off_diagonal_penalty": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "bias_penalty": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    }

    matrix_: Floats
    bias_: Floats
    off_diagonal_penalty_: float
    bias_penalty_: float
    log_evidence_: dict[str, dict[float, float]]

    def __init__(
        self, *, off_diagonal_penalty: str | float = "auto", bias_penalty: str | float = "auto"
    ) -> None:
        self.off_diagonal_penalty = off_diagonal_penalty
        self.bias_penalty = bias_penalty

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        n_rows, n_classes = log_proba.shape
        design = np.column_stack([log_proba, np.ones(n_rows)])
        posterior = AffinePosterior(design, codes, weight, offset=np.zeros(n_classes))
        centre = np.eye(n_classes, n_classes + 1) * _DIAGONAL_CENTRE
        total = float(weight.sum())

        candidates = {
            name: PENALTIES if isinstance(value, str) else (float(value),)
            for name, value in (
                ("bias_penalty", self.bias_penalty),
                ("off_diagonal_penalty", self.off_diagonal_penalty),
            )
        }
        best = {name: values[0] for name, values in candidates.items()}
        self.log_evidence_ = {}
        coefficients = centre
        for name, values in candidates.items():
            precisions = (_precision(n_classes, total, **best | {name: value}) for value in values)
            fits = posterior.climb(centre, precisions, coefficients)
            tried = dict(zip(values, fits, strict=False))
            self.log_evidence_[name] = {value: evidence for value, (_, evidence) in tried.items()}
            best[name] = max(tried, key=self.log_evidence_[name].__getitem__)
            coefficients, _ = tried[best[name]]
        self.bias_penalty_ = best["bias_penalty"]
        self.off_diagonal_penalty_ = best["off_diagonal_penalty"]
        self.matrix_, self.bias_ = coefficients[:, :-1], coefficients[:, -1]

    def _transform(self, log_proba: Floats) -> Floats:
        return log_normalise(log_proba @ self.matrix_.T + self.bias_)

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers and lists; ``matrix_0`` is the first row."""
        check_is_fitted(self)
        out: Parameters = {
            "off_diagonal_penalty": self.off_diagonal_penalty_,
            "bias_penalty": self.bias_penalty_,
            "bias": self.bias_.tolist(),
        }
        return out | {f"matrix_{number}": row.tolist() for number, row in enumerate(self.matrix_)}


def _precision(
    n_classes: int, total: float, *, bias_penalty: float, off_diagonal_penalty: float
) -> Floats:
    """Turn penalties of the mean loss into precisions (K, K + 1) of priors for the sum."""
    n_off_diagonal = max(n_classes * (n_classes - 1), 1)
    precision = np.full(
        (n_classes, n_classes + 1), 2 * total * off_diagonal_penalty / n_off_diagonal
    )
    np.fill_diagonal(precision, _DIAGONAL_SCALE**-2)
    precision[:, -1] = 2 * total * bias_penalty / n_classes
    return np.asarray(precision)
