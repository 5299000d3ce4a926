"""Replies that are nearly right, for hypothesis: a valid one in which something is changed.

`fuzz` are the settings of all such tests: a hundred examples, the same ones each time. `make chaos`
runs thousands, others each time, with the profile "chaos" (the variable FUZZ_PROFILE).
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

settings.register_profile(
    "short",
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "chaos", settings.get_profile("short"), max_examples=3_000, derandomize=False
)
fuzz = settings.get_profile(os.environ.get("FUZZ_PROFILE", "short"))
# Examples that go over a socket take ten times as long.
fuzz_wire = settings(fuzz, max_examples=fuzz.max_examples // 10)

# What json.dumps cannot write.
_DIGITS, _NESTED = "@digits@", "@nested@"
_RAW = {_DIGITS: b"9" * 5_000, _NESTED: b"[" * 20_000 + b"]" * 20_000}

NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, -1, 2, 0.5, -0.5, -1e4, 1e4, -1e308, 1e308, 5e-324, -(10**400), 10**400]
    ),
    st.sampled_from([math.nan, math.inf, -math.inf, _DIGITS]),
    st.floats(),
    st.integers(),
)
TEXTS = st.one_of(
    st.sampled_from(["", " ", "\n", "\0", "\ud800", "\udc00x", "\ufffd", "\ufeff", "x" * 100_000]),
    st.sampled_from(["null", "-0.5", "NaN", "I", "The", "<think>", "```", "{", '"', "\\", "1e999"]),
    st.text("xyz \n\"'{}[]:,.%-é\ud800", max_size=12),
)
_LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just(_NESTED))
JUNK = st.one_of(
    _LEAVES,
    st.lists(_LEAVES, max_size=3),
    st.dictionaries(st.sampled_from(["token", "text", "logprob", "x"]), _LEAVES, max_size=3),
)
# What is no number: where there was one, a reader must not take it for another.
WRONG = st.one_of(
    st.booleans(),
    st.sampled_from(["high", "", [], {}, [-0.5], {"value": -0.5}, _NESTED, _DIGITS]),
    st.sampled_from([math.nan, math.inf, 1e308, 10**400, 50.0, "\ud800", "x" * 100_000]),
)

Path = tuple[Any, ...]


def paths(body: Any, where: Path = ()) -> Iterator[Path]:
    """Yield where something is in JSON."""
    if where:
        yield where
    pairs = body.items() if isinstance(body, dict) else enumerate(body)
    for key, value in pairs if isinstance(body, dict | list) else ():
        if isinstance(value, dict | list):
            yield from paths(value, (*where, key))
        else:
            yield (*where, key)


def at(body: Any, where: Path) -> Any:
    for key in where:
        body = body[key]
    return body


def _changed(draw: Any, value: Any) -> Any:
    """Return something else in the place of a value."""
    ways = [draw_junk, draw_none, draw_wrapped]
    if isinstance(value, list):
        ways += [draw_shorter, draw_longer, draw_shuffled]
    elif isinstance(value, dict):
        ways += [draw_emptied]
    elif isinstance(value, str):
        ways += [draw_text]
    elif isinstance(value, int | float):
        ways += [draw_number]
    return draw(st.sampled_from(ways))(draw, value)


def draw_junk(draw, value):
    return draw(JUNK)


def draw_none(draw, value):
    return None


def draw_wrapped(draw, value):
    return draw(st.sampled_from([[value], {"value": value}, [value, value], [[value]]]))


def draw_shorter(draw, value):
    return value[: draw(st.integers(0, max(0, len(value) - 1)))]


def draw_longer(draw, value):
    return [
        *value,
        *copy.deepcopy(value[: draw(st.integers(0, 3))]),
        *draw(st.lists(JUNK, max_size=1)),
    ]


def draw_shuffled(draw, value):
    return draw(st.permutations(value))


def draw_emptied(draw, value):
    return {}


def draw_text(draw, value):
    way = draw(st.sampled_from(["before", "behind", "often", "other"]))
    extra = draw(TEXTS)
    return {"before": extra + value, "behind": value + extra, "often": value * 1_000}.get(
        way, extra
    )


def draw_number(draw, value):
    return draw(NUMBERS)


@st.composite
def nearly(draw, bodies, most=3):
    """Draw one of these bodies with a few changes in it."""
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, most))):
        known = list(paths(body))
        if not known:
            break
        *parents, last = draw(st.sampled_from(known))
        holder = at(body, tuple(parents))
        if isinstance(holder, dict) and draw(st.integers(0, 3)) == 0:
            del holder[last]
        else:
            holder[last] = _changed(draw, holder[last])
    return body


@st.composite
def wrongly_typed(
    draw, bodies, names=("logprob", "probability", "probabilities", "bytes", "token")
):
    """Draw a body in which one of these fields, or what is in it, has a value of another type.

    But for single bytes, as SDKs make a number of true, and for options, which may be true.
    """
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    named = [where for where in paths(body) if set(names).intersection(where)]
    fields = [where for where in named if "bytes" not in where[:-1] and where[-1] != "value"]
    *parents, last = draw(st.sampled_from(fields))
    at(body, tuple(parents))[last] = draw(WRONG)
    return body


def written(body: Any) -> bytes:
    """Write JSON as a server may send it."""
    raw = json.dumps(body).encode()
    for name, instead in _RAW.items():
        raw = raw.replace(f'"{name}"'.encode(), instead)
    return raw


def check_row(row: np.ndarray) -> bool:
    """Check that a row is one of NaN or one of probabilities; return whether it has some."""
    if np.isnan(row).all():
        return False
    assert np.isfinite(row).all()
    assert (row >= 0).all()
    assert abs(row.sum() - 1) < 1e-9
    return True
