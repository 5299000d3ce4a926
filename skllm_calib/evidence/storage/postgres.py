"""PostgresStorage: replies in a PostgreSQL database, for the workers of many machines."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.storage.base import BATCH, FAILURE, Claims, Looked, Storage, understood
from skllm_calib.evidence.storage.postgres_database import Database, check_address

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresClaims", "PostgresStorage"]

_OWNERS = 0x536B4C6C  # together with the number of an owner, the lock that it holds while it lives

_PUT = "INSERT INTO skllm_calib_replies (key, value) VALUES (%s, %s) ON CONFLICT (key) DO "
_PUT_REPLY = _PUT + "NOTHING"
_PUT_FAILURE = _PUT + "UPDATE SET value = excluded.value, created = excluded.created"
_IS_FAILURE = f"key LIKE '{FAILURE}%%'"
_IS_REPLY = f"NOT ({_IS_FAILURE} OR key LIKE '{BATCH}%%')"
# What is returned is read when nobody else holds the text any more, the clock too.
_HOLD = """
    INSERT INTO skllm_calib_shared AS shared VALUES (%s, NULL)
    ON CONFLICT (name) DO UPDATE SET value = shared.value
    RETURNING value, extract(epoch FROM clock_timestamp())::float8
"""
# In the order of the keys: two workers that claim the same ones cannot wait for each other.
_CLAIM = """
    INSERT INTO skllm_calib_claims
    SELECT key, %s FROM unnest(%s::text[]) AS key ORDER BY key COLLATE "C"
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner
        WHERE skllm_calib_claims.owner = excluded.owner
    RETURNING key
"""
_FORGET_DEAD = """
    WITH dead AS (
        DELETE FROM skllm_calib_owners WHERE owner NOT IN (
            SELECT objid::bigint FROM pg_locks
            WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND database = (
                SELECT oid FROM pg_database WHERE datname = current_database()
            )
        ) RETURNING owner
    )
    DELETE FROM skllm_calib_claims USING dead WHERE skllm_calib_claims.owner = dead.owner
"""


class PostgresStorage(Storage):
    """Replies in tables whose names begin with ``skllm_calib_``.

    Parameters
    ----------
    address : str
        "postgresql://USER@HOST:PORT/DATABASE", with the options of libpq, but without a password.
    """

    def __init__(self, address: str) -> None:
        check_address(address)
        self.path: str = address
        self._database = Database(address)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what is known."""
        return self._select(keys, None)

    def get_since(self, keys: Sequence[str], moment: float) -> dict[str, str]:
        """Return what was put there since a moment of our clock."""
        return self._select(keys, moment)

    def _select(self, keys: Sequence[str], moment: float | None) -> dict[str, str]:
        if not keys:
            return {}

        def query(connection: psycopg.Connection[Any]) -> dict[str, str]:
            if not moment:
                return _known(connection, keys)
            return dict(
                connection.execute(
                    "SELECT key, value FROM skllm_calib_replies "
                    "WHERE key = ANY(%s) AND created >= %s",
                    (list(keys), self._database.to_server(moment)),
                ).fetchall()
            )

        return self._database.read(query, {})

    def put(self, items: Mapping[str, str]) -> None:
        """Save values in one transaction."""

        def change(connection: psycopg.Connection[Any]) -> None:
            with connection.cursor() as cursor:
                for put in (_PUT_REPLY, _PUT_FAILURE):
                    rows = [i for i in sorted(items.items()) if _put_of(i[0]) == put]
                    cursor.executemany(put, rows)

        self._database.transact(change)

    def remove(self, keys: Sequence[str], before: float) -> bool:
        """Remove what was put there before a moment of our clock."""

        def change(connection: psycopg.Connection[Any]) -> bool:
            connection.execute(
                "DELETE FROM skllm_calib_replies WHERE key = ANY(%s) AND created < %s",
                (list(keys), self._database.to_server(before)),
            )
            return True

        def may(connection: psycopg.Connection[Any]) -> bool:
            row = connection.execute(
                "SELECT has_table_privilege('skllm_calib_replies', 'DELETE') "
                "AND current_setting('transaction_read_only') = 'off'"
            ).fetchone()
            return bool(row and row[0])

        return self._database.read(may, False) and self._database.transact(change)

    def remove_failures(self) -> int:
        """Remove all failures."""
        query = f"DELETE FROM skllm_calib_replies WHERE {_IS_FAILURE}"
        return self._database.read(lambda c: c.execute(query, ()).rowcount, 0)

    def count(self) -> int:
        """Return the number of replies."""
        return self._database.read(_count, 0)

    def size(self) -> int:
        """Return the size of the replies with their index."""
        query = "SELECT pg_total_relation_size('skllm_calib_replies')"
        return self._database.read(lambda c: int(c.execute(query).fetchall()[0][0]), 0)

    def clear(self) -> int:
        """Remove everything but what workers share."""

        def change(connection: psycopg.Connection[Any]) -> int:
            connection.execute("LOCK TABLE skllm_calib_replies IN ACCESS EXCLUSIVE MODE")
            n = _count(connection)
            tables = ("replies", "claims", "owners")
            connection.execute("TRUNCATE " + ", ".join(f"skllm_calib_{t}" for t in tables))
            return n

        return self._database.transact(change)

    def change_at(
        self, name: str, change: Callable[[str | None, float], str], *, durable: bool = True
    ) -> str:
        """Replace a text that all workers share."""

        def replace(connection: psycopg.Connection[Any]) -> str:
            ((before, now),) = connection.execute(_HOLD, (name,)).fetchall()
            value = change(before, now)
            query = "UPDATE skllm_calib_shared SET value = %s WHERE name = %s"
            connection.execute(query, (value, name))
            return value

        return self._database.transact(replace, once=True, durable=durable)

    def claims(self) -> PostgresClaims:
        """Return the claims of one worker."""
        return PostgresClaims(self._database)


