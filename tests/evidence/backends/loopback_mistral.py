"""Answers of the loopback server in the wire format of Mistral's chat endpoint.

What is documented in the types of the ``mistralai`` package is required here, too: the real client
refuses an answer that lacks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loopback import Answer, Probabilities


def completion(
    content: Any,
    positions: Sequence[Mapping[str, Any]] | None = None,
    *,
    finish_reason: str = "stop",
    usage: Mapping[str, Any] | None = None,
    model: str = "mistral-served-2603",
) -> Answer:
    """A chat completion; `content` is a text, or a list of chunks."""
    n_written = 1 if positions is None else len(positions)
    counted = {"prompt_tokens": 10, "completion_tokens": n_written, "total_tokens": 10 + n_written}
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content, "tool_calls": None, "prefix": False},
    }
    if positions is not None:
        choice["logprobs"] = {"content": list(positions)}
    return Answer(
        200,
        {
            "id": "cmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": {**counted, **(usage or {})},
        },
    )


def thinking(text: str) -> dict[str, Any]:
    """A chunk with a model's reasoning."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], "closed": True}


def said(text: str) -> dict[str, Any]:
    """A chunk of the answer itself."""
    return {"type": "text", "text": text}


def position(written: str, listed: Probabilities) -> dict[str, Any]:
    """One entry of ``logprobs.content``."""

    def entry(token: str, p: float) -> dict[str, Any]:
        logprob = math.log(p) if p > 0 else -9999.0
        raw = token.encode()
        return {"token": token, "logprob": logprob, "bytes": list(raw), "token_id": sum(raw)}

    top = [entry(token, p) for token, p in sorted(listed.items(), key=lambda item: -item[1])]
    return {**entry(written, listed.get(written, 1e-6)), "top_logprobs": top}


def refusal(status: int, message: Any, **fields: Any) -> Answer:
    """An error in the form of the error glossary: {"object": "error", "message", ...}."""
    headers = fields.pop("headers", {})
    error = {"type": "invalid_request_error", "param": None, "code": None, **fields}
    return Answer(status, {"object": "error", "message": message, **error}, headers)


def forbidden(name: str, msg: str = "Extra inputs are not permitted") -> Answer:
    """A request of the wrong form."""
    detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": msg, "input": 1}]
    return Answer(422, {"detail": detail})


class ChatModel:
    """A model with a known distribution after each beginning of its answer.

    Parameters
    ----------
    after : mapping of str to probabilities
        Next tokens by what is written so far; "" as a token ends the answer.
    continues : bool
        Whether the log-probabilities after a ``prefix`` are those of the token that follows it.
    """

    def __init__(self, after: Mapping[str, Probabilities], *, continues: bool = True) -> None:
        self.after = after
        self.continues = continues

    def __call__(self, body: dict[str, Any]) -> Answer:
        last = body["messages"][-1]
        begun = last["content"] if last.get("prefix") else ""
        text, positions, finish = begun if self.continues else "", [], "length"
        for _ in range(body["max_tokens"]):
            listed = self.after.get(text)
            token = max(listed, key=listed.__getitem__) if listed else ""
            if not token:
                finish = "stop"
                break
            top = sorted(listed.items(), key=lambda item: -item[1])[: body.get("top_logprobs", 0)]
            positions.append(position(token, dict(top)))
            text += token
        return completion(text, positions if body.get("logprobs") else None, finish_reason=finish)
