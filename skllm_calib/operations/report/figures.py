"""The figures of a report, in plain JSON values: what a page shows and a dashboard reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from skllm_calib.decisions import ReviewPolicy
from skllm_calib.decisions.rules.bounds import precision_lower_bound
from skllm_calib.log_proba.validation import Checked
from skllm_calib.metrics import (
    can_claim,
    reliability_curve,
    review_cost_curve,
    risk_coverage_curve,
)
from skllm_calib.metrics.headline import BINS, measure
from skllm_calib.operations.report.material import Material

__all__ = ["class_shares", "figures_of"]

_COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)
_PRICES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_MOST_CONFUSED = 15


def class_shares(counts: Sequence[float]) -> NDArray[np.float64]:
    """Return class shares; half a row per class keeps one without any from being impossible."""
    smoothed = np.asarray(counts, dtype=np.float64) + 0.5
    return np.asarray(smoothed / smoothed.sum())


def figures_of(
    material: Material, *, targets: Sequence[float], confidence: float, claim: float, n_rows: int
) -> dict[str, Any]:
    """Work everything out."""
    claimed = can_claim(material.rows, material.rows, claim, confidence=confidence, **BINS)
    measured = {side: measure(rows, rows) for side, rows in material.sides}
    return {
        "data": _data(material),
        "card": None if material.card is None else dict(material.card),
        "before": measured.get("before"),
        "after": measured["after"],
        "class_shares": _class_shares(material),
        "claim": asdict(claimed) | {"sentence": str(claimed)},
        "reliability": {side: _reliability(rows) for side, rows in material.sides},
        "by_class": _by_class(material.rows),
        "confusion": _confusion(material.rows),
        "risk_coverage": _risk_coverage(material.rows),
        "thresholds": [_threshold(material.rows, target, confidence) for target in targets],
        "review_cost": _review_cost(material),
        "policy": None if material.policy is None else _policy(material, confidence),
        "risk_matrix": None if material.risk_matrix is None else _risk_matrix(material),
        "rows": _rows(material, n_rows),
        "usage": None if material.usage is None else asdict(material.usage),
    }


def _data(material: Material) -> dict[str, Any]:
    rows = material.rows
    return {
        "n": len(rows.codes),
        "n_failed": len(material.failures),
        "classes": rows.classes.tolist(),
        "weighted": material.weighted,
        "n_by_class": np.bincount(rows.codes, minlength=rows.classes.size).tolist(),
    }


def _class_shares(material: Material) -> dict[str, Any]:
    """Score the yardstick: always stating the class shares, which knows nothing of the text."""
    rows = material.rows
    counts = None if material.card is None else material.card.get("n_by_class")
    names = [str(label) for label in rows.classes.tolist()]
    if counts is not None and set(names) == set(counts):
        source, share = "the calibration rows", class_shares([counts[name] for name in names])
    else:
        source = "these rows"
        share = class_shares(np.bincount(rows.codes, rows.weight, minlength=len(names)).tolist())
    constant = rows._replace(proba=np.tile(share, (len(rows.codes), 1)))
    return {"of": source} | measure(constant, constant)


def _reliability(rows: Checked) -> list[dict[str, Any]]:
    curve = reliability_curve(rows, rows, **BINS)
    columns = (curve.mean_confidence, curve.accuracy, curve.counts)
    return [
        {"mean_confidence": stated, "accuracy": right, "n": n}
        for stated, right, n in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _by_class(rows: Checked) -> list[dict[str, Any]]:
    weight, predicted = rows.weight, rows.proba.argmax(axis=1)
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


def _confusion(rows: Checked) -> dict[str, Any]:
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


def _risk_coverage(rows: Checked) -> list[dict[str, float]]:
    curve = risk_coverage_curve(rows, rows)
    at = np.searchsorted(curve.coverage, np.array(_COVERAGES) - 1e-12)
    return [
        {
            "coverage": float(curve.coverage[k]),
            "risk": float(curve.risk[k]),
            "threshold": float(curve.threshold[k]),
        }
        for k in np.unique(np.minimum(at, curve.coverage.size - 1))
    ]


def _threshold(rows: Checked, target: float, confidence: float) -> dict[str, Any]:
    """Certify one target, or tell what it would take."""
    policy = ReviewPolicy(target, confidence=confidence, on_not_certifiable="review")
    policy.fit(rows, rows)
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


def _review_cost(material: Material) -> list[dict[str, Any]]:
    """Give the cost of Chow's rule at some prices, beside that of the two rules that need none."""
    curves = {side: review_cost_curve(rows, rows) for side, rows in material.sides}
    after = curves["after"]
    at = np.searchsorted(after.price, np.array(_PRICES) - 1e-12)
    return [
        {
            "price": float(after.price[k]),
            "accept_all": after.error_rate,
            "review_all": float(after.price[k]),
            "before": float(curves["before"].cost[k]) if "before" in curves else None,
            "after": float(after.cost[k]),
            "review_share": float(after.review_share[k]),
        }
        for k in at
    ]


def _policy(material: Material, confidence: float) -> dict[str, Any]:
    """Apply the policy to these rows, and see how right the accepted ones are."""
    policy, rows = material.policy, material.rows
    assert policy is not None
    actions, labels = policy.decide(rows), policy.predict(rows)
    accepted = actions == "accept"
    n_wrong = int((labels != material.truth)[accepted].sum())
    n_accepted = int(accepted.sum())
    bound = precision_lower_bound(n_accepted, n_wrong, confidence) if n_accepted else None
    return {
        "summary": policy.summary().splitlines(),
        "saw_these_rows": material.policy_saw_rows,
        "n_by_action": {name: int((actions == name).sum()) for name in policy.action_rates_},
        "n_wrong_accepted": n_wrong,
        # The rows that shaped a threshold cannot test it.
        "precision_lower_bound": None if material.policy_saw_rows else bound,
        "confidence": float(confidence),
    }


def _risk_matrix(material: Material) -> dict[str, Any]:
    matrix, rows = material.risk_matrix, material.rows
    assert matrix is not None
    where = matrix.locate(rows.proba, material.impact)
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


def _rows(material: Material, n_rows: int) -> dict[str, list[dict[str, Any]]]:
    """Pick the most confident errors and the least confident rows."""
    rows = material.rows
    confidence = rows.proba.max(axis=1)
    wrong = np.flatnonzero(rows.proba.argmax(axis=1) != rows.codes)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")]
    doubtful = np.argsort(confidence, kind="stable")
    return {
        "worst": [_row(material, int(row)) for row in worst[:n_rows]],
        "doubtful": [_row(material, int(row)) for row in doubtful[:n_rows]],
        "failed": [asdict(failure) for failure in material.failures[:n_rows]],
    }


def _row(material: Material, row: int) -> dict[str, Any]:
    rows = material.rows
    first, second = np.argsort(-rows.proba[row], kind="stable")[:2]
    names = rows.classes.tolist()
    return {
        "id": material.ids[row],
        "text": material.texts[row],
        "true": names[rows.codes[row]],
        "predicted": names[first],
        "probability": float(rows.proba[row, first]),
        "second": names[second],
        "second_probability": float(rows.proba[row, second]),
    }