class PostgresClaims(Claims):
    """Claims with an owner, which end with the connection of its process.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner = 0
        self._connection: object = None  # that holds the lock of the owner

    def claim(self, keys: Sequence[str], read: Callable[[str], object]) -> Looked:
        """Claim the keys that are not known and that no other worker holds."""

        def change(connection: psycopg.Connection[Any]) -> Looked:
            self._begin(connection)
            claimed = {
                key for (key,) in connection.execute(_CLAIM, (self._owner, list(keys))).fetchall()
            }
            # Looked up after the claim: whoever held it before has kept the reply by now.
            known, damaged = understood(_known(connection, keys), read)
            mine = [key for key in keys if key in claimed and key not in known]
            damaged = [key for key in damaged if key in claimed]
            _delete(connection, "replies", damaged)
            _delete(connection, "claims", [key for key in claimed if key in known])
            return Looked(known, mine, len(damaged))

        is_new = not self._owner
        self._database.write(lambda connection: connection.execute(_FORGET_DEAD, (_OWNERS,)))
        looked = self._database.transact(change)
        if is_new and not looked.mine:
            self.release()
        return looked

    def keep(self, key: str, value: str) -> None:
        """Save a value, in a transaction that does not wait for the disk of the server."""
        self._database.write(lambda connection: connection.execute(_put_of(key), (key, value)))

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give up claims, when what was kept is on the disk of the server."""
        if not self._owner:
            return
        if keys is not None:
            query = "DELETE FROM skllm_calib_claims WHERE owner = %s AND key = ANY(%s)"
            known = (self._owner, list(keys))
            self._database.transact(lambda connection: connection.execute(query, known))
            return

        def change(connection: psycopg.Connection[Any]) -> None:
            for table in ("claims", "owners"):
                query = f"DELETE FROM skllm_calib_{table} WHERE owner = %s"
                connection.execute(query, (self._owner,))
            if connection is self._connection:
                connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_OWNERS, self._owner))

        self._database.transact(change)
        self._owner, self._connection = 0, None

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        """Become an owner; a lost connection took the claims of the last one along."""
        while connection is not self._connection:
            owner = secrets.randbelow(2**31)
            query = "SELECT pg_try_advisory_lock(%s, %s)"
            if connection.execute(query, (_OWNERS, owner)).fetchall()[0][0]:
                self._owner, self._connection = owner, connection
        query = "INSERT INTO skllm_calib_owners VALUES (%s) ON CONFLICT DO NOTHING"
        connection.execute(query, (self._owner,))


def _put_of(key: str) -> str:
    return _PUT_FAILURE if key.startswith(FAILURE) else _PUT_REPLY


def _known(connection: psycopg.Connection[Any], keys: Sequence[str]) -> dict[str, str]:
    query = "SELECT key, value FROM skllm_calib_replies WHERE key = ANY(%s)"
    return dict(connection.execute(query, (list(keys),)).fetchall())


def _count(connection: psycopg.Connection[Any]) -> int:
    query = f"SELECT count(*) FROM skllm_calib_replies WHERE {_IS_REPLY}"
    return int(connection.execute(query, ()).fetchall()[0][0])


def _delete(connection: psycopg.Connection[Any], table: str, keys: list[str]) -> None:
    if keys:
        connection.execute(f"DELETE FROM skllm_calib_{table} WHERE key = ANY(%s)", (keys,))
