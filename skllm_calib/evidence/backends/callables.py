"""Names for functions, so that another function has another name."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from types import CodeType
from typing import Any

__all__ = ["name_of"]


def name_of(function: Any) -> str:
    """Name a callable so that another one has another name, as far as can be told."""
    named = function if hasattr(function, "__qualname__") else type(function)
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        parts = [*_code(code), *map(_pickled, [*cells, function.__defaults__])]
    else:
        parts = [_pickled(function)]
    digest = hashlib.sha256(b"\n".join(parts)).hexdigest()
    return f"{named.__module__}.{named.__qualname__}:{digest[:20]}"


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(constant).encode()


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError):
        return type(value).__qualname__.encode()
