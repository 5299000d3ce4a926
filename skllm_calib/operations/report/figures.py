"""The figures of a report, in plain JSON values: what a page shows and a dashboard reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from skllm_calib.decisions import ReviewPolicy
from skllm_calib.decisions.rules.bounds import precision_lower_bound
from skllm_calib.metrics import (
    can_claim,
    reliability_curve,
    review_cost_curve,
    risk_coverage_curve,
)
from skllm_calib.metrics.headline import BINS, measure
from skllm_calib.operations.report.material import Material

__all__ = ["figures_of", "shares"]

_COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)
_PRICES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_MOST_CONFUSED = 15


def shares(counts: Sequence[float]) -> NDArray[np.float64]:
    """Return class shares; half a row a class keeps one without any from being impossible."""
    smoothed = np.asarray(counts, dtype=np.float64) + 0.5
    return np.asarray(smoothed / smoothed.sum())


def figures_of(
    rows: Material, *, targets: Sequence[float], confidence: float, claim: float, n_rows: int
) -> dict[str, Any]:
    """Work everything out."""
    y, known = rows.truth, rows.known
    before = None if rows.before is None else measure(y, rows.before, rows.classes, rows.weight)
    claimed = can_claim(y, rows.proba, claim, confidence=confidence, **BINS, **known)
    return {
        "data": _data(rows),
        "card": None if rows.card is None else dict(rows.card),
        "before": before,
        "after": measure(y, rows.proba, rows.classes, rows.weight),
        "class_shares": _class_shares(rows),
        "claim": asdict(claimed) | {"sentence": str(claimed)},
        "reliability": {
            name: _reliability(y, proba, known)
            for name, proba in (("before", rows.before), ("after", rows.proba))
            if proba is not None
        },
        "by_class": _by_class(rows),
        "confusion": _confusion(rows),
        "risk_coverage": _risk_coverage(y, rows.proba, known),
        "thresholds": [_threshold(rows, target, confidence) for target in targets],
        "review_cost": _review_cost(rows),
        "policy": None if rows.policy is None else _policy(rows, confidence),
        "risk_matrix": None if rows.risk_matrix is None else _risk_matrix(rows),
        "rows": _rows(rows, n_rows),
        "usage": None if rows.usage is None else asdict(rows.usage),
    }


def _data(rows: Material) -> dict[str, Any]:
    n_classes = rows.classes.size
    return {
        "n": len(rows.codes),
        "n_failed": len(rows.failures),
        "classes": rows.classes.tolist(),
        "weighted": rows.weight is not None,
        "n_by_class": np.bincount(rows.codes, minlength=n_classes).tolist(),
    }


def _class_shares(rows: Material) -> dict[str, Any]:
    """Score the yardstick: always stating the class shares, which knows nothing of the text."""
    counts = None if rows.card is None else rows.card.get("n_by_class")
    names = [str(label) for label in rows.classes.tolist()]
    if counts is not None and set(names) == set(counts):
        source, share = "the calibration rows", shares([counts[name] for name in names])
    else:
        source = "these rows"
        share = shares(np.bincount(rows.codes, rows.weight, minlength=len(names)).tolist())
    constant = np.tile(share, (len(rows.codes), 1))
    return {"of": source} | measure(rows.truth, constant, rows.classes, rows.weight)


def _reliability(
    y: NDArray[Any], proba: NDArray[np.float64], known: Mapping[str, Any]
) -> list[dict[str, Any]]:
    curve = reliability_curve(y, proba, **BINS, **known)
    columns = (curve.mean_confidence, curve.accuracy, curve.counts)
    return [
        {"mean_confidence": stated, "accuracy": right, "n": n}
        for stated, right, n in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _by_class(rows: Material) -> list[dict[str, Any]]:
    weight = np.ones(len(rows.codes)) if rows.weight is None else rows.weight
    predicted = rows.proba.argmax(axis=1)
    out = []
    for code, label in enumerate(rows.classes.tolist()):
        true, chosen = rows.codes == code, predicted == code
        both = float(weight[true & chosen].sum())
        out.append(
            {
                "label": label,
                "n": int(true.sum()),
                "n_predicted": int(chosen.sum()),
                "precision": both / float(weight[chosen].sum()) if chosen.any() else None,
                "recall": both / float(weight[true].sum()) if true.any() else None,
                "share": float(np.average(true, weights=weight)),
                "mean_probability": float(np.average(rows.proba[:, code], weights=weight)),
            }
        )
    return out


def _confusion(rows: Material) -> dict[str, Any]:
    """Count rows by true (row) and predicted (column) class."""
    codes = np.arange(rows.classes.size)
    counts = confusion_matrix(rows.codes, rows.proba.argmax(axis=1), labels=codes)
    names = rows.classes.tolist()
    wrong = [(int(counts[i, j]), i, j) for i in codes for j in codes if i != j and counts[i, j]]
    wrong.sort(key=lambda found: (-found[0], found[1], found[2]))
    return {
        "counts": counts.tolist(),
        "most_confused": [
            {"n": n, "true": names[i], "predicted": names[j]} for n, i, j in wrong[:_MOST_CONFUSED]
        ],
    }


def _risk_coverage(
    y: NDArray[Any], proba: NDArray[np.float64], known: Mapping[str, Any]
) -> list[dict[str, float]]:
    curve = risk_coverage_curve(y, proba, **known)
    at = np.searchsorted(curve.coverage, np.array(_COVERAGES) - 1e-12)
    return [
        {
            "coverage": float(curve.coverage[k]),
            "risk": float(curve.risk[k]),
            "threshold": float(curve.threshold[k]),
        }
        for k in np.unique(np.minimum(at, curve.coverage.size - 1))
    ]


def _threshold(rows: Material, target: float, confidence: float) -> dict[str, Any]:
    """Certify one target, or tell what it would take."""
    policy = ReviewPolicy(target, confidence=confidence, on_not_certifiable="review")
    policy.fit(rows.truth, rows.proba, rows.weight, classes=rows.classes)
    (found,) = policy.evidence_
    certified = bool(np.isfinite(found.threshold))
    return {
        "target": float(target),
        "confidence": float(confidence),
        "threshold": found.threshold if certified else None,
        "coverage": policy.coverage_,
        "n_accepted": found.n_accepted,
        "n_errors": found.n_errors,
        "n_more": found.n_more,
    }


def _review_cost(rows: Material) -> list[dict[str, Any]]:
    """Give the cost of Chow's rule at some prices, beside that of the two rules that need none."""
    curves = {
        name: None if proba is None else review_cost_curve(rows.truth, proba, **rows.known)
        for name, proba in (("before", rows.before), ("after", rows.proba))
    }
    after = curves["after"]
    assert after is not None
    at = np.searchsorted(after.price, np.array(_PRICES) - 1e-12)
    return [
        {
            "price": float(after.price[k]),
            "accept_all": after.error_rate,
            "review_all": float(after.price[k]),
            **{n: None if curve is None else float(curve.cost[k]) for n, curve in curves.items()},
            "review_share": float(after.review_share[k]),
        }
        for k in at
    ]


