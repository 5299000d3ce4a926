"""The page on the architecture names the rooms that exist, and all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skllm_calib"

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a checkout")


def rooms():
    return {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}


def test_the_page_describes_every_room():
    page = (ROOT / "docs/architecture.rst").read_text(encoding="utf-8")
    described = {
        name
        for line in re.findall(r"^(``.*``)$", page, re.M)
        for name in re.findall(r"``(\w+)/``", line)
    }
    assert described == rooms()


def test_the_picture_shows_every_room():
    picture = (ROOT / "docs/images/house.svg").read_text(encoding="utf-8")
    assert (
        set(re.findall(r"(\w+)/", " ".join(re.findall(r'class="name">(.*?)<', picture)))) >= rooms()
    )


def test_the_import_rule_covers_every_room():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = " ".join(settings["tool"]["importlinter"]["contracts"][0]["layers"])
    assert set(re.findall(r"skllm_calib\.(\w+)", layers)) >= rooms()


def test_the_root_holds_few_files():
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py", "__main__.py", "_version.py", "backends.py", "calibrators.py",
        "exceptions.py", "persistence.py", "signals.py",
    }  # fmt: skip


def test_no_file_is_too_long():
    long = {
        path.relative_to(PACKAGE).as_posix(): n
        for path in PACKAGE.rglob("*.py")
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long
