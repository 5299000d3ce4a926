"""The file of a queue: its tables, its version, and who may write when."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Database"]

_APPLICATION = 0x534B4351  # "SKCQ": tells the file of a queue from every other SQLite file
_TIMEOUT = 60.0  # seconds a writer waits for another

# One entry a version of the file: what leads to it from the one before. Entries are only added.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # inclusion: probability with which a person was to see the row, 0 for a rejected one.
        """
        CREATE TABLE entries (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            content TEXT NOT NULL,
            action TEXT NOT NULL,
            proposed INTEGER,
            doubt REAL NOT NULL,
            draw REAL NOT NULL,
            inclusion REAL NOT NULL,
            asked INTEGER NOT NULL
        )
        """,
        "CREATE INDEX entries_asked ON entries (asked, action)",
        # A log: what a reviewer says later, or takes back, erases nothing.
        """
        CREATE TABLE labels (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            entry INTEGER NOT NULL REFERENCES entries (number),
            reviewer TEXT NOT NULL,
            code INTEGER NOT NULL,
            final INTEGER NOT NULL,
            created REAL NOT NULL,
            undone INTEGER NOT NULL DEFAULT 0
        )
        """,
        "CREATE INDEX labels_entry ON labels (entry, reviewer, number)",
        "CREATE INDEX labels_reviewer ON labels (reviewer, number)",
        # The latest word of each reviewer; SQLite takes the other columns from the row of the MAX.
        """
        CREATE VIEW latest AS
        SELECT entry, reviewer, code, final, created, MAX(number) AS number
        FROM labels WHERE undone = 0 GROUP BY entry, reviewer
        """,
        # One line a labelled row. A final word settles it; else all reviewers must agree.
        """
        CREATE VIEW settled AS
        SELECT entry, CASE
            WHEN MAX(final) THEN (
                SELECT code FROM latest AS word
                WHERE word.entry = latest.entry AND final
                ORDER BY number DESC LIMIT 1)
            WHEN MIN(code) = MAX(code) THEN MIN(code)
        END AS code
        FROM latest GROUP BY entry
        """,
    ),
)

_local = threading.local()


class Database:
    """A connection for every process and thread, and transactions that are all or nothing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()

    def connect(self) -> sqlite3.Connection:
        """Return the connection of this process and thread; SQLite forbids sharing one."""
        connections: dict[tuple[int, str], sqlite3.Connection]
        connections = _local.__dict__.setdefault("connections", {})
        key = (os.getpid(), str(self.path.absolute()))
        if key in connections and not self.path.exists():  # the file was removed under us
            connections.pop(key).close()
        if key not in connections:
            connections[key] = self._open()
        return connections[key]

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Do all of the block or nothing, with no other writer in between."""
        with _transaction(self.connect()) as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Let every query of the block see the same state of the file."""
        connection = self.connect()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Each thread uses its own; but the one that clears up after a thread is another.
            connection = _Connection(
                self.path, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._check_kind(connection)
            _write_ahead(connection)
            # A reply of a model can be had again; an hour of a person's work cannot.
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection)
        except sqlite3.DatabaseError as e:
            raise ValueError(
                f"cannot use {str(self.path)!r} as a review queue ({e}): 'path' must be that of a "
                "file made by ReviewQueue, or of one that does not exist yet."
            ) from e
        return connection

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        """Refuse a file of something else, or of a later release, before a byte is changed."""
        application, version = _header(connection)
        (n_tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and (application or version or n_tables):
            raise ValueError(
                f"{str(self.path)!r} is an SQLite file, but not one of a review queue: 'path' must "
                "be that of a file made by ReviewQueue, or of one that does not exist yet."
            )
        if version > len(_MIGRATIONS):
            raise ValueError(
                f"{str(self.path)!r} was written by a later release of skllm-calib: its version is "
                f"{version}, this release reads up to {len(_MIGRATIONS)}. Update the package; the "
                "file was not changed."
            )


class _Connection(sqlite3.Connection):
    """A connection that closes itself when its thread ends."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # one that could not be opened
            self.close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _header(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the marks that an SQLite file keeps for those who use it."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(application), int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the version of this release, in one piece; others wait meanwhile."""
    if _header(connection) == (_APPLICATION, len(_MIGRATIONS)):
        return
    with _transaction(connection):
        _, version = _header(connection)  # another process may just have done it
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead mode; at the first opening, processes race for it."""
    for attempt in range(100):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or attempt == 99:
                raise
            time.sleep(0.02)
        else:
            return
