"""The error of the accepted rows, from a random sample of them that people have looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from scipy.stats import hypergeom

__all__ = ["AcceptedError", "Stratum", "accepted_error"]


class Stratum(NamedTuple):
    """Accepted rows with the same probability of being audited, and their labels."""

    inclusion: float
    n_accepted: int
    n_drawn: int
    n_settled: int
    n_wrong: int
    n_disputed: int


@dataclass(frozen=True)
class AcceptedError:
    """How many of the accepted rows are wrong, as a share.

    Attributes
    ----------
    estimate : float
        Share of accepted rows whose label is wrong, in [0, 1]; NaN before the first label.
    lower, upper : float
        Exact interval of that share, in [0, 1].
    confidence : float
        Confidence of the interval, in (0, 1).
    n_accepted : int
        Accepted rows in the queue, which the figures are about.
    n_audited : int
        Those drawn for the audit that reviewers have labelled.
    n_wrong : int
        Those whose label the reviewers changed.
    n_disputed : int
        Those that reviewers disagree on. The estimate and the upper end take them to be wrong,
        the lower end takes them to be right.
    n_waiting : int
        Rows drawn for the audit that nobody has labelled yet.
    """

    estimate: float
    lower: float
    upper: float
    confidence: float
    n_accepted: int
    n_audited: int
    n_wrong: int
    n_disputed: int
    n_waiting: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; None for an estimate that cannot be made."""
        estimate = None if math.isnan(self.estimate) else self.estimate
        return asdict(self) | {"estimate": estimate}

    def __str__(self) -> str:
        if self.n_audited == 0:
            return (
                f"Nothing is known about the {self.n_accepted:,} accepted rows: none of the "
                f"{self.n_waiting:,} rows drawn for the audit is labelled."
            )
        waiting = f"; {self.n_waiting:,} more wait for a label" if self.n_waiting else ""
        disputed = f", {self.n_disputed:,} disputed" if self.n_disputed else ""
        return (
            f"{self.estimate:.2%} of {self.n_accepted:,} accepted rows are wrong, between "
            f"{self.lower:.2%} and {self.upper:.2%} with {self.confidence:.0%} confidence "
            f"({self.n_audited:,} audited, {self.n_wrong:,} wrong{disputed}{waiting})."
        )


def accepted_error(strata: Sequence[Stratum], confidence: float) -> AcceptedError:
    """Combine strata of equal chance; the random draw is all that is relied on.

    Within a stratum the labelled rows are a simple random sample without replacement, so that the
    number of wrong ones is hypergeometric. Strata share the confidence out (Bonferroni).
    """
    looked_at = [s for s in strata if s.n_settled + s.n_disputed > 0]
    n_known = sum(s.n_accepted for s in looked_at)
    n_accepted = sum(s.n_accepted for s in strata)
    wrong = lower = upper = 0.0
    for s in strata:
        n = s.n_settled + s.n_disputed
        if n == 0:  # nothing but the number of rows is known
            upper += s.n_accepted
            continue
        tail = (1 - confidence) / (2 * len(looked_at))
        wrong += s.n_accepted * (s.n_wrong + s.n_disputed) / n
        lower += fewest_wrong(s.n_accepted, n, s.n_wrong, tail)
        upper += most_wrong(s.n_accepted, n, s.n_wrong + s.n_disputed, tail)
    return AcceptedError(
        estimate=wrong / n_known if n_known else math.nan,
        lower=lower / n_accepted if n_accepted else 0.0,
        upper=upper / n_accepted if n_accepted else 1.0,
        confidence=float(confidence),
        n_accepted=n_accepted,
        n_audited=sum(s.n_settled + s.n_disputed for s in strata),
        n_wrong=sum(s.n_wrong for s in strata),
        n_disputed=sum(s.n_disputed for s in strata),
        n_waiting=sum(s.n_drawn - s.n_settled - s.n_disputed for s in strata),
    )


def most_wrong(n_rows: int, n: int, n_wrong: int, tail: float) -> int:
    """Return the largest number of wrong rows under which so few among `n` are not surprising."""
    return _last(
        n_wrong, n_rows - (n - n_wrong), lambda m: hypergeom.cdf(n_wrong, n_rows, m, n) > tail
    )


def fewest_wrong(n_rows: int, n: int, n_wrong: int, tail: float) -> int:
    """Return the smallest number of wrong rows under which so many among `n` are not surprising."""
    return n_rows - most_wrong(n_rows, n, n - n_wrong, tail)  # wrong and right change places


def _last(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the last of ``low..high`` where `holds`, true at `low` and from some point on not."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
