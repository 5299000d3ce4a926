"""SQLiteStorage: replies in one file, for the processes of one machine.

Write-ahead mode, one row per reply, and beside it the files of what has just arrived.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from skllm_calib.evidence.storage.arrivals import all_arrivals
from skllm_calib.evidence.storage.base import Storage
from skllm_calib.evidence.storage.sqlite_claims import SQLiteClaims
from skllm_calib.evidence.storage.sqlite_rows import (
    IS_FAILURE,
    IS_REPLY,
    SCHEMA,
    in_parts,
    insert,
    select,
)
from skllm_calib.exceptions import StorageError
from skllm_calib.utils.sqlite import SQLiteFile

__all__ = ["SQLiteStorage"]


class SQLiteStorage(Storage):
    """Replies in an SQLite file.

    Parameters
    ----------
    path : str or path-like
        The file; made when something is first written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = SQLiteFile(path, SCHEMA)
        self.path: Path = self._file.path

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what is known, in the database or on its way into it."""
        found: dict[str, str] = {}
        if self._file.exists():
            found = self.get_since(keys, 0.0)
            if missing := set(keys).difference(found):
                for arrivals in all_arrivals(self.path):
                    arrived = arrivals.read()
                    found |= {key: arrived[key] for key in missing.intersection(arrived)}
                found |= self.get_since(list(missing), 0.0)  # what was put there meanwhile
        return found

    def get_since(self, keys: Sequence[str], moment: float) -> dict[str, str]:
        """Return what was put into the database since a moment."""
        if not (keys and self._file.exists()):
            return {}
        with self._file.reading() as connection:
            values = select(connection, keys, moment)
        return {key: value for key, value in values.items() if value is not None}

    def put(self, items: Mapping[str, str]) -> None:
        """Save values in one transaction."""
        with self._file.writing() as connection:
            insert(connection, items)

    def remove(self, keys: Sequence[str], before: float) -> bool:
        """Remove what was put there before a moment; False on a read-only disk."""
        if not os.access(self.path.parent, os.W_OK):
            return False  # nor could be kept what comes in its place
        try:
            with self._file.writing() as connection:
                for part, marks in in_parts(keys):
                    query = f"DELETE FROM replies WHERE key IN ({marks}) AND created < ?"
                    connection.execute(query, [*part, before])
        except StorageError:
            return False
        return True

    def remove_failures(self) -> int:
        """Remove all failures."""
        if not self._file.exists():
            return 0
        with self._file.writing() as connection:
            return connection.execute(f"DELETE FROM replies WHERE {IS_FAILURE}").rowcount

    def count(self) -> int:
        """Return the number of replies in the database."""
        if not self._file.exists():
            return 0
        with self._file.reading() as connection:
            (n,) = connection.execute(f"SELECT COUNT(*) FROM replies WHERE {IS_REPLY}").fetchone()
        return int(n)

    def size(self) -> int:
        """Return the size of all files."""
        files = [self.path, Path(f"{self.path}-wal"), *(a.path for a in all_arrivals(self.path))]
        return sum(f.stat().st_size for f in files if f.exists())

    def clear(self) -> int:
        """Remove everything but what workers share."""
        if not self._file.exists():
            return 0
        with self._file.writing() as connection:
            connection.execute(f"DELETE FROM replies WHERE NOT {IS_REPLY}")
            n = connection.execute("DELETE FROM replies").rowcount
            for table in ("claims", "owners"):
                connection.execute(f"DELETE FROM {table}")
            for arrivals in all_arrivals(self.path):
                n += len(arrivals.read())
                arrivals.empty()
                if arrivals.take_over():
                    arrivals.remove()
        self._file.shrink()
        return n

    def change_at(
        self, name: str, change: Callable[[str | None, float], str], *, durable: bool = True
    ) -> str:
        """Replace a text that all workers share, which are on one machine."""
        with self._file.writing() as connection:
            row = connection.execute("SELECT value FROM shared WHERE name = ?", (name,)).fetchone()
            value = change(row[0] if row else None, time.time())
            connection.execute("INSERT OR REPLACE INTO shared VALUES (?, ?)", (name, value))
        return value

    def claims(self) -> SQLiteClaims:
        """Return the claims of one worker."""
        return SQLiteClaims(self._file)
