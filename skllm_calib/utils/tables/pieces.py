"""Tables that do not fit in memory: their rows are read from the file each time they are needed."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from skllm_calib.utils.tables.cells import text_of, unguarded
from skllm_calib.utils.tables.delimited import encoding_of, parse_lines
from skllm_calib.utils.tables.files import (
    Table,
    check_column,
    check_format,
    json_row,
    kind_of,
    records_of,
    row_name,
    standard_input,
    table_of_bytes,
)

__all__ = ["TableFile", "open_table"]

_BATCH = 1_000  # rows of a Parquet file that are read together
_CHUNK = 1 << 20  # bytes

Rows = Iterator[tuple[str, dict[str, Any]]]
"""The place of each row in its file, such as "line 7", and its cells by column name."""


class TableFile:
    """A table in a file.

    Attributes
    ----------
    columns : list of str
        The names, in order.
    n_rows : int
        How many rows there are.
    path, digest : str
        The file, and the SHA-256 of its content.
    """

    def __init__(
        self, path: str, digest: str, columns: list[str], n_rows: int, read: Callable[[], Rows]
    ) -> None:
        self.path, self.digest, self.columns, self.n_rows = path, digest, columns, n_rows
        self._read = read

    def records(self) -> Rows:
        """Yield what each row is called in messages, and the row."""
        for i, (place, row) in enumerate(self._read()):
            yield row_name(i, place), row

    def check(self, name: str) -> None:
        """Raise ValueError if there is no such column, or a cell of it is no text."""
        check_column(self.columns, name)
        for row, cells in self.records():
            try:
                text_of(cells.get(name))
            except TypeError as e:
                raise ValueError(f"{row} {e}, in column {name!r}") from None


def open_table(
    path: str | Path, *, sep: str | None = None, encoding: str | None = None
) -> Table | TableFile:
    """Open a table as :func:`read_table` reads it, and as strictly, but leave its rows in the file.

    A JSON array, a sheet, and a text that is not of the encoding given, or not UTF-8, are read
    whole.
    """
    path = str(path)
    kind = "" if path == "-" else check_format(path)
    data = standard_input() if path == "-" else None

    def raw(unpack: bool = False) -> IO[bytes]:
        source = io.BytesIO(data) if data is not None else None
        if unpack:
            return cast(IO[bytes], gzip.GzipFile(None if source else path, "rb", fileobj=source))
        return source or open(path, "rb")

    try:
        file = _open(raw, path, kind, sep, encoding)
    except (LookupError, UnicodeError):
        file = None  # read whole, which says what is wrong, or finds another encoding
    if file is not None:
        return file
    with raw() as opened:
        return table_of_bytes(opened.read(), path, kind, sep=sep, encoding=encoding)


def _open(
    raw: Callable[..., IO[bytes]], path: str, kind: str, sep: str | None, encoding: str | None
) -> TableFile | None:
    """Open a file whose rows can be read one after the other; None for another."""
    with raw() as file:
        packed = kind.endswith(".gz") or (not kind and file.read(2) == b"\x1f\x8b")

    content = partial(raw, packed)
    try:
        with content() as file:
            head = file.read(_CHUNK)
        found = kind_of(head)
        kind = kind.removesuffix(".gz") or found
        if kind == found == ".parquet":
            with suppress(Exception):  # whatever the readers raise for a file that is broken
                return _checked(path, raw, lambda: _parquet(content))
            return None
        if kind not in (".csv", ".tsv", ".jsonl", ".ndjson") or found in (".parquet", ".xlsx"):
            return None
        known = encoding or encoding_of(head) or "utf-8"

        def lines(newline: str) -> Iterator[str]:
            with io.TextIOWrapper(content(), known, newline=newline) as text:
                yield next(text, "").removeprefix("\ufeff")
                yield from text

        if kind in (".csv", ".tsv"):
            sep = sep or ("\t" if kind == ".tsv" else None)
            return _checked(path, raw, lambda: _delimited(lines(""), path, sep))
        return _checked(path, raw, lambda: _json_lines(lines("\n"), path))
    except (EOFError, gzip.BadGzipFile) as e:
        raise ValueError(f"{path!r} is not a whole gzip file: {e}") from e


def _checked(path: str, raw: Callable[[], IO[bytes]], read: Callable[[], Rows]) -> TableFile:
    """Read a file once, for what must be known before its rows are used."""
    n_rows = 0
    columns: dict[str, None] = {}
    for _, row in read():
        n_rows += 1
        if not row.keys() <= columns.keys():
            columns |= dict.fromkeys(row)
    if not n_rows:
        raise ValueError(f"{path!r} holds no rows")
    digest = hashlib.sha256()
    with raw() as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return TableFile(path, digest.hexdigest(), list(columns), n_rows, read)


def _delimited(lines: Iterator[str], path: str, sep: str | None) -> Rows:
    names, rows, _ = parse_lines(lines, path, sep)
    columns = [unguarded(name) for name in names]
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path!r} names a column twice: {columns}")
    for line, cells in rows:
        yield f"line {line}", dict(zip(columns, map(unguarded, cells), strict=True))


def _json_lines(lines: Iterator[str], path: str) -> Rows:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", json_row(line, path, number)


def _parquet(content: Callable[[], IO[bytes]]) -> Rows:
    import pandas  # noqa: PLC0415 (optional)
    import pyarrow  # noqa: PLC0415 (optional)
    from pyarrow import parquet  # noqa: PLC0415 (optional)

    with content() as file:
        opened = parquet.ParquetFile(file)
        if len(set(names := opened.schema_arrow.names)) < len(names):
            raise ValueError(f"a column is named twice: {names}")
        for batch in opened.iter_batches(_BATCH):
            table = pyarrow.Table.from_batches([batch])
            for row in records_of(table.to_pandas(types_mapper=pandas.ArrowDtype)):
                yield "", row
