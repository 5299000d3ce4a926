"""What hosted providers share: an address, a key that is never shown, an end to hopeless runs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.pool import answer_all
from skllm_calib.evidence.label_tokens import Token
from skllm_calib.exceptions import AuthenticationFailed, BackendError

__all__ = [
    "IMPOSSIBLE",
    "Access",
    "Acquaintance",
    "Position",
    "StopRunError",
    "answer_or_stop",
    "check_budget",
    "no_key",
    "read_key",
    "redact",
]

_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")


# Servers write minus infinity as a large negative number: JSON has no infinity.
IMPOSSIBLE = -9000.0


class Position(NamedTuple):
    """What was listed at one position of the answer, the likeliest first."""

    prefix: bytes
    listed: tuple[Token, ...]


@dataclass(kw_only=True)
class Acquaintance:
    """What a dialect is built on: what was asked of a model already, shared by all threads.

    Attributes
    ----------
    lock : threading.RLock
        Held while something is found out, so that eight threads do not all ask the same.
    asked : set
        The kinds of request of which a first one has been answered.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    asked: set[Any] = field(default_factory=set)

    def first_alone(self, kind: Any, answer: Callable[[Request], Reply], request: Request) -> Reply:
        """Answer a request; the first of its kind alone, so that a refusal is met once."""
        if kind not in self.asked:
            with self.lock:
                if kind not in self.asked:
                    try:
                        return answer(request)
                    finally:
                        self.asked.add(kind)
        return answer(request)


def check_budget(budget: int | None) -> None:
    """Raise ValueError if a `reasoning_budget` is no number of tokens."""
    if budget is not None and (isinstance(budget, bool) or budget < 0):
        raise ValueError(
            f"reasoning_budget={budget!r}: must be a number of tokens, 0 or more, or None to "
            "allow 2,000 once the model was seen to reason"
        )


class StopRunError(Exception):
    """Carries a failure that every request of the run would share, out of the thread pool.

    It is no ``BackendError``, so that it is never taken for the failure of one row.
    """

    def __init__(self, failure: BackendError) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Access:
    """Where requests go and with which key.

    Attributes
    ----------
    address : str
        Base URL as sent, perhaps with a user and a password in it.
    key_name : str
        The environment variable that holds the key.
    key : str or None
        Its value at the time of the call.
    """

    address: str
    key_name: str
    key: str | None

    @property
    def public_address(self) -> str:
        """The base URL without user and password."""
        return re.sub(r"(?<=://)[^/\s@]+@", "", self.address).rstrip("/")

    def __repr__(self) -> str:
        return f"Access({self.public_address!r}, {self.key_name!r})"


def redact(text: str, access: Access) -> str:
    """Replace the key, and users and passwords in addresses, by three stars."""
    if access.key:
        text = text.replace(access.key, "***")
    return _USER_IN_URL.sub("***", text)


def read_key(name: str) -> str | None:
    """Return the key in an environment variable, or None; a line break at its end is an accident.

    Raises
    ------
    AuthenticationFailed
        If it holds characters that no key has.
    """
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise AuthenticationFailed(
            f"the environment variable {name} holds characters that no key has"
        )
    return key or None


def no_key(name: str) -> AuthenticationFailed:
    """Say that there is no key, and where it is looked for."""
    return AuthenticationFailed(
        f"no key: set the environment variable {name}, or name another one with api_key_env"
    )


def _writable(answer: Callable[[Request], Reply], request: Request) -> Reply:
    try:
        for message in request.messages:
            message.content.encode()
        return answer(request)
    except UnicodeEncodeError as e:
        why = (
            f"the text has half a character ({e.object[e.start : e.end]!r}), which no server takes"
        )
    raise BackendError(
        f"{why}: replace it, for example by text.encode('utf-8', 'replace').decode()"
    )


def answer_or_stop(
    answer: Callable[[Request], Reply], requests: Sequence[Request], n_workers: int
) -> Iterator[tuple[int, Reply | BackendError]]:
    """Answer many requests at a time; raise what a StopRunError carries.

    A text that cannot be written as UTF-8 is the failure of its own row.
    """
    try:
        yield from answer_all(partial(_writable, answer), requests, n_workers)
        return
    except StopRunError as stop:
        failure = stop.failure
    # Outside of the handler, so that the failure drags no other exception along.
    raise failure
