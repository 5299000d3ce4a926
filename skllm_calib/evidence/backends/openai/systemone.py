"""The System One format of decision models: a state, typed questions, one probability per option.

Served by llama.cpp (in process and as ``/v1/systemone``), Ollama and others. Documented in the
README of llama.cpp's server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skllm_calib.evidence.backends.base import Choice, Message, Reply, Request
from skllm_calib.evidence.backends.hosted.answer import count
from skllm_calib.exceptions import UnreadableReply

__all__ = ["INSTRUCTIONS", "decision_of", "read_systemone", "systemone_body"]

INSTRUCTIONS = "Choose the option that answers the last message."
_QUESTION = "label"
# Probabilities may be rounded to two digits.
_ROUNDING, _DIGIT = 1e-3, 0.005


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
        prompt_tokens=count(usage, "input_tokens"),
        completion_tokens=count(usage, "output_tokens"),
    )


def decision_of(stated: Mapping[Any, Any], choices: Sequence[Choice]) -> tuple[float, ...]:
    """Return what an answer gives to each choice; what it does not name has nothing.

    Parameters
    ----------
    stated : mapping
        What is stated of each option, also of others than the choices.
    choices : sequence of Choice

    Raises
    ------
    UnreadableReply
        If one of them is not a probability, all of them are 0, or they sum to more than 1; or to
        less where one of the choices has none.
    """
    known = {value: _probability(value, p) for value, p in stated.items() if p is not None}
    decision = tuple(known.get(choice.value, 0.0) for choice in choices)
    if not any(decision):
        raise UnreadableReply("the server gave no option of the decision a probability")
    total, rounding = math.fsum(known.values()), _ROUNDING + _DIGIT * len(known)
    is_whole = total >= 1.0 - rounding or all(choice.value in known for choice in choices)
    if total > 1.0 + rounding or not is_whole:
        raise UnreadableReply(
            f"the server gave {len(known)} options of the decision probabilities that sum to "
            f"{total:.4g}"
        )
    return decision


def _probability(value: Any, p: Any) -> float:
    if type(p) not in (int, float) or not 0 <= p < math.inf:  # NaN is not
        raise UnreadableReply(f"the server gave {value!r:.60} the probability {p!r:.60}")
    return float(p)


def _part(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = item.get(name)
    return found if isinstance(found, Mapping) else {}


def _state(messages: Sequence[Message]) -> Any:
    if len(messages) == 1:
        return messages[0].content
    return [message._asdict() for message in messages]
