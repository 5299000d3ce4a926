"""Runs: how the requests of a call reach a backend while it is answering others."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial

from skllm_calib.evidence.backends.base import Answering, BaseBackend, Reply, Request
from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.evidence.backends.pool import Pool
from skllm_calib.evidence.sharing import sharing
from skllm_calib.evidence.signals.base import Answered
from skllm_calib.evidence.storage import Storage
from skllm_calib.exceptions import BackendError, UnreadableReply

__all__ = ["Arrived", "PooledRuns", "Runs", "open_runs"]

Arrived = tuple[str, Answered]
"""The key of a request and what it came to."""

_N_AHEAD = 256  # requests that wait for a thread: enough to look up the next rows meanwhile
_N_LISTED = 4_096  # requests in a list: a local model sorts them, and reads them in batches


class Runs(ABC):
    """Requests that are being answered by one backend.

    Requests of one kind are a run of their own: what ends it is true of every request of that
    kind, but other kinds may do: a signal that asks for both can still read the other one.

    Attributes
    ----------
    n_ahead : int
        How many requests should be waiting, so that the backend is never without work.
    fatal : BackendError or None
        What ended a run.
    """

    n_ahead: int

    def __init__(self, backend: BaseBackend, storage: Storage | None) -> None:
        self._backend = backend
        self._storage = storage
        self._ended: dict[str, BackendError] = {}
        self.fatal: BackendError | None = None

    def put(self, key: str, request: Request) -> BackendError | None:
        """Hand in a request; the answer, if it is known, is what ended the run of its kind."""
        kind = _kind(request)
        if kind not in self._ended:
            self._put(kind, key, request)
        return self._ended.get(kind)

    @property
    @abstractmethod
    def n_waiting(self) -> int:
        """How many requests have not begun."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether nothing has arrived, and the backend may soon be without work."""

    @abstractmethod
    def take(self, *, wait: bool) -> Arrived | None:
        """Return what has arrived; wait for it if there is nothing.

        It counts as used when the next one is taken.
        """

    @abstractmethod
    def rest(self) -> Iterator[Arrived]:
        """End everything after an interrupt, and yield what has arrived, perhaps once more."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    @abstractmethod
    def _put(self, kind: str, key: str, request: Request) -> None:
        pass

    def _end_run(self, kind: str, failure: BackendError) -> None:
        self.fatal = self._ended[kind] = failure


class PooledRuns(Runs):
    """Requests that threads answer one by one, each as soon as it is handed in."""

    n_ahead = _N_AHEAD

    def __init__(
        self, backend: BaseBackend, storage: Storage | None, first: Answering, kind: str
    ) -> None:
        super().__init__(backend, storage)
        self._begun: dict[str, Answering] = {kind: first}
        self._pool: Pool[tuple[str, str], Reply | StopRunError] = Pool(first.n_workers, self._end)
        self._late: deque[Arrived] = deque()  # what was under way when something went wrong
        self._error: BaseException | None = None

    @property
    def n_waiting(self) -> int:
        """How many requests have no thread yet."""
        return self._pool.n_waiting

    @property
    def is_idle(self) -> bool:
        """Whether every answer was taken, and few requests are waiting."""
        return not self._pool.n_arrived and self._pool.n_waiting < self.n_ahead

    def _put(self, kind: str, key: str, request: Request) -> None:
        if kind not in self._begun:
            with sharing(self._storage):
                begun = self._backend.answering(request)
            assert begun is not None
            self._begun[kind] = begun
        self._pool.put((kind, key), partial(_answer_or_stop, self._begun[kind].answer), request)

    def take(self, *, wait: bool) -> Arrived | None:
        """Return the next answer."""
        if self._late:
            return self._late.popleft()
        if self._error is not None:
            raise self._error
        if (arrived := self._pool.take(wait=wait)) is None:
            return None
        (kind, key), result = arrived
        if isinstance(result, StopRunError):
            self._end_run(kind, result.failure)
            return key, result.failure
        if isinstance(result, Reply | BackendError):
            return key, result
        self._error = result
        self._late.extend((key, answer) for (_, key), answer in self._pool.rest())
        return self.take(wait=wait)

    def rest(self) -> Iterator[Arrived]:
        """End everything, and yield what has arrived."""
        yield from self._late
        for (_, key), answer in self._pool.interrupt():
            yield key, answer

    def close(self) -> None:
        """End the threads and what they are doing."""
        self._pool.close()

    def _end(self) -> None:
        for begun in self._begun.values():
            begun.end()


class ListedRuns(Runs):
    """Requests that are given to a backend as lists, one list after the other."""

    n_ahead = _N_LISTED

    def __init__(self, backend: BaseBackend, storage: Storage | None) -> None:
        super().__init__(backend, storage)
        self._waiting: dict[str, dict[str, Request]] = {}
        self._kind = ""
        self._arriving: Iterator[tuple[int, Answered]] | None = None
        self._keys: list[str] = []
        self._unanswered: set[str] = set()
        self._left: deque[Arrived] = deque()  # what got no answer of its own
        self._last: tuple[int, Answered] | None = None

    @property
    def n_waiting(self) -> int:
        """How many requests are not in a list yet."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_idle(self) -> bool:
        """Whether a list was answered to its end."""
        return self._arriving is None

    def _put(self, kind: str, key: str, request: Request) -> None:
        self._waiting.setdefault(kind, {})[key] = request

    def take(self, *, wait: bool) -> Arrived | None:
        """Return the next answer; None at the end of a list."""
        if self._left:
            return self._left.popleft()
        if not wait or (self._arriving is None and not self._begin()):
            return None
        assert self._arriving is not None
        failure: BackendError
        try:
            with sharing(self._storage):
                i, answer = self._last = next(self._arriving)
        except StopIteration:
            failure = UnreadableReply("the backend gave no answer to this request")
        except BackendError as error:
            failure = error
            self._end_run(self._kind, error)
        else:
            self._unanswered.discard(self._keys[i])
            return self._keys[i], answer
        self._arriving = self._last = None
        self._left.extend((key, failure) for key in self._keys if key in self._unanswered)
        return self.take(wait=False)

    def _begin(self) -> bool:
        if not self._waiting:
            return False
        self._kind = next(iter(self._waiting))
        requests = self._waiting.pop(self._kind)
        self._keys, self._unanswered = list(requests), set(requests)
        with sharing(self._storage):
            self._arriving = self._backend.run(list(requests.values()))
        return True

    def rest(self) -> Iterator[Arrived]:
        """End the list, and yield what has arrived."""
        # Perhaps the last one was not kept, and more have arrived: all of them are paid for.
        if self._last is not None:
            yield self._keys[self._last[0]], self._last[1]
        if isinstance(self._arriving, Generator):
            interrupt = KeyboardInterrupt()
            with contextlib.suppress(KeyboardInterrupt, StopIteration):
                i, answer = self._arriving.throw(interrupt)
                yield self._keys[i], answer
                for i, answer in self._arriving:
                    yield self._keys[i], answer

    def close(self) -> None:
        """End the list."""
        if isinstance(self._arriving, Generator):
            self._arriving.close()


def open_runs(backend: BaseBackend, storage: Storage | None, first: Request) -> Runs:
    """Return how a backend takes requests that come bit by bit.

    Parameters
    ----------
    backend : BaseBackend
    storage : Storage or None
        What the workers of the cache share.
    first : Request
        The first request.
    """
    # A class that overrides `run` alone wants all requests to pass through it.
    owner = next(kind for kind in type(backend).__mro__ if {"run", "answering"} & set(vars(kind)))
    with sharing(storage):
        begun = backend.answering(first) if "answering" in vars(owner) else None
    if begun is None:
        return ListedRuns(backend, storage)
    return PooledRuns(backend, storage, begun, _kind(first))


def _kind(request: Request) -> str:
    """Return what kind of evidence a request is for."""
    if request.choices:
        return "decision"
    return "labels" if request.answers else "text"


def _answer_or_stop(answer: Callable[[Request], Reply], request: Request) -> Reply | StopRunError:
    try:
        return answer(request)
    except StopRunError as stop:
        return stop
