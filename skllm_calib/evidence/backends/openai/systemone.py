"""The System One format of decision models: a state, typed questions, one probability per option.

Served by llama.cpp (in process and as ``/v1/systemone``), Ollama and others. Documented in the
README of llama.cpp's server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skllm_calib.evidence.backends.base import Choice, Message, Reply, Request
from skllm_calib.exceptions import UnreadableReply

__all__ = ["INSTRUCTIONS", "decision_of", "read_systemone", "systemone_body"]

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
        If it gives no probability to any of the choices, or an invalid one.
    """
    answer = _part(_part(body, "answers"), _QUESTION)
    if not (stated := _part(answer, "probabilities")):
        raise UnreadableReply(f"the decision model gave no probabilities: {str(body)[:200]}")
    usage = _part(body, "usage")
    return Reply(
        text=str(answer.get("choice") or ""),
        decision=decision_of(stated, choices),
        model=str(body.get("model") or ""),
        prompt_tokens=int(usage.get("input_tokens") or 0),
        completion_tokens=int(usage.get("output_tokens") or 0),
    )


def decision_of(stated: Mapping[str, Any], choices: Sequence[Choice]) -> tuple[float, ...]:
    """Return what an answer gives to each choice; what it does not name has nothing.

    Raises
    ------
    UnreadableReply
        If one of them is not a probability, or all of them are 0.
    """
    decision = []
    for choice in choices:
        p = stated.get(choice.value) or 0.0
        if not isinstance(p, int | float) or not math.isfinite(p) or p < 0:
            raise UnreadableReply(f"the server gave {choice.value!r} the probability {p!r}")
        decision.append(float(p))
    if not any(decision):
        raise UnreadableReply("the server gave no option of the decision a probability")
    return tuple(decision)


def _part(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = item.get(name)
    return found if isinstance(found, Mapping) else {}


def _state(messages: Sequence[Message]) -> Any:
    if len(messages) == 1:
        return messages[0].content
    return [message._asdict() for message in messages]
