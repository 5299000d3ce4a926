"""Sending through Mistral's SDK, and what its errors contain.

An error is documented as ``{"object": "error", "message", "type", "param", "code"}`` and, for a
request of the wrong form (status 422), as ``{"detail": [{"type", "loc", "msg"}]}``; the second is
also found inside the message of the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from skllm_calib.evidence.backends.hosted.carried import carried_error
from skllm_calib.evidence.backends.hosted.connection import Connection, lost, seconds_to_wait
from skllm_calib.evidence.backends.hosted.direct import NOT_ANSWERED, StatusError
from skllm_calib.evidence.backends.hosted.failures import Problem

__all__ = ["MistralClient", "MistralConnection"]


class MistralClient:
    """Mistral's SDK as other SDKs are called.

    Parameters
    ----------
    sdk : object
    """

    def __init__(self, sdk: Any) -> None:
        self.sdk = sdk
        self._complete = sdk.chat.complete  # looked up once: it is made at the first look

    def post(self, path: str, *, body: Mapping[str, Any], cast_to: type = object) -> Any:
        """Send a body to the chat endpoint, which is the only one; return plain JSON."""
        reply = self._complete(**body)
        return reply and reply.model_dump(mode="json", by_alias=True)


class MistralConnection(Connection):
    """A connection to Mistral's chat endpoint."""

    def send_once(self, create: Callable[[Any], Any], client: Any) -> Any | Problem:
        """Let `create` send with a client, and return the reply or read the SDK's error."""
        from mistralai.client import errors, httpclient  # noqa: PLC0415  # an optional package

        http = vars(httpclient)["httpx"]  # its name has changed with the versions of the SDK
        try:
            return create(client)
        except errors.MistralError as error:
            return self._problem_of(error.status_code, error.body, error.headers)
        except StatusError as error:
            return self._problem_of(error.status_code, error.text, error.headers)
        except (http.RequestError, errors.NoResponseError, *NOT_ANSWERED) as error:
            return lost(error, self.access)

    def _problem_of(self, status: int, body: str, headers: Mapping[str, str]) -> Problem:
        """Read an answer with an error status, or one that is no completion."""
        fields = _mapping(body)
        if status < 400 and (carried := carried_error(fields)) is not None:
            return self.problem_in(*carried)
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
            retry_after=seconds_to_wait(headers),
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
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}
