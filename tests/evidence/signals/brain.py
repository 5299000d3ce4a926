"""One made-up mind behind every provider's wire format.

The loopback servers of the signal tests all think with it, so that a signal read through one
provider can be held against the same signal read through another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_OPTION = re.compile(r"^([A-Z])\) ", re.M)


def turns(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the conversation as one text, whatever form its content has."""

    def text(content: Any) -> str:
        return content if isinstance(content, str) else "".join(part["text"] for part in content)

    return "\n".join(text(m["content"]) for m in messages)


def distribution(whole: str, options: Sequence[str] | None = None) -> dict[str, float]:
    """Return what is thought of the options at the end of a conversation."""
    last = whole[-120:]
    if options is None:
        for pair in (("True", "False"), ("Yes", "No"), ("yes", "no")):
            if f"{pair[0]} or {pair[1]}" in last or f"{pair[1]} or {pair[0]}" in last:
                options = pair
                break
        else:
            options = sorted(set(_OPTION.findall(whole))) or ["A", "B"]
    digest = hashlib.sha256(json.dumps([whole, list(options)]).encode()).digest()
    drawn = np.random.default_rng(int.from_bytes(digest[:8], "big")).dirichlet([1.0] * len(options))
    drawn = 0.02 + 0.98 * drawn
    return dict(zip(options, (drawn / drawn.sum()).tolist(), strict=True))


def writing(whole: str, schema: Mapping[str, Any] | None, temperature: float | None) -> str:
    """Write an answer: a label, reasons, or the JSON of a schema (asked for in words or not)."""
    if "probability between 0 and 1" in whole[-400:]:
        thought = distribution(whole)
        if schema is not None and "properties" in schema:
            assert set(schema["properties"]) == set(thought)
            return json.dumps({k: round(v, 3) for k, v in thought.items()})
        return "\n".join(f"{k}: {v:.1%}" for k, v in thought.items())
    if "step by step" in whole[-120:]:
        return "It depends on the wording."
    thought = distribution(whole)
    if not temperature:
        return max(thought, key=lambda option: thought[option])
    return str(np.random.default_rng().choice(list(thought), p=list(thought.values())))
