"""The mean of several calibrators, weighted by how well each does on rows it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators._distinct import distinct_values
from skllm_calib.calibration.calibrators._top_label import top_log_odds
from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibration.calibrators.beta import BetaCalibration
from skllm_calib.calibration.calibrators.confidence_curve import ConfidenceCurve
from skllm_calib.calibration.calibrators.discrete import DiscreteCalibration
from skllm_calib.calibration.calibrators.isotonic import IsotonicCalibration
from skllm_calib.calibration.calibrators.matrix import MatrixScaling
from skllm_calib.calibration.calibrators.platt import PlattScaling
from skllm_calib.calibration.calibrators.temperature import TemperatureScaling
from skllm_calib.calibration.calibrators.vector import VectorScaling
from skllm_calib.log_proba.folds import deal_folds, n_parts
from skllm_calib.log_proba.numerics import LOWEST_LOG_PROBA, Codes, Floats, log_normalise

__all__ = ["AutoCalibrator"]

_FEW_ROWS = 20
_MANY_ROWS = 5000
_MANY_CLASSES, _VERY_MANY_CLASSES = 30, 100
# With fewer rows per class, curves fitted one class against the rest follow the noise, and a bad
# member harms the mean before two hundred rows can tell that it is one.
_ROWS_A_CURVE = 12
_ROWS_FOR_CONFIDENCE_CURVE = 500

# What is believed before a label is seen, learnt from recorded outputs of language models and other
# classifiers by benchmarks/auto_design.py, which prints these numbers. First the temperature: its
# median is this level times a power of the mean entropy of the scores (1 if uniform), its logarithm
# has this standard deviation.
_TEMPERATURE_LEVEL, _TEMPERATURE_POWER, _TEMPERATURE_SCALE = 1.0, -0.61, 0.53
_LEAST_ENTROPY = 1e-3
# Then the weight of each member, as rows that spoke for it before: how many with 200 rows and 4
# classes, the powers of the number of rows and of classes that they change with, and the factor
# for scores of few values.
_PRIOR_ROWS = {
    "temperature": (0.48, -0.45, -0.55, 2.0),
    "vector": (0.97, -0.72, -0.55, 0.59),
    "matrix": (1.7, 0.43, 1.4, 0.42),
    "beta": (0.93, 0.23, -0.09, 0.71),
    "discrete": (0.5, 0.13, 0.23, 10.0),
    "platt": (0.84, -0.75, -0.73, 0.73),
    "isotonic": (1.0, 0.0, 0.0, 1.0),
}
_ROWS_SEEN, _CLASSES_SEEN = (25, 1000), (2, 77)


class AutoCalibrator(BaseCalibrator):
    r"""Average the calibrators that the number of labels can support.

    The members, from the simplest on:

    ``"temperature"``
        `TemperatureScaling`.
    ``"vector"``
        `VectorScaling`: a bias per class, shrunk by the evidence for it. Left out with 31 to 100
        classes, where ``"matrix"`` does as well by itself.
    ``"matrix"``
        `MatrixScaling`: a score may speak for or against other classes, shrunk likewise. Left
        out with more than a hundred classes.
    ``"beta"``, ``"platt"``
        `BetaCalibration`, a curve class by class that need not be a sigmoid, and `PlattScaling`,
        one that is. Left out with fewer than twelve rows per class on average.
    ``"discrete"``
        `DiscreteCalibration`: the confidence in the first choice alone, value by value, for
        stated confidences and votes.
    ``"isotonic"``
        `IsotonicCalibration`, only from 5000 rows on.

    Each is cross-validated, in folds with the classes spread as evenly as their counts allow.
    The calibrated probabilities are the weighted geometric mean of those of the members [1]_,
    with the weights that give the held-out labels the highest likelihood ("stacking" [2]_ [3]_)
    under a Dirichlet prior. The prior is learnt from recorded outputs of language models: how
    much each member is worth, by the number of rows and of classes, and for scores of few values,
    before its held-out labels are seen. So few rows do not have to choose, where picking one
    member would be a lottery, and many rows single out what the data support. The log-loss of a
    geometric mean is never above the same mean of the members' log-losses, and the mean of maps
    that are affine in the logarithms is such a map again, with parameters between those of its
    members: averaging is one more shrinkage.

    The prior of the temperature, in the members that have one, is learnt likewise: scores that
    are nearly always sure belong to models with high temperatures. Its median is ``h **
    -0.61`` where ``h`` is the mean entropy of the scores, 1 for uniform ones.

    From 500 rows on, the confidence in the first choice is adjusted by a curve in a second stage:
    a broken line in the log-odds with four bends, fitted to the mean's predictions for held-out
    rows and shrunk to changing nothing. It takes back part of what affine maps get wrong.

    Below 20 rows (the sum of the weights, as everywhere) nothing can be compared. Then
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
        n_rows, n_classes = weight.sum(), log_proba.shape[1]
        temperature = _prior_temperature(log_proba, weight)
        members = _members(n_rows, n_classes, temperature)
        self.confidence_curve_ = None
        n_folds = min(self.cv, int(n_parts(weight, self.cv).sum()))
        if len(codes) == 1 or len(members) == 1:
            members = _members(0, n_classes, temperature)
            self.scores_ = {}
            self.weights_ = dict.fromkeys(members, 1.0)
        else:
            parts = n_parts(weight, n_folds)
            part, fold = deal_folds(codes, n_folds, self.random_state, parts)
            share = weight[part] / np.bincount(part)[part]
            held_out = np.stack(
                [
                    _cross_validated(
                        member, log_proba[part], codes[part], share, fold, classes=self.classes_
                    )
                    for member in members.values()
                ]
            )
            prior = prior_rows(
                list(members), n_rows, n_classes, few_values=_takes_few_values(log_proba, weight)
            )
            weights = _stack(held_out, codes[part], share, prior)
            self.weights_ = dict(zip(members, weights.tolist(), strict=True))
            mean = log_normalise(np.tensordot(weights, held_out, axes=1))
            label = np.arange(len(part)), codes[part]
            if n_rows >= _ROWS_FOR_CONFIDENCE_CURVE:
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
        self.expected_ece_ = _expected_ece(right, n_rows)
        if self.n_features_in_ > 1 and codes.min() == codes.max():
            self.expected_ece_ = np.nan

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


