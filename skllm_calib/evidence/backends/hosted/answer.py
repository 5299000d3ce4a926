"""What a hosted model answered, whichever API it came through, and what it used.

Replies are plain JSON, also those that came through an SDK. This is the one place where the
log-probabilities of a reply become tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.hosted.endings import is_cut
from skllm_calib.evidence.token_lists import Sent

__all__ = ["NOT_AS_EXPECTED", "Answer", "Position", "Usage", "count", "first", "positions_of"]

NOT_AS_EXPECTED = (
    *(ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)
"""What is raised where something else was sent than what is read."""


class Position(NamedTuple):
    """What was sent of one position of the answer, as it came: nobody has checked it.

    Attributes
    ----------
    prefix : bytes
        The answer before it.
    listed : tuple of Sent
        The likeliest tokens.
    written : Sent
        The token that was written.
    """

    prefix: bytes
    listed: tuple[Sent, ...]
    written: Sent


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote.

    Attributes
    ----------
    text : str
    positions : tuple of Position
        What was listed at each token of the text; empty where nothing was.
    finish : str
        Why it ended, in the words of the server.
    reasoning_tokens : int
        How many hidden tokens were counted for this answer.
    thought : bool
        Whether any reasoning shows outside of the text, counted or not.
    left_out : tuple of str
        The settings that were wanted and that the model does not take.
    """

    text: str
    positions: tuple[Position, ...] = ()
    finish: str = "stop"
    reasoning_tokens: int = 0
    thought: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether it ended because there was no more room for it."""
        return is_cut(self.finish)


@dataclass
class Usage:
    """What the calls of one row used, and who answered them.

    Attributes
    ----------
    model, fingerprint, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens
        As in :class:`~skllm_calib.backends.Reply`, summed over the calls.
    """

    model: str = ""
    fingerprint: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, reply: Any) -> int:
        """Count one more call; return how many tokens of hidden reasoning it took."""
        self.model = self.model or str(first(reply, "model") or "")
        fingerprint = first(reply, "system_fingerprint")
        self.fingerprint = self.fingerprint or (str(fingerprint) if fingerprint else None)
        usage = first(reply, "usage")
        self.prompt_tokens += count(usage, "prompt_tokens", "input_tokens")
        self.completion_tokens += count(usage, "completion_tokens", "output_tokens")
        read = first(usage, "prompt_tokens_details", "input_tokens_details")
        self.cached_tokens += count(read, "cached_tokens")
        written = first(usage, "completion_tokens_details", "output_tokens_details")
        n_reasoning = count(written, "reasoning_tokens")
        self.reasoning_tokens += n_reasoning
        return n_reasoning


def positions_of(entries: Any) -> tuple[Position, ...]:
    """Read the entries of a list of log-probabilities; nothing is an empty list.

    Parameters
    ----------
    entries : list or None
        One per token of the answer, each with the fields "token", "bytes" and "top_logprobs", a
        list of the same with a "logprob".

    Raises
    ------
    TypeError
        If something else stands in the place of a list.
    """
    positions, prefix = [], b""
    for entry in _list(entries):
        listed = tuple(map(_sent, _list(entry.get("top_logprobs"))))
        written = _sent(entry)
        positions.append(Position(prefix, listed, written))
        if written.text is None:
            break  # where the next position is cannot be known
        prefix += written.text
    return tuple(positions)


def first(item: Any, *names: str) -> Any:
    """Return the first of these fields that holds something."""
    if isinstance(item, dict):
        for name in names:
            if value := item.get(name):
                return value
    return None


def count(usage: Any, *names: str) -> int:
    """Return the first of these fields that holds a number; 0 where none does."""
    value = first(usage, *names)
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    return value if type(value) is int else 0


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | None):
        raise TypeError(f"{type(value).__name__} in the place of a list of tokens")
    return value or []


def _sent(entry: Any) -> Sent:
    number, value = entry.get("id"), entry.get("logprob")
    logprob = value if type(value) is float else _logprob(entry, value)
    return Sent(_bytes(entry), logprob, number if type(number) is int else None)


def _logprob(entry: dict[str, Any], value: Any) -> float | None:
    """Return a log-probability; NaN, which none is, where something else was sent than null."""
    if value is None:
        return None if "logprob" in entry else math.nan  # only that it is null has a meaning
    try:
        return float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        return math.nan


def _bytes(entry: dict[str, Any]) -> bytes | None:
    """Return what a token writes; None where that is not said."""
    raw, text = entry.get("bytes"), entry.get("token")
    if raw or (raw is not None and not text):
        if not isinstance(raw, list) or not {int}.issuperset(map(type, raw)):
            raise TypeError(f"{raw!r:.60} in the place of the bytes of a token")
        return bytes(raw)
    return text.encode(errors="replace") if isinstance(text, str) else None
