"""Many requests at a time, answers as they come, one bad row costing no other."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.exceptions import BackendError

__all__ = ["RunEndedError", "answer_all"]

_TICK = 0.1  # seconds: a wait without an end cannot be interrupted on every system
_ARRIVING = 0.3  # seconds after an interrupt in which replies that are being sent are still read
_PATIENCE = 1.0  # seconds that an interrupted run waits for threads that were told to end


class RunEndedError(Exception):
    """The run has ended, so this request gets no answer: neither a reply nor a failure."""


def answer_all(
    answer: Callable[[Request], Reply],
    requests: Sequence[Request],
    n_workers: int,
    *,
    end: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Reply | BackendError]]:
    """Yield (index, reply or failure) for each request, `n_workers` at a time.

    When the caller stops early (an interrupt, an error), what has not begun is dropped. After an
    interrupt, in here or thrown in by the caller, the answers that have arrived, or do so in the
    next moment, are yielded before it is raised again; the one before it may come once more.

    Parameters
    ----------
    answer : callable
        Answers one request. A ``BackendError`` is the answer to that request alone; any other
        exception ends the run, after what was under way has been answered.
    requests : sequence of Request
    n_workers : int
        How many threads call `answer`.
    end : callable, optional
        Called from another thread when the run ends, to have calls of `answer` that are under way
        return soon. Threads that do not are left alone; they keep no process alive.
    """
    workers, patience = _Workers(answer, requests), _PATIENCE
    try:
        workers.start(max(1, n_workers))
        for i, result in workers.results():
            if isinstance(result, Reply | BackendError):
                yield i, result
                continue
            yield from workers.rest()
            raise result
    except KeyboardInterrupt:
        yield from workers.rest(_ARRIVING)
        end()
        yield from workers.rest(_PATIENCE)
        patience = 0.0
        raise
    finally:
        workers.stop()
        end()
        workers.wait(patience)


class _Workers:
    """Threads that answer requests. They are daemons, so that none keeps the interpreter alive."""

    def __init__(self, answer: Callable[[Request], Reply], requests: Sequence[Request]) -> None:
        self._answer = answer
        self._requests = requests
        self._indices = iter(range(len(requests)))
        self._lock = threading.Lock()
        self._stopped = False
        # A result stays until whoever took it asks for the next one: an interrupt loses none.
        self._done: deque[tuple[int, Reply | BaseException]] = deque()
        self._news: SimpleQueue[None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, n_workers: int) -> None:
        for _ in range(min(n_workers, len(self._requests))):
            thread = threading.Thread(target=self._work, name="skllm-calib worker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Begin no further request."""
        self._stopped = True

    def wait(self, seconds: float) -> None:
        """Wait for the threads to end, no longer than that."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def results(self) -> Iterator[tuple[int, Reply | BaseException]]:
        """Yield what each request came to, as it comes."""
        for _ in self._requests:
            while not self._done:
                self._await_news()
            yield self._done[0]
            self._done.popleft()

    def rest(self, seconds: float | None = None) -> Iterator[tuple[int, Reply | BackendError]]:
        """Begin no further request, and yield the answers that are there or under way.

        Wait for them for some seconds at most; None waits as long as it takes.
        """
        self.stop()
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            is_last_look = not any(thread.is_alive() for thread in self._threads) or (
                until is not None and time.monotonic() > until
            )
            while self._done:
                i, result = self._done[0]
                if isinstance(result, Reply | BackendError):
                    yield i, result
                self._done.popleft()
            if is_last_look:
                return
            self._await_news()

    def _await_news(self) -> None:
        with contextlib.suppress(Empty):
            self._news.get(timeout=_TICK)

    def _finish(self, i: int, result: Reply | BaseException) -> None:
        self._done.append((i, result))
        self._news.put(None)

    def _work(self) -> None:
        while True:
            with self._lock:
                i = None if self._stopped else next(self._indices, None)
            if i is None:
                return
            try:
                self._finish(i, self._answer(self._requests[i]))
            except BackendError as failure:
                self._finish(i, failure)
            except BaseException as error:  # raised by whoever takes the results
                self.stop()
                self._finish(i, error)
