"""How many requests are in flight: all that are wanted, until a server refuses some.

As in TCP: after a refusal nobody sends for as long as the server asks, and longer each time where
it refuses again. Then one request is sent, and more as they are answered: up to half of what was
refused quickly, then ever slower up to all of it, and beyond. Refusals of what had been sent before
say nothing new. Below one in flight, the gaps between requests grow.
"""

from __future__ import annotations

import math
import random

__all__ = ["Flow"]

_LEAST = 0.02  # in flight
_RECOVERY = 8.0  # seconds from half of what was refused to all of it
_PAUSES = (0.5, 8.0)  # seconds: the first, and the longest
_SPREAD = 0.1  # of a pause is added at random, so that workers do not come back together
_MOST_SPREAD = 0.5  # seconds


class Flow:
    """What may be in flight; the time is passed in.

    Attributes
    ----------
    in_flight : int
    window : float
        How many may be.
    ceiling : int
        How many are wanted at most.
    paused_until : float
    n_refused, n_events : int
        How many requests were refused, and how often that said something new.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.window = math.inf
        self.ceiling = 1
        self.paused_until = -math.inf
        self.n_refused = self.n_events = 0
        self._most = math.inf  # in flight when some were refused
        self._news = -math.inf  # when a refusal last said something new
        self._n_in_a_row = 0  # of them, without an answer in between
        self._last_begun = -math.inf
        self._seconds = 0.0  # that an answer takes
        self._random = random.Random()

    def wait(self, now: float) -> float:
        """Return the seconds until a request may be sent; infinite until one has ended."""
        if now < self.paused_until:
            return self.paused_until - now
        if self.in_flight >= max(1.0, self.window):
            return math.inf
        if self.window < 1.0:
            return max(0.0, self._last_begun + self._seconds / self.window - now)
        return 0.0

    def begin(self, now: float) -> None:
        """Count a request that is sent."""
        self.in_flight += 1
        self._last_begun = now

    def end(self, begun: float, now: float, *, is_answer: bool) -> None:
        """Count a request that was not refused; one without an answer says nothing."""
        was_full = self.in_flight >= self.window
        self.in_flight -= 1
        if not is_answer or begun <= self._news:
            return
        self._n_in_a_row = 0
        self._seconds = 0.8 * self._seconds + 0.2 * (now - begun) if self._seconds else now - begun
        if was_full or self.window < 1.0:
            self._grow(now)

    def refuse(self, begun: float, now: float, retry_after: float | None) -> float:
        """Count a request that was refused, and return for how long nobody sends."""
        at_once = min(float(self.in_flight), self.window)
        self.in_flight -= 1
        self.n_refused += 1
        pause = retry_after or 0.0
        if begun > self._news:
            self.n_events += 1
            if not self._n_in_a_row:
                self._slow_down(now, at_once)
            self._news, self.window = now, min(1.0, self._most / 2)
            if self._n_in_a_row or retry_after is None:
                first, longest = _PAUSES
                growing = min(longest, first * 2.0**self._n_in_a_row)
                pause = max(pause, growing * self._random.uniform(0.5, 1.0))
            self._n_in_a_row += 1
        self.pause(now, pause)
        return self.paused_until - now

    def pause(self, now: float, seconds: float) -> None:
        """Let nobody send for some time."""
        spread = min(_MOST_SPREAD, _SPREAD * seconds) * self._random.random()
        self.paused_until = max(self.paused_until, now + seconds + spread)

    def join(self, now: float, seconds: float) -> None:
        """Pause because another worker was refused, and come back as slowly."""
        if now + seconds > self.paused_until + _MOST_SPREAD:
            self._news, self.window = now, min(1.0, self.window)
            self.pause(now, seconds)

    def _slow_down(self, now: float, at_once: float) -> None:
        self._news = now
        self._most = max(_LEAST, at_once)
        self.window = min(1.0, self._most / 2)

    def _grow(self, now: float) -> None:
        half = self._most / 2
        if self.window < half:
            self.window = min(half, self.window + min(1.0, self.window))
        else:
            rounds = (now - max(self._news, self.paused_until)) / _RECOVERY - 1.0
            self.window = max(self.window, self._most * (1.0 + 0.5 * rounds**3))
        if self.window >= self.ceiling:
            self.window = self._most = math.inf
