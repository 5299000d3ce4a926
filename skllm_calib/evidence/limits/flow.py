"""How many requests are in flight: all that are wanted, until a server refuses some.

As in TCP: after a refusal nobody sends for as long as the server asks, and longer each time where
it refuses again. Then up to half of what was refused, spread over a second, then ever slower up to
all of it, and beyond. Refusals of what had been sent before say nothing new. Below one in flight,
the gaps between requests grow.
"""

from __future__ import annotations

import math
import random

__all__ = ["Flow"]

_LEAST = 0.02  # in flight
_SPREADING = 1.0  # seconds in which requests come back after a pause
_GLANCE = 1.0  # seconds
_RECOVERY = 8.0  # seconds from half of what was refused to all of it
_PAUSES = (0.5, 8.0)  # seconds: the first, and the longest
_SPREAD = 0.1  # of a pause is added at random, so that workers do not come back together
_MOST_SPREAD = 0.5  # seconds


class Flow:
    """What may be in flight; the time is passed in.

    Parameters
    ----------
    chance : Random
        Spreads what would come together.

    Attributes
    ----------
    in_flight : int
    ceiling : int
        How many are wanted at most.
    paused_until, answered_at, last_begun : float
    n_refused, n_events : int
        How many requests were refused, and how often that said something new.
    """

    def __init__(self, chance: random.Random) -> None:
        self.in_flight = 0
        self.ceiling = 1
        self.paused_until = self.answered_at = -math.inf
        self.n_refused = self.n_events = 0
        self._held_until = -math.inf
        self._most = math.inf  # that may be in flight as long as none is refused
        self._news = -math.inf  # when a refusal last said something new
        self._n_in_a_row = 0  # of them, without an answer in between
        self.last_begun = -math.inf
        self._seconds = 0.0  # that an answer takes
        self._chance = chance

    def window(self, now: float) -> float:
        """Return how many may be in flight."""
        half = self._most / 2
        if math.isinf(half):
            return half
        seconds = now - max(self._news, self.paused_until)
        if half > 1.0 and seconds < _SPREADING:
            return 1.0 + (half - 1.0) * max(0.0, seconds) / _SPREADING
        window = self._most + half * (seconds / _RECOVERY - 1.0) ** 3
        if window >= self.ceiling:
            self._most = math.inf
        return max(window, half)

    def wait(self, now: float) -> float:
        """Return the seconds until a request may be sent, or until it is worth asking again."""
        if (until := max(self.paused_until, self._held_until)) > now:
            return until - now
        window = self.window(now)
        if self.in_flight + 1 > max(1.0, window):
            # Until one has ended, or there is room for more of them.
            return _SPREADING / 20 if now < self.paused_until + _SPREADING else _GLANCE
        if window < 1.0:
            return max(0.0, self.last_begun + self._seconds / window - now)
        return 0.0

    def begin(self, now: float) -> None:
        """Count a request that is sent."""
        self.in_flight += 1
        self.last_begun = now

    def end(self, begun: float, now: float, *, is_answer: bool) -> None:
        """Count a request that was not refused; one without an answer says nothing."""
        self.in_flight -= 1
        if not is_answer:
            return
        self.answered_at = now
        self._seconds = 0.8 * self._seconds + 0.2 * (now - begun) if self._seconds else now - begun
        if begun > self._news:
            self._n_in_a_row = 0

    def refuse(self, begun: float, now: float, retry_after: float | None) -> float:
        """Count a request that was refused, and return for how long nobody sends."""
        self.in_flight -= 1
        self.n_refused += 1
        pause = retry_after or 0.0
        if begun > self._news:
            self.n_events += 1
            if not self._n_in_a_row:
                self._most = max(_LEAST, min(self.ceiling, self.window(now)))
            if self._n_in_a_row or retry_after is None:
                first, longest = _PAUSES
                growing = min(longest, first * 2.0**self._n_in_a_row)
                pause = max(pause, growing * self._chance.uniform(0.5, 1.0))
            self._n_in_a_row += 1
            self._news = now
        self.pause(now, pause)
        return self.paused_until - now

    def pause(self, now: float, seconds: float) -> None:
        """Let nobody send for some time."""
        spread = min(_MOST_SPREAD, _SPREAD * seconds) * self._chance.random()
        self.paused_until = max(self.paused_until, now + seconds + spread)

    def hold(self, now: float, seconds: float) -> None:
        """Let nobody send for a moment, although nobody was refused."""
        self._held_until = max(self._held_until, now + seconds)

    def join(self, now: float, seconds: float) -> None:
        """Pause because another worker was refused."""
        if now + seconds > self.paused_until + _MOST_SPREAD:
            self._news = now
            self.pause(now, seconds)
