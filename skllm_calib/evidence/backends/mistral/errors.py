"""What Mistral's refusals mean, in the errors of this library, and without its secrets.

An error is documented as ``{"object": "error", "message", "type", "param", "code"}`` and, for a
request of the wrong form (status 422), as ``{"detail": [{"type", "loc", "msg"}]}``; the second is
also found inside the message of the first. Codes and fields decide; texts where there are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from skllm_calib.evidence.backends.hosted.hosted import Access, StopRunError, redact
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = ["Problem", "failure_of", "no_log_probabilities"]

# "Prompt contains 66385 tokens, too large for model with 32768 maximum context length"
_TOO_LONG = re.compile(r"too large for model with (\d+) maximum context length", re.I)
_N_TOKENS = re.compile(r"contains (\d+) tokens", re.I)
_CONTEXT = re.compile(r"(?:maximum )?context (?:length|window)", re.I)
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no completion, or the lack of one, read once.

    Attributes
    ----------
    status : int
        Status of the answer; 0 where none came.
    message : str
        What the server said, or why it said nothing, without secrets.
    code, kind : str
        Its fields "code" and "type".
    params : tuple of str
        The parameters that it names as the cause.
    retry_after : float or None
        How many seconds the server asks to wait.
    timed_out : bool
        Whether the answer did not come in time.
    """

    status: int
    message: str
    code: str = ""
    kind: str = ""
    params: tuple[str, ...] = ()
    retry_after: float | None = None
    timed_out: bool = False

    @classmethod
    def of(cls, status: int, body: str, headers: Mapping[str, str], access: Access) -> Problem:
        """Read an answer with an error status."""
        fields = _mapping(body)
        message = fields.get("message")
        detail = fields.get("detail") or _mapping(message).get("detail")
        params, said = [], str(message or "")
        if isinstance(detail, list):
            entries = [entry for entry in detail if isinstance(entry, Mapping)]
            # ["body", "random_seed"]; what is deeper belongs to that parameter, too
            params = [str(e["loc"][1]) for e in entries if len(e.get("loc") or ()) > 1]
            said = "; ".join(
                f"{'.'.join(map(str, e.get('loc', ())))}: {e.get('msg')}" for e in entries
            )
        elif detail:
            said = str(detail)
        if fields.get("param"):
            params.append(str(fields["param"]))
        return cls(
            status,
            redact(said or body[:500], access),
            str(fields.get("code") or ""),
            str(fields.get("type") or ""),
            tuple(params),
            _seconds(headers.get("retry-after")),
        )

    @property
    def is_unreachable(self) -> bool:
        """Whether there was nobody to answer."""
        return not self.status and not self.timed_out

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def is_refused_request(self) -> bool:
        """Whether the request was at fault, not the key, the model, the load or its length."""
        others = self.is_unknown_model or self.is_filtered or self.excess is not None
        return self.status in (400, 422) and not others

    @property
    def is_unknown_model(self) -> bool:
        """Whether there is no such model."""
        return self.status == 404 or self.code == "1500" or self.kind == "invalid_model"

    @property
    def is_filtered(self) -> bool:
        """Whether a content filter stopped the request."""
        return "content_filter" in (self.code, self.kind)

    @property
    def excess(self) -> int | None:
        """By how many tokens the prompt is too long; 0 where unknown, None where it is not."""
        if self.status not in (400, 413, 422):
            return None
        text = self.message.replace(",", "")
        limit, count = _TOO_LONG.search(text), _N_TOKENS.search(text)
        if limit and count:
            return max(0, int(count[1]) - int(limit[1]))
        return 0 if limit or (self.code != "1500" and _CONTEXT.search(text)) else None

    def names(self, *params: str) -> bool:
        """Tell whether it is about one of these parameters."""
        if self.params:
            return not set(params).isdisjoint(self.params)
        about = (rf"(?<![A-Za-z_]){name}(?![A-Za-z_])" for name in params)
        return any(re.search(name, self.message, re.I) for name in about)


def failure_of(problem: Problem, access: Access) -> BackendError | StopRunError:
    """Translate a problem that no retry and no other phrasing has solved."""
    where, status = access.public_address, problem.status
    if problem.timed_out:
        return BackendUnavailable(f"no answer from {where} in time: raise 'timeout', or ask less")
    if not status:
        return BackendUnavailable(f"no connection to {where}: {problem.message}")
    said = f"{where} said: {problem.message}"
    if problem.is_filtered:
        return Refused(f"a content filter declined this text; {said}")
    if problem.is_unknown_model:
        hint = "" if problem.code else " (is 'base_url' right? It goes without /v1)"
        return StopRunError(ModelNotFound(f"no such model or address{hint}; {said}"))
    if (excess := problem.excess) is not None:
        by = f" by {excess} tokens" if excess else ""
        return ContextTooLong(f"the prompt is too long{by}; {said}", excess or None)
    if status in (401, 403):
        hint = "" if access.key else ", which is not set: no key was sent"
        return StopRunError(
            AuthenticationFailed(
                f"the key is refused; it comes from the environment variable {access.key_name}"
                f"{hint}; {said}"
            )
        )
    if status == 402:
        return StopRunError(RateLimited(f"the account must be paid for first; {said}"))
    if status == 429:
        advice = "lower 'max_concurrency' or raise 'max_retries'"
        return RateLimited(f"too many requests, also after every retry: {advice}; {said}")
    if problem.is_temporary:
        return BackendUnavailable(f"status {status} after every retry; {said}")
    if status < 400:
        return UnreadableReply(
            f"{where} sent no chat completion: {problem.message} (is 'base_url' right? It goes "
            "without /v1)"
        )
    return BackendError(f"status {status}; {said}")


def no_log_probabilities(model: str, why: str) -> SignalUnavailable:
    """Say that a model shows no log-probabilities, and what works instead."""
    return SignalUnavailable(
        f"the model {model!r} shows no log-probabilities here ({why}), so signal='logprobs' cannot "
        "work with it. The signals 'self_reported' and 'self_consistency' need only text."
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
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
