"""Bands of likelihood and the actions in the cells of a risk matrix, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.decisions._impact import check_name, is_number
from skllm_calib.exceptions import InvalidInput
from skllm_calib.metrics.binning import DECIMALS

__all__ = ["check_actions", "check_bands", "check_monotone", "check_order"]

# From the mildest to the strictest, when the matrix uses no others.
_KNOWN_ACTIONS = ("accept", "review", "reject")
_BANDS, _ACTIONS = "likelihood_bands", "actions"


def check_bands(bands: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Refuse bands that do not lead from 0 to 1 step by step."""
    if not isinstance(bands, Mapping) or not bands:
        raise InvalidInput(
            "likelihood_bands must be a dict of name to (lower end, upper end), such as "
            f"{{'rare': (0, 0.1), 'likely': (0.1, 1)}}, got {bands!r}.",
            _BANDS,
            value=bands,
        )
    checked: dict[str, tuple[float, float]] = {}
    reached, before = 0.0, "at 0"
    for name, ends in bands.items():
        check_name(name, "each key of likelihood_bands", _BANDS)
        pair = tuple(ends) if isinstance(ends, Sequence | np.ndarray) else ()
        if len(pair) != 2 or not all(is_number(end) for end in pair):
            raise InvalidInput(
                f"likelihood band {name!r} must be a pair (lower end, upper end), got {ends!r}.",
                _BANDS,
                value=ends,
            )
        low, high = (round(float(end), DECIMALS) for end in pair)
        if not 0 <= low < high <= 1:
            why = ": probabilities are fractions, not per cent." if high > 1 else "."
            raise InvalidInput(
                f"likelihood band {name!r} must rise within [0, 1], got ({low:g}, {high:g}){why}",
                _BANDS,
                value=ends,
            )
        if low != reached:
            what = "leaves a gap" if low > reached else "overlaps or is out of order"
            raise InvalidInput(
                f"likelihood band {name!r} starts at {low:g}, not {before}, and {what}: list the "
                "bands from the least to the most likely, each starting where the one before ends.",
                _BANDS,
                value=ends,
            )
        checked[name] = low, high
        reached, before = high, f"at {high:g} where {name!r} ends"
    if reached != 1:
        raise InvalidInput(
            f"likelihood_bands must end at 1, but the last, {name!r}, ends at {reached:g}.",
            _BANDS,
            value=reached,
        )
    return checked


def check_actions(
    actions: Sequence[Sequence[str]] | NDArray[Any],
    bands: tuple[str, ...],
    levels: tuple[str, ...],
) -> NDArray[np.str_]:
    """Return the actions as an array (n_bands, n_levels)."""
    rows = [list(row) if not isinstance(row, str) else [row] for row in actions]
    if len(rows) != len(bands):
        raise InvalidInput(
            f"actions must have a row for each of the {len(bands)} likelihood bands {list(bands)}, "
            f"got {len(rows)}.",
            _ACTIONS,
            value=actions,
        )
    for number, (band, row) in enumerate(zip(bands, rows, strict=True)):
        if len(row) != len(levels):
            raise InvalidInput(
                f"actions of likelihood band {band!r} must name one for each of the {len(levels)} "
                f"impact levels {list(levels)}, got {len(row)}: {row}.",
                _ACTIONS,
                number,
                row,
            )
        for level, action in zip(levels, row, strict=True):
            check_name(action, f"the action of cell ({band!r}, {level!r})", _ACTIONS)
    return np.array(rows, dtype=np.str_)


def check_order(
    order: Sequence[str] | None, actions: NDArray[np.str_], monotone: bool
) -> tuple[str, ...]:
    """Return the actions of the matrix from the mildest to the strictest."""
    used = list(dict.fromkeys(actions.ravel().tolist()))
    if order is None:
        if set(used) <= set(_KNOWN_ACTIONS):
            return tuple(action for action in _KNOWN_ACTIONS if action in used)
        if not monotone:
            return tuple(used)
        raise InvalidInput(
            f"which of the actions {used} is stricter is not known: list them from the mildest to "
            "the strictest with action_order=, or pass monotone=False.",
            "action_order",
        )
    names = tuple(order) if not isinstance(order, str) else (order,)
    missing = [action for action in used if action not in names]
    if missing or len(set(names)) < len(names):
        raise InvalidInput(
            "action_order must list every action of the matrix once, from the mildest to the "
            f"strictest; got {list(names)}, missing {missing}.",
            "action_order",
            value=order,
        )
    return names


def check_monotone(
    actions: NDArray[np.str_],
    order: tuple[str, ...],
    bands: tuple[str, ...],
    levels: tuple[str, ...],
) -> None:
    """Refuse a matrix where more likelihood or more impact leads to a milder action."""
    rank = np.array([[order.index(name) for name in row] for row in actions])
    for axis, grows in enumerate(("likelihood", "impact")):
        milder = np.argwhere(np.diff(rank, axis=axis) < 0)
        if milder.size:
            low, high = tuple(milder[0]), tuple(milder[0] + np.eye(2, dtype=int)[axis])
            before, after = ((bands[band], levels[level]) for band, level in (low, high))
            raise InvalidInput(
                f"actions must not grow milder with more {grows}, but cell {after} says "
                f"{str(actions[high])!r} after {str(actions[low])!r} in {before}: make the one "
                f"stricter or the other milder, correct action_order={order}, or pass "
                "monotone=False.",
                _ACTIONS,
            )
