"""Tables of rows in files and pipes: the one place where they are read and written."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skllm_calib.exceptions import InvalidInput, MissingDependency
from skllm_calib.utils.files import replacing
from skllm_calib.utils.tables.cells import guarded, label_of, number_of, text_of, unguarded
from skllm_calib.utils.tables.delimited import decode, parse

__all__ = [
    "Table", "check_column", "check_format", "json_row", "kind_of", "read_table", "records_of",
    "row_name", "standard_input", "table_of_bytes", "write_rows", "write_table",
]  # fmt: skip

_PIECE = 100_000  # characters that are written together


@dataclass
class Table:
    """Rows by column name; a missing cell is None.

    Attributes
    ----------
    columns : list of str
        The names, in order.
    rows : list of dict
        The cells of each row by column name.
    own : collection of str
        Columns of ours, whose numbers are shown at 6 significant digits in text files.
    lines : list of str
        Where each row is in its file, such as "line 7"; empty if that says nothing.
    path, digest : str
        The file, and the SHA-256 of its content.
    decimal_comma : bool
        Whether numbers may have a decimal comma.
    """

    columns: list[str]
    rows: list[dict[str, Any]]
    own: Sequence[str] = ()
    lines: list[str] = field(default_factory=list, compare=False)
    path: str = field(default="", compare=False)
    digest: str = field(default="", compare=False)
    decimal_comma: bool = field(default=False, compare=False)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what each row is called in messages, and the row."""
        for i, row in enumerate(self.rows):
            yield self.name(i), row

    def name(self, i: int) -> str:
        """Return what a row is called in messages, by its position."""
        return row_name(i, self.lines[i] if self.lines else "")

    def check(self, name: str) -> None:
        """Raise ValueError if there is no such column, or a cell of it is no text."""
        self.column(name)

    def column(self, name: str, read: Callable[[Any], Any] = text_of) -> list[Any]:
        """Return a column as texts, None where there is nothing; `read` makes more of a cell.

        Raises
        ------
        ValueError
            If there is no such column, or a cell cannot be read; the message names it.
        """
        check_column(self.columns, name)
        out = []
        for i, row in enumerate(self.rows):
            try:
                out.append(read(row.get(name)))
            except TypeError as e:
                raise ValueError(f"{self.name(i)} {e}, in column {name!r}") from None
        return out

    def labels(self, name: str) -> list[str | None]:
        """Return a column of labels or ids, by the rule of `label_of`."""
        return self.column(name, label_of)

    def numbers(self, name: str, *, decimal_comma: bool = False) -> list[float]:
        """Return a column of numbers, NaN where there is nothing."""
        comma, out = decimal_comma or self.decimal_comma, []
        for i, text in enumerate(self.column(name)):
            try:
                out.append(number_of(text, decimal_comma=comma))
            except ValueError:
                raise ValueError(
                    f"{self.name(i)} has {text!r} in column {name!r}, which is not a number"
                ) from None
        return out


def row_name(i: int, place: str) -> str:
    """Return what a row is called in messages, by its position and its place in the file."""
    return f"row {i + 1}" + (f" ({place})" if place else "")


def check_column(columns: Sequence[str], name: str) -> None:
    """Raise InvalidInput if there is no such column."""
    if name not in columns:
        known = ", ".join(repr(c) for c in columns) or "none at all"
        raise InvalidInput(f"no column {name!r}: the columns are {known}", "column", value=name)


def read_table(path: str | Path, *, sep: str | None = None, encoding: str | None = None) -> Table:
    """Read a table by the extension of its file; ``-`` is standard input, of any kind.

    Raises
    ------
    ValueError
        If the extension is unknown or the content is not of its kind.
    MissingDependency
        For Parquet and Excel files without what reads them.
    """
    path = str(path)
    kind = "" if path == "-" else check_format(path)
    data = standard_input() if path == "-" else Path(path).read_bytes()
    return table_of_bytes(data, path, kind, sep=sep, encoding=encoding)


def table_of_bytes(
    data: bytes, path: str, kind: str, *, sep: str | None, encoding: str | None
) -> Table:
    """Read the content of a file of a kind, "" for standard input."""
    digest = hashlib.sha256(data).hexdigest()
    if kind.endswith(".gz") or (path == "-" and data.startswith(b"\x1f\x8b")):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as e:
            raise ValueError(f"{path!r} is not a whole gzip file: {e}") from e
    found = kind_of(data)
    kind = kind.removesuffix(".gz") or found
    if found in (".parquet", ".xlsx") and kind != found:
        raise ValueError(f"{path!r} holds a {found} file: give it this extension")
    if kind in (".parquet", ".xlsx"):
        table = _read_frame(data, path, kind)
    else:
        text = decode(data, path, encoding)
        if kind in (".csv", ".tsv"):
            columns, cells, lines, sep = parse(
                text, path, sep or ("\t" if kind == ".tsv" else None)
            )
            columns = [unguarded(name) for name in columns]
            rows = [dict(zip(columns, map(unguarded, row), strict=True)) for row in cells]
            table = Table(columns, rows, lines=[f"line {n}" for n in lines])
            table.decimal_comma = sep == ";"
        else:
            table = _read_json(text, path, lines=kind != ".json")
    if len(set(table.columns)) < len(table.columns):
        raise ValueError(f"{path!r} names a column twice: {table.columns}")
    if not table.rows:
        raise ValueError(f"{path!r} holds no rows")
    table.path, table.digest = path, digest
    return table


