"""Values of a saved policy: in plain JSON, and read with a check of every one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput

__all__ = [
    "check_keys",
    "classes_from_dict",
    "classes_to_dict",
    "count",
    "number",
    "optional",
    "pair",
    "plain",
    "text",
    "wrong",
]

Value = TypeVar("Value")
# Numbers that JSON does not have.
_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KINDS = "biufUO"  # of NumPy's types: those of labels that JSON can hold


def wrong(why: str) -> InvalidInput:
    """Return the error for content that no policy has written."""
    return InvalidInput(f"This is not a saved ReviewPolicy: {why}.", "text")


def plain(value: Any) -> Any:
    """Return a value without the types of NumPy, tuples, and numbers that JSON lacks."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return plain(np.asarray(value, dtype=np.float64).tolist())  # costs in a frame, say


def number(value: Any, where: str) -> float:
    """Read a number, also one of those that JSON does not have."""
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong(f"{where} must be a number, got {value!r}")
    return float(value)


def count(value: Any, where: str) -> int:
    """Read a number of rows."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(f"{where} must be a number of rows, got {value!r}")
    return value


def text(value: Any, where: str) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise wrong(f"{where} must be a text, got {value!r}")
    return value


def pair(value: Any, where: str) -> tuple[float, float]:
    """Read two numbers."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong(f"{where} must be two numbers, got {value!r}")
    return number(value[0], where), number(value[1], where)


def optional(read: Callable[[Any, str], Value]) -> Callable[[Any, str], Value | None]:
    """Return a reader that also takes None."""
    return lambda value, where: None if value is None else read(value, where)


def check_keys(content: Any, expected: Collection[str], where: str) -> None:
    """Refuse what has not exactly these keys."""
    if not isinstance(content, Mapping):
        raise wrong(f"{where} must be an object, got {content!r}")
    missing, strange = set(expected) - set(content), set(content) - set(expected)
    if missing or strange:
        raise wrong(
            f"{where} lacks {sorted(missing)} and has the unknown {sorted(map(str, strange))}"
        )


def classes_to_dict(classes: NDArray[Any]) -> dict[str, Any]:
    """Return the classes, with what it takes to have labels of the same type again."""
    # A text says how long it is by itself; NumPy's newer texts read back as the older ones.
    name = "str" if classes.dtype.kind in "UT" else classes.dtype.name
    try:
        content = {"dtype": name, "values": [plain(label) for label in classes.tolist()]}
        same = classes_from_dict(content).tolist() == classes.tolist()
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InvalidInput(
            f"classes of dtype {classes.dtype} cannot be saved as JSON: use labels of type str, "
            "int, float or bool.",
            "classes",
            value=classes,
        )
    return content


def classes_from_dict(content: Any) -> NDArray[Any]:
    """Read the classes."""
    check_keys(content, ("dtype", "values"), "classes")
    name, listed = text(content["dtype"], "dtype of the classes"), content["values"]
    try:
        dtype = np.dtype(name)
        known = isinstance(listed, list) and dtype.kind in _KINDS and dtype.name == name
        classes = np.array(listed if known else [], dtype=dtype if known else None)
        known = classes.ndim == 1 and classes.size > 1 and classes.tolist() == listed
        known = known and np.array_equal(np.unique(classes), classes)
    except (TypeError, ValueError, OverflowError):
        known = False
    if not known:
        raise wrong(f"classes must be sorted labels of dtype {name!r}, got {listed!r}")
    return classes
