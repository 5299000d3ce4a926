"""The mean of several calibrators, weighted by how well each does on rows it has not seen."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.beta import BetaCalibration
from skllm_calib.calibration.calibrators.confidence_curve import ConfidenceCurve
from skllm_calib.calibration.calibrators.discrete import DiscreteCalibration
from skllm_calib.calibration.calibrators.isotonic import IsotonicCalibration
from skllm_calib.calibration.calibrators.matrix import MatrixScaling
from skllm_calib.calibration.calibrators.temperature import TemperatureScaling
from skllm_calib.calibration.calibrators.vector import VectorScaling
from skllm_calib.log_proba.folds import deal_folds, n_parts
from skllm_calib.log_proba.numerics import LOWEST_LOG_PROBA, Codes, Floats, log_normalise

__all__ = ["AutoCalibrator"]

_FEW_ROWS = 30
_MANY_ROWS = 5000
_MANY_CLASSES = 30
# With fewer rows per class, curves fitted one class against the rest follow the noise, and a bad
# member harms the mean before two hundred rows can tell that it is one.
_ROWS_A_CURVE = 30
_ROWS_FOR_CONFIDENCE_CURVE = 500
# Of the prior of the weights, Dirichlet(1 + this): nobody's weight is ever zero.
_PSEUDO_COUNT = 1.0


class AutoCalibrator(BaseCalibrator):
    r"""Average the calibrators that the number of labels can support.

    The members, from the simplest on:

    ``"temperature"``
        `TemperatureScaling`.
    ``"vector"``
        `VectorScaling`: a bias per class, shrunk by the evidence for it.
    ``"matrix"``
        `MatrixScaling`: a score may speak for or against other classes, shrunk likewise. Left
        out with more than thirty classes.
    ``"beta"``
        `BetaCalibration`: a curve that need not be a sigmoid, class by class. Left out with
        fewer than thirty rows per class on average.
    ``"discrete"``
        `DiscreteCalibration`: the confidence in the first choice alone, value by value, for
        stated confidences and votes.
    ``"isotonic"``
        `IsotonicCalibration`, only from 5000 rows on.

    Each is cross-validated, in folds with the classes spread as evenly as their counts allow.
    The calibrated probabilities are the weighted geometric mean of those of the members [1]_,
    with the weights that give the held-out labels the highest likelihood ("stacking" [2]_ [3]_)
    under a Dirichlet(2) prior. So few rows share the weight out among all that do about as well,
    where picking one would be a lottery; many rows single out what the data support. The
    log-loss of a geometric mean is never above the same mean of the members' log-losses, and the
    mean of maps that are affine in the logarithms is such a map again, with parameters between
    those of its members: averaging is one more shrinkage.

    From 500 rows on, the confidence in the first choice is adjusted by a curve in a second stage:
    a broken line in the log-odds with four bends, fitted to the mean's predictions for held-out
    rows and shrunk to changing nothing. It takes back part of what affine maps get wrong.

    Below 30 rows (the sum of the weights, as everywhere) nothing can be compared. Then
    `VectorScaling` with biases held close to zero (``bias_scale=0.1``) is all: the prior of its
    temperature corrects the over-confidence that most models have, and the few rows may object.

    Not monotone, as not all members are: a class may lose a little when its own score rises.

    A row of weight two and two copies lead to the same result, as does any order of the rows:
    rows with equal scores and labels are dealt out to the folds together, one fold after the
    other. Discrete scores, such as shares of votes, consist of such rows only. Rows that belong
    together in another way (several answers about one document) make the cross-validation too
    sure: calibrate on one row of each group, or name the method.

    Parameters
    ----------
    cv : int, default=5
        Number of folds; fewer are used if there are fewer distinct rows.
    random_state : int, default=0
        Seed of the assignment to folds.

    Attributes
    ----------
    chosen_ : str
        Name of the member with the largest weight.
    weights_ : dict
        Weight of each member; they sum to one.
    calibrators_ : dict
        The members, fitted on all rows.
    scores_ : dict of dict
        For every member, and for their ``"mean"`` before the second stage, the cross-validated
        ``"log_loss"`` and the ``"standard_error"`` of its difference to the best member. That of
        the mean uses weights which have seen the labels, and is a little optimistic. Empty when
        there were too few rows to compare.
    confidence_curve_ : object or None
        The second stage; None below 500 rows.
    expected_ece_ : float
        Calibration error of the top label, between 0 and 1, that remains to be expected because
        only so many labels were there: ``sqrt(2 a (1 - a) / (pi n))``, which is the mean error of
        a single proportion, the accuracy ``a``, estimated from ``n`` rows. The members share few
        parameters among many rows and come somewhat below it where their form is right, and above
        it where it is not. Where all rows are right, their number still bounds what can be known:
        ``a (1 - a)`` is never taken to be less than with ``a = (n + 1) / (n + 2)``. NaN where all
        rows have the same label.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] C. Genest and J. V. Zidek (1986). Combining probability distributions: a critique and
       an annotated bibliography. Statistical Science 1(1).
    .. [2] D. H. Wolpert (1992). Stacked generalization. Neural Networks 5(2).
    .. [3] Y. Yao, A. Vehtari, D. Simpson and A. Gelman (2018). Using stacking to average Bayesian
       predictive distributions. Bayesian Analysis 13(3).

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import AutoCalibrator
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> evidence = rng.normal(2 * y - 1, 1.0)
    >>> log_proba = np.stack([np.zeros(200), 4 * evidence + 5], axis=1)  # favours class 1
    >>> calibrator = AutoCalibrator().fit(log_proba, y)
    >>> round(calibrator.scores_["temperature"]["log_loss"], 2)
    0.49
    >>> round(calibrator.scores_["mean"]["log_loss"], 2)
    0.39
    >>> calibrator.weights_["temperature"] < 0.2  # a temperature does not undo the favour
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cv": [Interval(Integral, 2, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    chosen_: str
    weights_: dict[str, float]
    calibrators_: dict[str, BaseCalibrator]
    scores_: dict[str, dict[str, float]]
    expected_ece_: float
    confidence_curve_: ConfidenceCurve | None

    def __init__(self, *, cv: int = 5, random_state: int = 0) -> None:
        self.cv = cv
        self.random_state = random_state

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        log_proba, codes, weight = merge_copies(log_proba, codes, weight)
        members = _members(weight.sum(), log_proba.shape[1])
        self.confidence_curve_ = None
        n_folds = min(self.cv, int(n_parts(weight, self.cv).sum()))
        if len(codes) == 1 or len(members) == 1:
            members = _members(0, log_proba.shape[1])
            self.scores_ = {}
            self.weights_ = dict.fromkeys(members, 1.0)
        else:
            parts = n_parts(weight, n_folds)
            part, fold = deal_folds(codes, n_folds, self.random_state, parts)
            share = weight[part] / np.bincount(part)[part]
            held_out = np.stack(
                [
                    self._held_out(member, log_proba[part], codes[part], share, fold)
                    for member in members.values()
                ]
            )
            weights = _stack(held_out, codes[part], share)
            self.weights_ = dict(zip(members, weights.tolist(), strict=True))
            mean = log_normalise(np.tensordot(weights, held_out, axes=1))
            label = np.arange(len(part)), codes[part]
            if weight.sum() >= _ROWS_FOR_CONFIDENCE_CURVE:
                self.confidence_curve_ = ConfidenceCurve(mean, codes[part], share)
            losses = {name: -m[label] for name, m in zip(members, held_out, strict=True)}
            self.scores_ = _scores(losses, -mean[label], share)
        self.chosen_ = max(self.weights_, key=self.weights_.__getitem__)
        for name, member in members.items():
            with warnings.catch_warnings():
                # What lesser members could not find shows in their weight, and a class whose curve
                # is flat is no reason to doubt the mean.
                if name != self.chosen_ or name == "beta":
                    warnings.simplefilter("ignore", ConvergenceWarning)
                member._fit_encoded(log_proba, codes, weight, self.classes_)
        self.calibrators_ = members
        right = np.average(self._transform(log_proba).argmax(axis=1) == codes, weights=weight)
        self.expected_ece_ = _expected_ece(right, weight.sum())
        if self.n_features_in_ > 1 and codes.min() == codes.max():
            self.expected_ece_ = np.nan

    def _held_out(
        self,
        member: BaseCalibrator,
        log_proba: Floats,
        codes: Codes,
        weight: Floats,
        fold: Codes,
    ) -> Floats:
        """Return the log-probabilities of each row from the folds without it (n, K)."""
        found = np.empty_like(log_proba)
        for out in (fold == number for number in range(fold.max() + 1)):
            with warnings.catch_warnings():
                # A fold at a search bound shows in its loss; the final fit warns by itself.
                warnings.simplefilter("ignore", ConvergenceWarning)
                member._fit_encoded(log_proba[~out], codes[~out], weight[~out], self.classes_)
            found[out] = log_normalise(member._transform(log_proba[out]))
        return np.maximum(found, LOWEST_LOG_PROBA)

    def _transform(self, log_proba: Floats) -> Floats:
        out = np.zeros_like(log_proba)
        for name, member in self.calibrators_.items():
            found = log_normalise(member._transform(log_proba))
            out += self.weights_[name] * np.maximum(found, LOWEST_LOG_PROBA)
        if self.confidence_curve_ is None:
            return out
        return self.confidence_curve_.apply(log_normalise(out))

    @property
    def parameters_(self) -> Parameters:
        """Weight and fitted parameters of every member, the heaviest first."""
        check_is_fitted(self)
        out: Parameters = {}
        for name in sorted(self.weights_, key=self.weights_.__getitem__, reverse=True):
            out[f"{name} weight"] = self.weights_[name]
            for key, value in self.calibrators_[name].parameters_.items():
                out[f"{name} {key}"] = value
        if self.confidence_curve_ is not None:
            out["confidence curve"] = self.confidence_curve_.coefficients.tolist()
            out["confidence knots"] = self.confidence_curve_.knots.tolist()
        return out


