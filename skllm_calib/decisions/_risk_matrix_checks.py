"""What a risk matrix must look like, with errors that name the cell and the way out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from skllm_calib.metrics.binning import DECIMALS

__all__ = [
    "cell",
    "check_actions",
    "check_bands",
    "check_levels",
    "check_order",
    "is_number",
]

# From the mildest to the strictest, when the matrix uses no others.
KNOWN_ACTIONS = ("accept", "review", "reject")


def cell(band: str, level: str) -> str:
    return f"({band!r}, {level!r})"


def is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return not math.isnan(value)


def check_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what} must be a name, a string that is not empty, got {name!r}.")
    return name


def check_bands(bands: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Refuse bands that do not lead from 0 to 1 step by step."""
    if not isinstance(bands, Mapping) or not bands:
        raise ValueError(
            "likelihood_bands must be a dict of name to (lower end, upper end), such as "
            f"{{'rare': (0, 0.1), 'likely': (0.1, 1)}}, got {bands!r}."
        )
    checked: dict[str, tuple[float, float]] = {}
    reached, before = 0.0, "at 0"
    for name, ends in bands.items():
        check_name(name, "each key of likelihood_bands")
        pair = tuple(ends) if isinstance(ends, Sequence | np.ndarray) else ()
        if len(pair) != 2 or not all(is_number(end) for end in pair):
            raise ValueError(
                f"likelihood band {name!r} must be a pair (lower end, upper end), got {ends!r}."
            )
        low, high = (round(float(end), DECIMALS) for end in pair)
        if not 0 <= low < high <= 1:
            raise ValueError(
                f"likelihood band {name!r} must rise within [0, 1], got ({low:g}, {high:g})"
                f"{': probabilities are shares, not per cent.' if high > 1 else '.'}"
            )
        if low != reached:
            what = "leaves a gap" if low > reached else "overlaps or is out of order"
            raise ValueError(
                f"likelihood band {name!r} starts at {low:g}, not {before}, and {what}: list the "
                "bands from the least to the most likely, each starting where the one before ends."
            )
        checked[name] = low, high
        reached, before = high, f"at {high:g} where {name!r} ends"
    if reached != 1:
        raise ValueError(
            f"likelihood_bands must end at 1, but the last, {name!r}, ends at {reached:g}."
        )
    return checked


def check_levels(
    levels: Sequence[str] | Mapping[str, float],
) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """Return the names of the levels, and where they start if that was said."""
    names = () if isinstance(levels, str) else tuple(levels)
    if not names:
        raise ValueError(f"impact_levels must name at least one level, got {levels!r}.")
    for name in names:
        check_name(name, "each of impact_levels")
    if len(set(names)) < len(names):
        raise ValueError(f"impact_levels must not repeat a name, got {list(names)}.")
    if not isinstance(levels, Mapping):
        return names, None
    for name, start in levels.items():
        if not is_number(start) or not math.isfinite(start):
            raise ValueError(f"impact level {name!r} must start at a finite number, got {start!r}.")
    starts = tuple(float(start) for start in levels.values())
    for name, low, high in zip(names[1:], starts, starts[1:], strict=False):
        if high <= low:
            raise ValueError(
                f"impact level {name!r} starts at {high:g}, not above {low:g} where the one before "
                "starts: list the levels from the least to the most severe."
            )
    return names, starts


def check_actions(
    actions: Sequence[Sequence[str]] | NDArray[Any],
    bands: tuple[str, ...],
    levels: tuple[str, ...],
) -> NDArray[np.str_]:
    """Return the actions as an array (n_bands, n_levels)."""
    rows = [list(row) if not isinstance(row, str) else [row] for row in actions]
    if len(rows) != len(bands):
        raise ValueError(
            f"actions must have a row for each of the {len(bands)} likelihood bands {list(bands)}, "
            f"got {len(rows)}."
        )
    for band, row in zip(bands, rows, strict=True):
        if len(row) != len(levels):
            raise ValueError(
                f"actions of likelihood band {band!r} must name one for each of the {len(levels)} "
                f"impact levels {list(levels)}, got {len(row)}: {row}."
            )
        for level, action in zip(levels, row, strict=True):
            check_name(action, f"the action of cell {cell(band, level)}")
    return np.array(rows, dtype=np.str_)


def check_order(
    order: Sequence[str] | None, actions: NDArray[np.str_], monotone: bool
) -> tuple[str, ...]:
    """Return the actions of the matrix from the mildest to the strictest."""
    used = list(dict.fromkeys(actions.ravel().tolist()))
    if order is None:
        if set(used) <= set(KNOWN_ACTIONS):
            return tuple(action for action in KNOWN_ACTIONS if action in used)
        if not monotone:
            return tuple(used)
        raise ValueError(
            f"which of the actions {used} is stricter is not known: list them from the mildest to "
            "the strictest with action_order=, or pass monotone=False."
        )
    names = tuple(order) if not isinstance(order, str) else (order,)
    missing = [action for action in used if action not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(
            "action_order must list every action of the matrix once, from the mildest to the "
            f"strictest; got {list(names)}, missing {missing}."
        )
    return names