def standard_input() -> bytes:
    """Return all of standard input."""
    stream = getattr(sys.stdin, "buffer", None)
    data: bytes = stream.read() if stream is not None else sys.stdin.read().encode()
    if not data:
        raise ValueError("standard input is empty, or was read already")
    return data


def kind_of(data: bytes) -> str:
    """Tell of which kind a file is by how it begins."""
    if data.startswith((b"PAR1", b"PK\x03\x04")):
        return ".parquet" if data.startswith(b"PAR1") else ".xlsx"
    return {b"{": ".jsonl", b"[": ".json"}.get(data.lstrip()[:1], ".csv")


def check_format(path: str) -> str:
    """Return the extension of a file, if it can be read and written; ``-`` is written as CSV."""
    if path == "-":
        return ".csv"
    name = Path(path).name.lower()
    found = re.search(r"(\.(csv|tsv|json|jsonl|ndjson)(\.gz)?|\.parquet|\.xlsx)$", name)
    if found is None:
        raise ValueError(
            f"{path!r} has the extension {Path(path).suffix or 'none'}: those that work are .csv, "
            ".tsv, .json, .jsonl, .ndjson (and these with .gz), .parquet, .xlsx"
        )
    needed = {".parquet": ("pyarrow", "tables"), ".xlsx": ("openpyxl", "cli")}
    if found[0] in needed:  # better now than after an hour of asking
        module, extra = needed[found[0]]
        try:
            __import__(module)
        except ImportError as e:
            raise MissingDependency(
                f"{found[0]} files need {module}: pip install 'skllm-calib[{extra}]'"
            ) from e
    return found[0]


def _read_json(text: str, path: str, *, lines: bool) -> Table:
    """Read an array of objects, or an object on each line."""
    rows, where = [], []
    parts = _split_lines(text) if lines else [(0, text)]
    for number, part in parts:
        place = f"{path!r}, line {number}" if number else repr(path)
        found = _json(part, place)
        if not lines and not isinstance(found, list):
            raise ValueError(f"{place} is not an array of objects with columns")
        for row in [found] if lines else found:
            rows.append(_json_row(row, place))
            where += [f"line {number}"] if number else []
    return Table(list(dict.fromkeys(name for row in rows for name in row)), rows, lines=where)


def json_row(line: str, path: str, number: int) -> dict[str, Any]:
    """Read the object on a line."""
    place = f"{path!r}, line {number}"
    return _json_row(_json(line, place), place)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{place} is not JSON: {e}") from e