def merge_copies(log_proba: Floats, codes: Codes, weight: Floats) -> tuple[Floats, Codes, Floats]:
    """Put equal rows with equal labels together, adding up their weights."""
    key = np.column_stack([codes, log_proba.round(10)])
    _, first, copy_of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    total = np.zeros(len(first))
    np.add.at(total, copy_of.ravel(), weight)
    return log_proba[first], codes[first], total


def _expected_ece(accuracy: float, n: float) -> float:
    least = (n + 1) / (n + 2) ** 2  # the variance after n rows without an error, by Laplace's rule
    variance = max(accuracy * (1 - accuracy), least)
    return float(np.sqrt(2 * variance / (np.pi * n)))


def _members(n_rows: float, n_classes: int) -> dict[str, BaseCalibrator]:
    """Return what this many rows and classes can support, the simplest first."""
    if n_rows < _FEW_ROWS or n_classes == 1:
        return {"vector": VectorScaling(bias_scale=0.1)}
    out: dict[str, BaseCalibrator] = {
        "temperature": TemperatureScaling(),
        "vector": VectorScaling(),
    }
    if n_classes <= _MANY_CLASSES:
        out["matrix"] = MatrixScaling()
    if n_rows >= _ROWS_A_CURVE * n_classes:
        out["beta"] = BetaCalibration()
    out["discrete"] = DiscreteCalibration()
    if n_rows >= _MANY_ROWS:
        out["isotonic"] = IsotonicCalibration()
    return out