def _policy(rows: Material, confidence: float) -> dict[str, Any]:
    """Apply the policy to these rows, and see how right the accepted ones are."""
    policy = rows.policy
    assert policy is not None
    actions, labels = policy.decide(rows.proba), policy.predict(rows.proba)
    accepted = actions == "accept"
    n_wrong = int((labels != rows.truth)[accepted].sum())
    n_accepted = int(accepted.sum())
    bound = precision_lower_bound(n_accepted, n_wrong, confidence) if n_accepted else None
    return {
        "summary": policy.summary().splitlines(),
        "saw_these_rows": rows.policy_saw_rows,
        "n_by_action": {name: int((actions == name).sum()) for name in policy.action_rates_},
        "n_wrong_accepted": n_wrong,
        # The rows that shaped a threshold cannot test it.
        "precision_lower_bound": None if rows.policy_saw_rows else bound,
        "confidence": float(confidence),
    }


def _risk_matrix(rows: Material) -> dict[str, Any]:
    matrix = rows.risk_matrix
    assert matrix is not None
    where = matrix.locate(rows.proba, rows.impact)
    cell = np.ravel_multi_index(where, matrix.shape)
    wrong = rows.proba.argmax(axis=1) != rows.codes
    counts, errors = (
        np.bincount(cell, part, minlength=matrix.actions.size).astype(int).reshape(matrix.shape)
        for part in (None, wrong)
    )
    actions = matrix.actions[where]
    return {
        "bands": {name: list(ends) for name, ends in matrix.likelihood_bands.items()},
        "levels": list(matrix.impact_levels),
        "actions": matrix.actions.tolist(),
        "action_order": list(matrix.action_order),
        "event": None if matrix.event_class is None else str(matrix.event_class),
        "n_by_cell": counts.tolist(),
        "n_wrong_by_cell": errors.tolist(),
        "n_by_action": {name: int((actions == name).sum()) for name in matrix.action_order},
    }


def _rows(rows: Material, n_rows: int) -> dict[str, list[dict[str, Any]]]:
    """Pick the surest errors and the most doubtful rows."""
    confidence = rows.proba.max(axis=1)
    wrong = np.flatnonzero(rows.proba.argmax(axis=1) != rows.codes)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")]
    doubtful = np.argsort(confidence, kind="stable")
    return {
        "worst": [_row(rows, int(row)) for row in worst[:n_rows]],
        "doubtful": [_row(rows, int(row)) for row in doubtful[:n_rows]],
        "failed": [asdict(failure) for failure in rows.failures[:n_rows]],
    }


def _row(rows: Material, row: int) -> dict[str, Any]:
    first, second = np.argsort(-rows.proba[row], kind="stable")[:2]
    names = rows.classes.tolist()
    return {
        "id": rows.ids[row],
        "text": None if rows.texts is None else rows.texts[row],
        "true": names[rows.codes[row]],
        "predicted": names[first],
        "probability": float(rows.proba[row, first]),
        "second": names[second],
        "second_probability": float(rows.proba[row, second]),
    }
