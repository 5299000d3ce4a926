"""The choice among the calibrators, by the number of labels and by cross-validation."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibrators._numerics import Codes, Floats, log_normalise
from skllm_calib.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.calibrators.isotonic import IsotonicCalibration
from skllm_calib.calibrators.temperature import TemperatureScaling
from skllm_calib.calibrators.vector import VectorScaling

__all__ = ["AutoCalibrator"]

_FEW_ROWS = 30
_MANY_ROWS = 5000


class AutoCalibrator(BaseCalibrator):
    r"""Choose a calibrator that the number of labels can support.

    The candidates, from the simplest on:

    ``"prior"``
        `TemperatureScaling` with a narrow prior around 1.6 (standard deviation of the logarithm
        0.35), which twenty labels hardly move: a cautious correction of the over-confidence most
        models have.
    ``"temperature"``
        `TemperatureScaling`.
    ``"vector"``
        `VectorScaling`, whose biases shrink with the evidence for them. It is left out with a
        single class.
    ``"isotonic"``
        `IsotonicCalibration`, only from 5000 rows on.

    Below 30 rows (the sum of the weights, as everywhere) nothing can be compared and ``"prior"``
    is taken. Otherwise every candidate is cross-validated by log-loss, in folds with the classes
    spread as evenly as their counts allow, and the one-standard-error rule decides [1]_: the
    simplest candidate whose loss exceeds the lowest by no more than the standard error of their
    difference, row by row. It is then fitted on all rows.

    A row of weight two and two copies lead to the same choice, as does any order of the rows:
    rows with equal scores and labels are dealt out to the folds together, one fold after the
    other. Discrete scores, such as shares of votes, consist of such rows only.

    Parameters
    ----------
    cv : int, default=5
        Number of folds; fewer are used if there are fewer distinct rows.
    random_state : int, default=0
        Seed of the assignment to folds.

    Attributes
    ----------
    chosen_ : str
        Name of the chosen candidate.
    calibrator_ : BaseCalibrator
        The chosen candidate, fitted on all rows.
    scores_ : dict of dict
        For every candidate compared, its cross-validated ``"log_loss"``, the
        ``"standard_error"`` of that, and ``"gap_error"``, the standard error of its difference
        to the best candidate. Empty when there were too few rows to compare.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] L. Breiman, J. Friedman, C. Stone and R. Olshen (1984). Classification and regression
       trees. Section 3.4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import AutoCalibrator
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> evidence = rng.normal(2 * y - 1, 1.0)
    >>> log_proba = np.stack([np.zeros(200), 4 * evidence + 5], axis=1)  # favours class 1
    >>> calibrator = AutoCalibrator().fit(log_proba, y)
    >>> calibrator.chosen_
    'vector'
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cv": [Interval(Integral, 2, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    chosen_: str
    calibrator_: BaseCalibrator
    scores_: dict[str, dict[str, float]]

    def __init__(self, *, cv: int = 5, random_state: int = 0) -> None:
        self.cv = cv
        self.random_state = random_state

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        log_proba, codes, weight = _merge_copies(log_proba, codes, weight)
        candidates = _candidates(weight.sum(), log_proba.shape[1])
        self.chosen_ = "prior"
        self.scores_ = {}
        n_folds = min(self.cv, int(_n_parts(weight, self.cv).sum()))
        if len(candidates) > 1 and len(codes) > 1:
            part, fold = _spread_over_folds(codes, weight, n_folds, self.random_state)
            share = weight[part] / np.bincount(part)[part]
            losses = {
                name: self._held_out_loss(candidate, log_proba[part], codes[part], share, fold)
                for name, candidate in candidates.items()
            }
            self.chosen_, self.scores_ = _one_standard_error(losses, share)
        self.calibrator_ = candidates[self.chosen_]
        self.calibrator_._fit_encoded(log_proba, codes, weight, self.classes_)

    def _held_out_loss(
        self,
        candidate: BaseCalibrator,
        log_proba: Floats,
        codes: Codes,
        weight: Floats,
        fold: Codes,
    ) -> Floats:
        loss = np.empty(len(codes))
        for held_out in (fold == number for number in range(fold.max() + 1)):
            learn = ~held_out
            with warnings.catch_warnings():
                # A fold at a search bound shows in its loss; the final fit warns by itself.
                warnings.simplefilter("ignore", ConvergenceWarning)
                candidate._fit(log_proba[learn], codes[learn], weight[learn])
            out = log_normalise(candidate._transform(log_proba[held_out]))
            loss[held_out] = -out[np.arange(len(out)), codes[held_out]]
        return loss

    def _transform(self, log_proba: Floats) -> Floats:
        return self.calibrator_._transform(log_proba)

    @property
    def parameters_(self) -> Parameters:
        """Fitted parameters of the chosen calibrator."""
        check_is_fitted(self)
        return self.calibrator_.parameters_


def _candidates(n_rows: float, n_classes: int) -> dict[str, BaseCalibrator]:
    """Return what this many rows can support, the simplest first."""
    out: dict[str, BaseCalibrator] = {
        "prior": TemperatureScaling(prior_temperature=1.6, prior_scale=0.35)
    }
    if n_rows < _FEW_ROWS or n_classes == 1:
        return out
    out["temperature"] = TemperatureScaling()
    out["vector"] = VectorScaling()
    if n_rows >= _MANY_ROWS:
        out["isotonic"] = IsotonicCalibration()
    return out


def _merge_copies(log_proba: Floats, codes: Codes, weight: Floats) -> tuple[Floats, Codes, Floats]:
    """Put equal rows with equal labels together, adding up their weights."""
    key = np.column_stack([codes, log_proba.round(10)])
    _, first, copy_of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    total = np.zeros(len(first))
    np.add.at(total, copy_of.ravel(), weight)
    return log_proba[first], codes[first], total


def _n_parts(weight: Floats, n_folds: int) -> Codes:
    """Return into how many folds each row goes: as many as it counts for, at most all."""
    return np.clip(np.floor(weight + 1e-9), 1, n_folds).astype(np.intp)


def _spread_over_folds(
    codes: Codes, weight: Floats, n_folds: int, seed: int
) -> tuple[Codes, Codes]:
    """Deal the rows out like cards, class by class, shuffled within each class.

    Returns
    -------
    part : ndarray of int of shape (n_parts,)
        The row that each part belongs to; a row of weight three has three parts.
    fold : ndarray of int of shape (n_parts,)
        The fold of each part; those of one row are in different ones.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    part = np.repeat(by_class, _n_parts(weight, n_folds)[by_class])
    return part, np.arange(len(part)) % n_folds


def _one_standard_error(
    losses: dict[str, Floats], weight: Floats
) -> tuple[str, dict[str, dict[str, float]]]:
    """Return the simplest candidate not clearly worse than the best, and the figures."""
    means = {name: float(np.average(loss, weights=weight)) for name, loss in losses.items()}
    best = min(means, key=means.__getitem__)
    scores = {
        name: {
            "log_loss": means[name],
            "standard_error": _standard_error(loss, weight),
            "gap_error": _standard_error(loss - losses[best], weight),
        }
        for name, loss in losses.items()
    }
    chosen = next(name for name in losses if means[name] - means[best] <= scores[name]["gap_error"])
    return chosen, scores


def _standard_error(values: Floats, weight: Floats) -> float:
    total = weight.sum()
    variance = np.average((values - np.average(values, weights=weight)) ** 2, weights=weight)
    return float(np.sqrt(variance / max(total - 1, 1)))
