"""Errors that come with a good status: in a body, a choice or a message, instead of an answer.

Gateways have sent their "200 OK" by the time that the server behind them fails. What they carry is
an answer like any other with an error status: sent again where that status is, and never read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.hosted.answer import first
from skllm_calib.evidence.backends.hosted.endings import is_broken

__all__ = ["CarriedError", "carried_error"]

# What servers call their failures where they give no status.
_STATUSES = {
    **dict.fromkeys(("timeout", "timeout_error", "request_timeout"), 408),
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "rate_limited"), 429),
    **dict.fromkeys(("server_error", "api_error", "internal_error", "internal_server_error"), 500),
    **dict.fromkeys(("bad_gateway", "upstream_error", "network_error"), 502),
    **dict.fromkeys(("overloaded", "overloaded_error", "service_unavailable"), 503),
    **dict.fromkeys(("engine_overloaded", "model_overloaded", "unavailable"), 503),
    **dict.fromkeys(("gateway_timeout", "vector_store_timeout"), 504),
    **dict.fromkeys(("insufficient_quota", "billing_error"), 402),
    **dict.fromkeys(("invalid_api_key", "authentication_error"), 401),
    **dict.fromkeys(("permission_error", "permission_denied"), 403),
    **dict.fromkeys(("model_not_found", "not_found_error"), 404),
    **dict.fromkeys(("invalid_request_error", "invalid_prompt", "bad_request"), 400),
}
_PASSES = re.compile(
    r"overloaded|over capacity|temporar|try again|unavailable|timed? ?-?out|too many requests|"
    r"rate limit|internal (?:server )?error|bad gateway",
    re.I,
)


class CarriedError(NamedTuple):
    """The fields of an error, its message and the status that it stands for, 200 if unknown."""

    fields: Mapping[str, Any]
    message: str
    status: int


def carried_error(reply: Any) -> CarriedError | None:
    """Return the error in a reply that came with a good status, None if it is an answer.

    Parameters
    ----------
    reply : object
        What came, as JSON.

    Examples
    --------
    >>> carried_error({"error": {"code": 503, "message": "overloaded"}}).status
    503
    >>> carried_error({"choices": [{"finish_reason": "error"}]}).status
    502
    >>> carried_error({"choices": [{"finish_reason": "stop"}]}) is None
    True
    """
    choices = first(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    places = (reply, choice, first(choice, "message"))
    error = next((found for place in places if (found := first(place, "error"))), None)
    ending = next(filter(is_broken, (first(choice, "finish_reason"), first(reply, "status"))), None)
    if not error and ending is None:
        return None
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    said = fields.get("message") or (str(error)[:500] if error else "")
    message = str(said or f"the server broke the answer off ({ending})")
    return CarriedError(fields, message, _status(fields) or _likely_status(fields, message, ending))


def _likely_status(fields: Mapping[str, Any], message: str, ending: Any) -> int:
    """Return the status of an error that gives none: 200 where nothing tells."""
    if _PASSES.search(message):
        return 503
    if fields.get("code") or fields.get("type"):
        return 400  # for a reason that has a name, and that no retry is known to change
    return 200 if ending is None else 502


def _status(fields: Mapping[str, Any]) -> int:
    named = [fields.get(name) for name in ("code", "status", "status_code", "http_code", "type")]
    for value in named:
        text = str(value or "").strip()
        if re.fullmatch(r"[45]\d\d", text):
            return int(text)
    return next((s for v in named if (s := _STATUSES.get(str(v or "").lower(), 0))), 0)
