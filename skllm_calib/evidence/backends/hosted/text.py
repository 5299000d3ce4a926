"""Answers in words, also those of models that reason before they write."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.hosted.answer import Answer, Usage
from skllm_calib.evidence.backends.hosted.endings import is_cut
from skllm_calib.evidence.backends.hosted.facts import (
    BEGUN,
    N_ROWS,
    REASONS,
    Dialect,
    row_of,
)
from skllm_calib.evidence.backends.hosted.model import HostedModel
from skllm_calib.evidence.backends.hosted.thinking import begins_to_think, split_thinking
from skllm_calib.exceptions import BackendError, ContextTooLong, UnreadableReply

__all__ = ["read_text"]

# Tokens for hidden reasoning where the user gives no number. Reasoning about one short text is
# mostly done well before; what is not used is not paid for.
_HEADROOM = 2_000


def read_text(model: HostedModel, request: Request, usage: Usage, budget: int | None) -> Reply:
    """Have a text written.

    Parameters
    ----------
    model : HostedModel
    request : Request
    usage : Usage
        Where the calls are counted.
    budget : int or None
        `reasoning_budget` of the backend.

    Returns
    -------
    Reply
        Without what `usage` counts.
    """
    known, row = model.dialect, row_of(request)
    reasons = known.holds(REASONS, row)
    room = _HEADROOM * reasons if budget is None else budget
    answer = _request(model, request, usage, room)
    if answer.thought and budget is None:
        known.note(REASONS, row)
        if answer.cut and room < _HEADROOM:
            room = _HEADROOM
            answer = _request(model, request, usage, room)
    elif budget is None and not reasons and _may_be_reasoning(answer, known):
        known.n_longer += 1
        before = usage.completion_tokens
        longer = _at_length(model, request, usage)
        if longer.thought:
            known.note(REASONS, row)
            answer, room = longer, _HEADROOM
        elif _is_whole(longer) and usage.completion_tokens - before <= request.max_tokens:
            answer = longer  # would have fitted: what had cut the first one has passed
    if not answer.text.strip():
        _check_room(answer.finish, model.model, request.max_tokens, room)
    notes = known.notes(answer.left_out, row)
    if answer.thought:
        notes += _notes_on_reasoning(answer.reasoning_tokens, room if budget is None else 0)
    return Reply(answer.text, notes=notes, refused=answer.left_out, cut=answer.cut)


def _request(model: HostedModel, request: Request, usage: Usage, room: int) -> Answer:
    settings: dict[str, Any] = {
        "max_tokens": request.max_tokens + room,
        "temperature": request.temperature,
    }
    if request.schema:
        settings["schema"] = request.schema
    messages = [message._asdict() for message in request.messages]
    row = row_of(request)
    answer = model.request(messages, usage, row=row, draw=request.draw, **settings)
    return _without_reasoning(answer, model.dialect, row)


def _may_be_reasoning(answer: Answer, known: Dialect) -> bool:
    """Tell whether to look, with a row or two, if what was cut is reasoning without a mark."""
    return answer.cut and bool(answer.text.strip()) and known.n_longer < N_ROWS


def _at_length(model: HostedModel, request: Request, usage: Usage) -> Answer:
    """Let a model that was cut write on.

    Where a chat template has begun the reasoning, nothing tells so before its end.
    """
    try:
        return _request(model, request, usage, _HEADROOM)
    except BackendError:  # says nothing of the answer that is there
        return Answer("")


def _is_whole(answer: Answer) -> bool:
    return bool(answer.text.strip()) and not answer.cut


def _without_reasoning(answer: Answer, known: Dialect, row: Hashable) -> Answer:
    """Take the reasoning out that a model wrote into its text; where it never ends, it was cut."""
    reasoning, text = split_thinking(answer.text)
    if not reasoning and answer.cut and known.holds(BEGUN, row):
        reasoning, text = answer.text, None
    if text is None:
        return replace(answer, text="", finish="length", thought=True)
    if reasoning and not begins_to_think(answer.text):
        known.note(BEGUN, row)
    return replace(answer, text=text, thought=answer.thought or bool(reasoning))


def _notes_on_reasoning(n_tokens: int, room: int) -> tuple[str, ...]:
    """Say how much reasoning there was, and what room was made for it."""
    counted = f"{n_tokens} tokens of hidden reasoning"
    counted = counted if n_tokens else "tokens of reasoning, not counted,"
    note = f"{counted} came before the answer; they are no evidence of how sure the model is"
    if not room:
        return (note,)
    return (f"the model reasons: it was allowed {room:,} tokens more than the answer needs", note)


def _check_room(finish: str, model: str, max_tokens: int, room: int) -> None:
    """Raise what it means that nothing was written; an empty answer may be all there is."""
    if finish == "model_length":
        raise ContextTooLong(f"the prompt leaves no room for an answer in the context of {model!r}")
    if is_cut(finish):
        allowed = f"max_tokens={max_tokens}"
        allowed += f" and {room:,} tokens of reasoning" if room else ""
        raise UnreadableReply(
            f"the model {model!r} used all of {allowed} before it wrote a word of its answer, as "
            "reasoning models do: allow more with reasoning_budget, or turn reasoning off, for "
            "example with reasoning_effort='none'"
        )