def _json_row(found: Any, place: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{place} is not an object with columns")
    return found


def _split_lines(text: str) -> list[tuple[int, str]]:
    return [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f"an object names a column twice: {[name for name, _ in pairs]}")
    return found


def _read_frame(data: bytes, path: str, kind: str) -> Table:
    import pandas  # noqa: PLC0415 (optional)

    source = io.BytesIO(data)
    try:
        if kind == ".parquet":
            frame = pandas.read_parquet(source, dtype_backend="pyarrow")  # integers stay so
        else:
            frame = pandas.read_excel(source, header=None, dtype=object, keep_default_na=False)
    except Exception as e:  # whatever the readers raise for a file that is broken
        name = "a Parquet file" if kind == ".parquet" else "an Excel file"
        raise ValueError(f"{path!r} is not {name}: {e}") from e
    if kind == ".parquet":
        return Table([str(name) for name in frame.columns], records_of(frame))
    frame = frame.astype(object).where(frame.notna(), None)
    return _of_sheet([[None if c == "" else c for c in row] for row in frame.to_numpy().tolist()])


def records_of(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame, None where there is nothing."""
    frame = frame.astype(object).where(frame.notna(), None)
    rows: list[dict[str, Any]] = frame.rename(columns=str).to_dict("records")
    return rows


def _of_sheet(cells: list[list[Any]]) -> Table:
    """Take the first row for the header; leave out rows and columns that hold nothing."""
    columns = [text_of(cell) or "" for cell in cells[0]] if cells else []
    used = [k for k, name in enumerate(columns) if name or any(row[k] for row in cells)]
    kept = [(n, row) for n, row in enumerate(cells[1:], 2) if any(c is not None for c in row)]
    return Table(
        [columns[k] for k in used],
        [{columns[k]: row[k] for k in used} for _, row in kept],
        lines=[f"row {n} of the sheet" for n, _ in kept],
    )


# -- writing ---------------------------------------------------------------------------------------


def write_table(table: Table, path: str | Path) -> None:
    """Write a file, by its extension; one that exists is replaced at once or not at all."""
    write_rows(path, table.columns, table.rows, own=table.own)


def write_rows(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    own: Sequence[str] = (),
) -> None:
    """Write rows as they come, as :func:`write_table`; Parquet and Excel files need all of them."""
    path = str(path)
    kind = check_format(path)
    if kind in (".parquet", ".xlsx"):
        table = Table(list(columns), [dict(row) for row in rows], own=own)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            _write_frame(table, fresh, kind)
        return
    if kind.startswith((".csv", ".tsv")):
        sep, piece = "\t" if kind.startswith(".tsv") else ",", 0 if path == "-" else _PIECE
        texts = _as_csv(columns, rows, set(own), sep, piece)
    else:
        texts = _as_json(columns, rows, lines=kind.removesuffix(".gz") != ".json")
    pieces = (text.encode("utf-8", "backslashreplace") for text in texts)
    if path == "-":
        _to_standard_output(pieces)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh, open(fresh, "wb") as file:
        if not kind.endswith(".gz"):
            file.writelines(pieces)
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            packed.writelines(pieces)


def _as_csv(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    own: Collection[str],
    sep: str,
    piece: int,
) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sep, lineterminator="\n")
    # Before Python 3.13 a lone carriage return is not quoted, and would end the line.
    quoting = csv.writer(out, delimiter=sep, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(map(guarded, columns))
    for row in rows:
        cells = [guarded(_plain(row.get(name), short=name in own)) for name in columns]
        broken = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoting if broken else writer).writerow(cells)
        if out.tell() > piece:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def _plain(cell: Any, *, short: bool = False) -> Any:
    if isinstance(cell, dict | list):
        return json.dumps(cell, ensure_ascii=False, default=_plain)
    if isinstance(cell, bytes):
        return cell.hex()
    if short and isinstance(cell, float):
        return float(f"{cell:.6g}")
    return cell


def _as_json(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, lines: bool
) -> Iterator[str]:
    between = "" if lines else "["
    for row in rows:
        text = json.dumps(
            {name: row.get(name) for name in columns},
            ensure_ascii=False,
            default=lambda c: c.hex() if isinstance(c, bytes) else str(c),
        )
        yield f"{text}\n" if lines else f"{between}{text}"
        between = ",\n "
    if not lines:
        yield "]\n" if between != "[" else "[]\n"


def _to_standard_output(pieces: Iterable[bytes]) -> None:
    stream = getattr(sys.stdout, "buffer", None)
    sys.stdout.flush()
    for piece in pieces:
        if stream is None:
            sys.stdout.write(piece.decode())
        else:
            stream.write(piece)
            stream.flush()


def _write_frame(table: Table, path: Path, kind: str) -> None:
    if kind == ".xlsx":
        _write_excel(table, path)
        return
    import pandas  # noqa: PLC0415 (optional)

    frame = pandas.DataFrame(table.rows, columns=table.columns, dtype=object)
    for name in table.columns:
        cells = [_written(cell) for cell in frame[name]]
        kinds = {type(cell) for cell in cells if cell is not None}
        if kinds == {int, float}:
            cells = [None if cell is None else float(cell) for cell in cells]
        elif len(kinds) > 1:
            cells = [text_of(cell) for cell in cells]
        frame[name] = pandas.Series(cells, dtype=object)
    frame.to_parquet(path, index=False)


def _write_excel(table: Table, path: Path) -> None:
    import openpyxl  # noqa: PLC0415 (optional)
    from openpyxl.cell.cell import (  # noqa: PLC0415 (optional)
        ILLEGAL_CHARACTERS_RE,
        WriteOnlyCell,
    )

    cells = [[_written(_plain(row.get(name))) for name in table.columns] for row in table.rows]
    for i, row in enumerate(cells):
        for name, cell in zip(table.columns, row, strict=True):
            if isinstance(cell, str) and len(cell) > 32_767:
                raise ValueError(
                    f"{table.name(i)} has {len(cell):,} characters in column {name!r}, and Excel "
                    "holds 32,767: write .csv, .jsonl or .parquet"
                )
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")

    def shown(cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell
        made = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("\ufffd", cell))
        made.data_type = "s"  # '=1+1' is a text too
        return made

    for row in [table.columns, *cells]:
        sheet.append([shown(cell) for cell in row])
    book.save(path)


def _written(cell: Any) -> Any:
    """Return a cell that any file can hold: no half of a surrogate pair."""
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell
