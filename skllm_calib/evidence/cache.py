"""ResponseCache: every reply is paid for once.

SQLite in write-ahead mode, one row per reply: a run that is killed loses only what was still under
way, and clones, grid searches and worker processes share their replies. Values are JSON, so opening
a cache runs no code. Whoever asks for replies does so as a ``Worker`` (``workers.py``).
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skllm_calib.evidence.arrivals import all_arrivals
from skllm_calib.exceptions import StorageError
from skllm_calib.utils.sqlite import Schema, SQLiteFile

__all__ = [
    "SCHEMA",
    "CacheStats",
    "ResponseCache",
    "default_cache_path",
    "in_parts",
    "insert_replies",
    "resolve_cache",
    "select_replies",
]

SCHEMA = Schema(
    kind="response cache",
    maker="ResponseCache",
    parameter="cache",
    table="replies",
    columns=("key", "value", "created"),
    migrations=(
        (
            # Rows in the order of their arrival: keys are hashes, and in their order every reply
            # would rewrite a page of its own. Files of earlier versions are in that order.
            """
            CREATE TABLE IF NOT EXISTS replies (
                key TEXT PRIMARY KEY,
                value TEXT NOT NULL,
                created REAL NOT NULL
            )
            """,
            # What is being asked at this moment, by whom, and until when the owner counts as alive.
            """
            CREATE TABLE IF NOT EXISTS claims (
                key TEXT PRIMARY KEY, owner TEXT NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE IF NOT EXISTS owners (
                owner TEXT PRIMARY KEY, until REAL NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
)
_FAILURE = "failure-"
_IS_REPLY = f"key NOT LIKE '{_FAILURE}%'"
_BATCH = 500  # keys per query; SQLite allows 999 parameters in its oldest builds


class CacheStats(NamedTuple):
    """Size of a cache, and its hits and misses in this process."""

    path: str
    n_replies: int
    n_bytes: int
    hits: int
    misses: int


class ResponseCache:
    """Replies of language models, kept on disk and shared by processes.

    Parameters
    ----------
    path : str or path-like or None, default=None
        File to keep them in, created when first written to. None takes the path in the environment
        variable ``SKLLM_CALIB_CACHE``, else ``skllm-calib/replies.sqlite`` in the user's cache
        folder.
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
    in by the next one.

    A worker claims a key before it asks, and others that need it wait for the reply: workers
    that miss the same key at the same moment pay for it once, also where they pay for a failure. A
    claim ends with the reply, with a failure, with the end of the process that made it, or, where
    that cannot be seen (on another machine), ten minutes after its last reply.

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
        self._file = SQLiteFile(path, SCHEMA)
        self.path = self._file.path
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
        found: dict[str, str] = {}
        if self._file.exists():
            found = self._select(keys)
            if missing := set(keys).difference(found):
                for arrivals in all_arrivals(self.path):
                    arrived = arrivals.read()
                    found |= {key: arrived[key] for key in missing.intersection(arrived)}
                found |= self._select(list(missing))  # what was put there meanwhile
        with self._lock:
            self._hits += len(found)
            self._misses += len(set(keys)) - len(found)
        return found

    def _select(self, keys: Sequence[str], since: float = 0.0) -> dict[str, str]:
        with self._file.reading() as connection:
            values = select_replies(connection, keys, since)
        return {key: value for key, value in values.items() if value is not None}

    def set_many(self, items: Mapping[str, str]) -> None:
        """Save values by key, in one transaction; a known key keeps its first value.

        When it returns, the values survive the death of this process.
        """
        with self._file.writing() as connection:
            insert_replies(connection, items)

    def get_failures(self, keys: Sequence[str], since: float = 0.0) -> dict[str, str]:
        """Return the failures, kept since a moment, for those of `keys` that have no reply."""
        if not (keys and self._file.exists()):
            return {}
        marked = self._select([failure_key(key) for key in keys], since)
        failed = {key: marked[failure_key(key)] for key in keys if failure_key(key) in marked}
        replied = self._select(list(failed))
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
        if not self._file.exists():
            return 0
        with self._file.writing() as connection:
            n = connection.execute(f"DELETE FROM replies WHERE NOT {_IS_REPLY}").rowcount
        return int(n)

    def remove_earlier(self, keys: Sequence[str], moment: float) -> bool:
        """Remove the replies that were kept before a moment; False where nothing can be removed.

        What others have asked again since then stays.
        """
        if not os.access(self.path.parent, os.W_OK):
            return False  # nor could be kept what comes in its place
        try:
            with self._file.writing() as connection:
                for part, marks in in_parts(keys):
                    query = f"DELETE FROM replies WHERE key IN ({marks}) AND created < ?"
                    connection.execute(query, [*part, moment])
        except StorageError:  # a read-only disk
            return False
        return True

    def __len__(self) -> int:
        if not self._file.exists():
            return 0
        with self._file.reading() as connection:
            (n,) = connection.execute(f"SELECT COUNT(*) FROM replies WHERE {_IS_REPLY}").fetchone()
        return int(n)

    def stats(self) -> CacheStats:
        """Return path, number of replies, size in bytes, and this object's hits and misses."""
        files = [self.path, Path(f"{self.path}-wal"), *(a.path for a in all_arrivals(self.path))]
        n_bytes = sum(f.stat().st_size for f in files if f.exists())
        return CacheStats(str(self.path), len(self), n_bytes, self._hits, self._misses)

    def clear(self) -> int:
        """Remove every reply, give the space back, and return how many there were.

        Raises
        ------
        StorageError
            If another process still reads what was removed, so that it is still on disk.
        """
        n = 0
        if self._file.exists():
            with self._file.writing() as connection:
                connection.execute(f"DELETE FROM replies WHERE NOT {_IS_REPLY}")
                n = connection.execute("DELETE FROM replies").rowcount
                for table in ("claims", "owners"):
                    connection.execute(f"DELETE FROM {table}")
                for arrivals in all_arrivals(self.path):
                    n += len(arrivals.read())
                    arrivals.empty()
                    if arrivals.take_over():
                        arrivals.remove()
            self._file.shrink()
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


def default_cache_path() -> Path:
    """Return the default path of the cache.

    Examples
    --------
    >>> default_cache_path().suffix
    '.sqlite'
    """
    if path := os.environ.get("SKLLM_CALIB_CACHE"):
        return Path(path).expanduser()
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
        f"cache={cache!r}: must be 'default', the path of a file, a ResponseCache, or None to "
        "disable caching"
    )


