"""One run's requests to a server: sent, sent again, counted out, and given up together."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.evidence.backends.hosted.allowance import (
    CROWDED,
    LONGEST_WAIT,
    Allowance,
    is_crowded,
)
from skllm_calib.evidence.backends.hosted.answer import NOT_AS_EXPECTED
from skllm_calib.evidence.backends.hosted.carried import carried_error
from skllm_calib.evidence.backends.hosted.channels import Channel, ChannelCutError, Channels
from skllm_calib.evidence.backends.hosted.direct import NOT_ANSWERED, NotDirectError, StatusError
from skllm_calib.evidence.backends.hosted.failures import (
    Problem,
    StopRunError,
    failure_of,
    is_temporary,
)
from skllm_calib.evidence.backends.hosted.redaction import redact_failure
from skllm_calib.evidence.backends.hosted.verdicts import RunSwitch
from skllm_calib.evidence.backends.pool import RunEndedError
from skllm_calib.exceptions import BackendError, InvalidInput, UnreadableReply
from skllm_calib.log_proba.parameters import check_count, check_fraction

__all__ = ["Connection", "SDKConnection", "lost", "seconds_to_wait"]

_T = TypeVar("_T")
_GLANCE = 500  # characters
_TICK = 0.1  # seconds between two looks at what is late
_SHORT_MOMENT = 0.25  # seconds until an address where nobody listens is tried once more
_N_LEFT_ALONE = 3  # rows that were refused for more than a minute, with none answered between
_N_LOST = 2  # rows that found nobody at an address, after which no further one tries


class Connection(RunSwitch, ABC):
    """What all threads of a run know: where they send, and whether it makes sense to go on.

    Parameters
    ----------
    access : Access
        Where requests go, for messages.
    channels : Channels
        What they are sent through.
    allowance : Allowance
        When they may be sent.
    timeout : float
        Seconds after which a request is given up, however much of the answer has come.
    max_retries : int
        How often a request is sent again after a failure that may pass.
    """

    def __init__(
        self,
        access: Access,
        channels: Channels,
        allowance: Allowance,
        *,
        timeout: float,
        max_retries: int,
    ) -> None:
        check_scheme(access)
        check_fraction(timeout, "timeout", high=math.inf)
        check_count(max_retries, "max_retries", 0)
        super().__init__()
        self.access = access
        self._channels = channels
        self._allowance = allowance
        self._timeout = timeout
        self._max_retries = max_retries
        self._is_closed = False
        self._over = threading.Event()  # ends pauses
        self._lock = threading.Lock()
        self._under_way: dict[Channel, float] = {}  # until when
        self._watches = False
        self._unreachable = False
        self._has_answered = False
        self._lost: list[Problem] = []
        self._left_alone: dict[Hashable, tuple[float, Problem]] = {}  # until when, by row
        self._row = threading.local()

    def check(self) -> None:
        """Raise if the run has ended, or another row found out that none can be answered."""
        if self._is_closed:
            raise RunEndedError
        super().check()

    def end(self, stop: StopRunError) -> None:
        """Let no further request be sent in this run."""
        super().end(stop)
        self._over.set()
        self._allowance.close()

    def close(self) -> None:
        """End the run: nothing more is sent, and what is under way is given up."""
        with self._lock:
            self._is_closed = True
            for channel in self._under_way:
                channel.cut()
        self._over.set()
        self._allowance.close()

    def begin(self, row: Hashable) -> None:
        """Note about which row this thread asks from now on."""
        self._row.asked = row

    def failure_of(self, problem: Problem) -> BackendError | StopRunError:
        """Return what to raise."""
        return failure_of(problem, self.access)

    def read(self, reader: Callable[[Any], _T], reply: Any) -> _T:
        """Let `reader` read a reply; what it cannot make sense of is the failure of that row."""
        failure: BackendError
        try:
            return reader(reply)
        except BackendError as error:
            failure = error
        except NOT_AS_EXPECTED as error:
            said = f"{self.access.public_address} sent an answer in an unknown form: {error!r}"
            failure = UnreadableReply(said)
        # Outside of the handlers, so that nothing unredacted comes along.
        redact_failure(failure, self.access.redact)
        failure.__cause__ = failure.__context__ = None
        raise failure

    def quote(self, said: Any) -> str:
        """Return as much of what a server said as can be read at a glance, without secrets."""
        return self.access.redact(str(said))[:_GLANCE]

    def send(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        is_final: Callable[[Problem], Any] = lambda problem: False,
    ) -> Any | Problem:
        """Send a body, and again what may be answered later.

        Problems are returned, so that failures are raised without the SDK's own error in their
        wake: that one holds the request, and with it the key.

        Parameters
        ----------
        path : str
            Behind the base URL.
        body : mapping
        is_final : callable, default: none is
            Tells of which problems no retry makes sense here.
        """
        return self._send(partial(self._try, path, body), is_final)

    def call(
        self,
        create: Callable[[Any], Any],
        *,
        is_final: Callable[[Problem], Any] = lambda problem: False,
    ) -> Any | Problem:
        """Let `create` use a client of the SDK for something else than to send a body.

        Parameters
        ----------
        create : callable
            From a client to what it returns.
        is_final : callable, default: none is
            As in :meth:`send`.
        """
        return self._send(partial(self._try_once, create, {}), is_final)

    def _send(
        self, attempt_it: Callable[[], Any | Problem], is_final: Callable[[Problem], Any]
    ) -> Any | Problem:
        self.check()
        if (problem := self._hopeless()) is not None:
            return problem
        # Nobody answered after every retry: the next rows try once, until one gets through.
        n_retries = 0 if self._unreachable else self._max_retries
        attempt = 0.0
        while True:
            try:
                reply = attempt_it()
            except RunEndedError:
                self.check()  # perhaps there is a reason
                raise
            is_temporary_one = isinstance(reply, Problem) and is_temporary(reply)
            if not is_temporary_one or attempt >= n_retries or is_final(reply):
                break
            pause = self._pause(reply, attempt)
            attempt += self._allowance.cost_of(reply)
            if pause is None or self._over.wait(pause):
                break
        if self._is_closed and isinstance(reply, Problem):
            raise RunEndedError  # says nothing about the row
        self._note_whether_anybody_is_there(reply)
        return reply

    def _hopeless(self) -> Problem | None:
        """Return what no request gets past at this moment."""
        if len(self._lost) >= _N_LOST:
            return self._lost[0]
        if len(self._left_alone) < _N_LEFT_ALONE:
            return None  # one row alone may be refused for long
        until, problem = max(self._left_alone.values(), key=lambda left: left[0])
        return problem if time.monotonic() < until else None

    def _note_whether_anybody_is_there(self, reply: Any | Problem) -> None:
        self._unreachable = isinstance(reply, Problem) and reply.is_unreachable
        if self._unreachable and reply.nobody_there and not self._has_answered:
            self._lost.append(reply)

    def _pause(self, problem: Problem, attempt: float) -> float | None:
        """Return how long to wait before the next attempt, None where none makes sense."""
        if not self._channels.is_live:
            return 0.0
        if problem.nobody_there and not self._has_answered:
            return None if attempt else _SHORT_MOMENT
        if is_crowded(problem):
            return 0.0  # all rows wait together
        if problem.retry_after is not None:
            if problem.retry_after <= LONGEST_WAIT:
                return problem.retry_after
            if problem.status in CROWDED and math.isfinite(problem.retry_after):
                row = getattr(self._row, "asked", None)
                self._left_alone[row] = time.monotonic() + problem.retry_after, problem
            return None
        # Spread out, so that rows refused together do not come back together.
        return min(8.0, math.ldexp(0.5, int(attempt))) * random.Random().uniform(0.5, 1.0)

    def _try(self, path: str, body: Mapping[str, Any]) -> Any | Problem:
        """Send once; where the server wants what only the SDK can do, through that."""

        def create(client: Any) -> Any:
            # Not the methods of the SDKs: they make objects of a reply, which takes longer than to
            # send it, and the fields that they know change with their version.
            return client.post(path, body=body, cast_to=object)

        with suppress(NotDirectError):
            return self._try_once(create, body)
        self._channels.replace()
        return self._try_once(create, body)

    def _try_once(self, create: Callable[[Any], Any], body: Mapping[str, Any]) -> Any | Problem:
        with (
            self._allowance.turn(body) as turn,
            self._channels.lease() as channel,
            self._watched(channel),
        ):
            try:
                reply = self.send_once(create, channel.client)
                if not isinstance(reply, Problem):
                    reply = self._problem_carried(reply) or reply
            except ChannelCutError:
                reply = Problem(0, "the request was given up")
            except NOT_AS_EXPECTED as error:
                if not channel.has_answer:  # it is the request that cannot be sent
                    raise
                reply = Problem(200, self.access.redact(f"broken JSON: {self.quote(error)}"))
            if channel.is_cut and isinstance(reply, Problem):
                return Problem(0, "no answer in time", timed_out=True)
            turn.reply, turn.headers = reply, channel.headers
        if not isinstance(reply, Problem) or reply.status:
            self._has_answered, self._lost = True, []
        if not isinstance(reply, Problem):
            self._left_alone = {}
        return reply

    def _problem_carried(self, reply: Any) -> Problem | None:
        """Read the error in a reply that came with a good status, None if there is none."""
        found = carried_error(reply)
        return None if found is None else self.problem_in(*found)

    def problem_in(self, fields: Mapping[str, Any], message: str, status: int) -> Problem:
        """Read the fields of an error."""
        code, kind = (str(fields.get(name) or "") for name in ("code", "type"))
        return Problem(
            status,
            self.access.redact(message),
            code=code,
            names=frozenset(filter(None, (code, kind))),
            fields=fields,
        )

    @abstractmethod
    def send_once(self, create: Callable[[Any], Any], client: Any) -> Any | Problem:
        """Let `create` send with a client, and return the reply or read the SDK's error."""

    @contextmanager
    def _watched(self, channel: Channel) -> Iterator[None]:
        """Give up what is sent through a channel when its time is over or the run ends."""
        if not self._channels.is_live:
            yield
            return
        channel.timeout = self._timeout
        with self._lock:
            if self._is_closed:
                raise RunEndedError
            self._under_way[channel] = time.monotonic() + self._timeout
            if not self._watches:
                self._watches = True
                threading.Thread(target=self._watch, name="skllm-calib watch", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[channel]

    def _watch(self) -> None:
        tick = min(_TICK, max(0.01, self._timeout / 4))
        while not self._is_closed:
            time.sleep(tick)
            now = time.monotonic()
            with self._lock:
                late = [channel for channel, until in self._under_way.items() if until < now]
                for channel in late:  # under the lock: it may not yet be lent to another request
                    channel.cut()


class SDKConnection(Connection):
    """A connection through an SDK that names its errors as OpenAI's and Anthropic's do alike.

    Parameters
    ----------
    sdk : module
        With the exceptions ``APIStatusError``, ``APITimeoutError``, ``APIConnectionError`` and
        ``APIError``.
    access, channels, allowance, timeout, max_retries
        As in :class:`Connection`.
    """

    def __init__(
        self,
        sdk: ModuleType,
        access: Access,
        channels: Channels,
        allowance: Allowance,
        *,
        timeout: float,
        max_retries: int,
    ) -> None:
        super().__init__(access, channels, allowance, timeout=timeout, max_retries=max_retries)
        self._sdk = sdk

    @abstractmethod
    def problem_of(self, error: Any) -> Problem:
        """Read an ``APIStatusError`` of the SDK, or a ``StatusError``."""

    def send_once(self, create: Callable[[Any], Any], client: Any) -> Any | Problem:
        """Let `create` send with a client, and return the reply or read the SDK's error."""
        sdk, access = self._sdk, self.access
        try:
            return _as_json(create(client))
        except sdk.APIStatusError as error:
            wait = seconds_to_wait(error.response.headers)
            return replace(self.problem_of(error), retry_after=wait)
        except StatusError as error:
            return replace(self.problem_of(error), retry_after=seconds_to_wait(error.headers))
        except sdk.APIConnectionError as error:  # time-outs are among them
            return lost(error.__cause__ or error, access)
        except NOT_ANSWERED as error:
            return lost(error, access)
        except sdk.APIError as error:
            return Problem(200, access.redact(str(error)))


def _as_json(reply: Any) -> Any:
    """Read JSON that a server has sent as if it were something else."""
    if isinstance(reply, str):
        with suppress(ValueError, RecursionError):
            return json.loads(reply)
    return reply


def check_scheme(access: Access) -> None:
    """Raise InvalidInput if an address does not say how it is reached."""
    where = access.public_address
    scheme, separator, rest = where.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or not rest.strip("/"):
        raise InvalidInput(
            f"base_url={where!r} cannot be reached: an address begins with http:// or https:// and "
            "names a host, such as 'http://localhost:8000/v1' (is the server running?)",
            parameter="base_url",
            value=where,
        )


def lost(error: BaseException, access: Access) -> Problem:
    """Read an error of an HTTP client: no answer came."""
    # By their names: several packages have these classes.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    nobody_there = not kinds.isdisjoint({"ConnectError", "ConnectTimeout"})
    if not nobody_there and not kinds.isdisjoint({"TimeoutException", "TimeoutError"}):
        return Problem(0, "no answer in time", timed_out=True)
    said = str(error) or type(error).__name__
    return Problem(0, access.redact(said), nobody_there=nobody_there)


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Read how long a server wants to be left alone; None where it does not say.

    Infinite where it says that another attempt makes no sense.
    """
    if headers.get("x-should-retry") == "false":
        return math.inf
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (seconds := _seconds(headers.get(name) or "")) is not None:
            return max(0.0, unit * seconds)
    return None


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
        return None if math.isnan(seconds) else seconds
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date.astimezone(UTC) - datetime.now(UTC)).total_seconds()
