"""What the workers of one cache share while they ask: its storage, where no cache is passed on.

A backend, or whatever counts what a run costs, knows no cache. Whoever asks says which storage is
used meanwhile; small texts that all its workers see are changed there one at a time
(:meth:`~skllm_calib.evidence.storage.Storage.change`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from skllm_calib.evidence.storage import Storage

__all__ = ["shared_storage", "sharing"]

_storage: ContextVar[Storage | None] = ContextVar("skllm_calib_storage", default=None)


@contextmanager
def sharing(storage: Storage | None) -> Iterator[None]:
    """Let what is called in the block find a storage; None where nothing is shared.

    Threads that are started in the block do not find it: look it up before.

    Examples
    --------
    >>> with sharing(None):
    ...     shared_storage() is None
    True
    """
    token = _storage.set(storage)
    try:
        yield
    finally:
        _storage.reset(token)


def shared_storage() -> Storage | None:
    """Return the storage that the workers of the current call share, None if there is none."""
    return _storage.get()
