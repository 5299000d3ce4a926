"""One limiter for all threads of a process that send to the same account.

Threads wait in a queue, and only the first of them looks at the clock.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from skllm_calib.evidence.limits.flow import Flow
from skllm_calib.evidence.limits.share import NO_LIMITS, Share, Ticket
from skllm_calib.evidence.limits.told import Learnt, Told, limits_told
from skllm_calib.evidence.limits.window import Grant, Order, fill
from skllm_calib.evidence.storage import Storage
from skllm_calib.exceptions import StorageError
from skllm_calib.utils.progress import note

__all__ = ["Limiter", "Sender"]

_PATIENCE = 60.0  # seconds for which the book may be out of reach
_GLANCE = 1.0  # seconds between two looks of the first in the queue
_SOME_SECONDS = 2.0
_LATELY = 10.0  # seconds
_LONGEST_HOLD = 60.0
_LEARNING = 0.1  # how much a single answer counts
_MOST_RATIO = 100.0


class Shelf(Protocol):
    """Where the book is."""

    def change_at(
        self, name: str, change: Callable[[str | None, float], str], *, durable: bool
    ) -> str:
        """As in ``Storage``."""


class _OwnShelf:
    """A book that only this process has."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._text: str | None = None
        self._lock = threading.Lock()

    def change_at(
        self, name: str, change: Callable[[str | None, float], str], *, durable: bool
    ) -> str:
        with self._lock:
            self._text = change(self._text, self._clock())
            return self._text


class Sender:
    """One run that sends to an account: what it may send, and whether it is over.

    Parameters
    ----------
    limits : sequence of float or None
        Requests and tokens in a minute that the user allows; None where that is left to the server.
    ceiling : int
        Most requests in flight.
    """

    def __init__(self, limits: Sequence[float | None], ceiling: int) -> None:
        self.limits = limits
        self.ceiling = ceiling
        self.is_over = False


