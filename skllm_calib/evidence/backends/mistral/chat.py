"""Requests to Mistral's chat endpoint, and what a model behind it takes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skllm_calib.evidence.backends.hosted.answer import Answer, first, positions_of
from skllm_calib.evidence.backends.hosted.endings import is_filtered
from skllm_calib.evidence.backends.hosted.facts import AT_MOST, DROPPED, Continuation, Dialect
from skllm_calib.evidence.backends.hosted.failures import Problem, rule_of
from skllm_calib.evidence.backends.hosted.model import HostedModel, schema_form
from skllm_calib.evidence.backends.mistral.connection import MistralConnection
from skllm_calib.exceptions import Refused

__all__ = ["MistralDialect", "MistralModel"]

# Where nothing of the distribution is cut or bent.
_PINNED = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
# What is left out when a model refuses it, by what Mistral calls it.
_OPTIONAL = {"temperature": "temperature", "random_seed": "seed", "response_format": "schema"} | {
    name: name for name in _PINNED
}
_AT_MOST = re.compile(
    r"(?:less than or equal to|at most|up to|<=|between \d+ and|max(?:imum)?(?: of| is|:)?) "
    r"(\d{1,9})",
    re.I,
)


@dataclass(kw_only=True)
class MistralDialect(Dialect):
    """What is known of one model behind one address of Mistral's."""

    def learn(self, problem: Problem, sent: Mapping[str, Any], row: Hashable) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing."""
        if not _is_refused(problem):
            return False
        if "top_logprobs" in sent and _names(problem, "logprobs", "top_logprobs"):
            said = [int(n) for n in _AT_MOST.findall(problem.message)]
            fewer = [n for n in said if 0 < n < sent["top_logprobs"]]
            if fewer:
                self.note(AT_MOST, row, max(fewer))
            else:
                self.no_logprobs = problem.message
            return bool(fewer)
        for field, setting in _OPTIONAL.items():
            if setting in sent and _names(problem, field):
                self.note(DROPPED, row, setting)
                return True
        return False

    def refuses(self, problem: Problem, wish: str) -> bool:
        """Tell whether a refusal is about a parameter that the user has set on purpose."""
        return _is_refused(problem) and _names(problem, wish)


def _is_refused(problem: Problem) -> bool:
    """Tell whether the request was at fault, not the key, the model, the load or its length."""
    return problem.status in (400, 422) and rule_of(problem) is None


def _names(problem: Problem, *params: str) -> bool:
    """Tell whether a refusal is about one of these parameters."""
    if problem.params:
        return not set(params).isdisjoint(problem.params)
    return problem.mentions(*params)


class MistralModel(HostedModel):
    """A model reached through Mistral's chat endpoint."""

    connection: MistralConnection
    # That the answer goes on after a prefix is documented, what is listed then is not.
    continuations = (Continuation({"prefix": True}),)
    pinned = _PINNED

    def _body(self, messages: Sequence[dict[str, Any]], sent: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), "stream": False}
        body |= {**self._wishes, **sent}
        if "top_logprobs" in body:
            body["logprobs"] = True
        if "seed" in body:
            body["random_seed"] = body.pop("seed")
        if schema := body.pop("schema", None):
            body["response_format"] = {"type": "json_schema", "json_schema": schema_form(schema)}
        return body

    def _send(self, body: dict[str, Any]) -> Any | Problem:
        return self.connection.send("/v1/chat/completions", body)

    def _read(self, reply: Any, n_reasoning: int) -> Answer:
        choices = first(reply, "choices")
        if not choices:
            raise self._no_answer(reply, "choices")
        choice, finish = choices[0], first(choices[0], "finish_reason")
        if is_filtered(finish):
            raise Refused("a content filter stopped the answer")
        if (message := first(choice, "message")) is None:
            raise self._no_answer(reply, "message")
        content = first(message, "content")
        chunks = content if isinstance(content, list) else []
        # A thinking chunk holds texts of its own: they are what led to the answer, not part of it.
        texts = [first(chunk, "text") or "" for chunk in chunks if first(chunk, "type") == "text"]
        return Answer(
            content if isinstance(content, str) else "".join(texts),
            positions_of(first(first(choice, "logprobs"), "content")),
            str(finish),
            n_reasoning,
            bool(n_reasoning) or any(first(chunk, "type") == "thinking" for chunk in chunks),
        )
