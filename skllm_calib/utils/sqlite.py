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

from skllm_calib.exceptions import InvalidInput, SkllmCalibError, StorageError
from skllm_calib.utils.files import make_private_file

__all__ = ["SQLiteFile", "Schema"]

_TIMEOUT = 60.0  # seconds a writer waits for another
_STEP = 0.5  # seconds of it inside SQLite, where Ctrl-C does not reach

_local = threading.local()

_TROUBLE = {
    sqlite3.SQLITE_FULL: (
        "cannot be written: the disk is full",
        "What was saved before is kept. Free some space",
    ),
    sqlite3.SQLITE_READONLY: ("cannot be written: it is read-only", "Make it writable"),
    sqlite3.SQLITE_BUSY: (
        f"is in use: another process has held it for {_TIMEOUT:.0f} s",
        "End that process",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "Move it away, save what can be read with the command 'sqlite3 FILE .recover'",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "Check the permissions of the file and its folder",
    ),
}
_OTHER_TROUBLE = ("cannot be read or written", "Check its disk and its permissions")


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
    columns : tuple of str
        Columns that the table has.
    durable : bool
        Whether a committed transaction survives a loss of power, not only the death of the process.
    """

    kind: str
    maker: str
    parameter: str
    migrations: tuple[tuple[str, ...], ...]
    table: str
    columns: tuple[str, ...] = ()
    application_id: int = 0
    durable: bool = False

    @property
    def version(self) -> int:
        """The version of the files that this release writes."""
        return len(self.migrations) if self.application_id else 0


class SQLiteFile:
    """A connection per process and thread, and transactions that are all or nothing.

    A new file can be read by its owner alone, and so can the files that SQLite keeps beside it.
    Where a file or its disk is read-only, it can be read.

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

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return self._identity() is not None

    def connect(self) -> sqlite3.Connection:
        """Return the connection of this process and thread; SQLite forbids sharing one.

        Raises
        ------
        InvalidInput
            If the file is of another kind, or of a later version.
        StorageError
            If it is damaged, or cannot be opened.
        """
        connections: dict[tuple[int, str, str], tuple[sqlite3.Connection, object]]
        connections = _local.__dict__.setdefault("connections", {})
        key = (os.getpid(), str(self.path.absolute()), self.schema.kind)
        connection, opened = connections.get(key, (None, None))
        if connection is not None and opened == self._identity():
            return connection
        if connection is not None:  # the file was removed or replaced under us
            connections.pop(key)[0].close()
        try:
            connection = self._open()
        except sqlite3.DatabaseError as e:
            if _code(e) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise self._explained(e) from e
            connection = self._open_read_only(e)
        except OSError as e:
            if isinstance(e, SkllmCalibError):
                raise
            raise self.trouble(f"cannot be created ({e.strerror})", _OTHER_TROUBLE[1]) from e
        # What cannot be written now is opened anew each time: it may become writable.
        if os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK):
            connections[key] = connection, self._identity()
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Do all of the block or nothing, with no other writer in between."""
        connection = self.connect()
        with self._explaining(), _transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Let every query of the block see the same state of the file."""
        connection = self.connect()
        with self._explaining(), _transaction(connection, "BEGIN"):
            _insist(connection, "SELECT 1 FROM sqlite_master")  # the state is that of the first one
            yield connection

    def shrink(self) -> None:
        """Give back the space of what was removed; nothing of it is left in the files.

        Raises
        ------
        StorageError
            If another process still reads what was removed.
        """
        connection = self.connect()
        with self._explaining():
            _insist(connection, "VACUUM")
            deadline = time.monotonic() + _TIMEOUT
            # The removed pages stay in use as long as somebody is in the middle of reading them.
            while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise self.trouble(
                        "is emptied, but what was removed is still in the file: another process "
                        "is reading it",
                        "End that process and clear it again",
                    )

    def trouble(self, what: str, way_out: str) -> StorageError:
        """Return an error that names the file, and what to do."""
        schema = self.schema
        return StorageError(
            f"the {schema.kind} {str(self.path)!r} {what}. {way_out}, or pass another "
            f"{schema.parameter!r}.",
            str(self.path),
        )

    def _open(self) -> sqlite3.Connection:
        if self.path.exists() and not self.path.is_file():
            raise self._refusal(f"is a folder or a device, not a {self.schema.kind}")
        make_private_file(self.path)
        connection = _connect(str(self.path))
        self._check_kind(connection)
        _insist(connection, "PRAGMA journal_mode = WAL")  # at the first opening, processes race
        level = "FULL" if self.schema.durable else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {level}")
        _migrate(connection, self.schema)
        return connection

    def _open_read_only(self, failure: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Open a file that cannot be written, or explain why it could not be opened."""
        wal = Path(f"{self.path}-wal")
        # The second way works without files beside it, but would not see what is in such a one.
        left_over = wal.exists() and wal.stat().st_size > 0
        for how in ("mode=ro",) if left_over else ("mode=ro", "immutable=1"):
            try:
                connection = _connect(f"{self.path.absolute().as_uri()}?{how}")
                if self._check_kind(connection):
                    return connection
            except sqlite3.DatabaseError as e:
                failure = e
        raise self._explained(failure) from failure

    def _check_kind(self, connection: sqlite3.Connection) -> bool:
        """Refuse a file of something else, or of a later release, before a byte is changed.

        Returns whether there is something in the file.
        """
        schema = self.schema
        with _transaction(connection, "BEGIN"):  # one moment, also while another process makes it
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            application, version = _header(connection)
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({schema.table})")}
        if not (application or version or names):
            return False
        if (
            application != schema.application_id
            or schema.table not in names
            or not columns.issuperset(schema.columns)
        ):
            raise self._refusal(f"is an SQLite file, but not a {schema.kind}")
        if version > schema.version:
            raise InvalidInput(
                f"{str(self.path)!r} was written by a later release of skllm-calib (version "
                f"{version}; this release reads up to {schema.version}): update the package. The "
                "file was not changed.",
                schema.parameter,
                value=str(self.path),
            )
        return True

    def _identity(self) -> object:
        """Return what tells the file from another one of the same name; None if there is none."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn what goes wrong with the file, not with a query, into an error of this library."""
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError) as e:
            if type(e) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
                raise  # a subclass: a value or a query of ours is wrong
            raise self._explained(e) from e

    def _explained(self, error: sqlite3.DatabaseError) -> SkllmCalibError:
        code = _code(error)
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            return self._refusal(f"cannot be used as a {self.schema.kind} ({error})")
        what, way_out = _TROUBLE.get(code, _OTHER_TROUBLE)
        return self.trouble(f"{what} ({error})", way_out)

    def _refusal(self, what: str) -> InvalidInput:
        schema = self.schema
        return InvalidInput(
            f"{str(self.path)!r} {what}: {schema.parameter!r} must be a file made by "
            f"{schema.maker}, or one that does not exist yet.",
            schema.parameter,
            value=str(self.path),
        )


class _Connection(sqlite3.Connection):
    """A connection that closes itself when its thread ends."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # one that could not be opened
            self.close()


def _connect(name: str) -> sqlite3.Connection:
    # Each thread uses its own; but the one that clears up after a thread is another.
    return sqlite3.connect(
        name,
        timeout=_STEP,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
        uri=name.startswith("file:"),
    )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    try:
        _insist(connection, begin)
        yield
        _insist(connection, "COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has already done it
            connection.execute("ROLLBACK")
        raise


def _insist(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement, and wait for other processes in steps that Ctrl-C can end."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as e:
            if _code(e) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code of SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _header(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the application id and the user version of an SQLite file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(application), int(version)


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Bring the file to the version of this release, in one piece; others wait meanwhile."""
    if schema.application_id and _header(connection) == (schema.application_id, schema.version):
        return
    with _transaction(connection, "BEGIN IMMEDIATE"):
        _, version = _header(connection)  # another process may just have done it
        for statements in schema.migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        if schema.application_id:
            connection.execute(f"PRAGMA application_id = {schema.application_id}")
            connection.execute(f"PRAGMA user_version = {schema.version}")
