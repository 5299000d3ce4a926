"""The members of an ensemble: which there are, fitted, scored, and agreed on their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, has_fit_parameter

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.folds import stratified_folds
from skllm_calib.log_proba.labels import encode
from skllm_calib.log_proba.numerics import Floats, floor_and_normalise
from skllm_calib.log_proba.scores import (
    Scores,
    cross_fitted,
    indexed,
    log_proba_of,
    needs_cross_fitting,
    sum_of,
)
from skllm_calib.utils.progress import current_call, in_call, stage

__all__ = [
    "combine_tags",
    "common_classes",
    "each",
    "fitted_member",
    "given_weights",
    "kept_members",
    "member_scores",
    "score_unseen",
]


def kept_members(estimators: Any) -> dict[str, Any]:
    """Return members by name without dropped ones; nothing if they are not a list of pairs."""
    try:
        return {name: member for name, member in estimators if member != "drop"}
    except (TypeError, ValueError):
        return {}


def given_weights(weights: Any, estimators: Any) -> Floats:
    """Return the weights of the members that are kept, which sum to one; None: equal ones."""
    kept = [member != "drop" for _, member in estimators]
    try:
        given = np.asarray(np.ones(len(kept)) if weights is None else weights, dtype=np.float64)
        fine = given.shape == (len(kept),) and np.isfinite(given).all() and (given >= 0).all()
    except (TypeError, ValueError):
        fine = False
    if not fine or not given[kept].any():
        raise InvalidInput(
            f"weights={weights!r}: must be None, 'fit', or one number for each of the "
            f"{len(kept)} members, none of them negative and not all zero",
            "weights",
            value=weights,
        )
    return np.asarray(given[kept] / given[kept].sum())


def each(
    n_jobs: int | None, function: Callable[..., Any], members: Iterable[Any], *shared: Any
) -> list[Any]:
    """Call a function with each member, `n_jobs` at a time."""
    members = list(members)
    # Threads share a loaded model and the cache; most of the time goes into waiting.
    run = Parallel(n_jobs=n_jobs, prefer="threads")
    with stage():
        call, n = current_call(), len(members)  # a call that other threads do not know of
        named = [(f"member {i + 1} of {n}", member) for i, member in enumerate(members)]
        do = delayed(in_call)
        return list(run(do(call, _at_stage, at, function, m, *shared) for at, m in named))


def _at_stage(at: str, function: Callable[..., Any], *args: Any) -> Any:
    with stage(at):
        return function(*args)


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


class Unseen(NamedTuple):
    """Scores of rows by members that have not seen them.

    Attributes
    ----------
    scores : ndarray of shape (n_members, n_samples, n_classes)
    codes, weight : ndarray of shape (n_samples,)
        The number of the class of each row, and what it counts.
    usage : object or None
        What models used that are not there any more.
    """

    scores: Floats
    codes: NDArray[np.intp]
    weight: NDArray[Any]
    usage: Any


def score_unseen(  # noqa: PLR0917 (in the order of the others)
    n_jobs: int | None,
    pairs: list[Any],
    X: Any,
    y: Any,
    weight: NDArray[Any] | None,
    classes: NDArray[Any],
) -> Unseen:
    """Score the rows that count with each member (unfitted, fitted), where all of them can."""
    check_consistent_length(X, y)
    weight = np.ones(len(y)) if weight is None else weight
    used = np.flatnonzero(weight)  # a row of weight zero is as good as absent, in folds too
    X, y, weight = _safe_indexing(indexed(X), used), y[used], weight[used]
    found = each(n_jobs, unseen_scores, pairs, X, y, weight, classes)
    scores = np.stack([one.log_proba for one in found])
    usable = ~np.isnan(scores).any(axis=(0, 2))
    if not usable.any():
        raise InvalidInput(
            "weights='fit' needs rows that all members score, and there is none: drop the "
            "member that fails, or pass weights",
            "X",
        )
    usage = sum_of(one.usage for one in found)
    return Unseen(scores[:, usable], encode(y[usable], classes), weight[usable], usage)


def unseen_scores(
    member: tuple[Any, Any], X: Any, y: NDArray[Any], weight: NDArray[Any], classes: NDArray[Any]
) -> Scores:
    """Score rows with a member (unfitted, fitted), none with a model that has seen it.

    Returns
    -------
    Scores
        None of the log-probabilities is minus infinity.
    """
    unfitted, fitted = member
    if not needs_cross_fitting(unfitted):
        return Scores(member_scores(fitted, X, classes))

    def fit(part: Any, train: NDArray[np.intp]) -> Any:
        return fitted_member(unfitted, part, y[train], weight[train])

    found = cross_fitted(fit, X, y, classes, stratified_folds(y))
    return found._replace(log_proba=floor_and_normalise(found.log_proba))


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
