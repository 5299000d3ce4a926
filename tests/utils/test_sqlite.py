"""What the cache and the queue rely on: kinds and versions of files, and the race for them."""

from __future__ import annotations

import _thread
import contextlib
import os
import sqlite3
import threading
import time
from dataclasses import replace

import pytest

from skllm_calib.exceptions import InvalidInput, StorageError
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


class Busy:
    """A connection that refuses a statement some times, and then takes it."""

    def __init__(self, n, code=sqlite3.SQLITE_BUSY):
        self.n, self.code = n, code

    def execute(self, query):
        self.n -= 1
        if self.n >= 0:
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = self.code
            raise error


@pytest.mark.parametrize(
    ("busy", "patience", "left"),
    [
        (Busy(3), 60, -1),
        (Busy(3, sqlite3.SQLITE_BUSY | 1 << 8), 60, -1),  # a kind of busy: recovering
        (Busy(3), -1, 2),
        (Busy(3, sqlite3.SQLITE_IOERR), 60, 2),
    ],
)
def test_waiting_for_others(monkeypatch, busy, patience, left):
    monkeypatch.setattr(sqlite.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(sqlite, "_TIMEOUT", patience)
    with contextlib.nullcontext() if left < 0 else pytest.raises(sqlite3.OperationalError):
        sqlite._insist(busy, "PRAGMA journal_mode = WAL")
    assert busy.n == left


def test_a_writer_that_waits_can_be_interrupted(file):
    put(file, "a")
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, _thread.interrupt_main).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        put(file, "b")
    assert time.monotonic() - start < 2
    other.execute("ROLLBACK")
    other.close()
    put(file, "c")
    assert names(file) == ["a", "c"]


def test_a_file_that_another_process_holds(file, monkeypatch):
    put(file, "a")
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(sqlite, "_TIMEOUT", 0)
    with pytest.raises(StorageError, match=r"file.sqlite' is in use: .*End that process") as caught:
        put(file, "b")
    assert caught.value.path == str(file.path)
    assert names(file) == ["a"]
    other.close()


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_file_that_is_another_one_now(file, tmp_path, what):
    put(file, "old")
    for path in (*file.path.parent.iterdir(),):
        path.unlink()
    if what == "replaced":
        fresh = SQLiteFile(tmp_path / "fresh", file.schema)
        put(fresh, "new")
        fresh.connect().execute("PRAGMA journal_mode = DELETE")
        fresh.path.rename(file.path)
    put(file, "more")
    assert names(file) == (["new", "more"] if what == "replaced" else ["more"])


def fill(file, n=200):
    with file.writing() as connection:
        rows = [("x" * 1000,)] * n
        connection.executemany(f"INSERT INTO {file.schema.table} VALUES (?)", rows)


def damage_pages(path):
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xa5" * (len(content) - 4096 * 2)
    path.write_bytes(content)


def damage_the_schema(path):
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xa5" * 3996
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_pages, damage_the_schema])
def test_a_damaged_file(file, monkeypatch, damage):
    fill(file)
    file.connect().execute("PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(sqlite, "_local", threading.local())
    damage(file.path)
    with pytest.raises(StorageError, match=r"file.sqlite' is damaged .*'sqlite3 FILE .recover'"):
        names(file)


def test_a_file_cut_off(file, monkeypatch):
    fill(file)
    file.connect().execute("PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(sqlite, "_local", threading.local())
    os.truncate(file.path, 10_000)
    with pytest.raises(StorageError, match=r"file.sqlite' is damaged"):
        names(file)


def test_a_full_disk(file):
    put(file, "a")
    file.connect().execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageError, match=r"the disk is full.*What was saved before is kept"):
        fill(file)
    assert names(file) == ["a"]
    put(file, "b")
    assert names(file) == ["a", "b"]


def test_a_full_disk_of_its_own(disks, tmp_path):
    disks.small(tmp_path, "400k")
    file = SQLiteFile(tmp_path / "file.sqlite", MARKED)
    put(file, "a")
    with pytest.raises(StorageError, match="the disk is full"):
        fill(file, 500)
    assert names(file) == ["a"]


@pytest.mark.parametrize("state", ["closed", "in use", "rollback journal"])
def test_a_read_only_disk(disks, tmp_path, monkeypatch, state):
    file = SQLiteFile(tmp_path / "with space?.sqlite", MARKED)
    for name in ("a", "b"):
        put(file, name)
    if state == "rollback journal":
        file.connect().execute("PRAGMA journal_mode = DELETE")
    if state != "in use":
        file.connect().close()
    monkeypatch.setattr(sqlite, "_local", threading.local())
    before = sorted(tmp_path.iterdir())
    assert len(before) == (3 if state == "in use" else 1)
    disks.make_read_only(tmp_path)
    assert names(file) == ["a", "b"]
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(StorageError, match=r"sqlite' cannot be written: it is read-only .*Make it"):
        put(file, "c")
    for path in (tmp_path / "no.sqlite", tmp_path / "new" / "no.sqlite"):
        with pytest.raises(StorageError, match=r"no.sqlite' cannot be created .*another 'path'"):
            put(SQLiteFile(path, MARKED), "c")
    disks.make_writable(tmp_path)
    put(file, "c")
    assert names(file) == ["a", "b", "c"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_only_the_owner_may_read(file):
    umask = os.umask(0o022)
    try:
        put(file, "a")
    finally:
        os.umask(umask)
    found = {path.name: path.stat().st_mode & 0o777 for path in file.path.parent.iterdir()}
    assert found == dict.fromkeys(("file.sqlite", "file.sqlite-wal", "file.sqlite-shm"), 0o600)
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    assert file.path.parent.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_permissions_that_are_there_stay(file):
    file.path.parent.mkdir(parents=True)
    file.path.parent.chmod(0o750)
    file.path.touch()
    file.path.chmod(0o640)
    put(file, "a")
    assert file.path.parent.stat().st_mode & 0o777 == 0o750
    assert {p.stat().st_mode & 0o777 for p in file.path.parent.iterdir()} == {0o640}


def test_what_is_removed_is_gone(file, monkeypatch):
    fill(file)
    reader = sqlite3.connect(file.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute(f"SELECT * FROM {file.schema.table}").fetchone()
    with file.writing() as connection:
        connection.execute(f"DELETE FROM {file.schema.table}")
    monkeypatch.setattr(sqlite, "_TIMEOUT", 0)
    with pytest.raises(StorageError, match=r"another process is reading it. End that process"):
        file.shrink()
    reader.execute("COMMIT")
    file.shrink()
    assert not any(b"xxxx" in path.read_bytes() for path in file.path.parent.iterdir())
    reader.close()


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE items (other)", "CREATE TABLE items (name); PRAGMA application_id = 76"],
)
def test_a_table_of_the_same_name(tmp_path, statement):
    path = tmp_path / "foreign"
    with sqlite3.connect(path) as connection:
        connection.executescript(statement)
    connection.close()
    schema = replace(MARKED, columns=("name",), application_id=0)
    with pytest.raises(InvalidInput, match="SQLite file, but not a shopping list") as caught:
        put(SQLiteFile(path, schema), "a")
    assert (caught.value.parameter, caught.value.value) == ("path", str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", os.devnull):
        with pytest.raises(InvalidInput, match="is a folder or a device, not a shopping list"):
            put(SQLiteFile(path, MARKED), "a")
