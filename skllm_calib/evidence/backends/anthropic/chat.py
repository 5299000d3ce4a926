"""Requests to the Messages API: phrased as the model takes them, and their replies read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from skllm_calib.evidence.backends.anthropic.connection import AnthropicConnection
from skllm_calib.evidence.backends.anthropic.facts import ClaudeFacts, refused_parameter
from skllm_calib.evidence.backends.base import Message, Reply, Request
from skllm_calib.evidence.backends.hosted.answer import Usage, count, first
from skllm_calib.evidence.backends.hosted.endings import is_cut
from skllm_calib.evidence.backends.hosted.facts import row_of
from skllm_calib.evidence.backends.hosted.failures import Problem, StopRunError
from skllm_calib.evidence.backends.hosted.model import refused_wish
from skllm_calib.evidence.backends.hosted.redaction import redact_reply
from skllm_calib.evidence.backends.hosted.verdicts import Verdicts
from skllm_calib.exceptions import BackendError, ContextTooLong, Refused, UnreadableReply

__all__ = ["ClaudeModel"]


class ClaudeModel:
    """Requests texts of one model; many threads may do so at once.

    Parameters
    ----------
    connection : AnthropicConnection
        Where to send.
    facts : ClaudeFacts
        What is known of the model behind that address.
    model : str
    reasoning_effort : str or None
    reasoning_budget : int or None
    extra_body : mapping
        As in the backend.
    """

    def __init__(
        self,
        connection: AnthropicConnection,
        facts: ClaudeFacts,
        *,
        model: str,
        reasoning_effort: str | None,
        reasoning_budget: int | None,
        extra_body: Mapping[str, Any],
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._model = model
        self._effort = reasoning_effort
        self._budget = reasoning_budget
        self._extra_body = extra_body
        self._verdicts = Verdicts(connection, facts)

    def answer(self, request: Request) -> Reply:
        """Return the reply, or raise a BackendError, or a StopRunError."""
        kind = (bool(request.schema), request.temperature)
        return self._verdicts.answer(kind, self.answer_alone, request)

    def answer_alone(self, request: Request) -> Reply:
        """Answer a request as if it were the only one; raise a failure, or a StopRunError."""
        redact = self._connection.access.redact
        while True:
            body = self._body(request)
            reply = self._send(body)
            if not isinstance(reply, Problem):
                usage = Usage()
                read = partial(self._read, request=request, body=body, usage=usage)
                try:
                    return redact_reply(self._connection.read(read, reply), redact)
                except (Refused, UnreadableReply) as failure:
                    failure.billed_tokens = (usage.prompt_tokens, usage.completion_tokens, 0)
                    failure.is_billed = sum(failure.billed_tokens) > 0
                    raise
            if not self._facts.learn(reply, body, request.schema, row_of(request)):
                raise self._failure_of(reply, body)

    def _send(self, body: dict[str, Any]) -> Any | Problem:
        return self._connection.send("/v1/messages", body)

    def _body(self, request: Request) -> dict[str, Any]:
        """Write the body in the words that the model takes; what the user set wins."""
        system, turns = _split(request.messages)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens + (self._budget or 0),
            "messages": turns,
        }
        if system:
            body["system"] = system
        known, row = self._facts, row_of(request)
        if known.takes_temperature(request.temperature, row):
            body["temperature"] = request.temperature
        if (thinking := known.thinking(row)) is not None:
            body["thinking"] = thinking
        output: dict[str, Any] = {}
        if self._effort is not None:
            output["effort"] = self._effort
        if request.schema and known.takes_schema(request.schema, row):
            output["format"] = {"type": "json_schema", "schema": json.loads(request.schema)}
        output.update(self._extra_body.get("output_config") or {})
        return {**body, **self._extra_body, **({"output_config": output} if output else {})}

    def _failure_of(self, problem: Problem, body: Mapping[str, Any]) -> BackendError | StopRunError:
        """Return what to raise where no other phrasing can help."""
        if (name := refused_parameter(problem, body)) is None:
            return self._connection.failure_of(problem)
        # The user has set it on purpose, and no other row fares better.
        value = {"reasoning_effort": self._effort, "reasoning_budget": self._budget}[name]
        return refused_wish(self._model, name, value, problem)

    def _check(self, message: Any) -> None:
        """Raise the failure that an answer with a good status carries, if it does."""
        access = self._connection.access
        blocks = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(blocks, list) or not all(first(block, "type") for block in blocks):
            error = first(message, "error")
            said = error.get("message", error) if isinstance(error, dict) else "no content in it"
            raise UnreadableReply(
                f"{access.public_address} sent no message: {access.redact(str(said))} {access.hint}"
            )
        if message.get("stop_reason") == "refusal":
            why = first(message.get("stop_details"), "explanation", "category")
            about = f": {access.redact(str(why))}" if why else ""
            raise Refused(f"the model declined{about}")

    def _read(self, message: Any, request: Request, body: Mapping[str, Any], usage: Usage) -> Reply:
        usage.add(message)
        self._check(message)
        blocks, stop_reason = message["content"], message.get("stop_reason")
        text = "".join(block.get("text") or "" for block in blocks if block["type"] == "text")
        if not text.strip():
            self._check_room(stop_reason, request)
        counted = message.get("usage")
        n_hidden = count(first(counted, "output_tokens_details"), "thinking_tokens")
        n_read, n_stored, n_cached, n_written = (
            count(counted, f"{name}_tokens")
            for name in ("input", "cache_creation_input", "cache_read_input", "output")
        )
        refused, notes = self._left_out(request, body)
        if n_hidden > 0 or any("thinking" in block["type"] for block in blocks):
            notes.append("hidden reasoning came before the answer")
        return Reply(
            text,
            model=str(message.get("model") or ""),
            # The API counts what it reads from its cache, and what it puts there, beside the rest.
            prompt_tokens=n_read + n_stored + n_cached,
            completion_tokens=n_written,
            cached_tokens=n_cached,
            reasoning_tokens=n_hidden,
            refused=tuple(refused),
            notes=tuple(notes),
            cut=is_cut(stop_reason),
        )

    def _left_out(self, request: Request, body: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return which fields of the request the model does not take, and what held instead."""
        refused, notes = [], []
        if request.schema and "format" not in body.get("output_config", {}):
            refused.append("schema")
            notes.append("the model refuses 'schema'; only the messages say what is wanted")
        if "temperature" not in body:
            refused.append("temperature")
            wanted = f"temperature {request.temperature:g}"
            notes.append(f"the model refuses {wanted}; its default was used")
        if self._budget and body.get("thinking") == {"type": "adaptive"}:
            notes.append("the model takes no reasoning budget and decides itself how much it needs")
        if self._budget == 0 and "thinking" not in body:
            notes.append("the model does not let its reasoning be turned off")
        return refused, notes

    def _check_room(self, stop_reason: str | None, request: Request) -> None:
        """Raise what it means that nothing was written; an empty answer may be all there is."""
        if stop_reason == "model_context_window_exceeded":
            raise ContextTooLong("the prompt leaves no room for an answer in the context")
        if stop_reason == "max_tokens":
            raise UnreadableReply(
                f"the model {self._model!r} used all of max_tokens={request.max_tokens} and of "
                f"reasoning_budget={self._budget} before it wrote a word of its answer, as models "
                "do that reason: turn that off with reasoning_budget=0, leave room for it, for "
                "example with reasoning_budget=4096, or lower it with reasoning_effort='low'"
            )


def _split(messages: Sequence[Message]) -> tuple[str, list[Any]]:
    """Separate the instructions, which have a parameter of their own, from the turns."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    turns = [{"role": m.role, "content": m.content} for m in messages if m.role != "system"]
    # Turns of one role in a row are joined by the API, but it wants one to answer to.
    return (system, turns) if turns else ("", [{"role": "user", "content": system}])
