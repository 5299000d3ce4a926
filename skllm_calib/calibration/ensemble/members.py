"""The members of an ensemble: which there are, fitted, scored, and agreed on their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.folds import stratified_folds
from skllm_calib.log_proba.numerics import Floats, floor_and_normalise
from skllm_calib.log_proba.scores import (
    cross_fitted,
    indexed,
    log_proba_of,
    needs_cross_fitting,
)

__all__ = [
    "combine_tags",
    "common_classes",
    "each",
    "fitted_member",
    "kept_members",
    "member_scores",
    "unseen_scores",
]


def kept_members(estimators: Any) -> dict[str, Any]:
    """Return members by name without dropped ones; nothing if they are not a list of pairs."""
    try:
        return {name: member for name, member in estimators if member != "drop"}
    except (TypeError, ValueError):
        return {}


def each(
    n_jobs: int | None, function: Callable[..., Any], members: Iterable[Any], *shared: Any
) -> list[Any]:
    """Call a function with each member, `n_jobs` at a time."""
    # Threads share a loaded model and the cache; most of the time goes into waiting.
    run = Parallel(n_jobs=n_jobs, prefer="threads")
    return list(run(delayed(function)(member, *shared) for member in members))


def fitted_member(estimator: Any, X: Any, y: Any, weight: NDArray[Any] | None) -> Any:
    """Return a fitted copy; a ``FrozenEstimator`` is its own."""
    estimator = clone(estimator)
    if weight is not None and has_fit_parameter(estimator, "sample_weight"):
        return estimator.fit(X, y, sample_weight=weight)
    if weight is not None and y is not None and not weight.all():
        used = np.flatnonzero(weight)
        X, y = _safe_indexing(indexed(X), used), y[used]
    return estimator.fit(X, y)


def member_scores(member: Any, X: Any, classes: NDArray[Any]) -> Floats:
    """Return a member's log-probabilities, none of them minus infinity."""
    return floor_and_normalise(log_proba_of(member, X, classes))


def unseen_scores(
    member: tuple[Any, Any], X: Any, y: NDArray[Any], weight: NDArray[Any], classes: NDArray[Any]
) -> Floats:
    """Return scores of a member (unfitted, fitted), of no row by a model that has seen it."""
    unfitted, fitted = member
    if not needs_cross_fitting(unfitted):
        return member_scores(fitted, X, classes)

    def fit(part: Any, train: NDArray[np.intp]) -> Any:
        return fitted_member(unfitted, part, y[train], weight[train])

    return floor_and_normalise(cross_fitted(fit, X, y, classes, stratified_folds(y)).log_proba)


def common_classes(members: Mapping[str, Any]) -> NDArray[Any]:
    """Return the classes of the member that knows most; all others' must be among them."""
    known = {name: np.unique(member.classes_) for name, member in members.items()}
    most = max(known, key=lambda name: len(known[name]))
    labels = known[most].tolist()
    for name, classes in known.items():
        unknown = [label for label in classes.tolist() if label not in labels]
        if unknown:
            raise InvalidInput(
                f"the members know different classes: {name!r} has {unknown}, {most!r} has only "
                f"{labels}. Give all of them the same, for example with classes=[...]",
                "estimators",
                value=unknown,
            )
    return known[most]


def combine_tags(tags: Any, members: Iterable[Any], *, fits_weights: bool) -> None:
    """Set the tags of an ensemble to what its members demand and offer together."""
    inner = [get_tags(member) for member in members]
    if not inner:  # `estimators` is wrong, which is for fit to say
        return
    for name in (field.name for field in fields(tags.input_tags)):
        # What one member demands, all rows must meet; what is offered, all must offer.
        combine = any if name in ("positive_only", "pairwise") else all
        setattr(tags.input_tags, name, combine(getattr(t.input_tags, name) for t in inner))
    tags.requires_fit = fits_weights or any(t.requires_fit for t in inner)
    tags.target_tags.required = fits_weights or any(t.target_tags.required for t in inner)
    tags.non_deterministic = any(t.non_deterministic for t in inner)
    tags.classifier_tags.poor_score = any(
        getattr(t.classifier_tags, "poor_score", False) for t in inner
    )
