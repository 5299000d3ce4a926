"""ResponseCache: every reply is paid for once.

A run that is killed loses only what was still under way, and clones, grid searches and workers
share their replies. Values are JSON, so opening a cache runs no code. A ``Storage`` (``storage/``)
keeps them; whoever asks for replies does so as a ``Worker`` (``workers.py``).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skllm_calib.evidence.storage import Storage, failure_key, is_address, open_storage

__all__ = ["CacheStats", "ResponseCache", "default_cache_path", "resolve_cache"]


class CacheStats(NamedTuple):
    """Size of a cache, and its hits and misses in this process."""

    path: str
    n_replies: int
    n_bytes: int
    hits: int
    misses: int


class ResponseCache:
    """Replies of language models, kept on disk and shared by processes and machines.

    Parameters
    ----------
    path : str or path-like or None, default=None
        File to keep them in, created when first written to. None takes the path in the environment
        variable ``SKLLM_CALIB_CACHE``, else ``skllm-calib/replies.sqlite`` in the user's cache
        folder. An address "postgresql://USER@HOST:PORT/DATABASE" keeps them in a PostgreSQL
        database, for workers on many machines (extra ``postgres``). The address may hold options
        of libpq, but no password: that is read from ``PGPASSWORD`` or ``~/.pgpass``.
    keep_failures : bool, default=False
        Whether failures that the server charged for, such as a refusal or a reply without an answer
        in it, count in later calls, too: in a search that asks for such a row in every fold it is
        then paid for once. False asks again in every call, since what failed may have passed;
        :meth:`clear_failures` removes what is kept. Failures that cost nothing (no connection,
        too many requests) always are asked again.

    Notes
    -----
    The key of a reply is a hash of everything that changes the answer, made by
    ``Request.key``; neither an API key nor a retry setting is part of it. On a network file system
    that cannot share memory between machines, the cache falls back to SQLite's rollback journal.

    A reply that arrives is appended to a file in the folder ``<path>-arrived``, where it survives
    ``kill -9``, and goes into the cache together with others. What a killed run left there is taken
    in by the next one. In PostgreSQL, a reply is in the database before it is used.

    A worker claims a key before it asks, and others that need it wait for the reply: workers
    that miss the same key at the same moment pay for it once, also where they pay for a failure. A
    claim ends with the reply, with a failure, with the end of the process that made it, or, where
    that cannot be seen (on another machine), ten minutes after its last reply. In PostgreSQL,
    the end of a process is seen from its connection, at once, and that of a machine in a minute.

    Only the owner may read the files. On a read-only disk, what is in the cache is served.

    Examples
    --------
    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "replies.sqlite")
    >>> cache = ResponseCache(path)
    >>> cache.set_many({"some-key": '{"text": "spam"}'})
    >>> cache.get_many(["some-key", "another"])
    {'some-key': '{"text": "spam"}'}
    >>> cache.stats().n_replies, cache.stats().hits, cache.stats().misses
    (1, 1, 1)
    >>> cache.clear()
    1
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, keep_failures: bool = False
    ) -> None:
        self._set_up(default_cache_path() if path is None else path, keep_failures)

    def _set_up(self, path: str | os.PathLike[str], keep_failures: bool) -> None:
        self.keep_failures = keep_failures
        self.storage: Storage = open_storage(path)
        self.path: Path | str = self.storage.path
        self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the values of those of `keys` that are known.

        Parameters
        ----------
        keys : sequence of str

        Returns
        -------
        dict of str to str
        """
        found = self.storage.get(keys)
        with self._lock:
            self._hits += len(found)
            self._misses += len(set(keys)) - len(found)
        return found

    def set_many(self, items: Mapping[str, str]) -> None:
        """Save values by key, in one transaction; a known key keeps its first value.

        When it returns, the values survive the death of this process.
        """
        self.storage.put(items)

    def get_failures(self, keys: Sequence[str], since: float = 0.0) -> dict[str, str]:
        """Return the failures, kept since a moment, for those of `keys` that have no reply."""
        marked = self.storage.get_since([failure_key(key) for key in keys], since)
        failed = {key: marked[failure_key(key)] for key in keys if failure_key(key) in marked}
        replied = self.storage.get_since(list(failed), 0.0)
        return {key: value for key, value in failed.items() if key not in replied}

    def clear_failures(self) -> int:
        """Remove the failures that were kept, so that these rows are asked again; return how many.

        Examples
        --------
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "replies.sqlite")
        >>> ResponseCache(path, keep_failures=True).clear_failures()
        0
        """
        return self.storage.remove_failures()

    def remove_earlier(self, keys: Sequence[str], moment: float) -> bool:
        """Remove the replies that were kept before a moment; False where nothing can be removed.

        What others have asked again since then stays.
        """
        return self.storage.remove(keys, moment)

    def __len__(self) -> int:
        return self.storage.count()

    def stats(self) -> CacheStats:
        """Return path, number of replies, size in bytes, and this object's hits and misses."""
        size = self.storage.size()
        return CacheStats(str(self.path), len(self), size, self._hits, self._misses)

    def clear(self) -> int:
        """Remove every reply, give the space back, and return how many there were.

        Raises
        ------
        StorageError
            If another process still reads what was removed, so that it is still on disk.
        """
        n = self.storage.clear()
        with self._lock:
            self._hits = self._misses = 0
        return n

    def __repr__(self) -> str:
        kept = ", keep_failures=True" if self.keep_failures else ""
        return f"ResponseCache({str(self.path)!r}{kept})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResponseCache):
            return False
        return (self.path, self.keep_failures) == (other.path, other.keep_failures)

    def __hash__(self) -> int:
        return hash(self.path)

    def __getstate__(self) -> dict[str, Any]:
        # A Path of one system cannot be loaded on another.
        return {"path": str(self.path), "keep_failures": self.keep_failures}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set_up(state["path"], state.get("keep_failures", False))

    def __sklearn_clone__(self) -> ResponseCache:
        return self  # has no parameters a search could change, and its counts are worth sharing


def default_cache_path() -> Path | str:
    """Return the default path of the cache, or the address of the database that replaces it.

    Examples
    --------
    >>> str(default_cache_path())[-7:]
    '.sqlite'
    """
    if path := os.environ.get("SKLLM_CALIB_CACHE"):
        return path if is_address(path) else Path(path).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return base.expanduser() / "skllm-calib" / "replies.sqlite"


def resolve_cache(
    cache: ResponseCache | str | os.PathLike[str] | None,
) -> ResponseCache | None:
    """Return the cache that the `cache` parameter of an estimator means, or None if disabled."""
    if cache is None or isinstance(cache, ResponseCache):
        return cache
    if isinstance(cache, str | os.PathLike):
        return ResponseCache(None if cache == "default" else cache)
    raise TypeError(
        f"cache={cache!r}: must be 'default', the path of a file, the address of a PostgreSQL "
        "database, a ResponseCache, or None to disable caching"
    )
