"""What objects have used in this process, kept beside them: calls leave their attributes alone."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["add_to_total", "forget_total", "total_of"]

_lock = threading.Lock()
_totals: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def add_to_total(owner: Any, value: Any) -> None:
    """Add to the total of an object; None adds nothing.

    Examples
    --------
    >>> class Owner: ...
    >>> owner = Owner()
    >>> add_to_total(owner, 2), add_to_total(owner, 3), total_of(owner)
    (None, None, 5)
    """
    if value is not None:
        with _lock:
            before = _totals.get(owner)
            _totals[owner] = value if before is None else before + value


def total_of(owner: Any) -> Any:
    """Return the total of an object, None where nothing was added."""
    with _lock:
        return _totals.get(owner)


def forget_total(owner: Any) -> None:
    """Let the total of an object begin again."""
    with _lock:
        _totals.pop(owner, None)