def _cross_validated(
    member: BaseCalibrator,
    log_proba: Floats,
    codes: Codes,
    weight: Floats,
    fold: Codes,
    *,
    classes: NDArray[Any],
) -> Floats:
    """Return the log-probabilities of each row from the folds without it (n, K)."""
    found = np.empty_like(log_proba)
    for out in (fold == number for number in range(fold.max() + 1)):
        with warnings.catch_warnings():
            # A fold at a search bound shows in its loss; the final fit warns by itself.
            warnings.simplefilter("ignore", ConvergenceWarning)
            member._fit_encoded(log_proba[~out], codes[~out], weight[~out], classes)
        found[out] = log_normalise(member._transform(log_proba[out]))
    return np.maximum(found, LOWEST_LOG_PROBA)


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


def _prior_temperature(log_proba: Floats, weight: Floats) -> float:
    """Return the temperature to be expected of scores as sure as these (n, K)."""
    n_classes = log_proba.shape[1]
    if n_classes == 1:
        return 1.0
    entropy = -(weight @ (np.exp(log_proba) * log_proba).sum(axis=1)) / weight.sum()
    share = max(float(entropy) / np.log(n_classes), _LEAST_ENTROPY)
    return float(_TEMPERATURE_LEVEL * share**_TEMPERATURE_POWER)


def _takes_few_values(log_proba: Floats, weight: Floats) -> bool:
    """Return whether most rows share their confidence, as when it is stated or counted in votes."""
    values, _ = distinct_values(top_log_odds(log_proba)[1])
    return bool(2 * len(values) < weight.sum())


def prior_rows(names: list[str], n_rows: float, n_classes: int, *, few_values: bool) -> Floats:
    """Return how many rows speak for each member (m,) before any is seen."""
    rows = np.clip(n_rows, *_ROWS_SEEN) / 200
    classes = np.clip(n_classes, *_CLASSES_SEEN) / 4
    found = (_PRIOR_ROWS[name] for name in names)
    return np.array([c * rows**p * classes**q * f**few_values for c, p, q, f in found])


def _members(
    n_rows: float, n_classes: int, prior_temperature: float = 2.0
) -> dict[str, BaseCalibrator]:
    """Return what this many rows and classes can support, the simplest first."""
    prior: dict[str, Any] = {
        "prior_temperature": prior_temperature,
        "prior_scale": _TEMPERATURE_SCALE,
    }
    if n_rows < _FEW_ROWS or n_classes == 1:
        return {"vector": VectorScaling(bias_scale=0.1, **prior)}
    out: dict[str, BaseCalibrator] = {"temperature": TemperatureScaling(**prior)}
    # With many classes both cost time, and the one by itself does as well as the two.
    if n_classes <= _MANY_CLASSES or n_classes > _VERY_MANY_CLASSES:
        out["vector"] = VectorScaling(**prior)
    if n_classes <= _VERY_MANY_CLASSES:
        out["matrix"] = MatrixScaling(**prior)
    if n_rows >= _ROWS_A_CURVE * n_classes:
        out |= {"beta": BetaCalibration(), "platt": PlattScaling()}
    out["discrete"] = DiscreteCalibration()
    if n_rows >= _MANY_ROWS:
        out["isotonic"] = IsotonicCalibration()
    return out


def _stack(held_out: Floats, codes: Codes, weight: Floats, prior: Floats) -> Floats:
    """Return the weights (m,) of the geometric mean that explains the labels best.

    `held_out` has the log-probabilities that each member gave to each row (m, n, K), `prior` the
    rows of each member under a Dirichlet(1 + prior).
    """
    loss = stacking_loss(held_out, codes, weight, prior)
    found = minimize(loss, np.log(prior), jac=True, options={"gtol": 1e-6})
    return np.asarray(softmax(found.x))


def stacking_loss(
    held_out: Floats, codes: Codes, weight: Floats, prior: Floats
) -> Callable[[Floats], tuple[float, Floats]]:
    """Return the negative log posterior of the logarithms of weights (m,), with its gradient."""
    label = held_out[:, np.arange(len(codes)), codes]

    def loss(log_weights: Floats) -> tuple[float, Floats]:
        share = softmax(log_weights)
        mixed = np.tensordot(share, held_out, axes=1)
        norm = logsumexp(mixed, axis=1)
        value = weight @ (norm - share @ label) - prior @ np.log(share)
        proba = np.exp(mixed - norm[:, None])
        slope = (np.einsum("nk,mnk->mn", proba, held_out) - label) @ weight
        slope -= prior / share
        return value, share * (slope - share @ slope)

    return loss


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
