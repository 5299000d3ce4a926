"""An SQLite file that several threads and processes share: the response cache and the queue."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SQLiteFile", "Schema"]

_TIMEOUT = 60.0  # seconds a writer waits for another

_local = threading.local()


@dataclass(frozen=True)
class Schema:
    """What the files of one kind hold, and what to call them in messages.

    Attributes
    ----------
    kind, maker, parameter : str
        Such as "review queue", "ReviewQueue" and "path": what the file is, the class that makes
        it, and the parameter that names it.
    migrations : tuple of tuple of str
        Statements that lead from each version of the file to the next. Entries are only added.
    application_id : int
        Mark in the header of the file that tells it from other SQLite files. Files of a kind
        without a mark (0) have no version either: its statements run at every opening.
    table : str
        A table that every file of the kind has.
    durable : bool
        Whether a committed transaction survives a loss of power, not only the death of the process.
    """

    kind: str
    maker: str
    parameter: str
    migrations: tuple[tuple[str, ...], ...]
    table: str
    application_id: int = 0
    durable: bool = False

    @property
    def version(self) -> int:
        """The version of the files that this release writes."""
        return len(self.migrations) if self.application_id else 0


class SQLiteFile:
    """A connection per process and thread, and transactions that are all or nothing.

    Parameters
    ----------
    path : str or path-like
        The file; made, with its folder, when it is first used.
    schema : Schema
        What is in it.
    """

    def __init__(self, path: str | os.PathLike[str], schema: Schema) -> None:
        self.path = Path(path).expanduser()
        self.schema = schema

    def connect(self) -> sqlite3.Connection:
        """Return the connection of this process and thread; SQLite forbids sharing one.

        Raises
        ------
        ValueError
            If the file is of another kind, damaged, or of a later version.
        """
        connections: dict[tuple[int, str, str], sqlite3.Connection]
        connections = _local.__dict__.setdefault("connections", {})
        key = (os.getpid(), str(self.path.absolute()), self.schema.kind)
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
        schema = self.schema
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Each thread uses its own; but the one that clears up after a thread is another.
            connection = _Connection(
                self.path, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._check_kind(connection)
            _write_ahead(connection)
            connection.execute(f"PRAGMA synchronous = {'FULL' if schema.durable else 'NORMAL'}")
            _migrate(connection, schema)
        except sqlite3.DatabaseError as e:
            raise ValueError(self._refusal(f"cannot be used as a {schema.kind} ({e})")) from e
        return connection

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        """Refuse a file of something else, or of a later release, before a byte is changed."""
        schema = self.schema
        application, version = _header(connection)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        blank = not (application or version or names)
        if not blank and (application != schema.application_id or schema.table not in names):
            raise ValueError(self._refusal(f"is an SQLite file, but not a {schema.kind}"))
        if version > schema.version:
            raise ValueError(
                f"{str(self.path)!r} was written by a later release of skllm-calib (version "
                f"{version}; this release reads up to {schema.version}): update the package. The "
                "file was not changed."
            )

    def _refusal(self, what: str) -> str:
        schema = self.schema
        return (
            f"{str(self.path)!r} {what}: {schema.parameter!r} must be a file made by "
            f"{schema.maker}, or one that does not exist yet."
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
    """Return the application id and the user version of an SQLite file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(application), int(version)


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Bring the file to the version of this release, in one piece; others wait meanwhile."""
    if not schema.application_id:
        for statement in (one for statements in schema.migrations for one in statements):
            connection.execute(statement)
        return
    if _header(connection) == (schema.application_id, schema.version):
        return
    with _transaction(connection):
        _, version = _header(connection)  # another process may just have done it
        for statements in schema.migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")


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
