"""Rows and labels from files, line by line, and back."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skllm_calib.exceptions import BadLines
from skllm_calib.utils.files import replacing
from skllm_calib.utils.tables import Table, write_table
from skllm_calib.utils.tables.cells import unguarded

__all__ = ["bad_lines", "read_lines", "write_lines", "write_sheet"]

_SHOWN = 5
_SHEET = ("id", "text", "proposed", "probability", "audit", "reason", "label", "reviewer")

Problem = tuple[int, str]


def bad_lines(path: Any, errors: list[Problem], n_good: int) -> BadLines:
    """Return the error for a file of which some lines could not be used."""
    shown = [f"line {number}: {message}" for number, message in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        shown.append(f"and {len(errors) - _SHOWN} more, see the attribute errors")
    source = f"{str(path)!r} has" if isinstance(path, str | os.PathLike) else "there are"
    message = (
        f"{source} {len(errors)} bad line(s); the {n_good} good one(s) are kept, so that "
        "the file can be read again when it is corrected.\n" + "\n".join(shown)
    )
    return BadLines(message, errors, n_good)


def read_lines(
    path: str | os.PathLike[str] | Iterable[Any], use: Callable[[dict[str, Any]], None]
) -> list[Problem]:
    """Call `use` with every line, and return the numbers of those that it or JSON refuses."""
    errors: list[Problem] = []
    lines = _lines(path) if isinstance(path, str | os.PathLike) else enumerate(path, 1)
    for number, line in lines:
        if isinstance(line, dict):
            try:
                use(line)
            except ValueError as error:
                errors.append((number, str(error)))
        else:
            errors.append((number, line))
    return errors


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the number of each line, and its content or what is wrong with it."""
    is_csv = Path(path).suffix.lower() == ".csv"
    # utf-8-sig: spreadsheets put a mark in front; surrogateescape: one bad byte spoils one line.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield from _csv_lines(file) if is_csv else _json_lines(file)


def _json_lines(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            line.encode()
            content = json.loads(line)
        except UnicodeEncodeError:
            yield number, "not UTF-8"
        except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
            yield number, f"not JSON ({error})"
        else:
            yield number, content if isinstance(content, dict) else "not a JSON object"


def _csv_lines(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.reader(file, strict=True)
    header = next(reader, None)
    missing = [name for name in ("id", "label") if name not in (header or [])]
    if header is None or missing:
        yield 1, f"the header has no column {missing[0]!r}: it must name id and label"
        return
    while True:
        number = reader.line_num + 1  # where the next row begins
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, f"not CSV ({error})"
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield number, f"{len(cells)} cells, but the header has {len(header)}"
        elif _is_utf8(cells):
            yield number, dict(zip(header, map(unguarded, cells), strict=True))
        else:
            yield number, "not UTF-8"


def _is_utf8(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_lines(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL, one after the other; all of them or no file at all."""
    n = 0
    with replacing(path) as fresh, open(fresh, "w", encoding="utf-8", newline="") as file:
        for n, row in enumerate(rows, 1):  # noqa: B007 (the count is returned)
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return n


def write_sheet(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> int:
    """Write waiting rows for a reviewer, who fills in the columns ``label`` and ``reviewer``."""
    lines = []
    for row in rows:
        proba, proposed = row["proba"] or {}, row["label"]
        named = {str(label): p for label, p in proba.items()} or None
        given = {"proposed": proposed, "label": None, "reviewer": None, "proba": named}
        lines.append({**row, **given, "probability": proba.get(proposed)})
    if Path(path).suffix.lower() in (".jsonl", ".ndjson"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return write_lines(path, lines)
    write_table(Table(list(_SHEET), lines), os.fspath(path))
    return len(lines)
