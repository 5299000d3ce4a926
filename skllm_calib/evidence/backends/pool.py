"""Many requests at a time, answers as they come, one bad row costing no other."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.exceptions import BackendError

__all__ = ["Pool", "RunEndedError", "answer_all"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

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
    pool: Pool[int, Reply] = Pool(n_workers, end)
    try:
        for i, request in enumerate(requests):
            pool.put(i, answer, request)
        while (arrived := pool.take()) is not None:
            i, result = arrived
            if isinstance(result, Reply | BackendError):
                yield i, result
                continue
            yield from pool.rest()
            raise result
    except KeyboardInterrupt:
        yield from pool.interrupt()
        raise
    finally:
        pool.close()


class Pool(Generic[K, T]):
    """Threads that answer requests, which are handed in at any time.

    They are daemons, so that none keeps the interpreter alive.

    Parameters
    ----------
    n_workers : int
        How many threads there are at most.
    end : callable
        Ends calls that are under way.
    """

    def __init__(self, n_workers: int, end: Callable[[], None]) -> None:
        self._n_workers = max(1, n_workers)
        self._end = end
        self._todo: SimpleQueue[tuple[K, Callable[[Request], T], Request] | None] = SimpleQueue()
        # A result stays until whoever took it asks for the next one: an interrupt loses none.
        self._done: deque[tuple[K, T | BaseException]] = deque()
        self._news: SimpleQueue[None] = SimpleQueue()
        # For each request that has begun, until its result was used: what has arrived and is not
        # kept yet is lost where the process is killed, so no more is begun than can be kept.
        self._room = threading.Semaphore(2 * self._n_workers)
        self._is_lent = False
        self._n_open = 0  # handed in and not taken out
        self._threads: list[threading.Thread] = []
        self._is_stopped = False
        self._patience = _PATIENCE

    @property
    def n_waiting(self) -> int:
        """How many requests have not begun."""
        return self._todo.qsize()

    @property
    def n_arrived(self) -> int:
        """How many results can be taken at once."""
        return self._news.qsize()

    def put(self, key: K, answer: Callable[[Request], T], request: Request) -> None:
        """Hand in a request, with what answers it.

        A ``BackendError`` of `answer` is its result; any other exception, too, and nothing further
        is begun.
        """
        self._n_open += 1
        self._todo.put((key, answer, request))
        if len(self._threads) < self._n_workers:
            thread = threading.Thread(target=self._work, name="skllm-calib worker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def take(self, *, wait: bool = True) -> tuple[K, T | BaseException] | None:
        """Return what a request came to; None if there is nothing, or nothing yet.

        It counts as used when the next one is taken.
        """
        if self._is_lent:
            self._done.popleft()
            self._room.release()
            self._is_lent = False
        while self._n_open:
            try:
                self._news.get(block=wait, timeout=_TICK)
            except Empty:
                if wait:
                    continue
                return None
            self._n_open -= 1
            self._is_lent = True
            return self._done[0]
        return None

    def rest(self, seconds: float | None = None) -> Iterator[tuple[K, Reply | BackendError]]:
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
                key, result = self._done[0]
                if isinstance(result, Reply | BackendError):
                    yield key, result
                self._done.popleft()
            if is_last_look:
                return
            try:
                self._news.get(timeout=_TICK)
            except Empty:
                continue

    def interrupt(self) -> Iterator[tuple[K, Reply | BackendError]]:
        """End everything soon, and yield the answers that have arrived or do so in a moment."""
        yield from self.rest(_ARRIVING)
        self._end()
        yield from self.rest(_PATIENCE)
        self._patience = 0.0

    def stop(self) -> None:
        """Begin no further request."""
        self._is_stopped = True
        for _ in self._threads:
            self._todo.put(None)
            self._room.release()

    def close(self) -> None:
        """End everything, and wait a moment for the threads."""
        self.stop()
        self._end()
        until = time.monotonic() + self._patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (job := self._todo.get()) is not None and not self._is_stopped:
            key, answer, request = job
            self._room.acquire()
            if self._is_stopped:
                return
            result: T | BaseException
            try:
                result = answer(request)
            except BackendError as failure:
                result = failure
            except BaseException as error:  # raised by whoever takes the results
                self.stop()
                result = error
            self._done.append((key, result))
            self._news.put(None)