def _stack(held_out: Floats, codes: Codes, weight: Floats) -> Floats:
    """Return the weights (m,) of the geometric mean that explains the labels best.

    `held_out` has the log-probabilities that each member gave to each row (m, n, K). The search
    is for the logarithms of the weights, up to a constant.
    """
    label = held_out[:, np.arange(len(codes)), codes]

    def loss(log_weights: Floats) -> tuple[float, Floats]:
        share = softmax(log_weights)
        mixed = np.tensordot(share, held_out, axes=1)
        norm = logsumexp(mixed, axis=1)
        value = weight @ (norm - share @ label) - _PSEUDO_COUNT * np.log(share).sum()
        proba = np.exp(mixed - norm[:, None])
        slope = (np.einsum("nk,mnk->mn", proba, held_out) - label) @ weight
        slope -= _PSEUDO_COUNT / share
        return value, share * (slope - share @ slope)

    found = minimize(loss, np.zeros(len(held_out)), jac=True, options={"gtol": 1e-6})
    return np.asarray(softmax(found.x))


def _scores(losses: dict[str, Floats], mean: Floats, weight: Floats) -> dict[str, dict[str, float]]:
    """Return each one's mean loss, and the standard error of its lead on the best member."""
    averages = {name: np.average(loss, weights=weight) for name, loss in losses.items()}
    best = losses[min(averages, key=averages.__getitem__)]
    out = {}
    for name, loss in {**losses, "mean": mean}.items():
        gap = loss - best
        variance = np.average((gap - np.average(gap, weights=weight)) ** 2, weights=weight)
        out[name] = {
            "log_loss": float(np.average(loss, weights=weight)),
            "standard_error": float(np.sqrt(variance / max(weight.sum() - 1, 1))),
        }
    return out
