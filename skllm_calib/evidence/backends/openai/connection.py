"""Sending through OpenAI's SDK, and what the errors of servers that speak its API contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.backends.hosted.connection import SDKConnection
from skllm_calib.evidence.backends.hosted.failures import Problem

if TYPE_CHECKING:
    import openai

    from skllm_calib.evidence.backends.hosted.direct import StatusError

__all__ = ["OpenAIConnection"]


class OpenAIConnection(SDKConnection):
    """A connection through OpenAI's SDK."""

    def problem_of(self, error: openai.APIStatusError | StatusError) -> Problem:
        """Read an answer with an error status."""
        body = error.body
        if isinstance(body, list) and body and isinstance(body[0], Mapping):
            body = body[0].get("error", body[0])  # Google's errors are a list of one
        fields = body if isinstance(body, Mapping) else {}
        # Without the documented field, whatever was sent, as far as it can be read at a glance.
        message = str(fields.get("message") or self.quote(body or error.message))
        return self.problem_in(fields, message, error.status_code)

    def problem_in(self, fields: Mapping[str, Any], message: str, status: int) -> Problem:
        """Read the fields of an error."""
        param = str(fields.get("param") or "")
        return Problem(
            status,
            self.access.redact(message),
            code=str(fields.get("code") or ""),
            names=frozenset(_names(fields, message)),
            params=(param,) if param else (),
            fields=fields,
        )


def _names(fields: Mapping[str, Any], message: str) -> Sequence[str]:
    """Return everything by which an error names what failed."""
    code, azure = fields.get("code"), fields.get("innererror")
    names = [code, fields.get("type")]
    names += [azure.get("code")] if isinstance(azure, Mapping) else []
    details = fields.get("details")  # Google
    for detail in details if isinstance(details, Sequence) else ():
        names += [detail.get("reason")] if isinstance(detail, Mapping) else []
    router = fields.get("metadata")  # OpenRouter
    if isinstance(router, Mapping) and "flagged_input" in router:
        names.append("flagged_input")
    # What a reasoning model declines to think about; other invalid prompts have the code too.
    if code == "invalid_prompt" and "flagged" in message:
        names.append("content_filter")
    return [str(name) for name in names if name]
