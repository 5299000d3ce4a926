"""Queries on the tables of a queue, one per function."""

from __future__ import annotations

import heapq
import itertools
import json
import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from skllm_calib.operations.queue.audit import Stratum
from skllm_calib.operations.queue.rows import Classes

__all__ = [
    "agreement",
    "counts",
    "disputed",
    "everything",
    "labels",
    "last_label",
    "settled",
    "strata",
    "waiting",
]

_UNSEEN = (
    "FROM entries WHERE asked AND NOT EXISTS "
    "(SELECT 1 FROM labels WHERE entry = entries.number AND NOT undone)"
)
_COLUMNS = "id, content, action"


def waiting(
    connection: sqlite3.Connection,
    classes: Classes,
    n: int | None,
    order: str,
    exclude: Collection[str],
) -> list[dict[str, Any]]:
    """Return rows without a label, in order."""
    limit = -1 if n is None else n + len(exclude)  # -1: none
    if order == "added":
        query = f"SELECT {_COLUMNS} {_UNSEEN} ORDER BY number LIMIT ?"
        found = connection.execute(query, (limit,)).fetchall()
    else:
        # How doubtful a row is must not decide when it is audited.
        review = _group(connection, "action != 'accept'", "doubt DESC, number", limit)
        audit = _group(connection, "action = 'accept'", "draw, number", limit)
        found = [row for _, row in heapq.merge(review, audit, key=lambda pair: pair[0])]
    rows = (_shown(row, classes) for row in found if row[0] not in exclude)
    return list(itertools.islice(rows, n))


def _group(
    connection: sqlite3.Connection, which: str, order: str, limit: int
) -> list[tuple[float, tuple[Any, ...]]]:
    """Return waiting rows with their place in (0, 1) among those of the group, done ones included.

    Merged by place, two groups advance side by side, whoever labels and however often.
    """
    (n_all,) = connection.execute(
        f"SELECT COUNT(*) FROM entries WHERE asked AND {which}"
    ).fetchone()
    (left,) = connection.execute(f"SELECT COUNT(*) {_UNSEEN} AND {which}").fetchone()
    query = f"SELECT {_COLUMNS} {_UNSEEN} AND {which} ORDER BY {order} LIMIT ?"
    rows = connection.execute(query, (limit,)).fetchall()
    return [((n_all - left + i + 0.5) / n_all, row) for i, row in enumerate(rows)]


def _shown(row: tuple[Any, ...], classes: Classes) -> dict[str, Any]:
    name, text, action = row[:3]
    content = json.loads(text)
    proba = content["proba"]
    if proba is not None:
        ranked = sorted(zip(classes.values, proba, strict=True), key=lambda pair: -pair[1])
        content["proba"] = dict(ranked)
    return {"id": name, **content, "audit": action == "accept"}


def everything(connection: sqlite3.Connection, classes: Classes) -> Iterator[dict[str, Any]]:
    """Yield every row with its labels, as plain JSON."""
    query = (
        "SELECT id, content, action, inclusion, asked, code, number FROM entries "
        "LEFT JOIN settled ON entry = number ORDER BY number"
    )
    for name, content, action, inclusion, asked, code, number in connection.execute(query):
        said = connection.execute(
            "SELECT reviewer, code, final, created FROM latest WHERE entry = ? ORDER BY number",
            (number,),
        )
        yield {
            "id": name,
            **json.loads(content),
            "asked": bool(asked),
            "audit": bool(asked) and action == "accept",
            "inclusion": inclusion,
            "final_label": None if code is None else classes.values[code],
            "labels": [
                {"reviewer": who, "label": classes.values[c], "final": bool(f), "created": when}
                for who, c, f, when in said
            ],
        }


