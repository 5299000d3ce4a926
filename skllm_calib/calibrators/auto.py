"""The mean of several calibrators, weighted by how well each does on rows it has not seen."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibrators._folds import merge_copies, n_parts, spread_over_folds
from skllm_calib.calibrators._numerics import LOWEST_LOG_PROBA, Codes, Floats, log_normalise
from skllm_calib.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibrators.beta import BetaCalibration
from skllm_calib.calibrators.discrete import DiscreteCalibration
from skllm_calib.calibrators.isotonic import IsotonicCalibration
from skllm_calib.calibrators.matrix import MatrixScaling
from skllm_calib.calibrators.temperature import TemperatureScaling
from skllm_calib.calibrators.vector import VectorScaling

__all__ = ["AutoCalibrator"]

_FEW_ROWS = 30
_MANY_ROWS = 5000
_MANY_CLASSES = 30
# Every member starts with the weight of one row that it alone explains.
_PSEUDO_COUNT = 1.0
_MAX_STEPS = 1000
_SMALLEST_CHANGE = 1e-7


class AutoCalibrator(BaseCalibrator):
    r"""Average the calibrators that the number of labels can support.

    The members, from the simplest on:

    ``"temperature"``
        `TemperatureScaling`.
    ``"vector"``
        `VectorScaling`: a bias a class, shrunk by the evidence for it.
    ``"matrix"``
        `MatrixScaling`: a score may speak for or against other classes, shrunk likewise. Left
        out with more than thirty classes.
    ``"beta"``
        `BetaCalibration`: a curve that need not be a sigmoid, class by class. Left out with
        more than thirty classes.
    ``"discrete"``
        `DiscreteCalibration`: the confidence in the first choice alone, value by value, for
        stated confidences and votes.
    ``"isotonic"``
        `IsotonicCalibration`, only from 5000 rows on.

    Each is cross-validated, in folds with the classes spread as evenly as their counts allow.
    The calibrated probabilities are the weighted mean of those of the members, with the weights
    that give the held-out labels the highest likelihood ("stacking" of distributions [1]_ [2]_),
    after adding one row to the credit of each member. So few rows share the weight out among all
    that do about as well, which a choice of one could not do without being a lottery; many rows
    single out what the data support. By Jensen's inequality the log-loss of a mean is never above
    the mean of the members' log-losses.

    Below 30 rows (the sum of the weights, as everywhere) nothing can be compared. Then
    `TemperatureScaling` with a narrow prior around 1.6 (standard deviation of the logarithm 0.35)
    is all: a cautious correction of the over-confidence most models have, called ``"prior"``.

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
        For every member, and for their ``"mean"``, the cross-validated ``"log_loss"`` and the
        ``"standard_error"`` of its difference to the best member. That of the mean uses weights
        which have seen the labels, and is optimistic by about 1 / n a member. Empty when there
        were too few rows to compare.
    expected_ece_ : float
        Calibration error of the top label, between 0 and 1, that remains to be expected because
        only so many labels were there: ``sqrt(2 a (1 - a) / (pi n))``, which is the mean error of
        a single proportion, the accuracy ``a``, estimated from ``n`` rows. The members share few
        parameters among many rows and come somewhat below it where their form is right, and above
        it where it is not.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] D. H. Wolpert (1992). Stacked generalization. Neural Networks 5(2).
    .. [2] Y. Yao, A. Vehtari, D. Simpson and A. Gelman (2018). Using stacking to average Bayesian
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
    >>> {name: round(score["log_loss"], 2) for name, score in calibrator.scores_.items()}
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

    def __init__(self, *, cv: int = 5, random_state: int = 0) -> None:
        self.cv = cv
        self.random_state = random_state

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        log_proba, codes, weight = merge_copies(log_proba, codes, weight)
        members = _members(weight.sum(), log_proba.shape[1])
        n_folds = min(self.cv, int(n_parts(weight, self.cv).sum()))
        if len(codes) == 1 or len(members) == 1:
            members = {"prior": TemperatureScaling(prior_temperature=1.6, prior_scale=0.35)}
            self.scores_ = {}
            self.weights_ = {"prior": 1.0}
        else:
            part, fold = spread_over_folds(codes, weight, n_folds, self.random_state)
            share = weight[part] / np.bincount(part)[part]
            held_out = np.column_stack(
                [
                    self._held_out(member, log_proba[part], codes[part], share, fold)
                    for member in members.values()
                ]
            )
            weights = _stack(held_out, share)
            self.weights_ = dict(zip(members, weights.tolist(), strict=True))
            mean = logsumexp(held_out + np.log(weights), axis=1)
            self.scores_ = _scores([*members, "mean"], np.column_stack([held_out, mean]), share)
        self.chosen_ = max(self.weights_, key=self.weights_.__getitem__)
        for member in members.values():
            member._fit_encoded(log_proba, codes, weight, self.classes_)
        self.calibrators_ = members
        right = np.average(self._transform(log_proba).argmax(axis=1) == codes, weights=weight)
        self.expected_ece_ = float(np.sqrt(2 * right * (1 - right) / (np.pi * weight.sum())))

    def _held_out(
        self,
        member: BaseCalibrator,
        log_proba: Floats,
        codes: Codes,
        weight: Floats,
        fold: Codes,
    ) -> Floats:
        """Return the log-probability of each label from the folds without it (n,)."""
        found = np.empty(len(codes))
        for out in (fold == number for number in range(fold.max() + 1)):
            with warnings.catch_warnings():
                # A fold at a search bound shows in its loss; the final fit warns by itself.
                warnings.simplefilter("ignore", ConvergenceWarning)
                member._fit_encoded(log_proba[~out], codes[~out], weight[~out], self.classes_)
            calibrated = log_normalise(member._transform(log_proba[out]))
            found[out] = calibrated[np.arange(len(calibrated)), codes[out]]
        return np.maximum(found, LOWEST_LOG_PROBA)

    def _transform(self, log_proba: Floats) -> Floats:
        shares = [
            log_normalise(member._transform(log_proba)) + np.log(self.weights_[name])
            for name, member in self.calibrators_.items()
        ]
        return np.asarray(logsumexp(shares, axis=0))

    @property
    def parameters_(self) -> Parameters:
        """Weight and fitted parameters of every member, the heaviest first."""
        check_is_fitted(self)
        out: Parameters = {}
        for name in sorted(self.weights_, key=self.weights_.__getitem__, reverse=True):
            out[f"{name} weight"] = self.weights_[name]
            for key, value in self.calibrators_[name].parameters_.items():
                out[f"{name} {key}"] = value
        return out


