"""BatchBackend: a hosted backend whose server is a ledger of batches.

Replies are read by the backend itself, from the lines of batches that are over. A line that is not
there yet ends the request, and goes into the next batch: so the steps of a dialogue, and what a
model refuses, take several rounds and no code of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skllm_calib.evidence.backends.base import BaseBackend, Reply, Request
from skllm_calib.evidence.backends.hosted.backend import HostedBackend
from skllm_calib.evidence.backends.hosted.facts import N_ROWS, row_of
from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.evidence.backends.hosted.replay import AwaitedError, Line, LineResult, Replay
from skllm_calib.evidence.backends.hosted.run import answer_or_stop, checked
from skllm_calib.evidence.batches.ledger import Ledger
from skllm_calib.evidence.storage import Storage
from skllm_calib.evidence.storage.base import BATCH
from skllm_calib.exceptions import BackendError, BackendUnavailable, SignalUnavailable

__all__ = ["AwaitedRow", "BatchBackend", "digest_of"]

_AT_ONCE = 1_000  # requests whose lines are in memory at the same time

_Answers = Generator[tuple[int, Reply | BackendError], None, Any]


class AwaitedRow(BackendError):
    """The answer to a request comes with a batch."""


class BatchBackend(BaseBackend):
    """Answers requests from batches, and puts what is in none on the list for the next one.

    The first two rows of each kind of request are asked at once, at the usual price: they tell what
    the model takes, and a mistake that every row shares is seen before a batch is paid for.

    Parameters
    ----------
    backend : HostedBackend
    ledger : Ledger
    storage : Storage
        Where it is kept what the model takes.

    Attributes
    ----------
    failure : BackendError or None
        Why the latest run was broken off.
    """

    def __init__(self, backend: HostedBackend, ledger: Ledger, storage: Storage) -> None:
        self.backend = backend
        self.ledger = ledger
        self.storage = storage
        self.failure: BackendError | None = None
        self._identity = backend.identity()

    def identity(self) -> dict[str, Any]:
        """Return that of the backend: replies from batches are the same."""
        return self._identity

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Yield what is known by now; for the others, an AwaitedRow."""
        try:
            yield from self._run(requests)
        except BackendError as failure:
            self.failure = failure
            raise

    def _run(self, requests: Sequence[Request]) -> _Answers:
        kinds: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            if request.choices or request.dropout is not None:
                yield i, SignalUnavailable("a batch has no such requests: use another signal")
            else:
                kinds.setdefault(self._kind(request), []).append(i)
        for kind, indices in kinds.items():
            facts, left = yield from self._facts(kind, requests, indices)
            for start in range(0, len(left), _AT_ONCE):
                part = left[start : start + _AT_ONCE]
                yield from self._answer(requests, part, facts)

    def _kind(self, request: Request) -> str:
        """Name the requests that a model takes, or not, for the same reasons."""
        what = [bool(request.answers), request.schema, request.temperature]
        return digest_of([self._identity, what])

    def _facts(self, kind: str, requests: Sequence[Request], indices: Sequence[int]) -> _Answers:
        """Return what the model takes, asking two rows if need be, and the rows that are left."""
        key = f"{BATCH}facts-{kind}"
        if known := self.storage.get([key]):
            return known[key], indices
        rows = {row_of(requests[i]): i for i in reversed(indices)}
        first = sorted(rows.values())[:N_ROWS]
        backend, facts = self.backend, self.backend.new_facts()
        connection = backend.connect()
        answerer = backend.answerer(connection, facts)
        asked = [requests[i] for i in first]
        for n, answer in answer_or_stop(answerer.answer, asked, 1, connection.close):
            if isinstance(answer, BackendUnavailable):
                raise answer
            yield first[n], answer
        self.storage.put({key: facts.as_json()})
        return self.storage.get([key])[key], [i for i in indices if i not in first]

    def _answer(self, requests: Sequence[Request], indices: Sequence[int], facts: str) -> _Answers:
        """Yield what is known, or which line a request waits for."""
        results: dict[str, LineResult] = {}
        used: list[str] = []
        while indices:
            lines: dict[int, Line] = {}
            for i in indices:
                answer, read = self._replay(requests[i], facts, results)
                if isinstance(answer, Line):
                    lines[i] = answer
                    continue
                yield i, answer
                if isinstance(answer, Reply) or answer.is_billed:  # kept in the cache by now
                    used += read
            new = self.ledger.results([line.id for line in lines.values()])
            for i, line in lines.items():
                if line.id in new:
                    continue
                self.ledger.wait_for(line)
                yield i, AwaitedRow("the answer comes with a batch")
            results |= new
            indices = [i for i, line in lines.items() if line.id in new]
        self.ledger.forget(used)

    def _replay(
        self, request: Request, facts: str, results: Mapping[str, LineResult]
    ) -> tuple[Reply | BackendError | Line, list[str]]:
        """Answer a request from results; return the line that it needs if that is not there.

        What a line is depends on its request alone: not on what others have shown meanwhile.
        """
        replay = Replay(request.key(self._identity), results)
        known = self.backend.new_facts()
        known.learn_from_json(facts)
        answerer = self.backend.answerer(self.backend.connect(replay.channels), known)
        answer: Reply | BackendError | Line
        try:
            answer = replace(checked(answerer.answer_alone, request), batched=True)
        except AwaitedError as error:
            answer = error.line
        except StopRunError as stop:
            answer = stop.failure
        except BackendError as failure:
            answer = failure
        return answer, replay.used


def digest_of(content: Any) -> str:
    """Return a short name of plain values."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
