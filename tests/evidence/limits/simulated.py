"""Servers with limits, and clients that send to them, in simulated time.

The clients are the real limiter, one per process, on one book; or what SDKs do without it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field

from skllm_calib.evidence.limits.limiter import Limiter, Sender
from skllm_calib.evidence.limits.share import Ticket
from skllm_calib.evidence.limits.window import Order

_SEEDS = itertools.count()


class Time:
    """What happens when."""

    def __init__(self):
        self.now = 1_000_000.0
        self._events = []
        self._order = itertools.count()

    def at(self, seconds, event):
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def run(self, until=math.inf):
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()


class Database:
    """A book that several processes change; its clock is not theirs."""

    path = "simulated"

    def __init__(self, time):
        self._time = time
        self._texts = {}
        self.n_changes = 0

    def change_at(self, name, change, *, durable):
        self.n_changes += 1
        self._texts[name] = change(self._texts.get(name), self._time.now + 12_345.6)
        return self._texts[name]


@dataclass
class Server:
    """Answers at most `limit` requests in any `period`; what it refuses does not count.

    `kind`: "sliding" as said; "bucket": fills up evenly.
    """

    time: Time
    limit: float
    period: float = 60.0
    kind: str = "sliding"
    tells_when: bool = True
    has_headers: bool = False
    seconds: float = 0.2
    jitter: float = 0.05
    most_at_once: float = math.inf
    arrivals: list = field(default_factory=list)
    n_refused: int = 0
    in_flight: int = 0
    most_seen: int = 0
    level: float = math.nan
    filled_at: float = 0.0
    _random: random.Random = field(default_factory=lambda: random.Random(0))
    _window: deque = field(default_factory=deque)

    def send(self, done):
        """Take a request; `done(status, headers, retry_after)` is called with the answer."""
        way = self._random.uniform(0.0, self.jitter)
        self.time.at(way, lambda: self._arrive(done))

    def _arrive(self, done):
        now = self.time.now
        self.arrivals.append(now)
        wait = self._wait(now)
        if self.in_flight >= self.most_at_once:
            self.n_refused += 1
            self.time.at(0.01, lambda: done(503, {}, None))
        elif wait > 0:
            self.n_refused += 1
            retry_after = wait if self.tells_when else None
            self.time.at(0.01, lambda: done(429, self._headers(), retry_after))
        else:
            self._count(now)
            self.in_flight += 1
            self.most_seen = max(self.most_seen, self.in_flight)
            headers = self._headers()
            seconds = self.seconds * self._random.uniform(0.5, 1.5)
            self.time.at(seconds, lambda: self._leave(done, headers))

    def _leave(self, done, headers):
        self.in_flight -= 1
        done(200, headers, None)

    def _wait(self, now):
        if self.kind == "sliding":
            while self._window and self._window[0] <= now - self.period:
                self._window.popleft()
            full = len(self._window) >= self.limit
            return self._window[0] + self.period - now if full else 0.0
        rate = self.limit / self.period
        if math.isnan(self.level):
            self.level, self.filled_at = self.limit, now
        self.level = min(self.limit, self.level + rate * (now - self.filled_at))
        self.filled_at = now
        return max(0.0, (1.0 - self.level) / rate)

    def _count(self, now):
        if self.kind == "sliding":
            self._window.append(now)
        else:
            self.level -= 1.0

    def _headers(self):
        if not self.has_headers:
            return {}
        if self.kind == "sliding":
            remaining = self.limit - len(self._window)
            reset = self._window[-1] + self.period - self.time.now if self._window else 0.0
        else:
            remaining = int(self.level)
            reset = (self.limit - self.level) * self.period / self.limit
        return {
            "x-ratelimit-limit-requests": f"{self.limit:g}",
            "x-ratelimit-remaining-requests": f"{remaining:g}",
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }

    def most_in(self, seconds=60.0):
        """Return the most requests that came in any window of so many seconds."""
        most, first = 0, 0
        for last, moment in enumerate(self.arrivals):
            while self.arrivals[first] <= moment - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


class Process:
    """A process with the limiter, that sends rows with some threads."""

    def __init__(
        self,
        time,
        server,
        n_rows,
        n_threads,
        *,
        limits=(None, None),
        database=None,
        tokens=(10, 10),
    ):
        self._guess, self._used = tokens
        self.time, self.server = time, server
        self.n_left, self.n_failed, self.ended_at = n_rows, 0, None
        self._n_waiting = self._n_open = 0
        self.limiter = Limiter("account", clock=lambda: time.now, seed=next(_SEEDS))
        self._sender = Sender(limits, n_threads)
        self.limiter.join(self._sender, database)
        self.is_dead = False
        self._polls = math.inf
        self._rows = deque()
        for _ in range(n_threads):
            self._next()
        self._poll()

    def _next(self):
        if self.n_left:
            self.n_left -= 1
            self._rows.append(0)
            self._n_open += 1
        elif not self._n_open and self.ended_at is None:
            self.ended_at = self.time.now
            self.limiter.leave(self._sender)

    def _poll(self):
        while self._rows and not self.is_dead:
            found = self.limiter.attempt(self._guess, len(self._rows))
            if isinstance(found, Order):
                self.limiter.look(found)
            elif isinstance(found, Ticket):
                self._send(found, self._rows.popleft())
            else:
                if found < math.inf and not self.time.now < self._polls <= self.time.now + found:
                    self._polls = self.time.now + found
                    self.time.at(found + 1e-6, self._poll_again)
                return

    def _poll_again(self):
        self._polls = math.inf
        self._poll()

    def _send(self, ticket, n_tries):
        def done(status, headers, retry_after):
            if self.is_dead:
                return
            if status == 200:
                self.limiter.done(ticket, headers, self._used)
                self._end()
            else:
                self.limiter.refused(ticket, headers, retry_after)
                if n_tries >= 5:
                    self.n_failed += 1
                    self._end()
                else:
                    self._rows.append(n_tries + (0.25 if self.limiter.is_answered else 1))
            self._poll()

        self.server.send(done)

    def _end(self):
        self._n_open -= 1
        self._next()


class Plain:
    """A process that does what SDKs do: each request is sent again by itself."""

    def __init__(self, time, server, n_rows, n_threads, *, n_retries=2):
        self.time, self.server, self.n_retries = time, server, n_retries
        self.n_left, self.n_failed, self.ended_at = n_rows, 0, None
        self._n_open = 0
        self._random = random.Random(1)
        for _ in range(n_threads):
            self._next()

    def _next(self):
        if self.n_left:
            self.n_left -= 1
            self._n_open += 1
            self._send(0)
        elif not self._n_open and self.ended_at is None:
            self.ended_at = self.time.now

    def _send(self, n_tries):
        def done(status, headers, retry_after):
            if status == 200 or n_tries == self.n_retries:
                self.n_failed += status != 200
                self._n_open -= 1
                self._next()
                return
            pause = min(8.0, 0.5 * 2.0**n_tries) * self._random.uniform(0.75, 1.0)
            self.time.at(
                pause if retry_after is None else retry_after, lambda: self._send(n_tries + 1)
            )

        self.server.send(done)
