"""A worker's share of what may be sent, and what it still has to tell the others."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from skllm_calib.evidence.limits.window import LEASE, Grant, Order, step_at

__all__ = ["NO_LIMITS", "Share", "Ticket"]

NO_LIMITS = (math.inf, math.inf)
"""Requests and tokens in a minute."""

_GAP = 0.05  # seconds between two looks into the book at least
_BEAT = 1.0  # and at most, while something is sent
_PATIENCE = 4.0  # times the duration of a look are between two of them, where that is more
_LONGEST_LEASE = 10.0  # seconds
_FRACTION = 0.5  # of what is free, where other workers may need some


class Ticket(NamedTuple):
    """What was taken for a request, and where it is counted."""

    begun: float
    step: int
    tokens: float


class Share:
    """Part of what may be sent, for the next moment; the time is passed in.

    Parameters
    ----------
    chance : Random
        Spreads what would come together.
    is_shared : bool
        Whether there may be other workers.
    """

    def __init__(self, chance: random.Random, *, is_shared: bool) -> None:
        self._chance = chance
        self._is_shared = is_shared
        self._left = [0.0, 0.0]
        self._limits: Sequence[float] = NO_LIMITS  # for which this was taken
        self._step = 0
        self._until = -math.inf
        self._changes: dict[int, list[float]] = {}
        self._ahead = 0.0  # of the clock of the database
        self._looked_at = -math.inf
        self._free_at = -math.inf
        self._took = 0.0  # seconds for a look: where the book is busy, look rarely
        self._n_used = 0
        self._appetite = 0  # requests in the next moment

    def wait(self, now: float, tokens: float, limits: Sequence[float]) -> float:
        """Return the seconds until a request may be sent; below zero if the book has to tell."""
        if now - self._looked_at > max(_BEAT, _PATIENCE * self._took) and now >= self._free_at:
            return -1.0
        if limits == NO_LIMITS or self._has(now, tokens, limits):
            return 0.0
        return max(self._free_at, self._looked_at + max(_GAP, self._took)) - now or -1.0

    def _has(self, now: float, tokens: float, limits: Sequence[float]) -> bool:
        if now >= self._until or limits != self._limits:
            return False
        requests, left = self._left
        return requests >= 1.0 and left >= min(tokens, limits[1])

    def take(self, now: float, tokens: float) -> Ticket:
        """Take what a request needs."""
        spent = (1.0, tokens)
        self._n_used += 1
        step = self._step
        if now >= self._until:
            step = step_at(now + self._ahead)
            self._count(step, spent)
        else:
            self._left = [left - s for left, s in zip(self._left, spent, strict=True)]
            unbooked = [
                s if math.isinf(x) else 0.0 for s, x in zip(spent, self._limits, strict=True)
            ]
            self._count(step, unbooked)
        return Ticket(now, step, tokens)

    def correct(self, ticket: Ticket, tokens: float) -> None:
        """Say how many tokens a request really took."""
        self._count(ticket.step, (0.0, tokens - ticket.tokens))

    def order(
        self, now: float, tokens: float, limits: Sequence[float], n_waiting: int, pause: float
    ) -> Order:
        """Return what to bring to the book; `n_waiting` is how many requests there are."""
        self._give_back()
        changes, self._changes = self._changes, {}
        if not n_waiting:
            return Order(changes, pause=pause)
        if now < self._until:  # it was too little
            self._appetite *= 2
        else:
            self._appetite = math.ceil(1.25 * self._n_used)
        self._n_used = 0
        self._appetite = max(self._appetite, n_waiting)
        need = (1.0, tokens)
        want = (self._appetite, self._appetite * tokens)
        fraction = _FRACTION if self._is_shared else 1.0
        lease = min(_LONGEST_LEASE, max(LEASE, _PATIENCE * self._took))
        return Order(changes, need, want, limits, pause, fraction, lease)

    def _give_back(self) -> None:
        unused = [
            0.0 if math.isinf(x) else -n for n, x in zip(self._left, self._limits, strict=True)
        ]
        if any(unused):
            self._count(self._step, unused)
        self._left = [0.0, 0.0]

    def fill(self, order: Order, grant: Grant, began: float, now: float) -> None:
        """Take what the book has granted to an order that was made at a moment."""
        self._looked_at = now
        self._took = max(now - began, 0.5 * self._took)
        self._ahead = grant.now - now
        # Before its time others give back what they did not need, and answers took fewer tokens.
        self._free_at = now + min(grant.wait, _BEAT)
        if self._is_shared and grant.wait:
            self._free_at += self._chance.uniform(0.0, _GAP)
        self._left, self._limits, self._step = [0.0, 0.0], order.limits or NO_LIMITS, grant.step
        self._until = began + order.lease if grant.amounts else -math.inf
        if grant.amounts:
            self._left = grant.amounts

    def keep(self, order: Order, now: float) -> None:
        """Keep what could not be brought to the book; nobody knows whether it was."""
        for step, amounts in order.changes.items():
            self._count(step, [max(0.0, amount) for amount in amounts])
        self._free_at = now + _BEAT
        self._until = -math.inf

    def _count(self, step: int, amounts: Sequence[float]) -> None:
        counted = self._changes.setdefault(step, [0.0, 0.0])
        for i, amount in enumerate(amounts):
            counted[i] += amount
