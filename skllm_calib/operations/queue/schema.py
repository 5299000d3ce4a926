"""The tables of a queue, and the version of its file."""

from __future__ import annotations

from skllm_calib.utils.sqlite import Schema

__all__ = ["SCHEMA"]

SCHEMA = Schema(
    kind="review queue",
    maker="ReviewQueue",
    parameter="path",
    table="entries",
    application_id=0x534B4351,  # "SKCQ"
    durable=True,  # a reply of a model can be had again; an hour of a person's work cannot
    migrations=(
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
            # The latest word of each reviewer; the other columns come from the row of the MAX.
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
    ),
)
