"""What the headers of a server say of its limits, and how many tokens a request takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

__all__ = ["Learnt", "Told", "guessed_tokens", "limits_told", "used_tokens"]

# OpenAI and most others, Anthropic, Mistral: each a form for a limit, what remains, and when.
_WHAT = ("limit", "remaining", "reset")
_FORMS = (
    [f"x-ratelimit-{what}-{{}}" for what in _WHAT],
    [f"anthropic-ratelimit-{{}}-{what}" for what in _WHAT],
)
_NAMES = (("requests", "req-minute"), ("tokens", "tokens-minute"))
_MINUTE = 60.0
_SHORT = 20.0  # seconds: a limit that is full again after fewer is not one of a minute
_ROUNDING = 0.1  # share by which a limit may seem to change
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_CHARACTERS = 4  # that a token has
_OUTPUT = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class Told(NamedTuple):
    """What one answer says of a limit; NaN is what it does not say.

    Attributes
    ----------
    limit, remaining : float
    reset : float
        Seconds until all of it may be sent again.
    period : float
        Seconds that the limit is for.
    """

    limit: float
    remaining: float = math.nan
    reset: float = math.nan
    period: float = math.nan


class Learnt:
    """A limit, as many answers tell it.

    Attributes
    ----------
    per_minute : float
        How much may be sent in a minute; infinite as long as that is not known.
    """

    def __init__(self) -> None:
        self.per_minute = math.inf
        self._is_long = False

    def note(self, told: Told) -> None:
        """Take in what one answer says.

        A limit says nothing of its period: where it is full again soon after half of it was used,
        it is one of a second or two. Until then there is no need to know.
        """
        self._is_long |= told.reset > _SHORT
        if told.remaining > told.limit / 2:
            return
        period = told.period
        if not 0 < period < math.inf:
            period = told.reset * told.limit / (told.limit - told.remaining)
            if self._is_long or not 0 < period < _SHORT:
                period = _MINUTE
        per_minute = told.limit * _MINUTE / period
        if abs(per_minute / self.per_minute - 1.0) > _ROUNDING:
            self.per_minute = per_minute


def limits_told(headers: Mapping[str, str]) -> tuple[Told | None, Told | None]:
    """Read what is said of the limits on requests and on tokens."""
    requests, tokens = (_told(headers, names) for names in _NAMES)
    return requests, tokens


def _told(headers: Mapping[str, str], names: tuple[str, ...]) -> Told | None:
    for name in names:
        for form in _FORMS:
            limit, remaining, reset = (headers.get(f.format(name)) for f in form)
            if limit is not None and 1 <= (most := _number(limit)) < math.inf:
                period = _number(headers.get(f"x-ratelimit-renewalperiod-{name}"))  # Azure
                return Told(most, _number(remaining), _seconds(reset), period)
    return None


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _seconds(text: str | None) -> float:
    """Read "6m0s", "120ms", "17" or a date; NaN is none of them."""
    if not text:
        return math.nan
    if _PART.match(text):
        return sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def guessed_tokens(body: Mapping[str, Any]) -> float:
    """Return about how many tokens a request takes, with the longest answer that it allows."""
    output = next((body[name] for name in _OUTPUT if isinstance(body.get(name), int)), 0)
    return float(output + math.ceil(_size(body) / _CHARACTERS))


def _size(value: Any) -> int:
    """Return the length of all texts in a value, in bytes: a token of other scripts is shorter."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="replace"))
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def used_tokens(reply: Any) -> float | None:
    """Return how many tokens a reply says that it took; None where it does not say."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else getattr(reply, "usage", None)
    if usage is None:
        return None
    fields = usage if isinstance(usage, Mapping) else getattr(usage, "__dict__", {})
    names = (
        ("total_tokens",),
        ("input_tokens", "output_tokens"),
        ("prompt_tokens", "completion_tokens"),
    )
    for group in names:
        counts = [fields.get(name) for name in group]
        numbers = [count for count in counts if isinstance(count, int)]
        if len(numbers) == len(counts):
            return float(sum(numbers))
    return None
