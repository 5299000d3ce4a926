"""Requests in OpenAI's Responses API.

It has the same things under other names. An answer begun by the user is not continued there:
a trailing turn of the assistant is history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skllm_calib.evidence.backends.hosted.answer import Answer, first, positions_of
from skllm_calib.evidence.backends.hosted.failures import Problem, StopRunError
from skllm_calib.evidence.backends.hosted.model import schema_form
from skllm_calib.evidence.backends.openai.chat import OpenAIModel
from skllm_calib.evidence.backends.openai.dialect import OpenAIDialect
from skllm_calib.exceptions import (
    BackendError,
    MissingDependency,
    ModelNotFound,
    Refused,
    UnreadableReply,
)

__all__ = ["ResponsesModel", "responses_dialect"]

# The smallest max_output_tokens that the API takes.
_LEAST_LENGTH = 16
# Fields with parts of which the user may set one and leave the others to us.
_PARTED = ("reasoning", "text")


def responses_dialect() -> OpenAIDialect:
    """Return what is known of the API before the first request."""
    return OpenAIDialect(
        length_name="max_output_tokens",
        least_length=_LEAST_LENGTH,
        lists_many=False,
        can_continue=False,
        absent=frozenset({"seed"}),
    )


class ResponsesModel(OpenAIModel):
    """A model reached through the Responses API; parameters are those of ``HostedModel``.

    Raises
    ------
    MissingDependency
        If the installed SDK does not know the API.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        import openai  # noqa: PLC0415 (slow)

        if not hasattr(openai.OpenAI, "responses"):
            raise MissingDependency(
                "api='responses' needs openai 1.66 or later, and an older version is installed: "
                "pip install --upgrade openai, or use api='chat'"
            )

    @property
    def pinned(self) -> Mapping[str, float]:  # type: ignore[override]
        """As in HostedModel; the API has no penalties."""
        return {} if self.connection.access.is_openai else {"top_p": 1.0}

    def _setting(self, field: str) -> str:
        return {"include": "top_logprobs"}.get(field, field)

    def _body(self, messages: Sequence[dict[str, Any]], sent: Mapping[str, Any]) -> dict[str, Any]:
        # Otherwise every text would stay on the provider's side for a month.
        body = {"model": self.model, "input": list(messages), "store": False, **sent}
        if "top_logprobs" in body:
            body["include"] = ["message.output_text.logprobs"]
        if schema := body.pop("schema", None):
            body["text"] = {"format": {"type": "json_schema", **schema_form(schema)}}
        if self._effort is not None:
            body["reasoning"] = {"effort": self._effort}
        for field in _PARTED:
            theirs = self._extra_body.get(field)
            if field in body and isinstance(theirs, Mapping):
                body[field] = {**body[field], **theirs}
        return body

    def _send(self, body: dict[str, Any]) -> Any | Problem:
        parted = {name: body[name] for name in _PARTED if name in body}
        body = {**body, **self._extra_body, **parted}
        return self.connection.send("/responses", body)

    def _failure_of(self, problem: Problem, sent: Mapping[str, Any]) -> BackendError | StopRunError:
        failure = super()._failure_of(problem, sent)
        if problem.status not in (404, 405) or problem.code == "model_not_found":
            return failure
        hint = "if the server does not speak the Responses API, use api='chat'"
        return StopRunError(ModelNotFound(f"{failure} ({hint})"))

    def _read(self, reply: Any, n_reasoning: int) -> Answer:
        output = reply.get("output") if isinstance(reply, dict) else None
        access = self.connection.access
        status = first(reply, "status") or "completed"
        if not isinstance(output, list):
            raise self._no_answer(reply, "response")
        if status not in ("completed", "incomplete"):
            raise UnreadableReply(f"{access.public_address} sent a response that is {status!r}")
        reason = first(first(reply, "incomplete_details"), "reason")
        if reason == "content_filter":
            raise Refused("a content filter stopped the answer")
        texts: list[str] = []
        entries: list[Any] = []
        for part in _parts(output):
            if refusal := first(part, "refusal"):
                raise self._declined(refusal)
            if not isinstance(text := first(part, "text") or "", str):
                raise self._no_answer(reply, "text")
            texts.append(text)
            entries += first(part, "logprobs") or []
        thought = bool(n_reasoning) or _shows_reasoning(output)
        finish = "length" if reason == "max_output_tokens" else str(reason or "stop")
        return Answer("".join(texts), positions_of(entries), finish, n_reasoning, thought)


def _parts(output: Sequence[Any]) -> Iterator[Any]:
    """Yield the parts of the answer itself, not those of commentaries before it."""
    for item in output:
        if first(item, "type") == "message" and first(item, "phase") != "commentary":
            yield from first(item, "content") or []


def _shows_reasoning(output: Sequence[Any]) -> bool:
    return any(
        (first(item, "type") == "reasoning" and first(item, "content", "summary"))
        or first(item, "phase") == "commentary"
        for item in output
    )