class _Waiting:
    """A thread in the queue."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.news = threading.Event()


class Limiter:
    """What all threads, and all workers of a shared cache, may send to an account.

    Parameters
    ----------
    name : str
        Names the account in the cache.
    clock : callable, default=time.monotonic
    seed : int or None, default=None
    """

    def __init__(
        self, name: str, clock: Callable[[], float] = time.monotonic, seed: int | None = None
    ) -> None:
        # Of its own: workers that were forked share the state of the common one.
        self._chance = random.Random(seed)
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._senders: list[Sender] = []
        self.flow = Flow(self._chance)
        self.limits: Sequence[float] = NO_LIMITS
        self._learnt = Learnt(), Learnt()
        self._ratio = 1.0  # of the tokens that requests took to those that were guessed
        self._waits_for = ""
        self._to_tell = False  # others about a pause
        self._failing_since: float | None = None
        self._set_shelf(_OwnShelf(clock), is_shared=False)

    def _set_shelf(self, shelf: Shelf, *, is_shared: bool) -> None:
        self._shelf = shelf
        self._is_shared = is_shared
        self._share = Share(self._chance, is_shared=is_shared)

    @property
    def is_counting_tokens(self) -> bool:
        """Whether it matters how many tokens a request takes."""
        return self.limits[1] < math.inf

    def _set_limits(self) -> None:
        """Take the least that a run allows, else what the server has said."""
        given = [[x for s in self._senders if (x := s.limits[i]) is not None] for i in (0, 1)]
        learnt = (x.per_minute for x in self._learnt)
        self.limits = tuple(min(g) if g else x for g, x in zip(given, learnt, strict=True))

    @property
    def is_answered(self) -> bool:
        """Whether requests are answered at this time, so that a refused one will be."""
        return self._clock() - self.flow.answered_at < _LATELY

    def join(self, sender: Sender, storage: Storage | None = None) -> None:
        """Let a run send; the storage of its cache is where the book is."""
        if sender in self._senders:
            return
        with self._lock:
            if sender.is_over or sender in self._senders:
                return
            if storage is not None and getattr(self._shelf, "path", None) != storage.path:
                self._set_shelf(storage, is_shared=True)
            self._senders.append(sender)
            self._set_limits()
            self.flow.ceiling = sum(s.ceiling for s in self._senders)

    def leave(self, sender: Sender) -> None:
        """End a run: none of its threads waits any longer."""
        with self._lock:
            sender.is_over = True
            if sender not in self._senders:
                return
            limits = self.limits
            self._senders.remove(sender)
            self._set_limits()
            self.flow.ceiling = max(1, sum(s.ceiling for s in self._senders))
            for waiting in self._queue:
                waiting.news.set()
            if self._senders or limits == NO_LIMITS:
                return
            order = self._share.order(self._clock(), 0.0, limits, 0, 0.0)
        with suppress(StorageError):  # what nobody has needed
            self.look(order)

    def enter(self, sender: Sender, tokens: float) -> Ticket | None:
        """Wait until a request may be sent; None if the run is over before that."""
        with self._lock:
            is_alone = not self._queue and not sender.is_over
            found = self.attempt(tokens, 1) if is_alone else math.inf
            if isinstance(found, Ticket):
                return found
            waiting = _Waiting(sender)
            self._queue.append(waiting)
        try:
            while True:
                if isinstance(found, Order):
                    self.look(found)
                elif not sender.is_over:
                    if found < math.inf:
                        note(self._waits_for)
                    waiting.news.wait(min(found, _GLANCE) if found < math.inf else None)
                    waiting.news.clear()
                with self._lock:
                    if sender.is_over:
                        return None
                    is_first = self._queue[0] is waiting
                    found = self.attempt(tokens, len(self._queue)) if is_first else math.inf
                if isinstance(found, Ticket):
                    return found
        finally:
            note("")
            with self._lock:
                self._queue.remove(waiting)
                self._call_first()

    def attempt(self, tokens: float, n_waiting: int) -> Ticket | Order | float:
        """Return what the first of the queue gets, or is to bring to the book, or waits for.

        Under the lock; it is called again after these seconds, or when a request has ended.
        """
        now, limits, flow = self._clock(), self.limits, self.flow
        tokens *= self._ratio
        delay = self._share.wait(now, tokens, limits)
        if self._to_tell or delay < 0:
            self._to_tell = False
            n = min(max(n_waiting, flow.ceiling), max(1.0, flow.window(now)))
            pause = max(0.0, flow.paused_until - now)
            return self._share.order(now, tokens, limits, int(n), pause)
        self._waits_for = self._reason(now, delay)
        if (delay := max(delay, flow.wait(now))) > 0:
            return delay
        flow.begin(now)
        return self._share.take(now, tokens)

    def _reason(self, now: float, delay: float) -> str:
        """Say why nothing was sent for some seconds; "" where answers are waited for."""
        if now - self.flow.last_begun < _SOME_SECONDS:
            return ""
        if (pause := self.flow.paused_until - now) > 0:
            return f"waiting {pause:.0f} s after a refusal"
        return "waiting for the limit of a minute" if delay > 0 else ""

    def look(self, order: Order) -> None:
        """Bring an order to the book; several threads never do so at the same time."""
        granted: list[Grant] = []

        def change(text: str | None, now: float) -> str:
            changed, grant = fill(order, text, now)
            granted.append(grant)
            return changed

        began = self._clock()
        try:
            self._shelf.change_at(self._name, change, durable=False)
        except StorageError:
            with self._lock:
                now = self._clock()
                self._share.keep(order, now)
                if self._failing_since is None:
                    self._failing_since = now
                if now - self._failing_since > _PATIENCE:
                    raise
            return
        with self._lock:
            self._failing_since = None
            self._share.fill(order, granted[-1], began, self._clock())
            if granted[-1].pause:
                self.flow.join(self._clock(), granted[-1].pause)

    def _call_first(self) -> None:
        if self._queue:
            self._queue[0].news.set()

    def done(self, ticket: Ticket, headers: Mapping[str, str] | None, tokens: float | None) -> None:
        """Count what came of a request; without headers no answer came."""
        with self._lock:
            self.flow.end(ticket.begun, self._clock(), is_answer=headers is not None)
            self._note(ticket, headers, tokens)

    def refused(
        self, ticket: Ticket, headers: Mapping[str, str] | None, retry_after: float | None
    ) -> None:
        """Count a request that was refused because there were too many."""
        with self._lock:
            n_events = self.flow.n_events
            pause = self.flow.refuse(ticket.begun, self._clock(), retry_after)
            self._to_tell |= self._is_shared and self.flow.n_events > n_events and pause > 0
            self._note(ticket, headers, None)

    def _note(
        self, ticket: Ticket, headers: Mapping[str, str] | None, tokens: float | None
    ) -> None:
        if tokens is not None:
            self._share.correct(ticket, tokens)
            if ticket.tokens and tokens:
                ratio = self._ratio * (tokens / ticket.tokens) ** _LEARNING
                self._ratio = min(_MOST_RATIO, max(1 / _MOST_RATIO, ratio))
        if headers is not None:
            for i, told in enumerate(limits_told(headers)):
                if told is not None:
                    before = self._learnt[i].per_minute
                    self._learnt[i].note(told)
                    if self._learnt[i].per_minute != before:
                        self._set_limits()
                    self._hold(told, (1.0, ticket.tokens)[i])
        self._call_first()

    def _hold(self, told: Told, need: float) -> None:
        """Wait where nothing remains, because others send to the account, too."""
        if told.remaining < 1 and told.reset > 0:
            seconds = min(told.reset, _LONGEST_HOLD) * min(1.0, max(1.0, need) / told.limit)
            self.flow.hold(self._clock(), seconds)
