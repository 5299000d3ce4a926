"""What a proper score is made of: miscalibration, discrimination, difficulty of the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from skllm_calib.calibration.calibrators import BaseCalibrator
from skllm_calib.calibration.recalibration import cross_fitted
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import Checked, check_input
from skllm_calib.metrics.binning import DECIMALS, judge
from skllm_calib.metrics.proper_scores import EPS, log_loss_of

__all__ = ["ScoreDecomposition", "brier_decomposition", "log_loss_decomposition"]

Floats = NDArray[np.float64]
_N_FOLDS = 10


class ScoreDecomposition(NamedTuple):
    """A proper score and its parts: ``score = calibration - resolution + uncertainty``.

    Attributes
    ----------
    score : float
        The score itself; lower is better.
    calibration : float
        Miscalibration (MCB): what recalibrating the probabilities would save.
    resolution : float
        Discrimination (DSC): what the recalibrated probabilities save over a constant answer.
    uncertainty : float
        Score of the constant answer with the shares of the classes (UNC).
    """

    score: float
    calibration: float
    resolution: float
    uncertainty: float

    @property
    def refinement(self) -> float:
        """Score that is left after recalibration: ``uncertainty - resolution``."""
        return self.uncertainty - self.resolution


class _Scored(NamedTuple):
    """What is scored: probabilities (n, K), class numbers (n,) and weights (n,)."""

    proba: Floats
    codes: NDArray[np.int64]
    weight: Floats


def brier_decomposition(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    kind: object = "canonical",
    recalibration: str | BaseCalibrator = "auto",
    random_state: int | np.random.Generator | None = 0,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> ScoreDecomposition:
    r"""Brier score as miscalibration - discrimination + uncertainty.

    With :math:`S` the score of the probabilities, :math:`S_C` of the recalibrated ones and
    :math:`S_R` of the constant shares of the classes, the parts are :math:`S - S_C`,
    :math:`S_R - S_C` and :math:`S_R`; they add up to the score exactly. No bins are involved.

    For one confidence per row (two classes, the top label, one class) the recalibrated
    probabilities are the isotonic regression of the outcomes, found by pooling adjacent violators:
    CORP [1]_. No part is negative then. For more classes a calibrator is fitted on nine tenths of
    the rows and applied to the last tenth, in turn. Its miscalibration is what recalibration would
    save on new rows; on few rows it is a little below zero for a calibrated model.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    kind : "canonical", "top-label" or a class label, default="canonical"
        What is scored: the whole row, so that the total is :func:`brier_score`; or, as a question
        with the answers yes and no, whether the most probable class is right, or whether the row is
        of one class. Then the total is the mean of ``(hit - confidence) ** 2``, in [0, 1].
    recalibration : "auto", "pav", or a calibrator or its name, default="auto"
        "auto" is "pav" for one confidence per row and "vector" (a temperature and a bias per class)
        for more classes. Isotonic regression sees the labels it is evaluated on, and takes some
        noise for miscalibration: with few rows "temperature" or "vector" are fairer for two classes
        as well.
    random_state : int, Generator or None, default=0
        Seed of the folds of a calibrator.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    parts : ScoreDecomposition
        ``score``, ``calibration``, ``resolution``, ``uncertainty``, and ``refinement``.

    Raises
    ------
    ValueError
        If an input does not fit, "pav" meets more than two classes, or there are fewer than ten
        rows for a calibrator.

    References
    ----------
    .. [1] T. Dimitriadis, T. Gneiting, A. I. Jordan (2021). Stable reliability diagrams for
       probabilistic classifiers. PNAS 118(8).

    Examples
    --------
    >>> from skllm_calib.calibration import brier_decomposition
    >>> y_true = ["ham", "spam", "spam", "ham"]
    >>> parts = brier_decomposition(y_true, [0.1, 0.9, 0.9, 0.9], kind="spam")
    >>> [round(part, 3) for part in parts]  # recalibrated: 0, 2/3, 2/3, 2/3
    [0.21, 0.043, 0.083, 0.25]
    """
    scored = _what_is_scored(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )
    whole = isinstance(kind, str) and kind == "canonical"
    # The squared error of "no" repeats the one of "yes": it is counted once for a single question.
    factor = 1.0 if whole else 0.5

    def loss(forecast: Floats) -> Floats:
        right = forecast[np.arange(scored.codes.size), scored.codes]
        squares = np.einsum("nk,nk->n", forecast, forecast) - 2 * right + 1
        return np.asarray(factor * squares, dtype=np.float64)

    return _decompose(loss, scored, recalibration, random_state)


def log_loss_decomposition(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    kind: object = "canonical",
    recalibration: str | BaseCalibrator = "auto",
    random_state: int | np.random.Generator | None = 0,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> ScoreDecomposition:
    """Log-loss as miscalibration - discrimination + uncertainty, in nats.

    The same as :func:`brier_decomposition` for :func:`sklearn.metrics.log_loss`, which clips
    probabilities to the float64 epsilon, 2.2e-16. The uncertainty is the entropy of the shares of
    the classes.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    kind : "canonical", "top-label" or a class label, default="canonical"
        What is scored: the whole row, or one question with the answers yes and no.
    recalibration : "auto", "pav", or a calibrator or its name, default="auto"
        As in :func:`brier_decomposition`.
    random_state : int, Generator or None, default=0
        Seed of the folds of a calibrator.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    parts : ScoreDecomposition
        ``score``, ``calibration``, ``resolution``, ``uncertainty``, and ``refinement``.

    Raises
    ------
    ValueError
        If an input does not fit, "pav" meets more than two classes, or there are fewer than ten
        rows for a calibrator.

    References
    ----------
    .. [1] T. Dimitriadis, T. Gneiting, A. I. Jordan (2021). Stable reliability diagrams for
       probabilistic classifiers. PNAS 118(8).

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibration import log_loss_decomposition
    >>> rng = np.random.default_rng(0)
    >>> calibrated = rng.dirichlet([1, 1, 1], 2000)
    >>> y = (rng.random((2000, 1)) > calibrated.cumsum(axis=1)).sum(axis=1)
    >>> overconfident = calibrated**2 / (calibrated**2).sum(axis=1, keepdims=True)
    >>> parts = log_loss_decomposition(y, overconfident)
    >>> round(parts.score, 2), round(parts.calibration, 2), round(parts.refinement, 2)
    (0.95, 0.11, 0.84)
    """
    scored = _what_is_scored(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )

    def loss(forecast: Floats) -> Floats:
        right = forecast[np.arange(scored.codes.size), scored.codes]
        return log_loss_of(right)

    return _decompose(loss, scored, recalibration, random_state)


def _what_is_scored(checked: Checked, kind: object) -> _Scored:
    """Return the whole rows, or one question about each with the answers no and yes."""
    if isinstance(kind, str) and kind == "canonical":
        return _Scored(checked.proba, checked.codes, checked.weight)
    judged = judge(checked, kind)
    proba = np.column_stack([1 - judged.confidence, judged.confidence])
    return _Scored(proba, judged.hit.astype(np.int64), judged.weight)


def _decompose(
    loss: Callable[[Floats], Floats],
    scored: _Scored,
    recalibration: str | BaseCalibrator,
    random_state: int | np.random.Generator | None,
) -> ScoreDecomposition:
    proba, codes, weight = scored
    n_rows, n_classes = proba.shape
    if isinstance(recalibration, str) and recalibration == "auto":
        recalibration = "pav" if n_classes == 2 else "vector"
    if isinstance(recalibration, str) and recalibration == "pav":
        if n_classes > 2:
            raise InvalidInput(
                f"recalibration='pav' needs one confidence per row, but there are {n_classes} "
                "classes: take kind='top-label', kind=<a label>, or recalibration='vector'",
                "recalibration",
                value=recalibration,
            )
        recalibrated = _pooled(proba[:, 1], codes, weight)
    else:
        if n_rows < _N_FOLDS:
            raise InvalidInput(
                f"recalibration={recalibration!r} is cross-fitted in {_N_FOLDS} folds and needs at "
                f"least {_N_FOLDS} rows, got {n_rows}",
                "recalibration",
                value=recalibration,
            )
        recalibrated = cross_fitted(
            recalibration,
            np.log(np.maximum(proba, EPS)),
            codes,
            weight,
            n_folds=_N_FOLDS,
            rng=np.random.default_rng(random_state),
        )
    shares = np.bincount(codes, weights=weight, minlength=n_classes) / weight.sum()
    score, refined, uncertainty = (
        float(np.average(loss(forecast), weights=weight))
        for forecast in (proba, recalibrated, np.tile(shares, (n_rows, 1)))
    )
    return ScoreDecomposition(score, score - refined, uncertainty - refined, uncertainty)


def _pooled(p: Floats, codes: NDArray[np.int64], weight: Floats) -> Floats:
    """Isotonic regression of the outcomes on the probabilities, equal ones taken together."""
    _, group = np.unique(np.round(p, DECIMALS), return_inverse=True)
    mass = np.bincount(group, weights=weight)
    share = np.bincount(group, weights=weight * codes) / mass
    fitted = np.clip(isotonic_regression(share, weights=mass).x, 0, 1)[group]
    return np.column_stack([1 - fitted, fitted])
