"""MeteredRuns: requests on their way to a backend, as far as a budget goes, and what they took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from skllm_calib.evidence.backends.base import Request
from skllm_calib.evidence.money.spending import Meter
from skllm_calib.evidence.runs import Arrived, PooledRuns, Runs
from skllm_calib.exceptions import BackendError

__all__ = ["MeteredRuns"]

_FEW = 16  # requests that wait for a thread
_PAUSE = 0.02  # seconds between two looks at what other threads have left


class MeteredRuns(Runs):
    """Runs that a request enters only when the budget allows what it may take.

    What the budget does not allow yet waits for the answers that are under way, as these mostly
    took less than was set aside. If there are none, the budget is spent: this ends everything.

    Parameters
    ----------
    runs : Runs
    meter : Meter
    """

    def __init__(self, runs: Runs, meter: Meter) -> None:
        self._runs = runs
        self._meter = meter
        self.n_ahead = runs.n_ahead
        self._most_waiting = _FEW if isinstance(runs, PooledRuns) else runs.n_ahead
        self._held: deque[tuple[str, Request]] = deque()
        self._late: deque[Arrived] = deque()  # came to nothing
        self._n_sent = 0  # and not taken
        self._last_key = ""
        self._exceeded: BackendError | None = None

    @property
    def fatal(self) -> BackendError | None:  # type: ignore[override]
        """What ended a run."""
        return self._exceeded or self._runs.fatal

    def put(self, key: str, request: Request) -> BackendError | None:
        """Hand in a request; the answer, if it is known, is what ended its run."""
        if self._exceeded is not None:
            return self._meter.exceeded()  # one for each row, as each is raised
        if self._held or self._is_full or not self._meter.admit(key, request):
            self._held.append((key, request))
            return None
        return self._send(key, request)

    @property
    def _is_full(self) -> bool:
        """Whether enough is set aside: what is lost with this process should be little."""
        return self._meter.is_limited and self._runs.n_waiting >= self._most_waiting

    def _send(self, key: str, request: Request) -> BackendError | None:
        if (failure := self._runs.put(key, request)) is not None:
            self._meter.settle(key, failure)
        else:
            self._n_sent += 1
        return failure

    @property
    def n_waiting(self) -> int:
        """How many requests have not begun."""
        return self._runs.n_waiting + len(self._held)

    @property
    def is_idle(self) -> bool:
        """Whether nothing has arrived, and the backend may soon be without work."""
        return self._runs.is_idle and not self._held and not self._late

    def take(self, *, wait: bool) -> Arrived | None:
        """Return what has arrived; wait for it if there is nothing."""
        self._admit()
        if self._late:
            return self._late.popleft()
        if self._held and not self._n_sent and wait:
            time.sleep(_PAUSE)
            return None
        if (arrived := self._runs.take(wait=wait)) is not None:
            self._n_sent -= 1
            self._last_key = arrived[0]
            self._meter.settle(*arrived)
        return arrived

    def _admit(self) -> None:
        """Send what the budget allows by now."""
        while self._held and not self._is_full:
            key, request = self._held[0]
            if self._meter.admit(key, request):
                self._held.popleft()
                if (failure := self._send(key, request)) is not None:
                    self._late.append((key, failure))
            elif self._n_sent or self._meter.may_wait():
                return
            else:
                self._exceeded = self._meter.exceeded()
                self._late.extend((key, self._meter.exceeded()) for key, _ in self._held)
                self._held.clear()

    def rest(self) -> Iterator[Arrived]:
        """End everything after an interrupt, and yield what has arrived, perhaps once more."""
        n_not_begun = self._runs.n_waiting
        for key, answer in self._runs.rest():
            if key != self._last_key:
                self._meter.settle(key, answer)
            yield key, answer
        self._meter.drop_last(n_not_begun)

    def close(self) -> None:
        """End everything."""
        self._runs.close()

    def _put(self, kind: str, key: str, request: Request) -> None:
        raise NotImplementedError
