"""Levels of impact: their names, where they start, and the level of a row or of a class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput

__all__ = ["ImpactLevels", "check_name", "is_number"]

Codes = NDArray[np.int64]


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a number, and neither a boolean nor NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return not math.isnan(value)


def check_name(name: object, what: str, parameter: str) -> str:
    """Return a name of a band, a level or an action."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput(
            f"{what} must be a name, a string that is not empty, got {name!r}.",
            parameter,
            value=name,
        )
    return name


@dataclass(frozen=True)
class ImpactLevels:
    """Levels from the least to the most severe, and the number each starts at, if that was said."""

    names: tuple[str, ...]
    starts: tuple[float, ...] | None

    @classmethod
    def read(cls, levels: Sequence[str] | Mapping[str, float]) -> Self:
        """Return the levels that a user named."""
        names = () if isinstance(levels, str) else tuple(levels)
        if not names:
            raise _wrong(f"impact_levels must name at least one level, got {levels!r}.", levels)
        for name in names:
            check_name(name, "each of impact_levels", "impact_levels")
        if len(set(names)) < len(names):
            raise _wrong(f"impact_levels must not repeat a name, got {list(names)}.", levels)
        if not isinstance(levels, Mapping):
            return cls(names, None)
        for name, start in levels.items():
            if not is_number(start) or not math.isfinite(start):
                raise _wrong(
                    f"impact level {name!r} must start at a finite number, got {start!r}.", start
                )
        starts = tuple(float(start) for start in levels.values())
        for name, low, high in zip(names[1:], starts, starts[1:], strict=False):
            if high <= low:
                raise _wrong(
                    f"impact level {name!r} starts at {high:g}, not above {low:g} where the one "
                    "before starts: list the levels from the least to the most severe.",
                    high,
                )
        return cls(names, starts)

    def number(self, value: object, where: str, row: int | None = None) -> int:
        """Return the number of the level that a name or a number stands for."""
        if isinstance(value, str) and value in self.names:
            return self.names.index(value)
        if is_number(value) and self.starts is not None and value >= self.starts[0]:
            return int(np.searchsorted(self.starts, value, side="right")) - 1
        if isinstance(value, str):
            problem = f"impact {value!r} of {where} is not one of the levels {self.names}."
        elif not is_number(value):
            problem = (
                f"impact of {where} must be one of the levels {self.names} or a number, got "
                f"{value!r}."
            )
        elif self.starts is None:
            problem = (
                f"impact of {where} is the number {value!r}, but it is not known where the levels "
                "start: pass impact_levels as a dict of name to number, or name the level."
            )
        else:
            problem = (
                f"impact {value!r} of {where} lies below {self.starts[0]:g}, where the lowest "
                f"level {self.names[0]!r} starts: let that start lower."
            )
        raise InvalidInput(problem, "impact", row, value)

    def of_rows(self, impact: Any, n_rows: int) -> Codes:
        """Return the level of each row."""
        values = np.asarray(impact)
        if values.ndim == 0:
            return np.full(n_rows, self.number(values.item(), "every row"))
        if values.shape != (n_rows,):
            raise InvalidInput(
                f"impact must be one value for each of the {n_rows} rows, one for all of them, or "
                f"a dict of class to level, got shape {values.shape}.",
                "impact",
                value=values.shape,
            )
        if values.dtype.kind in "iuf" and self.starts is not None:
            codes = np.searchsorted(self.starts, values, side="right") - 1
            # NaN sorts last, and would be the most severe of all.
            wrong = np.flatnonzero((codes < 0) | np.isnan(values))
            if wrong.size:
                row = int(wrong[0])
                self.number(values[row].item(), f"row {row}", row)
            return codes
        known: dict[Any, int] = {}
        for row, value in enumerate(values.tolist()):
            if value not in known:
                known[value] = self.number(value, f"row {row}", row)
        return np.array([known[value] for value in values.tolist()], dtype=np.int64)

    def of_classes(self, impact: Mapping[Any, Any], classes: NDArray[Any]) -> Codes:
        """Return the level of each class, in the order of the columns."""
        labels = classes.tolist()
        if len(impact) != len(labels) or any(label not in impact for label in labels):
            raise InvalidInput(
                f"impact must give each class a level: it names {list(impact)}, and the classes "
                f"are {labels}.",
                "impact",
                value=list(impact),
            )
        return np.array([self.number(impact[label], f"class {label!r}") for label in labels])


def _wrong(message: str, value: object) -> InvalidInput:
    return InvalidInput(message, "impact_levels", value=value)
