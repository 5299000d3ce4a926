"""What the cache and the queue rely on: kinds and versions of files, and the race for them."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace

import pytest

from skllm_calib.utils import sqlite
from skllm_calib.utils.sqlite import Schema, SQLiteFile

MARKED = Schema(
    kind="shopping list",
    maker="ShoppingList",
    parameter="path",
    table="items",
    application_id=77,
    migrations=(("CREATE TABLE items (name TEXT)",),),
)
UNMARKED = replace(
    MARKED,
    kind="note book",
    table="notes",
    application_id=0,
    migrations=(("CREATE TABLE IF NOT EXISTS notes (name TEXT)",),),
)


@pytest.fixture(params=[MARKED, UNMARKED], ids=["marked", "unmarked"])
def file(request, tmp_path):
    return SQLiteFile(tmp_path / "deep" / "file.sqlite", request.param)


def put(file, name):
    with file.writing() as connection:
        connection.execute(f"INSERT INTO {file.schema.table} VALUES (?)", (name,))


def names(file):
    with file.reading() as connection:
        return [name for (name,) in connection.execute(f"SELECT name FROM {file.schema.table}")]


def test_all_or_nothing(file):
    def half():
        with file.writing() as connection:
            connection.execute(f"INSERT INTO {file.schema.table} VALUES ('lost')")
            raise KeyboardInterrupt

    assert not file.path.exists()
    put(file, "kept")
    with pytest.raises(KeyboardInterrupt):
        half()
    put(file, "more")
    assert names(SQLiteFile(file.path, file.schema)) == ["kept", "more"]


def test_a_thread_has_its_own_connection(file):
    put(file, "a")
    seen = []
    thread = threading.Thread(target=lambda: seen.append((file.connect(), names(file))))
    thread.start()
    thread.join()
    assert seen[0][0] is not file.connect()
    assert seen[0][1] == ["a"]


def test_a_file_of_another_kind_is_refused_unchanged(file, tmp_path):
    others = [SQLiteFile(tmp_path / f"{s.application_id}", s) for s in (MARKED, UNMARKED)]
    for other in others:
        put(other, "mine")
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for path in [foreign, *(o.path for o in others if o.schema is not file.schema)]:
        before = path.read_bytes()
        with pytest.raises(ValueError, match=f"SQLite file, but not a {file.schema.kind}: 'path'"):
            SQLiteFile(path, file.schema).connect()
        assert path.read_bytes() == before
    notes = tmp_path / "notes.txt"
    notes.write_text("These are notes. " * 100)
    with pytest.raises(ValueError, match=f"'.*notes.txt' cannot be used as a {file.schema.kind} "):
        SQLiteFile(notes, file.schema).connect()
    assert notes.read_text().startswith("These are notes")


def test_versions(tmp_path, monkeypatch):
    path = tmp_path / "list.sqlite"
    put(SQLiteFile(path, MARKED), "a")
    monkeypatch.setattr(sqlite, "_local", threading.local())
    later = replace(
        MARKED,
        migrations=(*MARKED.migrations, ("ALTER TABLE items ADD COLUMN n INTEGER DEFAULT 3",)),
    )
    found = SQLiteFile(path, later).connect().execute("SELECT * FROM items").fetchall()
    assert found == [("a", 3)]
    monkeypatch.setattr(sqlite, "_local", threading.local())
    with pytest.raises(ValueError, match=r"later release.*version 2; this release reads up to 1"):
        SQLiteFile(path, MARKED).connect()


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_settings_of_a_connection(tmp_path, durable, level):
    connection = SQLiteFile(tmp_path / "f", replace(MARKED, durable=durable)).connect()
    assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_race_for_write_ahead_mode(monkeypatch):
    monkeypatch.setattr(sqlite.time, "sleep", lambda seconds: None)

    class Busy:
        def __init__(self, n, message="database is locked"):
            self.n, self.message = n, message

        def execute(self, query):
            self.n -= 1
            if self.n >= 0:
                raise sqlite3.OperationalError(self.message)

    sqlite._write_ahead(Busy(3))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite._write_ahead(Busy(1_000))
    busy = Busy(3, "disk I/O error")
    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        sqlite._write_ahead(busy)
    assert busy.n == 2
