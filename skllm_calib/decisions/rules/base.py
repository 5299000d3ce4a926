"""What every decision rule has: what it looks for, what it promises, and on which evidence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skllm_calib.decisions.rows import Rows
from skllm_calib.decisions.rules.bounds import precision_lower_bound
from skllm_calib.decisions.rules.deciders import ACCEPT, Decider, ThresholdDecider
from skllm_calib.exceptions import NotCertifiableError

__all__ = ["DecisionRule", "Findings", "PolicyEvidence", "Promise", "evidence_of", "per_cent"]


@dataclass(frozen=True)
class PolicyEvidence:
    """What the labelled rows say about one threshold of a :class:`ReviewPolicy`.

    Attributes
    ----------
    predicted : object
        The predicted class that the threshold is for, or None if it is for all classes.
    threshold : float
        Lowest probability at which a row is accepted; infinite if none is. NaN for rules that do
        not decide by a threshold, such as costs.
    n_rows, n_accepted : int
        Number of rows that the threshold is for, and number of those accepted.
    n_errors : int or None
        Number of wrong labels among the accepted rows; None without labels.
    precision_lower_bound : float or None
        Clopper-Pearson lower bound of the precision of accepted rows in [0, 1]; None without labels
        or accepted rows. Where the threshold was searched for, only the target is promised: a bound
        that happens to be higher is not.
    confidence : float
        Confidence of the statement about this threshold. Classes that share a promise have a higher
        one each.
    n_more : int or None
        About how many further labels are needed, where nothing could be certified; None if more
        labels are not known to help, or none are needed.
    """

    predicted: Any
    threshold: float
    n_rows: int
    n_accepted: int
    n_errors: int | None
    precision_lower_bound: float | None
    confidence: float
    n_more: int | None = None


@dataclass(frozen=True)
class Promise:
    """One statement about rows to come that a fitted :class:`ReviewPolicy` makes.

    Attributes
    ----------
    quantity : str
        What is bounded, such as "precision" of accepted rows or "review_rate".
    bound : float
        The bound.
    confidence : float
        How often, over draws of the labelled rows, the statement is true at least.
    text : str
        The statement in words.
    """

    quantity: str
    bound: float
    confidence: float
    text: str


@dataclass(frozen=True)
class Findings:
    """What a rule found out from labelled rows.

    Attributes
    ----------
    evidence : tuple of PolicyEvidence
        One for all classes, or one for each in the order of the columns.
    bounds : dict of str to float
        What is promised: quantity -> bound. Empty if nothing is.
    error : NotCertifiableError or None
        Why the target could not be certified.
    cost, cost_interval : float, (float, float) or None
        Mean cost per row and its interval, for rules about costs.
    """

    evidence: tuple[PolicyEvidence, ...]
    bounds: Mapping[str, float] = field(default_factory=dict)
    error: NotCertifiableError | None = None
    cost: float | None = None
    cost_interval: tuple[float, float] | None = None


class DecisionRule(BaseEstimator, ABC):  # type: ignore[misc]
    """Base class of what a :class:`ReviewPolicy` may be asked for.

    A rule holds parameters only. ``find`` looks at labelled rows; ``decider`` turns its parameters
    and the evidence into actions, also after the policy was read from a file. For rules that accept
    rows above a threshold, ``find`` is the only method to write.
    """

    #: Whether ``find`` needs labels.
    needs_labels: ClassVar[bool] = True
    #: Whether there is evidence for each predicted class, not one for all.
    per_class: bool = False
    #: Rows whose largest probability is below this are rejected; None rejects no row.
    reject_below: float | None = None

    @abstractmethod
    def find(self, rows: Rows, confidence: float) -> Findings:
        """Find out from rows what can be promised with this confidence.

        Parameters
        ----------
        rows : Rows
            ``proba`` (n, K), with NaN in rows that could not be scored; ``codes`` (n,), the column
            of each true label, or None without labels; ``classes`` (K,).
        confidence : float in (0, 1)
            Confidence of every promise.

        Returns
        -------
        findings : Findings
            Evidence and bounds; with an error if the target cannot be certified.
        """

    def check(self) -> None:
        """Raise InvalidInput if a parameter has no meaning."""
        if hasattr(self, "_parameter_constraints"):
            self._validate_params()

    def decider(self, classes: NDArray[Any], evidence: Sequence[PolicyEvidence]) -> Decider:
        """Return what gives rows their label, action and reason: thresholds, unless overridden."""
        thresholds = np.array([found.threshold for found in evidence])
        if not self.per_class:
            thresholds = np.full(classes.size, thresholds[0])
        return ThresholdDecider(thresholds, self.reject_below, self.per_class)

    def in_words(self, quantity: str, bound: float, confidence: float) -> str:
        """Say in words what is promised of a quantity."""
        certain = f"with {per_cent(confidence, down=True)} confidence"
        if quantity == "precision":
            bounded = per_cent(bound, down=True)
            return f"accepted rows are right at least {bounded} of the time, {certain}"
        if quantity == "review_rate":
            return f"at most {per_cent(bound)} of new rows go to review, {certain}"
        return f"{quantity.replace('_', ' ')} {bound:.4g}, {certain}"

    def bears_out(
        self,
        bounds: Mapping[str, float],
        evidence: Sequence[PolicyEvidence],
        confidence: float,
    ) -> bool:
        """Tell whether the rule could have promised this on this evidence; asked of a saved one."""
        return all(abs(found.confidence - confidence) < 1e-9 for found in evidence)


def evidence_of(
    rows: Rows, decider: Decider, threshold: float, confidence: float
) -> PolicyEvidence:
    """Judge a decider that no label has shaped: its plain binomial bound holds."""
    accepted = decider.act(rows.proba) == ACCEPT
    n_accepted = int(accepted.sum())
    n_errors, bound = None, None
    if rows.codes is not None:
        n_errors = int((decider.pick(rows.proba) != rows.codes)[accepted].sum())
        bound = precision_lower_bound(n_accepted, n_errors, confidence) if n_accepted else None
    return PolicyEvidence(None, threshold, len(rows.proba), n_accepted, n_errors, bound, confidence)


def per_cent(fraction: float, *, down: bool = False) -> str:
    """Return a fraction as a percentage, rounded to the side that promises less."""
    tenths = np.floor(fraction * 1000 + 1e-9) if down else np.ceil(fraction * 1000 - 1e-9)
    return f"{tenths / 10:.4g}%"
