"""From probabilities to labels, actions and reasons: by a policy, or by a risk matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.decisions import ReviewPolicy, RiskMatrix

__all__ = ["Decide", "Decisions", "by_matrix", "by_policy"]


class Decisions(NamedTuple):
    """One a row: a label, None for rows that failed; an action; a reason."""

    labels: list[str | None]
    actions: list[str]
    reasons: list[str]


#: Decides about probabilities (n, K), columns in the order of the sorted labels; NaN for rows that
#: failed.
Decide = Callable[[NDArray[np.float64]], Decisions]


def by_policy(policy: ReviewPolicy) -> Decide:
    """Return what a fitted policy decides."""

    def decide(proba: NDArray[np.float64]) -> Decisions:
        labels = policy.predict(proba).tolist()
        return Decisions(labels, policy.decide(proba).tolist(), policy.explain(proba))

    return decide


def by_matrix(matrix: RiskMatrix, impacts: NDArray[Any] | None, labels: list[str]) -> Decide:
    """Return what a risk matrix says, with the impact of each row or the matrix's own."""

    def decide(proba: NDArray[np.float64]) -> Decisions:
        failed = np.isnan(proba).any(axis=1)
        out = Decisions(
            [None] * len(proba),
            ["review"] * len(proba),
            ["no probabilities: the row was not scored"] * len(proba),
        )
        rows = np.flatnonzero(~failed)
        if not rows.size:
            return out
        some = None if impacts is None else impacts[rows]
        bands, levels = matrix.locate(proba[rows], some)
        actions = matrix.actions[bands, levels]
        for i, band, level, action in zip(rows, bands, levels, actions.tolist(), strict=True):
            best = int(proba[i].argmax())
            out.labels[i], out.actions[i] = labels[best], action
            out.reasons[i] = _reason(matrix, proba[i], int(band), int(level), labels)
        return out

    return decide


def _reason(
    matrix: RiskMatrix, proba: NDArray[np.float64], band: int, level: int, labels: list[str]
) -> str:
    best = int(proba.argmax())
    event = matrix.event_class
    if event is None:
        likelihood, of = 1 - proba[best], f"{labels[best]!r} is wrong"
    else:
        likelihood, of = proba[labels.index(str(event))], f"it is {str(event)!r}"
    name = tuple(matrix.likelihood_bands)[band]
    return (
        f"likelihood {name!r} ({likelihood:.3g} that {of}), impact {matrix.impact_levels[level]!r}"
    )
