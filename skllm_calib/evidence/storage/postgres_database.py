"""Database: one connection per process to a PostgreSQL server, and what goes wrong with it."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from skllm_calib.exceptions import InvalidInput, MissingDependency, StorageError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Database", "check_address", "is_address"]

T = TypeVar("T")

_PATIENCE = 60.0  # seconds to wait for a server that was there and is not now
_PAUSE = 0.5
_CREATING = 0x536B4C6D  # the lock of whoever makes the tables

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS skllm_calib_replies (
        key text COLLATE "C" PRIMARY KEY,
        value text NOT NULL,
        created double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp())
    )
    """,
    # Claims end with the connection of their owner, so they need not survive the server.
    """
    CREATE UNLOGGED TABLE IF NOT EXISTS skllm_calib_claims (
        key text COLLATE "C" PRIMARY KEY, owner integer NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS skllm_calib_claims_owner ON skllm_calib_claims (owner)",
    "CREATE UNLOGGED TABLE IF NOT EXISTS skllm_calib_owners (owner integer PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS skllm_calib_shared (name text PRIMARY KEY, value text)",
)
# A dead machine sends no farewell: the server looks after the connection, and ends it in a minute.
_SETTINGS = {
    "synchronous_commit": "off",  # what is kept survives this process; see Database.run
    "default_transaction_isolation": "read committed",
    "client_min_messages": "warning",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_SET_UP = "SELECT extract(epoch FROM clock_timestamp())::float8, " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()
)


@dataclass
class _Session:
    """The connection of this process, which its threads take in turns."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    connection: psycopg.Connection[Any] | None = None
    clock: float = 0.0  # seconds by which the server's clock is ahead of ours


_sessions: dict[tuple[int, str], _Session] = {}


class Database:
    """Transactions on a PostgreSQL database, which are all or nothing.

    Parameters
    ----------
    address : str
        "postgresql://..."
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def read(self, query: Callable[[psycopg.Connection[Any]], T], default: T) -> T:
        """Return the result of a query, or the default where the tables are not there yet."""
        with self._session() as session:
            try:
                return self._attempt(session, query, create=False)
            except _NoTablesError:
                return default

    def write(self, change: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Return the result of a change of one statement, which survives this process.

        It does not wait for the disk of the server, which writes the changes of a moment together.
        """
        with self._session() as session:
            return self._attempt(session, change, create=True)

    def transact(
        self,
        change: Callable[[psycopg.Connection[Any]], T],
        *,
        once: bool = False,
        durable: bool = True,
    ) -> T:
        """Return the result of a change that is all or nothing.

        Parameters
        ----------
        change : callable
            Takes the connection. Called again if the connection was lost, or another transaction
            was in the way.
        once : bool, default=False
            Whether it is an error instead.
        durable : bool, default=True
            Whether it is on disk then, with all before it.
        """

        def whole(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                if durable:
                    connection.execute("SET LOCAL synchronous_commit TO on")
                return change(connection)

        with self._session() as session:
            return self._attempt(session, whole, create=True, once=once)

    def to_server(self, moment: float) -> float:
        """Return what the clock of the server shows at a moment of ours."""
        return moment + _sessions[os.getpid(), self.address].clock

    @contextlib.contextmanager
    def _session(self) -> Any:
        session = _sessions.setdefault((os.getpid(), self.address), _Session())
        with session.lock:
            yield session

    def _attempt(
        self,
        session: _Session,
        work: Callable[[psycopg.Connection[Any]], T],
        *,
        create: bool,
        once: bool = False,
    ) -> T:
        errors = _import().errors
        was_there = session.connection is not None
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                connection = self._connect(session)
                try:
                    return work(connection)
                except errors.UndefinedTable:  # not made yet, or removed meanwhile
                    if not create:
                        raise _NoTablesError from None
                    _make_tables(connection)
            except (errors.DeadlockDetected, errors.SerializationFailure) as e:
                if once or time.monotonic() > deadline:
                    raise self._trouble(e, "is in use") from e
            except (
                errors.InsufficientPrivilege,
                errors.ReadOnlySqlTransaction,
            ) as e:
                raise self._trouble(e, "cannot be written") from e
            except errors.OperationalError as e:
                lost = session.connection is None or session.connection.closed
                if not (was_there and lost) or once or time.monotonic() > deadline:
                    raise self._trouble(e, "cannot be reached or written") from e
                time.sleep(_PAUSE)

    def _connect(self, session: _Session) -> psycopg.Connection[Any]:
        if session.connection is not None and not session.connection.closed:
            return session.connection
        driver = _import()
        try:
            connection: psycopg.Connection[Any] = driver.connect(
                self.address, autocommit=True, fallback_application_name="skllm-calib"
            )
        except driver.ProgrammingError as e:
            raise InvalidInput(
                f"{self.address!r} is no address of a database ({_first_line(e)}): 'cache' must be "
                "like 'postgresql://USER@HOST:PORT/DATABASE'",
                "cache",
                value=self.address,
            ) from e
        began = time.time()
        row = connection.execute(_SET_UP).fetchone()
        session.clock = row[0] - (began + time.time()) / 2 if row else 0.0
        session.connection = connection
        return connection

    def _trouble(self, error: Exception, what: str) -> StorageError:
        return StorageError(
            f"the response cache {self.address!r} {what} ({_first_line(error)}). Check the server, "
            "its disk and your permissions, or pass another 'cache'.",
            self.address,
        )


class _NoTablesError(Exception):
    """Nothing was written yet."""


def _make_tables(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():  # others wait meanwhile
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATING,))
        for statement in _TABLES:
            connection.execute(statement)


def is_address(path: object) -> bool:
    """Return whether a path is the address of a PostgreSQL database.

    Examples
    --------
    >>> is_address("postgresql://db.example/replies"), is_address("replies.sqlite")
    (True, False)
    """
    return isinstance(path, str) and path.startswith(("postgresql://", "postgres://"))


def check_address(address: str) -> None:
    """Refuse an address with a password in it: it is shown in messages and kept in files."""
    parts = urlsplit(address)
    if parts.password is None and not {"password", "sslpassword"} & set(parse_qs(parts.query)):
        return
    raise InvalidInput(
        "the address in 'cache' holds a password, which would be shown in messages and kept in "
        "saved classifiers: remove it, and give it in the environment variable PGPASSWORD or in a "
        "password file (~/.pgpass)",
        "cache",
        value=f"{parts.scheme}://...",
    )


def _import() -> Any:
    try:
        import psycopg  # noqa: PLC0415
    except ImportError as e:
        raise MissingDependency(
            "a cache in PostgreSQL needs psycopg: pip install 'skllm-calib[postgres]' (importing "
            f"it said: {e})"
        ) from e
    return psycopg


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@atexit.register
def _close_all() -> None:
    for (pid, _), session in _sessions.items():
        if session.connection is not None and pid == os.getpid():
            session.connection.close()


def _leave_to_parent() -> None:
    """Let go of the parent's connections: as long as a child has one, its claims do not end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for session in _sessions.values():
        if session.connection is not None and not session.connection.closed:
            os.dup2(nothing, session.connection.fileno())  # no farewell to the server
            session.connection.close()
    os.close(nothing)
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
