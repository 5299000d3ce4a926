"""A fitted classifier and rows -> everything a report says about them, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import _num_samples

from skllm_calib.evidence.text_input import read_texts
from skllm_calib.log_proba.scores import log_proba_of

__all__ = ["RunUsage", "ScoredRows", "answer_rows", "score_rows", "texts_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunUsage:
    """What the answers behind some rows cost.

    Attributes
    ----------
    n_rows, n_rows_cached : int
        Rows, and those of them answered from the cache at no cost.
    n_requests, prompt_tokens, completion_tokens : int
        Requests, tokens read and tokens written for all the rows, cached ones included.
    usd : float or None
        What these cost, in dollars, if none came from the cache; None where no price is known.
    off_label : float or None
        Mean share of the evidence that fell on no label; None where it is not known.
    """

    n_rows: int
    n_rows_cached: int
    n_requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None = None
    off_label: float | None = None


class ScoredRows(NamedTuple):
    """What a classifier says about rows; probabilities are NaN for rows that failed."""

    classes: NDArray[Any]
    proba: Floats
    before: Floats | None
    failures: dict[int, str]
    usage: RunUsage | None
    card: Mapping[str, Any] | None
    policy: Any


def score_rows(estimator: Any, X: Any) -> ScoredRows:
    """Score rows with a classifier; one that can explain itself is asked only once.

    A search, a review classifier and a frozen one are opened: what is inside knows more.
    """
    inner, policy = _opened(estimator)
    classes = np.asarray(inner.classes_)
    card = getattr(inner, "calibration_card_", None)
    calibrated = hasattr(inner, "calibrator_")
    if not hasattr(inner, "explain"):
        raw = None
        if calibrated:
            raw = _normalised(np.exp(log_proba_of(inner.estimator_, X, classes)))
        proba = np.asarray(inner.predict_proba(X), dtype=np.float64)
        return ScoredRows(classes, proba, raw, {}, None, card, policy)
    records = inner.explain(X)
    raw = _normalised(np.exp(_matrix(records, classes, "log_proba")))
    return ScoredRows(
        classes,
        _normalised(_matrix(records, classes, "calibrated")) if calibrated else raw,
        raw if calibrated else None,
        {i: r["failure"] for i, r in enumerate(records) if r["failure"] is not None},
        _usage(records),
        card,
        policy,
    )


def answer_rows(estimator: Any, X: Any) -> tuple[Floats, dict[int, str]]:
    """Return probabilities and failures of rows as :func:`score_rows`, and keep no record of a row.

    Whatever the `on_error` of the classifier, a row that fails stops no other.
    """
    inner, _ = _opened(estimator)
    if not hasattr(inner, "prepare_stream") or (n_rows := _num_samples(X)) == 0:
        return score_rows(estimator, X)[1], {}
    proba = np.full((n_rows, len(inner.classes_)), np.nan)
    failures: dict[int, str] = {}
    n_done = 0
    for batch in inner.prepare_stream([X], n_ahead=n_rows).batches(as_they_come=True):
        positions = batch.positions or range(n_done, n_done + len(batch.log_proba))
        n_done += len(batch.log_proba)
        proba[positions] = _normalised(np.exp(batch.log_proba))
        failures |= {positions[k]: reason for k, reason in batch.failures.items()}
    return proba, failures


def _opened(estimator: Any) -> tuple[Any, Any]:
    """Return the classifier inside of others, and the policy on top of it, if there is one."""
    policy = None
    while True:
        policy = getattr(estimator, "policy_", policy)
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "policy_"):
            estimator = estimator.estimator_
        else:
            return estimator, policy


def texts_of(X: Any) -> list[str]:
    """Return rows as texts to show; a row that is missing as an empty one."""
    return read_texts(X, BaseEstimator(), reset=True, allow_missing=True).texts


def _matrix(records: Sequence[Mapping[str, Any]], classes: NDArray[Any], key: str) -> Floats:
    names, nothing = classes.tolist(), [np.nan] * classes.size
    return np.array(
        [nothing if (row := r.get(key)) is None else [row[name] for name in names] for r in records]
    )


def _normalised(proba: Floats) -> Floats:
    """Undo the rounding of a logarithm: the metrics refuse rows that miss 1 by more than theirs."""
    return np.asarray(proba / proba.sum(axis=1, keepdims=True), dtype=np.float64)


def _usage(records: Sequence[Mapping[str, Any]]) -> RunUsage:
    n_cached, usd = 0, list[float | None]()
    totals = dict.fromkeys(("n_requests", "prompt_tokens", "completion_tokens"), 0)
    for record in records:
        leaves = list(_leaves(record))
        n_cached += bool(leaves) and all(leaf.get("cached", False) for leaf in leaves)
        usd += [leaf.get("usd") for leaf in leaves]
        for key in totals:
            totals[key] += sum(leaf.get(key) or 0 for leaf in leaves)
    shares = [share for r in records if (share := r.get("off_label")) is not None]
    off_label = float(np.mean(shares)) if shares else None
    known = [price for price in usd if price is not None]
    cost = sum(known) if known and len(known) == len(usd) else None
    return RunUsage(len(records), n_cached, **totals, usd=cost, off_label=off_label)


def _leaves(record: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Return a record itself, or those of the members of an ensemble."""
    members = record.get("members")
    if not members:
        yield record
        return
    for member in members.values():
        yield from _leaves(member)
