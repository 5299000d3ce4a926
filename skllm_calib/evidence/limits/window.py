"""What was sent in the last minute, as a small text that all workers of an account change in turns.

A server counts requests in any minute, also in one that begins in the middle of ours. So they are
counted by steps of six tenths of a second, and a step counts until all of it is over a minute old,
and a step longer: that is how much later than another one a request may arrive.

A transaction per request would cost more than a request. So a worker takes a share of what is free
for the next moment, and gives back what it did not need when it comes again. What a worker that was
killed has taken counts as sent, for a minute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["LEASE", "Book", "Grant", "Order", "fill"]

LEASE = 0.3
"""Seconds in which a share is to be used at least; what is left then is given back."""

_STEP = 0.6
_N_STEPS = 102  # a minute, the step that has begun, and one for what arrives late
_MOMENT = 0.001  # seconds: what is rounded away at the beginning of a step
_AHEAD = 200  # steps: nothing is dated later than that, unless a clock was set back


class Book:
    """The text, read.

    Attributes
    ----------
    pause : float
        Until when nobody sends, by the clock of the database.

    Parameters
    ----------
    text : str or None
    now : float
        By the clock of the database.
    """

    def __init__(self, text: str | None, now: float) -> None:
        self._now = now
        self._step = int(now / _STEP)
        content = json.loads(text or "{}")
        self._used: dict[int, list[float]] = {}
        for step, amounts in content.get("used", {}).items():
            self.add(int(step), amounts)
        pause = float(content.get("pause", 0.0))
        self.pause = pause if pause - now < _AHEAD * _STEP else 0.0

    def add(self, step: int, amounts: Sequence[float]) -> None:
        """Count something that was sent, or not, in a step; what is old is left out."""
        if not self._step - _N_STEPS < step <= self._step + _AHEAD:
            return
        counted = self._used.setdefault(step, [0.0] * len(amounts))
        for i, amount in enumerate(amounts):
            counted[i] = max(0.0, counted[i] + amount)

    def free(self, limits: Sequence[float]) -> list[float]:
        """Return how much of each limit is left."""
        return [limit - sum(c[i] for c in self._used.values()) for i, limit in enumerate(limits)]

    def wait(self, need: Sequence[float], limits: Sequence[float]) -> float:
        """Return the seconds until so much is left, if nobody takes it."""
        free = self.free(limits)
        if _fits(need, free):
            return 0.0
        for step in sorted(self._used):
            free = [f + c for f, c in zip(free, self._used[step], strict=True)]
            if _fits(need, free):
                return max(_MOMENT, (step + _N_STEPS) * _STEP - self._now)
        return _STEP

    def text(self) -> str:
        """Write it."""
        used = {str(step): [round(a) for a in c] for step, c in self._used.items() if any(c)}
        return json.dumps({"used": used, "pause": round(self.pause, 3)}, separators=(",", ":"))


def _fits(need: Sequence[float], free: Sequence[float]) -> bool:
    return all(n <= f for n, f in zip(need, free, strict=True))


@dataclass(frozen=True)
class Order:
    """What a worker brings to the book, and what it wants from it.

    Attributes
    ----------
    changes : mapping of int to sequence of float
        What was sent (or, below zero, not sent after all) by steps.
    need : sequence of float
        The least that it can do something with; nothing where it wants nothing.
    want : sequence of float
        What it can use in the next moment.
    limits : sequence of float
        Most that may be sent in a minute; infinite where there is no limit.
    pause : float
        Seconds for which nobody is to send.
    fraction : float
        How much of what is free it takes at most, as others may need some.
    lease : float
        Seconds in which it uses that.
    """

    changes: Mapping[int, Sequence[float]]
    need: Sequence[float] = ()
    want: Sequence[float] = ()
    limits: Sequence[float] = ()
    pause: float = 0.0
    fraction: float = 1.0
    lease: float = LEASE


@dataclass(frozen=True)
class Grant:
    """What a worker may send.

    Attributes
    ----------
    amounts : list of float
        Empty where there is not enough.
    step : int
        Where they are counted.
    wait : float
        Seconds until there may be enough.
    pause : float
        Seconds for which nobody sends.
    now : float
        By the clock of the database.
    """

    amounts: list[float] = field(default_factory=list)
    step: int = 0
    wait: float = 0.0
    pause: float = 0.0
    now: float = 0.0


def fill(order: Order, text: str | None, now: float) -> tuple[str, Grant]:
    """Return the new text of the book, and what the worker gets."""
    book = Book(text, now)
    for changed, amounts in order.changes.items():
        book.add(changed, amounts)
    if order.pause:
        book.pause = max(book.pause, now + order.pause)
    step, granted = step_at(now + order.lease), []
    # More than a limit is never free: what needs more goes alone.
    need = [min(n, limit) for n, limit in zip(order.need, order.limits, strict=True)]
    wait = book.wait(need, order.limits) if need else 0.0
    if need and not wait:
        free = book.free(order.limits)
        for least, want, most in zip(need, order.want, free, strict=True):
            part = order.fraction * most
            granted.append(max(least, min(want, math.ceil(part))) if most < math.inf else most)
        # What has no limit is counted when it is sent.
        book.add(step, [0.0 if math.isinf(amount) else amount for amount in granted])
    return book.text(), Grant(granted, step, wait, max(0.0, book.pause - now), now)


def step_at(now: float) -> int:
    """Return the step of a moment by the clock of the database."""
    return int(now / _STEP)
