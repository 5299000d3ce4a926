"""What one run may send to its account, beside all others that send to it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.evidence.backends.hosted.failures import Problem, is_temporary
from skllm_calib.evidence.backends.pool import RunEndedError
from skllm_calib.evidence.limits.limiter import Limiter, Sender
from skllm_calib.evidence.limits.told import guessed_tokens, used_tokens
from skllm_calib.evidence.sharing import shared_storage
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import check_count

__all__ = ["CROWDED", "LONGEST_WAIT", "Allowance", "NoAllowance", "allowance_of", "is_crowded"]

CROWDED = (429, 503, 529)
"""Statuses with which a server refuses a request because there are too many."""

LONGEST_WAIT = 60.0
"""Most seconds that a server's Retry-After is waited for; where it asks for more, the row fails."""


_PART = 0.25
_LIMITS = ("requests_per_minute", "tokens_per_minute")


@dataclass
class Turn:
    """A request that may be sent now, and what comes of it."""

    reply: Any = None
    headers: Mapping[str, str] | None = None


class Allowance:
    """Lets the requests of a run wait until they may be sent.

    Parameters
    ----------
    access : Access
    model : str
        With the address and the key, what a server has limits for.
    limits : sequence of float or None
        Requests and tokens in a minute.
    ceiling : int
        Most requests in flight.
    """

    def __init__(
        self, access: Access, model: str, limits: Sequence[float | None], ceiling: int
    ) -> None:
        account = "\0".join((access.address, access.key or "", model))
        # The name is seen by all who share a cache.
        digest = hashlib.sha256(account.encode()).hexdigest()[:32]
        self._limiter = get_handle(("limiter", digest), lambda: Limiter(f"limits-{digest}"))
        self._sender = Sender(limits, max(1, ceiling))
        self._storage = shared_storage()

    def cost_of(self, problem: Problem) -> float:
        """Return how much of the retries a problem takes: one, and less where others get through.

        It is not the request that is at fault then, it only came at a bad moment.
        """
        return _PART if is_crowded(problem) and self._limiter.is_answered else 1.0

    def close(self) -> None:
        """End all waiting."""
        self._limiter.leave(self._sender)

    @contextmanager
    def turn(self, body: Mapping[str, Any]) -> Iterator[Turn]:
        """Wait until a request may be sent, and learn from what came back."""
        limiter, sender = self._limiter, self._sender
        limiter.join(sender, self._storage)
        tokens = guessed_tokens(body) if limiter.is_counting_tokens else 0.0
        if (ticket := limiter.enter(sender, tokens)) is None:
            raise RunEndedError
        turn = Turn()
        try:
            yield turn
        finally:
            reply = turn.reply
            if isinstance(reply, Problem) and is_crowded(reply):
                limiter.refused(ticket, turn.headers, reply.retry_after)
            else:
                limiter.done(ticket, turn.headers, used_tokens(reply) if tokens else None)


class NoAllowance(Allowance):
    """Lets everything pass at once: what no limit is for."""

    def __init__(self) -> None:
        pass

    def cost_of(self, problem: Problem) -> float:
        """Return one, whatever the problem."""
        return 1.0

    def close(self) -> None:
        """Do nothing: nobody waits."""

    @contextmanager
    def turn(self, body: Mapping[str, Any]) -> Iterator[Turn]:
        """Wait for nothing."""
        yield Turn()


def is_crowded(problem: Problem) -> bool:
    """Tell whether a server refused a request because there are too many at this moment."""
    wait = problem.retry_after
    is_short = wait is None or wait <= LONGEST_WAIT
    return problem.status in CROWDED and is_short and is_temporary(problem)


def allowance_of(backend: Any, access: Access) -> Allowance:
    """Return what a backend may send, by its parameters.

    Raises
    ------
    InvalidInput
        If a limit is not a number of at least 1, or `max_concurrency` is no such whole number.
    """
    check_count(backend.max_concurrency, "max_concurrency")
    limits = {name: getattr(backend, name) for name in _LIMITS}
    for name, value in limits.items():
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if value is not None and not (is_number and 1 <= value < math.inf):
            raise InvalidInput(
                f"{name}={value!r}: must be 1 or more, or None to learn it from the server",
                name,
                value=value,
            )
    return Allowance(access, backend.model, tuple(limits.values()), backend.max_concurrency)
