"""Objects as JSON values and back: data alone, from which nothing runs that was not named before.

A pickle says what to call. Here a file says the name of a type, and the reader has the types: a
name that it does not know is an error, and before that nothing is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

__all__ = ["from_plain", "to_plain"]

_PLAIN = (str, int, bool, type(None))
_ARRAYS = "biufU"  # kinds of numpy's dtypes whose items are plain values


def to_plain(value: Any, types: Mapping[str, type]) -> Any:
    """Return an object as JSON values.

    Parameters
    ----------
    value : object
        Plain values, containers, arrays, paths, and objects of the types.
    types : mapping of str to type
        The types of objects that may occur, by name.

    Raises
    ------
    TypeError
        If something else occurs.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [to_plain(item, types) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [to_plain(item, types) for item in value]}
    if kind is dict:
        return {"dict": _pairs(value, types)}
    if kind is np.ndarray and value.dtype.kind in _ARRAYS + "O":
        items = to_plain(value.ravel().tolist(), types)
        dtype = "object" if value.dtype.kind == "O" else value.dtype.str
        return {"array": items, "dtype": dtype, "shape": list(value.shape)}
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAYS:
        return {"scalar": to_plain(value.item(), types), "dtype": value.dtype.str}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    return _object_to_plain(value, types)


def from_plain(content: Any, types: Mapping[str, type]) -> Any:
    """Return the object that `to_plain` described.

    Raises
    ------
    ValueError
        If a type is unknown, or the content is nothing that `to_plain` writes.
    """
    if isinstance(content, _PLAIN) or type(content) is float:
        return content
    if isinstance(content, list):
        return [from_plain(item, types) for item in content]
    match content:
        case {"type": str(name)} if len(content) == 2:
            return _object(name, content, types)
        case {"float": str(text)}:
            return float(text)
        case {"tuple": list(items)}:
            return tuple(from_plain(items, types))
        case {"set": list(items)}:
            return set(from_plain(items, types))
        case {"frozenset": list(items)}:
            return frozenset(from_plain(items, types))
        case {"dict": list(pairs)}:
            return {from_plain(key, types): from_plain(value, types) for key, value in pairs}
        case {"array": list(items), "dtype": str(dtype), "shape": list(shape)}:
            flat = np.empty(len(items), dtype=_dtype(dtype))
            flat[:] = from_plain(items, types)
            return flat.reshape(shape)
        case {"scalar": value, "dtype": str(dtype)}:
            return np.array(from_plain(value, types), dtype=_dtype(dtype))[()]
        case {"path": str(text)}:
            return Path(text)
    raise ValueError(f"{str(content)[:80]!r} is nothing that was saved")


def _object_to_plain(value: Any, types: Mapping[str, type]) -> dict[str, Any]:
    kind = type(value)
    if types.get(kind.__name__) is not kind:
        raise TypeError(
            f"an object of {kind.__module__}.{kind.__qualname__} cannot be saved as data"
        )
    if isinstance(value, dict):
        return {"type": kind.__name__, "items": _pairs(value, types)}
    state = value.__getstate__()
    own, slots = state if isinstance(state, tuple) else (state, None)
    merged = {**(own or {}), **(slots or {})}
    return {"type": kind.__name__, "state": {k: to_plain(v, types) for k, v in merged.items()}}


def _pairs(value: Mapping[Any, Any], types: Mapping[str, type]) -> list[list[Any]]:
    return [[to_plain(key, types), to_plain(item, types)] for key, item in value.items()]


def _object(name: str, content: Mapping[str, Any], types: Mapping[str, type]) -> Any:
    """Make an object without calling it, and give it its state."""
    if name not in types:
        raise ValueError(f"it holds a {name!r}, which is no type that is kept as data")
    kind: Any = types[name]
    made = kind.__new__(kind)
    match content:
        case {"items": list(pairs)} if isinstance(made, dict):
            made.update({from_plain(key, types): from_plain(value, types) for key, value in pairs})
        case {"state": dict(state)}:
            values = {key: from_plain(value, types) for key, value in state.items()}
            if hasattr(made, "__setstate__"):
                made.__setstate__(values)
            else:
                for key, value in values.items():
                    object.__setattr__(made, key, value)
        case _:
            raise ValueError(f"the content of its {name!r} is nothing that was saved")
    return made


def _dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in _ARRAYS + "O":
        raise ValueError(f"an array of {name!r} is nothing that was saved")
    return dtype
