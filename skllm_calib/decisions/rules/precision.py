"""The precision of accepted rows: overall, or of every predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from skllm_calib.decisions.rows import Floats, Rows, top_label
from skllm_calib.decisions.rules.base import DecisionRule, Findings, PolicyEvidence
from skllm_calib.decisions.rules.bounds import precision_lower_bound
from skllm_calib.decisions.rules.fixed_sequence import (
    N_THRESHOLDS,
    PrecisionTest,
    Profile,
    loosest,
    not_certifiable,
)
from skllm_calib.exceptions import NotCertifiableError

__all__ = ["TargetPrecision", "search"]


class TargetPrecision(DecisionRule):
    """Accept as many rows as possible such that those accepted are right often enough.

    Parameters
    ----------
    precision : float in (0, 1), default=0.95
        Wanted fraction of right labels among accepted rows.
    per_class : bool, default=False
        Keep it for every predicted class, with a threshold each. The risk ``1 - confidence`` is
        shared equally (Bonferroni) by the classes predicted often enough to pass at all.
    reject_below : float in (0, 1), default=None
        Rows whose largest probability is below this are rejected; None rejects no row.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "precision": [Interval(Real, 0, 1, closed="neither")],
        "per_class": ["boolean"],
        "reject_below": [None, Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        precision: float = 0.95,
        *,
        per_class: bool = False,
        reject_below: float | None = None,
    ) -> None:
        self.precision = precision
        self.per_class = per_class
        self.reject_below = reject_below

    def find(self, rows: Rows, confidence: float) -> Findings:
        """Search the loosest thresholds that keep the precision, with fixed-sequence tests."""
        return (
            self._by_class(rows, confidence) if self.per_class else self._at_once(rows, confidence)
        )

    def _at_once(self, rows: Rows, confidence: float) -> Findings:
        stated, label = top_label(rows.proba)
        eligible = stated >= (self.reject_below or 0)
        test = PrecisionTest(self.precision, confidence)
        found, error = search(None, stated, label != rows.codes, test, eligible=eligible)
        return Findings((found,), self._bounds((found,)), error)

    def _by_class(self, rows: Rows, confidence: float) -> Findings:
        """Find a threshold for each class; together they break the promise rarely enough."""
        stated, label = top_label(rows.proba)
        wrong = label != rows.codes
        floor = self.reject_below or 0
        members = [(label == code) & (stated >= floor) for code in range(rows.classes.size)]
        counts = np.array([member.sum() for member in members])
        tested = _worth_a_test(counts, self.precision, 1 - confidence)
        evidence, errors = [], []
        for code, name in enumerate(rows.classes.tolist()):
            sharers = tested.sum() + (not tested[code])
            test = PrecisionTest(self.precision, 1 - (1 - confidence) / sharers)
            # Classes that are not tested have too few rows; this says how many labels they lack.
            found, error = search(name, stated, wrong, test, eligible=members[code])
            evidence.append(found)
            errors.append(error)
        bounds = self._bounds(evidence)
        error = None if bounds else _for_no_class(evidence, errors)
        return Findings(tuple(evidence), bounds, error)

    def _bounds(self, evidence: Sequence[PolicyEvidence]) -> dict[str, float]:
        certified = any(np.isfinite(found.threshold) for found in evidence)
        return {"precision": float(self.precision)} if certified else {}

    def in_words(self, quantity: str, bound: float, confidence: float) -> str:
        """Say in words what is promised of a quantity."""
        text = super().in_words(quantity, bound, confidence)
        return text.replace("rows are", "rows of every class are", 1) if self.per_class else text

    def bears_out(
        self,
        bounds: Mapping[str, float],
        evidence: Sequence[PolicyEvidence],
        confidence: float,
    ) -> bool:
        """Tell whether the rule could have promised this on this evidence."""
        # Classes share the risk, so each has more confidence than all of them together.
        highest = 1.0 if self.per_class else confidence + 1e-9
        certified = [found for found in evidence if np.isfinite(found.threshold)]
        return (
            bounds == self._bounds(evidence)
            and all(confidence - 1e-9 <= found.confidence <= highest for found in evidence)
            and all(
                PrecisionTest(self.precision, found.confidence).passes(
                    found.n_accepted, found.n_errors or 0
                )
                for found in certified
            )
        )


def _worth_a_test(counts: NDArray[Any], target: float, risk: float) -> NDArray[np.bool_]:
    """Choose the classes that share the risk: those predicted often enough to pass at all.

    Predictions choose, not labels, so the choice costs nothing; and a rare class that could not
    pass anyway takes nothing from the others.
    """
    tested = counts > 0
    while tested.any():
        needed = PrecisionTest(target, 1 - risk / tested.sum()).fewest[0]
        enough = tested & (counts >= needed)
        if enough.sum() == tested.sum():
            break
        # One at a time, the rarest first: with fewer sharers, the next may have enough.
        tested[np.flatnonzero(tested)[counts[tested].argmin()]] = False
    return tested


def search(
    predicted: Any,
    stated: Floats,
    wrong: NDArray[np.bool_],
    test: PrecisionTest,
    *,
    eligible: NDArray[np.bool_] | slice = slice(None),
    n_thresholds: int = N_THRESHOLDS,
) -> tuple[PolicyEvidence, NotCertifiableError | None]:
    """Search the loosest threshold on a probability that passes the test, among eligible rows."""
    profile = Profile(stated[eligible], wrong[eligible])
    n_accepted = loosest(profile, test, n_thresholds)
    if n_accepted is None:
        error = not_certifiable(profile, test, stated.size)
        found = PolicyEvidence(
            predicted, np.inf, profile.n_rows, 0, 0, None, test.confidence, error.n_more
        )
        return found, error
    n_errors = profile.errors(n_accepted)
    found = PolicyEvidence(
        predicted,
        profile.threshold(n_accepted),
        profile.n_rows,
        n_accepted,
        n_errors,
        precision_lower_bound(n_accepted, n_errors, test.confidence),
        test.confidence,
    )
    return found, None


def _for_no_class(
    evidence: list[PolicyEvidence], errors: list[NotCertifiableError | None]
) -> NotCertifiableError:
    """Report the class that is nearest to its certificate."""
    known = [
        (np.inf if error.n_more is None else error.n_more, -found.n_rows, number)
        for number, (found, error) in enumerate(zip(evidence, errors, strict=True))
        if error is not None
    ]
    nearest = min(known)[-1]
    error = errors[nearest]
    assert error is not None
    name = evidence[nearest].predicted
    return NotCertifiableError(
        f"no predicted class can be certified; the nearest is {name!r}, {error}", error.n_more
    )
