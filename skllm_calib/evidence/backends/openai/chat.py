"""Requests in Chat Completions, which nearly every server speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skllm_calib.evidence.backends.hosted.answer import Answer, first, positions_of
from skllm_calib.evidence.backends.hosted.endings import is_filtered
from skllm_calib.evidence.backends.hosted.failures import Problem
from skllm_calib.evidence.backends.hosted.model import HostedModel, schema_form
from skllm_calib.evidence.backends.openai.connection import OpenAIConnection
from skllm_calib.evidence.backends.openai.dialect import (
    CONTINUATIONS,
    LENGTH_NAMES,
    PINNED,
    OpenAIDialect,
)
from skllm_calib.exceptions import Refused

__all__ = ["ChatModel", "OpenAIModel"]


class OpenAIModel(HostedModel):
    """What requests in both of OpenAI's APIs have in common."""

    connection: OpenAIConnection
    dialect: OpenAIDialect
    reasoning_off = (
        "reasoning_effort='none' where the model takes it, on a server of your own often "
        "extra_body={'chat_template_kwargs': {'enable_thinking': False}}"
    )

    @property
    def _effort(self) -> str | None:
        return self._wishes.get("reasoning_effort")

    def _without_what_the_user_sets(
        self, settings: Mapping[str, Any], by_user: set[str]
    ) -> dict[str, Any]:
        # The bound of the answer has several names.
        unset = () if by_user.isdisjoint(LENGTH_NAMES) else LENGTH_NAMES
        return {name: value for name, value in settings.items() if name not in unset}


class ChatModel(OpenAIModel):
    """A model reached through Chat Completions."""

    continuations = CONTINUATIONS

    @property
    def pinned(self) -> Mapping[str, float]:  # type: ignore[override]
        """As in HostedModel; these are OpenAI's own defaults, and its models refuse some."""
        return {} if self.connection.access.is_openai else PINNED

    def _setting(self, field: str) -> str:
        return {"response_format": "schema", "logprobs": "top_logprobs"}.get(field, field)

    def _body(self, messages: Sequence[dict[str, Any]], sent: Mapping[str, Any]) -> dict[str, Any]:
        body = {"model": self.model, "messages": list(messages), **sent}
        if "top_logprobs" in body:
            body["logprobs"] = True
        if schema := body.pop("schema", None):
            body["response_format"] = {"type": "json_schema", "json_schema": schema_form(schema)}
        if self._effort is not None:
            body["reasoning_effort"] = self._effort
        return body

    def _send(self, body: dict[str, Any]) -> Any | Problem:
        return self.connection.send("/chat/completions", {**body, **self._extra_body})

    def _read(self, reply: Any, n_reasoning: int) -> Answer:
        choices = first(reply, "choices")
        if not choices:
            raise self._no_answer(reply, "chat completion")
        choice = choices[0]
        message, finish = choice["message"], choice.get("finish_reason")
        if is_filtered(finish):
            raise Refused("a content filter stopped the answer")
        if refusal := message.get("refusal"):
            raise self._declined(refusal)
        if not isinstance(text := message.get("content") or "", str):
            raise self._no_answer(reply, "text")
        positions = positions_of(first(choice.get("logprobs"), "content"))
        thought = bool(n_reasoning or first(message, "reasoning_content", "reasoning"))
        return Answer(text, positions, str(finish), n_reasoning, thought)