def _members(n_rows: float, n_classes: int) -> dict[str, BaseCalibrator]:
    """Return what this many rows and classes can support, the simplest first."""
    if n_rows < _FEW_ROWS or n_classes == 1:
        return {"prior": TemperatureScaling(prior_temperature=1.6, prior_scale=0.35)}
    out: dict[str, BaseCalibrator] = {
        "temperature": TemperatureScaling(),
        "vector": VectorScaling(),
    }
    if n_classes <= _MANY_CLASSES:
        out["matrix"] = MatrixScaling()
        out["beta"] = BetaCalibration()
    out["discrete"] = DiscreteCalibration()
    if n_rows >= _MANY_ROWS:
        out["isotonic"] = IsotonicCalibration()
    return out


def _stack(held_out: Floats, weight: Floats) -> Floats:
    """Return the weights (m,) of the mean of distributions that explains the labels best.

    `held_out` has the log-probability that each member gave to the label of each row (n, m). The
    likelihood is concave in the weights, and the steps are those of expectation-maximisation:
    each row is credited to the members in proportion to how well they explain it.
    """
    n_members = held_out.shape[1]
    likelihood = np.exp(held_out - held_out.max(axis=1, keepdims=True))
    weights = np.full(n_members, 1 / n_members)
    for _ in range(_MAX_STEPS):
        credit = likelihood * weights
        credit *= (weight / credit.sum(axis=1))[:, None]
        found = credit.sum(axis=0) + _PSEUDO_COUNT
        found /= found.sum()
        change = np.abs(found - weights).max()
        weights = found
        if change < _SMALLEST_CHANGE:
            break
    return np.asarray(weights)


def _scores(names: list[str], held_out: Floats, weight: Floats) -> dict[str, dict[str, float]]:
    """Return each column's mean loss, and the error of its difference to the best member."""
    losses = -np.average(held_out, weights=weight, axis=0)
    gap = held_out - held_out[:, [losses[:-1].argmin()]]
    spread = np.average(
        (gap - np.average(gap, weights=weight, axis=0)) ** 2, weights=weight, axis=0
    )
    error = np.sqrt(spread / max(weight.sum() - 1, 1))
    return {
        name: {"log_loss": float(loss), "standard_error": float(e)}
        for name, loss, e in zip(names, losses, error, strict=True)
    }
