"""Tables of rows in files: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skllm_calib.exceptions import MissingDependency
from skllm_calib.utils.files import replacing

__all__ = ["Table", "check_format", "read_table", "to_csv", "write_table"]


@dataclass(frozen=True)
class Table:
    """Rows by column name; a missing cell is None.

    Attributes
    ----------
    columns : list of str
        The names, in order.
    rows : list of dict
        The cells of each row by column name.
    """

    columns: list[str]
    rows: list[dict[str, Any]]

    def column(self, name: str) -> list[str | None]:
        """Return a column as texts, None where there is nothing.

        Raises
        ------
        ValueError
            If there is no such column; the message names those that there are.
        """
        if name not in self.columns:
            known = ", ".join(repr(c) for c in self.columns) or "none at all"
            raise ValueError(f"no column {name!r}: the columns are {known}")
        return [_as_text(row.get(name)) for row in self.rows]


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a file, by its extension.

    Parameters
    ----------
    path : str or path-like
        A ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file; texts in UTF-8.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If the extension is unknown or the content is not of its kind.
    MissingDependency
        For Parquet without pyarrow.
    """
    file = Path(path)
    kind = check_format(file)
    try:
        table = _READERS[kind](file)
    except UnicodeDecodeError as e:
        raise ValueError(
            f"{str(path)!r} is not UTF-8 text ({e.reason} at byte {e.start}): save it as UTF-8"
        ) from e
    if not table.rows:
        raise ValueError(f"{str(path)!r} holds no rows")
    return table


def write_table(table: Table, path: str | os.PathLike[str]) -> None:
    """Write a file, by its extension; one that exists is replaced at once or not at all."""
    file = Path(path)
    kind = check_format(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as fresh:
        _WRITERS[kind](table, fresh)


def check_format(path: str | os.PathLike[str]) -> str:
    """Return the extension of a file, if it can be read and written."""
    extension = Path(path).suffix.lower()
    if extension not in _READERS:
        raise ValueError(
            f"{str(path)!r} has the extension {extension or 'none'}: those that work are "
            f"{', '.join(_READERS)}"
        )
    if extension == ".parquet":
        _pyarrow()  # better now than after an hour of asking
    return extension


def to_csv(table: Table, delimiter: str = ",") -> str:
    """Write a table as one text."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_cell(row.get(name)) for name in table.columns] for row in table.rows)
    return out.getvalue()


def _as_text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, str) else str(value)


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


def _read_delimited(path: Path, delimiter: str) -> Table:
    csv.field_size_limit(2**31 - 1)  # a text may be a whole document
    with open(path, encoding="utf-8-sig", newline="") as f:
        reader = csv.reader(f, delimiter=delimiter)
        try:
            columns = next(reader, [])
            if len(set(columns)) < len(columns):
                raise ValueError(f"{str(path)!r} names a column twice: {columns}")
            rows = []
            for cells in reader:
                if len(cells) > len(columns):
                    raise ValueError(
                        f"{str(path)!r}, line {reader.line_num}: {len(cells)} cells, but the "
                        f"header names {len(columns)} columns (is a text with a comma unquoted?)"
                    )
                if cells:
                    short = [""] * (len(columns) - len(cells))
                    rows.append(dict(zip(columns, cells + short, strict=True)))
        except csv.Error as e:
            raise ValueError(f"{str(path)!r}, line {reader.line_num}: {e}") from e
    return Table(columns, rows)


def _read_json_lines(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    with open(path, encoding="utf-8-sig") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as e:
                raise ValueError(f"{str(path)!r}, line {number} is not JSON: {e}") from e
            if not isinstance(row, dict):
                raise ValueError(f"{str(path)!r}, line {number} is not an object with columns")
            rows.append(row)
    return Table(list(dict.fromkeys(name for row in rows for name in row)), rows)


def _write_json_lines(table: Table, path: Path) -> None:
    with open(path, "w", encoding="utf-8") as f:
        for row in table.rows:
            known = {name: row.get(name) for name in table.columns}
            f.write(json.dumps(known, ensure_ascii=False, default=str) + "\n")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet  # noqa: PLC0415 (optional)
    except ImportError as e:
        raise MissingDependency(
            "Parquet files need pyarrow: pip install 'skllm-calib[tables]'"
        ) from e
    return pyarrow


def _read_parquet(path: Path) -> Table:
    pyarrow = _pyarrow()
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as e:
        raise ValueError(f"{str(path)!r} is not a Parquet file: {e}") from e
    return Table(list(table.column_names), table.to_pylist())


def _write_parquet(table: Table, path: Path) -> None:
    pyarrow = _pyarrow()
    arrays = {}
    for name in table.columns:
        cells: Sequence[Any] = [row.get(name) for row in table.rows]
        try:
            arrays[name] = pyarrow.array(cells)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # cells of several types
            arrays[name] = pyarrow.array([_as_text(cell) for cell in cells])
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def _delimited_writer(delimiter: str) -> Callable[[Table, Path], None]:
    def write(table: Table, path: Path) -> None:
        path.write_text(to_csv(table, delimiter), encoding="utf-8", newline="")

    return write


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": lambda path: _read_delimited(path, ","),
    ".tsv": lambda path: _read_delimited(path, "\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
_WRITERS: dict[str, Callable[[Table, Path], None]] = {
    ".csv": _delimited_writer(","),
    ".tsv": _delimited_writer("\t"),
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".parquet": _write_parquet,
}
