"""Sending through Mistral's SDK, with retries of our own, and what its errors contain.

An error is documented as ``{"object": "error", "message", "type", "param", "code"}`` and, for a
request of the wrong form (status 422), as ``{"detail": [{"type", "loc", "msg"}]}``; the second is
also found inside the message of the first.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.evidence.backends.hosted.connection import Connection
from skllm_calib.evidence.backends.hosted.failures import Problem, StopRunError, is_temporary
from skllm_calib.exceptions import BackendError

if TYPE_CHECKING:
    from mistralai.client.models import ChatCompletionResponse

__all__ = ["MistralConnection", "seconds_to_wait"]

_LONGEST_WAIT = 60.0


class MistralConnection(Connection):
    """A connection through Mistral's SDK.

    Parameters
    ----------
    complete : callable
        ``client.chat.complete`` of the SDK.
    access : Access
        Where it sends requests to, for messages.
    timeout : float
    max_retries : int
        As in the backend.
    """

    def __init__(
        self,
        complete: Callable[..., ChatCompletionResponse],
        access: Access,
        *,
        timeout: float,
        max_retries: int,
    ) -> None:
        super().__init__(access)
        self._complete = complete
        self._timeout_ms = max(1, round(1000 * timeout))
        self._max_retries = max_retries
        self._stopped = threading.Event()
        self._unreachable = False

    def stop_with(self, failure: BackendError) -> StopRunError:
        """Let no further request be sent in this run; return what to raise."""
        self._stopped.set()  # also ends the pauses of other threads
        return super().stop_with(failure)

    def send(self, body: Mapping[str, Any]) -> ChatCompletionResponse | Problem:
        """Send, and send again what may be answered later; return what came last.

        The SDK's own retries are bounded by the time they take, not by their number.
        """
        self.check()
        # Nobody answered after every retry: the next rows try once, until one gets through.
        n_retries = 0 if self._unreachable else self._max_retries
        for attempt in range(n_retries + 1):
            reply = self._send_once(body)
            if not isinstance(reply, Problem) or not is_temporary(reply) or attempt == n_retries:
                break
            pause = reply.retry_after
            if pause is None:
                # Spread out, so that rows refused together do not come back together.
                pause = min(8.0, 0.5 * 2.0**attempt) * random.Random().uniform(0.5, 1.0)
            if self._stopped.wait(pause):
                break
        self._unreachable = isinstance(reply, Problem) and reply.is_unreachable
        return reply

    def _send_once(self, body: Mapping[str, Any]) -> ChatCompletionResponse | Problem:
        """Return a completion, or why there is none.

        Problems are returned, so that failures are raised without the SDK's own error in their
        wake: that one holds the request, and with it the key.
        """
        from mistralai.client import errors, httpclient  # noqa: PLC0415  # an optional package

        http = vars(httpclient)["httpx"]  # its name has changed with the versions of the SDK
        try:
            return self._complete(**body, timeout_ms=self._timeout_ms)
        except errors.MistralError as error:
            return self._problem_of(error.status_code, error.body, error.headers)
        except http.TimeoutException:
            return Problem(0, "no answer in time", timed_out=True)
        except (http.RequestError, errors.NoResponseError) as error:
            return Problem(0, self.access.redact(str(error) or type(error).__name__))

    def _problem_of(self, status: int, body: str, headers: Mapping[str, str]) -> Problem:
        """Read an answer with an error status, or one that is no completion."""
        fields = _mapping(body)
        message = fields.get("message")
        detail = fields.get("detail") or _mapping(message).get("detail")
        params, said = _read_detail(detail) if detail else ([], str(message or ""))
        if fields.get("param"):
            params.append(str(fields["param"]))
        code, kind = (str(fields.get(name) or "") for name in ("code", "type"))
        return Problem(
            status,
            self.access.redact(said) or self.quote(body),
            code=code,
            names=frozenset(filter(None, (code, kind))),
            params=tuple(params),
            fields=fields,
            retry_after=seconds_to_wait(headers.get("retry-after")),
        )


def _read_detail(detail: Any) -> tuple[list[str], str]:
    """Return the parameters that a refusal is about, and what it says."""
    if not isinstance(detail, list):
        return [], str(detail)
    entries = [(entry.get("loc") or [], entry) for entry in map(_mapping, detail) if entry]
    # ["body", "random_seed"]; what is deeper belongs to that parameter, too
    params = [str(where[1]) for where, _ in entries if len(where) > 1]
    said = (f"{'.'.join(map(str, where))}: {entry.get('msg')}" for where, entry in entries)
    return params, "; ".join(said)


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def seconds_to_wait(retry_after: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date; None where it says neither."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = (date.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    # A server that wants to be left alone for longer is better reported than waited for.
    return min(max(0.0, seconds), _LONGEST_WAIT)
