"""The Messages wire format for the server on the loopback address (see ``loopback``).

The tests reach it through the real SDK; nothing of that is replaced. Refusals are in the words of
the real API, as its users quote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopback import Answer

NO_TEMPERATURE = "`temperature` is deprecated for this model."
NO_TEMPERATURE_HERE = (
    "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode. Please "
    "consult our documentation at https://platform.claude.com/docs/en/build-with-claude/thinking"
)
NO_THINKING = (
    '"thinking.type.{}" is not supported for this model. Use "thinking.type.adaptive" and '
    '"output_config.effort" to control thinking behavior.'
)
NO_BOUNDS = (
    "output_config.format.schema: For 'number' type, properties maximum, minimum are not supported"
)
NO_OUTPUT_CONFIG = "output_config: Extra inputs are not permitted"


def refusal(
    status: int, message: str, kind: str = "invalid_request_error", **fields: Any
) -> Answer:
    """An error in the documented form."""
    headers = fields.pop("headers", {})
    error = {"type": kind, "message": message, **fields}
    return Answer(status, {"type": "error", "error": error, "request_id": "req_1"}, headers)


def message(
    *texts: str,
    thinking: str | None = None,
    content: Sequence[Mapping[str, Any]] | None = None,
    stop_reason: str = "end_turn",
    model: str = "claude-test-20260101",
    usage: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Answer:
    """A message in the documented form, one block a text."""
    blocks: list[Mapping[str, Any]] = [{"type": "text", "text": text} for text in texts]
    if thinking is not None:
        blocks.insert(0, {"type": "thinking", "thinking": thinking, "signature": "c2ln"})
    counted = {
        "input_tokens": 10,
        "output_tokens": 3,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 4,
        "service_tier": "standard",
    }
    return Answer(
        200,
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": blocks if content is None else list(content),
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {**counted, **(usage or {})},
            **fields,
        },
    )


class Claude:
    """A model that takes some parameters and refuses others, as each generation does.

    Parameters
    ----------
    says : callable
        From the text of the last turn to what is written.
    temperature : sequence of float or None
        The temperatures that are taken, None for all; while the model reasons it is only 1.
    thinking : sequence of str
        The forms of reasoning that are taken.
    schema : bool
        Whether structured output is taken.
    """

    def __init__(
        self,
        says: Callable[[str], str] = lambda text: f"re: {text}",
        *,
        temperature: Sequence[float] | None = None,
        thinking: Sequence[str] = ("enabled", "disabled"),
        schema: bool = True,
    ) -> None:
        self.says = says
        self.temperature = temperature
        self.thinking = thinking
        self.schema = schema

    def __call__(self, body: dict[str, Any]) -> Answer:
        assert {turn["role"] for turn in body["messages"]} <= {"user", "assistant"}
        form = body.get("thinking", {"type": "disabled"})["type"]
        reasons = form in ("enabled", "adaptive")
        if "thinking" in body and form not in self.thinking:
            return refusal(400, NO_THINKING.format(form))
        if form == "enabled" and not 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]:
            return refusal(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")
        takes = self.temperature
        if "temperature" in body and takes is not None and body["temperature"] not in takes:
            return refusal(400, NO_TEMPERATURE)
        if body.get("temperature", 1) != 1 and reasons:
            return refusal(400, NO_TEMPERATURE_HERE)
        wanted = body.get("output_config", {}).get("format")
        if wanted is not None and not self.schema:
            return refusal(400, NO_OUTPUT_CONFIG)
        if "minimum" in str(wanted):
            return refusal(400, NO_BOUNDS)
        text = self.says(body["messages"][-1]["content"])
        if not reasons:
            return message(text)
        counted = {"output_tokens": 33, "output_tokens_details": {"thinking_tokens": 30}}
        return message(text, thinking="Hm, let me see.", usage=counted)
