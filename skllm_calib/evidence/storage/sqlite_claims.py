"""SQLiteClaims: what one worker is asking for, in a cache that is a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from sqlite3 import Connection

from skllm_calib.evidence.storage.arrivals import Arrivals, all_arrivals
from skllm_calib.evidence.storage.base import Claims, Looked, understood
from skllm_calib.evidence.storage.sqlite_rows import in_parts, insert, select
from skllm_calib.utils.owners import has_ended, new_owner
from skllm_calib.utils.sqlite import SQLiteFile

__all__ = ["SQLiteClaims"]

_LEASE = 600.0  # seconds without a reply after which an owner that cannot be seen counts as dead
_GROUP = 1_000  # replies that go into the database together
_PERIOD = 5.0  # seconds after which they go, however few


class SQLiteClaims(Claims):
    """Claims with an owner, which ends with the lock on the file of what has arrived at it.

    Parameters
    ----------
    file : SQLiteFile
        The cache.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._owner = ""
        self._arrivals: Arrivals | None = None
        self._n_waiting = 0
        self._next_commit = 0.0

    def claim(self, keys: Sequence[str], read: Callable[[str], object]) -> Looked:
        """Claim the keys that are not known and that no other worker holds."""
        left: list[Arrivals] = []
        try:
            with self._file.writing() as connection:
                self._take_in_what_was_left(connection, left)
                known, damaged = self._look_up(connection, keys, read)
                others = self._claimed_by_others(connection, keys)
                mine = [key for key in keys if key not in known and key not in others]
                if mine:
                    self._put_claims(connection, mine)
            for arrivals in left:
                arrivals.remove()
        finally:
            for arrivals in left:
                arrivals.close()
        return Looked(known, mine, len(damaged))

    def keep(self, key: str, value: str) -> None:
        """Append a value to the file of what has arrived, and now and then take that in."""
        assert self._arrivals is not None
        try:
            self._arrivals.append(key, value)
        except OSError as e:
            raise self._trouble(e) from e
        self._n_waiting += 1
        if self._n_waiting >= _GROUP or time.monotonic() >= self._next_commit:
            self._commit()

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Put what has arrived into the database, and give up claims."""
        if self._arrivals is None:
            return
        if keys is not None:
            self._commit(keys)
            return
        try:
            with self._file.writing() as connection:
                self._put_arrivals(connection)
                self._forget(connection, self._owner)
            self._arrivals.remove()
        finally:  # if that failed, the file stays, and the next worker takes it in
            self._arrivals.close()
            self._arrivals = None

    def _commit(self, keys: Sequence[str] = ()) -> None:
        """Put what has arrived into the database, and give up the claims on some keys."""
        assert self._arrivals is not None
        with self._file.writing() as connection:
            self._put_arrivals(connection)
            connection.executemany(
                "DELETE FROM claims WHERE key = ? AND owner = ?",
                [(key, self._owner) for key in keys],
            )
        self._arrivals.empty()
        self._start_group()

    def _take_in_what_was_left(self, connection: Connection, left: list[Arrivals]) -> None:
        """Take in the replies of workers that have ended, and forget their claims."""
        ended: dict[str, bool | None] = {}
        for arrivals in all_arrivals(self._file.path):
            name = arrivals.path.name
            if ended.setdefault(name, arrivals.take_over()):
                left.append(arrivals)
                insert(connection, arrivals.read())
        now = time.time()
        for owner, until in connection.execute("SELECT owner, until FROM owners").fetchall():
            gone = ended.get(Arrivals.of(self._file.path, owner).path.name)
            if until <= now or (has_ended(owner) if gone is None else gone):
                self._forget(connection, owner)

    def _look_up(
        self, connection: Connection, keys: Sequence[str], read: Callable[[str], object]
    ) -> tuple[dict[str, object], list[str]]:
        """Return what is known, and the keys of damaged values, which are removed."""
        known, damaged = understood(select(connection, keys), read)
        connection.executemany("DELETE FROM replies WHERE key = ?", [(key,) for key in damaged])
        missing = set(keys).difference(known)
        for arrivals in all_arrivals(self._file.path) if missing else ():
            values = {key: value for key, value in arrivals.read().items() if key in missing}
            known |= understood(values, read)[0]
        return known, damaged

    def _claimed_by_others(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for part, marks in in_parts(keys):
            query = (
                "SELECT key FROM claims JOIN owners USING (owner) "
                f"WHERE owner != ? AND key IN ({marks})"
            )
            found.update(key for (key,) in connection.execute(query, [self._owner, *part]))
        return found

    def _put_claims(self, connection: Connection, keys: list[str]) -> None:
        if self._arrivals is None:
            self._owner = new_owner()
            arrivals = Arrivals.of(self._file.path, self._owner)
            try:
                arrivals.create()
            except OSError as e:
                raise self._trouble(e) from e
            self._arrivals = arrivals
            self._start_group()
        self._renew(connection)
        connection.executemany(
            "INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, self._owner) for key in keys]
        )

    def _put_arrivals(self, connection: Connection) -> None:
        assert self._arrivals is not None
        insert(connection, self._arrivals.read())
        self._renew(connection)

    def _renew(self, connection: Connection) -> None:
        until = time.time() + _LEASE
        connection.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (self._owner, until))

    def _forget(self, connection: Connection, owner: str) -> None:
        for table in ("claims", "owners"):
            connection.execute(f"DELETE FROM {table} WHERE owner = ?", (owner,))

    def _start_group(self) -> None:
        self._n_waiting = 0
        self._next_commit = time.monotonic() + _PERIOD

    def _trouble(self, error: OSError) -> Exception:
        return self._file.trouble(
            f"cannot keep a reply ({error.strerror})", "Check the disk, its space and permissions"
        )