def failure_key(key: str) -> str:
    """Return the key under which the failure to answer a request is kept, beside its reply."""
    return f"{_FAILURE}{key}"


def select_replies(
    connection: sqlite3.Connection, keys: Sequence[str], since: float = 0.0
) -> dict[str, str | None]:
    """Return the values of `keys` that were kept since a moment; None is one that is no text."""
    found: dict[str, str | None] = {}
    for part, marks in in_parts(keys):
        # As bytes: a file can be damaged, and one value that is no UTF-8 would cost all of them.
        query = (
            f"SELECT key, CAST(value AS BLOB) FROM replies WHERE key IN ({marks}) AND created >= ?"
        )
        rows = connection.execute(query, [*part, since])
        found.update((key, _decoded(value)) for key, value in rows)
    return found


def insert_replies(connection: sqlite3.Connection, items: Mapping[str, str]) -> None:
    """Save values by key in the caller's transaction; a known reply keeps its first value."""
    now = time.time()
    for key, value in items.items():
        what = "REPLACE" if key.startswith(_FAILURE) else "IGNORE"  # a failure is dated by the last
        connection.execute(f"INSERT OR {what} INTO replies VALUES (?, ?, ?)", (key, value, now))


def in_parts(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Yield keys, not too many for one query, each time with as many question marks."""
    for start in range(0, len(keys), _BATCH):
        part = keys[start : start + _BATCH]
        yield part, ",".join("?" * len(part))


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except (UnicodeDecodeError, AttributeError):  # AttributeError: NULL
        return None
