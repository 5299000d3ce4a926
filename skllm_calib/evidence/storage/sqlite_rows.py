"""The tables of an SQLite cache, and the statements that both readers and workers use."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence

from skllm_calib.evidence.storage.base import BATCH, FAILURE
from skllm_calib.utils.sqlite import Schema

__all__ = ["IS_FAILURE", "IS_REPLY", "SCHEMA", "in_parts", "insert", "select"]

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
            # Small texts that all workers share and change.
            """
            CREATE TABLE IF NOT EXISTS shared (
                name TEXT PRIMARY KEY, value TEXT NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
)
IS_FAILURE = f"key LIKE '{FAILURE}%'"
IS_REPLY = f"NOT ({IS_FAILURE} OR key LIKE '{BATCH}%')"
_BATCH = 500  # keys per query; SQLite allows 999 parameters in its oldest builds


def select(
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


def insert(connection: sqlite3.Connection, items: Mapping[str, str]) -> None:
    """Save values by key in the caller's transaction; a known reply keeps its first value."""
    now = time.time()
    for key, value in items.items():
        what = "REPLACE" if key.startswith(FAILURE) else "IGNORE"  # a failure is dated by the last
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
