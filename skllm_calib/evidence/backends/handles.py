"""Live things (clients, loaded models) of this process, by what they were made from.

Estimators are cloned, pickled and sent to worker processes; a socket or a loaded model can be none
of these. So a backend holds parameters only and looks its live half up here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["clear_handles", "get_handle"]

T = TypeVar("T")

_lock = threading.Lock()
_making: dict[Hashable, threading.Lock] = {}
_handles: dict[Hashable, Any] = {}


def get_handle(key: Hashable, make: Callable[[], T]) -> T:
    """Return the live object of `key`, made once per process with `make`.

    Two threads that ask for the same key get the same object; making one key does not block
    another. The process id is part of the key, because a client or a model does not survive a fork.
    """
    key = (os.getpid(), key)
    with _lock:
        if key in _handles:
            return _handles[key]  # type: ignore[no-any-return]
        making = _making.setdefault(key, threading.Lock())
    with making:
        with _lock:
            if key in _handles:
                return _handles[key]  # type: ignore[no-any-return]
        handle = make()
        with _lock:
            _handles[key] = handle
            _making.pop(key, None)
    return handle


def clear_handles() -> None:
    """Let go of every client and loaded model of this process, and of the memory they hold.

    Examples
    --------
    >>> from skllm_calib.backends import clear_handles
    >>> clear_handles()
    """
    with _lock:
        handles = list(_handles.values())
        _handles.clear()
    for handle in handles:
        close = getattr(handle, "close", None)
        if callable(close):
            close()
