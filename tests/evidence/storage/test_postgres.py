"""The contract of a cache, and what only PostgreSQL can do: on a real server."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from urllib.parse import quote

import numpy as np
import pytest
from storage_contract import CacheContract, ClaimsContract, read

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.evidence.cache import default_cache_path, resolve_cache
from skllm_calib.evidence.storage import postgres_database
from skllm_calib.evidence.workers import Worker
from skllm_calib.exceptions import InvalidInput, MissingDependency, StorageError


@pytest.fixture
def cache(postgres_server):
    return ResponseCache(postgres_server.new_address())


@pytest.mark.cluster
class TestPostgres(CacheContract, ClaimsContract):
    refused = Exception

    @pytest.fixture
    def another(self, cache):
        return ResponseCache(f"{cache.path}&application_name=another")  # a connection of its own


@pytest.mark.cluster
def test_caches_in_one_database_know_nothing_of_each_other(postgres_server, cache):
    other = ResponseCache(postgres_server.new_address())
    cache.set_many({"a": "1"})
    assert other.get_many(["a"]) == {}
    assert Worker(other, read).claim(["b"])[1] == Worker(cache, read).claim(["b"])[1] == ["b"]


@pytest.mark.cluster
def test_tables_that_are_removed_meanwhile(cache):
    cache.set_many({"a": '"1"'})
    worker = Worker(cache, read)
    worker.claim(["a", "b"])
    run(cache, "DROP TABLE skllm_calib_replies, skllm_calib_claims, skllm_calib_owners")
    assert cache.get_many(["a"]) == {}
    worker.keep("b", '"2"')
    worker.release()
    assert cache.get_many(["a", "b"]) == {"b": '"2"'}


@pytest.mark.cluster
def test_a_server_that_crashes_and_comes_back(postgres_server, cache, monkeypatch):
    monkeypatch.setattr(postgres_database, "_PAUSE", 0.05)
    worker = Worker(cache, read)
    worker.claim(["a", "b", "c"])
    worker.keep("a", '"1"')
    postgres_server.stop()
    back = threading.Timer(0.5, postgres_server.start)
    back.start()
    worker.keep("b", '"2"')  # waits for it
    back.join()
    assert Worker(cache, read).claim(["c"]) == ({}, ["c"])  # a lost connection holds nothing
    assert worker.claim(["b", "d"]) == ({"b": "2"}, ["d"])
    worker.release()
    assert cache.storage.change("n", lambda n: "1") == "1"


@pytest.mark.cluster
def test_a_server_that_does_not_come_back(postgres_server, cache, monkeypatch):
    cache.set_many({"a": "1"})
    monkeypatch.setattr(postgres_database, "_PATIENCE", 0)
    postgres_server.stop()
    try:
        with pytest.raises(StorageError, match="cannot be reached") as error:
            cache.get_many(["a"])
    finally:
        postgres_server.start()
    assert error.value.path == cache.path
    assert cache.get_many(["a"]) == {"a": "1"}


@pytest.mark.cluster
def test_what_workers_share_is_changed_once_or_an_error(cache):
    cache.set_many({})
    calls = []

    def cut(value):
        calls.append(value)
        pid = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != "
        run(cache, f"{pid} pg_backend_pid() AND application_name = 'skllm-calib'")
        return "1"

    with pytest.raises(StorageError):
        cache.storage.change("n", cut)
    assert cache.storage.change("n", lambda value: f"{value}") == "None"
    assert len(calls) == 1


@pytest.mark.cluster
def test_a_transaction_that_was_in_the_way_of_another(cache):
    from psycopg.errors import DeadlockDetected

    database, calls = postgres_database.Database(cache.path), []

    def change(connection):
        calls.append(connection)
        if len(calls) % 2:
            raise DeadlockDetected("deadlock detected")
        return "done"

    assert database.transact(change) == "done"
    with pytest.raises(StorageError, match="is in use"):
        database.transact(change, once=True)
    assert len(calls) == 3


@pytest.mark.cluster
def test_a_user_who_may_only_read(cache):
    cache.set_many({"a": '"1"'})
    schema = cache.path.rpartition("%3D")[2]
    run(cache, "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN others THEN END $$")
    run(cache, f"GRANT USAGE ON SCHEMA {schema} TO reader")
    run(cache, f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    mine = ResponseCache(cache.path.replace("//test@", "//reader@"))
    assert mine.get_many(["a"]) == {"a": '"1"'}
    assert not mine.remove_earlier(["a"], time.time())
    with pytest.raises(StorageError, match="cannot be written"):
        Worker(mine, read).claim(["b"])
    with pytest.raises(StorageError, match="cannot be written"):
        mine.set_many({"b": "2"})


@pytest.mark.cluster
def test_ctrl_c_while_another_holds_a_text(cache):
    cache.storage.change("n", lambda value: "1")
    asked, go = threading.Event(), threading.Event()

    def hold():
        import psycopg

        with psycopg.connect(cache.path) as connection:
            connection.execute("UPDATE skllm_calib_shared SET value = '5'")
            asked.set()
            go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    asked.wait(10)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        cache.storage.change("n", lambda value: "2")
    assert time.monotonic() - began < 2
    go.set()
    holder.join()
    assert cache.storage.change("n", lambda value: f"{value}!") == "5!"


@pytest.mark.cluster
def test_a_classifier_with_a_database(cache, counted):
    backend = counted()
    clf = LLMClassifier(backend, classes=["ham", "spam"], cache=cache.path)
    first = clf.predict_proba(["a", "b", "a"])
    np.testing.assert_array_equal(clf.predict_proba(["a", "b", "a"]), first)
    assert sum(backend.asked.values()) == 2


def test_addresses():
    address = "postgresql://me@db.example:5433/replies?sslmode=require"
    cache = ResponseCache(address, keep_failures=True)
    assert cache.path == address
    assert repr(cache) == f"ResponseCache({address!r}, keep_failures=True)"
    assert pickle.loads(pickle.dumps(cache)) == cache
    assert resolve_cache("postgres://db/x").path == "postgres://db/x"


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:secret@db/x", "postgres://db/x?password=secret&user=me"],
)
def test_a_password_stays_outside(address, monkeypatch):
    with pytest.raises(InvalidInput, match="PGPASSWORD") as error:
        ResponseCache(address)
    assert error.value.parameter == "cache"
    assert "secret" not in f"{error.value} {error.value.value}"
    monkeypatch.setenv("SKLLM_CALIB_CACHE", address)
    with pytest.raises(InvalidInput):
        ResponseCache()


def test_the_environment_may_name_a_database(monkeypatch):
    monkeypatch.setenv("SKLLM_CALIB_CACHE", "postgresql://db/x")
    assert ResponseCache().path == default_cache_path() == "postgresql://db/x"


def test_a_server_that_is_not_there(tmp_path):
    pytest.importorskip("psycopg")
    cache = ResponseCache(f"postgresql:///x?host={quote(str(tmp_path), safe='')}")
    with pytest.raises(StorageError, match="cannot be reached"):
        cache.get_many(["a"])
    with pytest.raises(InvalidInput, match="is no address of a database"):
        ResponseCache("postgresql://db/x?colour=red").get_many(["a"])


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependency, match=r"skllm-calib\[postgres\]"):
        ResponseCache("postgresql://db/x").get_many(["a"])


def run(cache, statement):
    import psycopg

    with psycopg.connect(cache.path, autocommit=True) as connection:
        connection.execute(statement)
