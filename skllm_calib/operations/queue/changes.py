"""Changes to the tables of a queue; every function runs in the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from typing import Any

from skllm_calib.exceptions import InvalidInput
from skllm_calib.operations.queue.results import Added
from skllm_calib.operations.queue.rows import Classes, Entry, audit_draw, row_id

__all__ = [
    "agree_on_classes",
    "count_added",
    "put_label",
    "put_row",
    "set_setting",
    "setting",
]


def agree_on_classes(connection: sqlite3.Connection, given: Classes | None, path: str) -> Classes:
    """Return the classes of a queue, which are kept with it; those given must be the same."""
    kept = setting(connection, "classes")
    if kept is None:
        if given is None:
            raise InvalidInput(
                f"the queue at {path!r} has no classes yet: pass classes=", "classes"
            )
        set_setting(connection, "classes", given.values)
        return given
    known = Classes(kept)
    if given is not None and given.values != known.values:
        raise InvalidInput(
            f"classes={given.values} differ from those of the queue at {path!r}, {known.values}: "
            "leave them out, or create another queue",
            "classes",
            value=given.values,
        )
    return known


def setting(connection: sqlite3.Connection, name: str) -> Any:
    """Return a setting of the queue, or None."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else json.loads(row[0])


def set_setting(connection: sqlite3.Connection, name: str, value: Any) -> None:
    """Keep a setting of the queue."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))


def put_row(
    connection: sqlite3.Connection, entry: Entry, share: float, replace: bool
) -> tuple[str, bool]:
    """Save one row; return what was done, and whether it is to be reviewed."""
    draw = audit_draw(entry.id)
    inclusion = {"accept": share, "review": 1.0, "reject": 0.0}[entry.action]
    asked = draw < inclusion
    columns = (entry.content, entry.action, entry.proposed, entry.doubt, draw, inclusion, asked)
    found = connection.execute(
        "SELECT number, content FROM entries WHERE id = ?", (entry.id,)
    ).fetchone()
    if found is None:
        connection.execute(
            "INSERT INTO entries (content, action, proposed, doubt, draw, inclusion, asked, id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*columns, entry.id),
        )
        return "new", asked
    number, content = found
    if content == entry.content:
        return "unchanged", asked
    if not replace:
        old, new = json.loads(content), json.loads(entry.content)
        changed = [key for key in new if new[key] != old[key]]
        raise InvalidInput(
            f"the row with id {entry.id!r} is in the queue with another {', '.join(changed)}: give "
            "the new row its own id, or pass replace=True",
            "id",
            value=entry.id,
            way_out="replace",
        )
    connection.execute(
        "UPDATE entries SET content = ?, action = ?, proposed = ?, doubt = ?, draw = ?, "
        "inclusion = ?, asked = ? WHERE number = ?",
        (*columns, number),
    )
    if json.loads(content)["text"] != entry.text:  # they were about something else
        connection.execute("UPDATE labels SET undone = 1 WHERE entry = ?", (number,))
    return "replaced", asked


def count_added(done: Iterable[tuple[str, bool]]) -> Added:
    """Count what `put_row` has done."""
    done = list(done)
    kinds = [kind for kind, _ in done]
    return Added(
        kinds.count("new"),
        kinds.count("unchanged"),
        kinds.count("replaced"),
        done.count(("new", True)),
    )


def put_label(
    connection: sqlite3.Connection,
    classes: Classes,
    *,
    id: Any,
    label: Any,
    reviewer: Any,
    final: bool = False,
) -> bool:
    """Save a reviewer's label of a row; return whether it is new."""
    code, name = classes.code(label), row_id(id)
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise InvalidInput(f"reviewer must be a name, got {reviewer!r}", "reviewer", value=reviewer)
    row = connection.execute("SELECT number FROM entries WHERE id = ?", (name,)).fetchone()
    if row is None:
        raise InvalidInput(f"id {name!r} is not in the queue", "id", value=id)
    said = (row[0], reviewer.strip(), code, int(final))
    known = connection.execute(
        "SELECT entry, reviewer, code, final FROM latest WHERE entry = ? AND reviewer = ?",
        said[:2],
    ).fetchone()
    if known is not None and known[2] == code and known[3] >= said[3]:  # final stays final
        return False
    connection.execute(
        "INSERT INTO labels (entry, reviewer, code, final, created) VALUES (?, ?, ?, ?, ?)",
        (*said, time.time()),
    )
    return True
