"""Batches of a provider: handed in, looked for, looked at, and read when they are over."""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from skllm_calib.evidence.backends.hosted.connection import Connection
from skllm_calib.evidence.backends.hosted.failures import Problem, StopRunError
from skllm_calib.evidence.backends.hosted.replay import Line, LineResult
from skllm_calib.exceptions import BackendError

__all__ = [
    "LONGEST_CALL",
    "LOOKED_BACK",
    "TOKEN_FIELD",
    "BatchService",
    "Found",
    "Handed",
    "Limits",
    "NotThereError",
    "Standing",
    "joined",
    "response_of",
]

LONGEST_CALL = 1800.0
"""Seconds after which a call is given up: a file of hundreds of megabytes may be under way."""
LOOKED_BACK = 3600.0
"""Seconds before a batch was handed in from which on it is looked for: clocks differ."""
TOKEN_FIELD = "skllm_calib"
"""The field of a batch's metadata that says which one it is."""
_NOT_THERE = (404, 405, 501)


class NotThereError(BackendError):
    """The provider knows nothing of what is asked for."""


class Limits(NamedTuple):
    """How much one batch may hold."""

    n_lines: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch as it is noted here before it is handed in.

    Attributes
    ----------
    token : str
        Its own name here.
    n_lines : int
    sent : float or None
        When it was handed in, as ``time.time()``; None before that.
    id : str or None
        Its name at the provider, once that is known.
    """

    token: str
    n_lines: int
    sent: float | None = None
    id: str | None = None


class Found(NamedTuple):
    """What a search for a batch came to: its name, or whether an unfinished one may be it."""

    id: str | None = None
    is_open: bool = False


class Standing(NamedTuple):
    """Where a batch stands.

    Attributes
    ----------
    id : str
    status : str
        In the words of the provider.
    is_over : bool
        Whether nothing more comes.
    files : tuple of str
        Where its results are.
    error : str
        Why it was refused as a whole; "" where it was not.
    is_full : bool
        Whether it was refused because too much else is under way.
    """

    id: str
    status: str
    is_over: bool
    files: tuple[str, ...] = ()
    error: str = ""
    is_full: bool = False


class BatchService(ABC):
    """The batches of one provider, as one key sees them.

    Parameters
    ----------
    connection : Connection
        Through the SDK of the provider.
    model : str

    Attributes
    ----------
    limits : Limits
    """

    limits: Limits

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._model = model

    def close(self) -> None:
        """End all calls."""
        self._connection.close()

    @abstractmethod
    def written(self, line: Line) -> bytes:
        """Write a line as the provider takes it."""

    @abstractmethod
    def submit(
        self, token: str, path: str, lines: Sequence[bytes], note_sent: Callable[[], None]
    ) -> str | Problem:
        """Hand a batch in.

        Parameters
        ----------
        token : str
            Its own name here.
        path : str
            Of all its lines.
        lines : sequence of bytes
            As :meth:`written` gives them.
        note_sent : callable
            Called right before the call that makes the batch.

        Returns
        -------
        str or Problem
            Its name at the provider, or why there is none. After a problem without a status it may
            be there nevertheless.
        """

    @abstractmethod
    def find(self, batch: Handed, members: Collection[str], others: Collection[str]) -> Found:
        """Look for a batch of which it is not known whether it was made.

        Parameters
        ----------
        batch : Handed
        members : collection of str
            The names of its lines.
        others : collection of str
            Names of batches that are known to be others.
        """

    @abstractmethod
    def look(self, batch_id: str) -> Standing:
        """Look where a batch stands."""

    @abstractmethod
    def results(self, standing: Standing) -> Iterator[LineResult]:
        """Yield what came of the lines of a batch that is over."""

    def failure(self, problem: Problem) -> BackendError:
        """Return what to raise for a problem."""
        if problem.status in _NOT_THERE:
            where = self._connection.access.public_address
            return NotThereError(
                f"{where} has no batches that can be reached (status {problem.status}): "
                f"predict_proba asks row by row; it said: {problem.message}"
            )
        failure = self._connection.failure_of(problem)
        return failure.failure if isinstance(failure, StopRunError) else failure

    def call(self, create: Callable[[Any], Any], *, once: bool = False) -> Any:
        """Let `create` use the client; raise a BackendError for a problem that does not pass.

        `once` sends nothing twice, and returns the problem.
        """
        # In a list, so that a batch that has failed is not taken for an answer that has.
        reply = self._connection.call(lambda c: [create(c)], is_final=lambda problem: once)
        if not isinstance(reply, Problem):
            return reply[0]
        if once:
            return reply
        raise self.failure(reply)

    def spooled(self, write: Callable[[Any, IO[bytes]], Any]) -> Iterator[Mapping[str, Any]]:
        """Let `write` load a file of JSON lines down, and yield them."""
        with tempfile.TemporaryFile() as file:

            def load(client: Any) -> None:
                file.seek(0)
                file.truncate()
                write(client, file)

            self.call(load)
            file.seek(0)
            for text in file:
                if isinstance(line := _json(text), Mapping):
                    yield line


@contextmanager
def joined(lines: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """Give a file with these lines, at its beginning."""
    with tempfile.TemporaryFile() as file:
        for line in lines:
            file.write(line + b"\n")
        file.seek(0)
        yield file


def response_of(line: Mapping[str, Any]) -> LineResult:
    """Read a line of an output file as OpenAI and Mistral have them."""
    name, response, error = str(line.get("custom_id")), line.get("response"), line.get("error")
    body = response.get("body") if isinstance(response, Mapping) else None
    if isinstance(response, Mapping) and body is not None:
        body = _json(body) or body if isinstance(body, str) else body
        status = response.get("status_code")
        return LineResult(name, status if type(status) is int else 200, body)
    fields = error if isinstance(error, Mapping) else {"message": str(error or "no answer")}
    # What ended without an answer, such as an expired line, is to be asked again.
    return LineResult(name, 408, {"error": fields})


def _json(text: str | bytes) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None
