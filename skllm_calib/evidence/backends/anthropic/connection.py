"""Sending through Anthropic's SDK, and what the errors of its API contain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.backends.hosted.connection import SDKConnection
from skllm_calib.evidence.backends.hosted.failures import Problem

if TYPE_CHECKING:
    import anthropic

    from skllm_calib.evidence.backends.hosted.direct import StatusError

__all__ = ["AnthropicConnection"]


class AnthropicConnection(SDKConnection):
    """A connection through Anthropic's SDK."""

    def problem_of(self, error: anthropic.APIStatusError | StatusError) -> Problem:
        """Read an answer with an error status."""
        fields = _mapping(_mapping(error.body).get("error"))
        code = str(_mapping(fields.get("details")).get("error_code") or "")
        kind = str(fields.get("type") or "")
        # Without the documented field, whatever was sent, as far as it can be read at a glance.
        said = fields.get("message") or self.quote(error.body or error.message)
        return Problem(
            error.status_code,
            self.access.redact(str(said)),
            code=code,
            names=frozenset(filter(None, (code, kind))),
            fields=fields,
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
