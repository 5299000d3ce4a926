"""The System One format of decision models: a state, typed questions, a probability an option.

Served by llama.cpp (in process and as ``/v1/systemone``), Ollama and others. Documented in the
README of llama.cpp's server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skllm_calib.backends.base import Choice, Message, Reply, Request
from skllm_calib.exceptions import UnreadableReply

__all__ = ["INSTRUCTIONS", "read_systemone", "systemone_body"]

INSTRUCTIONS = "Choose the option that answers the last message."
_QUESTION = "label"


def systemone_body(request: Request) -> dict[str, Any]:
    """Return the body that puts a request with `choices` to a decision model."""
    return {
        "state": _state(request.messages),
        "questions": {
            _QUESTION: {
                "type": "choice",
                "instructions": INSTRUCTIONS,
                "criteria": {
                    choice.value: choice.description or None for choice in request.choices
                },
            }
        },
    }


def read_systemone(body: Mapping[str, Any], choices: Sequence[Choice]) -> Reply:
    """Read the answer to :func:`systemone_body`.

    Raises
    ------
    UnreadableReply
        If it gives no probability to any of the choices.
    """
    answer = (body.get("answers") or {}).get(_QUESTION) or {}
    stated = answer.get("probabilities") or {}
    if not any(choice.value in stated for choice in choices):
        raise UnreadableReply(f"the decision model gave no probabilities: {str(body)[:200]}")
    usage = body.get("usage") or {}
    return Reply(
        text=str(answer.get("choice") or ""),
        decision=tuple(float(stated.get(choice.value, 0.0)) for choice in choices),
        model=str(body.get("model") or ""),
        prompt_tokens=int(usage.get("input_tokens") or 0),
        completion_tokens=int(usage.get("output_tokens") or 0),
    )


def _state(messages: Sequence[Message]) -> Any:
    if len(messages) == 1:
        return messages[0].content
    return [message._asdict() for message in messages]
