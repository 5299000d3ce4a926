from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest
from storage_contract import CacheContract

from skllm_calib import ResponseCache
from skllm_calib.evidence.cache import default_cache_path, resolve_cache


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "deep" / "er" / "replies.sqlite")


class TestSQLite(CacheContract):
    refused = sqlite3.Error

    @pytest.fixture
    def another(self, cache):
        return ResponseCache(cache.path)


def test_nothing_is_made_before_something_is_kept(cache):
    assert cache.get_many(["a"]) == {}
    assert cache.clear() == cache.clear_failures() == len(cache) == 0
    assert not cache.path.parent.exists()


def test_a_file_that_is_no_cache(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, not replies. " * 100)
    with pytest.raises(ValueError, match=r"notes.txt' cannot be used as a response cache"):
        ResponseCache(path).get_many(["a"])
    assert path.read_text().startswith("These are notes")
    with pytest.raises(ValueError, match="'cache' must be a file made by"):
        ResponseCache(tmp_path).get_many(["a"])


def test_a_file_removed_meanwhile(cache):
    cache.set_many({"a": "1"})
    for file in cache.path.parent.iterdir():
        file.unlink()
    assert cache.get_many(["a"]) == {}
    cache.set_many({"a": "2"})
    assert cache.get_many(["a"]) == {"a": "2"}


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "~/.cache/skllm-calib/replies.sqlite"),
        ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/skllm-calib/replies.sqlite"),
        ("darwin", {}, "~/Library/Caches/skllm-calib/replies.sqlite"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/skllm-calib/replies.sqlite"),
        ("linux", {"SKLLM_CALIB_CACHE": "~/mine.sqlite"}, "~/mine.sqlite"),
    ],
)
def test_default_path(monkeypatch, platform, variables, expected):
    for name in ("SKLLM_CALIB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert default_cache_path() == Path(expected).expanduser()
    assert ResponseCache().path == Path(expected).expanduser()


def test_the_parameter_of_an_estimator(tmp_path, cache):
    assert resolve_cache(None) is None
    assert resolve_cache(cache) is cache
    assert resolve_cache("default").path == default_cache_path()
    assert resolve_cache(tmp_path / "x").path == tmp_path / "x"
    with pytest.raises(TypeError, match="cache=3"):
        resolve_cache(3)
