"""ResponseCache: every reply is paid for once.

SQLite in write-ahead mode, one row per reply, written as it arrives: a run that is killed loses
only what was still under way, and clones, grid searches and worker processes share their replies.
Values are JSON, so opening a cache runs no code.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skllm_calib.utils.sqlite import Schema, SQLiteFile

__all__ = ["CacheStats", "ResponseCache", "default_cache_path", "resolve_cache"]

_SCHEMA = Schema(
    kind="response cache",
    maker="ResponseCache",
    parameter="cache",
    table="replies",
    migrations=(
        (
            """
            CREATE TABLE IF NOT EXISTS replies (
                key TEXT PRIMARY KEY,
                value TEXT NOT NULL,
                created REAL NOT NULL
            ) WITHOUT ROWID
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
_BATCH = 500  # keys per query; SQLite allows 999 parameters in its oldest builds
_LEASE = 600.0  # seconds without a reply after which the owner of a claim counts as dead


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

    Notes
    -----
    The key of a reply is a hash of everything that changes the answer, made by
    ``Request.key``; neither an API key nor a retry setting is part of it. On a network file system
    that cannot share memory between machines, the cache falls back to SQLite's rollback journal.

    A worker claims a key before it asks, and others that need it wait for the reply: workers
    that miss the same key at the same moment pay for it once. A claim ends with the reply, with a
    failure, with the death of the process that made it, or, where that cannot be seen (on another
    machine), ten minutes after its last reply.

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

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._set_up(default_cache_path() if path is None else path)

    def _set_up(self, path: str | os.PathLike[str]) -> None:
        self._file = SQLiteFile(path, _SCHEMA)
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
        if self.path.exists():
            connection = self._file.connect()
            for start in range(0, len(keys), _BATCH):
                part = keys[start : start + _BATCH]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value FROM replies WHERE key IN ({marks})"
                found.update(connection.execute(query, part))
        with self._lock:
            self._hits += len(found)
            self._misses += len(set(keys)) - len(found)
        return found

    def set_many(self, items: Mapping[str, str]) -> None:
        """Save values by key; a known key keeps its first value.

        When it returns, the values survive the death of this process.
        """
        now = time.time()
        rows: Iterable[tuple[str, str, float]] = [(k, v, now) for k, v in items.items()]
        alive = [(now + _LEASE, key) for key in items]
        with self._file.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", rows)
            connection.executemany(
                "UPDATE owners SET until = ? "
                "WHERE owner = (SELECT owner FROM claims WHERE key = ?)",
                alive,
            )
            connection.executemany("DELETE FROM claims WHERE key = ?", [(k,) for k in items])

    @staticmethod
    def new_owner() -> str:
        """Return a name for claims that tells others which process made them."""
        return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}"

    def claim(self, keys: Sequence[str], owner: str) -> tuple[dict[str, str], list[str]]:
        """Claim for `owner` the keys that are not known and that nobody else is asking for.

        Parameters
        ----------
        keys : sequence of str
        owner : str
            A name from :meth:`new_owner`.

        Returns
        -------
        known : dict of str to str
            Values of keys that are known by now.
        mine : list of str
            Keys for `owner` to ask for, and then to :meth:`release`; others ask for the rest.
        """
        now = time.time()
        known: dict[str, str] = {}
        taken: set[str] = set()
        with self._file.writing() as connection:
            for start in range(0, len(keys), _BATCH):
                part = keys[start : start + _BATCH]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value FROM replies WHERE key IN ({marks})"
                known.update(connection.execute(query, part))
                query = (
                    "SELECT key, owner FROM claims JOIN owners USING (owner) "
                    f"WHERE until > ? AND owner != ? AND key IN ({marks})"
                )
                held = connection.execute(query, [now, owner, *part]).fetchall()
                alive = {other: _may_be_alive(other) for other in {other for _, other in held}}
                taken.update(key for key, other in held if alive[other])
            mine = [key for key in keys if key not in known and key not in taken]
            claims = [(key, owner) for key in mine]
            connection.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (owner, now + _LEASE))
            connection.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", claims)
        return known, mine

    def release(self, owner: str) -> None:
        """Give up the claims of `owner` that are not answered, so that others can ask."""
        with self._file.writing() as connection:
            connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))

    def __len__(self) -> int:
        if not self.path.exists():
            return 0
        (n,) = self._file.connect().execute("SELECT COUNT(*) FROM replies").fetchone()
        return int(n)

    def stats(self) -> CacheStats:
        """Return path, number of replies, size in bytes, and this object's hits and misses."""
        files = (self.path, Path(f"{self.path}-wal"))
        n_bytes = sum(f.stat().st_size for f in files if f.exists())
        return CacheStats(str(self.path), len(self), n_bytes, self._hits, self._misses)

    def clear(self) -> int:
        """Remove every reply, give the space back, and return how many there were."""
        n = len(self)
        if n:
            connection = self._file.connect()
            for table in ("replies", "claims", "owners"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self._lock:
            self._hits = self._misses = 0
        return n

    def __repr__(self) -> str:
        return f"ResponseCache({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResponseCache) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": str(self.path)}  # a Path of one system cannot be loaded on another

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set_up(state["path"])

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


def _may_be_alive(owner: str) -> bool:
    """Return whether the process of a claim may still run; one of another machine always may."""
    host, pid, _ = owner.rsplit("/", 2)
    if os.name != "posix" or host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)  # sends nothing, only looks
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process, but it runs
        return True
    return True