def settled(connection: sqlite3.Connection) -> list[tuple[str, str, float, int]]:
    """Return id, content, probability of review, and label of rows to calibrate on."""
    query = (
        "SELECT id, content, inclusion, code FROM entries JOIN settled ON entry = number "
        "WHERE asked AND code IS NOT NULL AND json_extract(content, '$.proba') IS NOT NULL "
        "ORDER BY number"
    )
    return connection.execute(query).fetchall()


def labels(connection: sqlite3.Connection, classes: Classes) -> list[dict[str, Any]]:
    """Return the latest label of every reviewer for every row."""
    query = (
        "SELECT id, code, reviewer, final, created FROM latest "
        "JOIN entries ON entries.number = entry ORDER BY latest.number"
    )
    return [
        {
            "id": name,
            "label": classes.values[code],
            "reviewer": reviewer,
            "final": bool(final),
            "created": created,
        }
        for name, code, reviewer, final, created in connection.execute(query)
    ]


def disputed(connection: sqlite3.Connection, classes: Classes) -> list[dict[str, Any]]:
    """Return rows whose reviewers disagree, with the label of each."""
    query = (
        f"SELECT {_COLUMNS}, number FROM entries JOIN settled ON entry = number "
        "WHERE code IS NULL ORDER BY number"
    )
    rows = []
    for row in connection.execute(query).fetchall():
        said = connection.execute(
            "SELECT reviewer, code FROM latest WHERE entry = ? ORDER BY number", row[3:]
        )
        rows.append(
            _shown(row, classes) | {"labels": {who: classes.values[code] for who, code in said}}
        )
    return rows


def last_label(connection: sqlite3.Connection, reviewer: str) -> tuple[int, str, int] | None:
    """Return number, id of the row and class of the latest label that a reviewer stands by."""
    query = (
        "SELECT labels.number, id, code FROM labels JOIN entries ON entries.number = entry "
        "WHERE reviewer = ? AND NOT undone ORDER BY labels.number DESC LIMIT 1"
    )
    return connection.execute(query, (reviewer,)).fetchone()  # type: ignore[no-any-return]


def strata(connection: sqlite3.Connection) -> list[Stratum]:
    """Return the accepted rows by their chance of being audited."""
    query = (
        "SELECT inclusion, COUNT(*), SUM(asked), SUM(asked AND code IS NOT NULL), "
        "TOTAL(asked AND code != proposed), "
        "SUM(asked AND entry IS NOT NULL AND code IS NULL) "
        "FROM entries LEFT JOIN settled ON entry = number "
        "WHERE action = 'accept' GROUP BY inclusion ORDER BY inclusion"
    )
    found = connection.execute(query)
    return [Stratum(share, *(int(n) for n in numbers)) for share, *numbers in found]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many rows there are, by action and by progress."""
    names = (
        "n_rows", "n_accepted", "n_review", "n_rejected", "n_waiting", "n_done", "n_disputed",
        "n_audit_waiting", "n_audit_done",
    )  # fmt: skip
    query = (
        "SELECT COUNT(*), TOTAL(action = 'accept'), TOTAL(action = 'review'), "
        "TOTAL(action = 'reject'), TOTAL(asked AND entry IS NULL), "
        "TOTAL(asked AND code IS NOT NULL), "
        "TOTAL(asked AND entry IS NOT NULL AND code IS NULL), "
        "TOTAL(asked AND entry IS NULL AND action = 'accept'), "
        "TOTAL(asked AND code IS NOT NULL AND action = 'accept') "
        "FROM entries LEFT JOIN settled ON entry = number"
    )
    row = connection.execute(query).fetchone()
    return {name: int(value) for name, value in zip(names, row, strict=True)}


def agreement(connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Return for each proposed class how many rows are done, and how many were left as proposed."""
    query = (
        "SELECT proposed, COUNT(*), SUM(code = proposed) FROM entries "
        "JOIN settled ON entry = number "
        "WHERE asked AND code IS NOT NULL AND proposed IS NOT NULL GROUP BY proposed"
    )
    return {code: (n, n_same) for code, n, n_same in connection.execute(query)}
