"""Text files of cells: their encoding, their separator, their quotes, their lines.

The parser is Python's: pandas fills rows that lack cells, and does not tell lines.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator
from itertools import chain, islice

from skllm_calib.exceptions import InvalidInput

__all__ = ["decode", "encoding_of", "parse", "parse_lines"]

_BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
_HEAD = 100_000  # characters that show what the separator is
_LINE_END = re.compile(r"\r\n|\r|\n")


def decode(data: bytes, path: str, encoding: str | None = None) -> str:
    """Return the text of a file.

    Without `encoding` it is what a byte order mark says, else UTF-8, else Windows-1252 where not
    one character of the file is UTF-8 beyond ASCII.
    """
    encoding = encoding or encoding_of(data[:200])
    try:
        return data.decode(encoding or "utf-8").removeprefix("\ufeff")
    except LookupError:
        raise InvalidInput(
            f"encoding={encoding!r} is unknown", "encoding", value=encoding
        ) from None
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        where = f"{path!r}, line {line}: byte 0x{data[e.start]:02x} is not {encoding or 'UTF-8'}"
        if encoding is None and data.decode("utf-8", "ignore").isascii():
            try:
                text = data.decode("cp1252")
            except UnicodeDecodeError:
                pass
            else:
                warnings.warn(
                    f"{path!r} is not UTF-8 and was read as Windows-1252: pass encoding= if that "
                    "is wrong",
                    UserWarning, stacklevel=2,
                )  # fmt: skip
                return text
        raise InvalidInput(
            f"{where} text: pass encoding='cp1252' or another, or save the file as UTF-8",
            "encoding",
            value=encoding,
        ) from None


def encoding_of(head: bytes) -> str | None:
    """Return the encoding that the first bytes of a file show, or None."""
    if found := next((name for bom, name in _BOMS.items() if head.startswith(bom)), None):
        return found
    if b"\0" in head[:200]:
        return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
    return None


def parse(
    text: str, path: str, sep: str | None = None
) -> tuple[list[str], list[list[str]], list[int], str]:
    """Return the header, the rows, the line on which each row begins, and the separator.

    Raises
    ------
    ValueError
        For a quote that is not closed, rows with too many or too few cells, columns of one name;
        the message names the line.
    """
    columns, records, sep = parse_lines(io.StringIO(text, newline=""), path, sep)
    rows = list(records)
    return columns, [cells for _, cells in rows], [line for line, _ in rows], sep


def parse_lines(
    lines: Iterator[str], path: str, sep: str | None = None
) -> tuple[list[str], Iterator[tuple[int, list[str]]], str]:
    """Return the header, what yields each row with its line, and the separator.

    As :func:`parse`; the lines, with their ends, are read as the rows are.
    """
    head, size = [], 0
    for line in lines:
        head.append(line)
        if (size := size + len(line)) >= _HEAD:
            break
    skipped = 0
    if head and (found := re.fullmatch(r"sep=(.)(?:\r\n|\r|\n)", head[0])):  # Excel's own way
        sep, skipped = sep or found[1], 1
    sep = sep or _separator("".join(head)[:_HEAD])
    records = _records(chain(head[skipped:], lines), path, sep, skipped)
    _, columns = next(records, (0, []))

    def rows() -> Iterator[tuple[int, list[str]]]:
        for line, cells in records:
            if len(cells) != len(columns):
                raise InvalidInput(
                    f"{path!r}, line {line}: {len(cells)} cells, but the header names "
                    f"{len(columns)} columns, with {sep!r} between them (is a text with {sep!r} "
                    "unquoted? pass sep= for another separator)",
                    "sep",
                    value=sep,
                )
            yield line, cells

    return columns, rows(), sep


def _records(
    lines: Iterator[str], path: str, sep: str, skipped: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each record that has any, and the line where it begins."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    csv.field_size_limit(2**31 - 1)  # a text may be a whole document
    reader, start = csv.reader(noted(), delimiter=sep), skipped + 1
    for cells in reader:
        raw = "".join(taken)
        taken.clear()
        if '"' in raw:
            _check_quotes(raw, path, sep, start - 1)
        if cells:
            yield start, cells
        start = reader.line_num + skipped + 1


def _separator(text: str) -> str:
    """Find the separator: the one that splits the first rows alike, into the most cells."""

    def fit(sep: str) -> tuple[bool, int]:
        first = csv.reader(io.StringIO(text, newline=""), delimiter=sep)
        counts = [len(cells) for cells in islice(filter(None, first), 5)] or [1]
        return min(counts) == max(counts) > 1, counts[0]

    return max(",;\t|", key=fit)  # the comma, if several do


def _check_quotes(text: str, path: str, sep: str, skipped: int) -> None:
    """Refuse a quote that opens a cell and is not closed at its end.

    A quote that opens on one line and is followed by text where it closes on another has most
    likely swallowed rows; on one line it is only odd, and read as everywhere.
    """
    end = re.escape(sep) + r"\r\n"
    opened = re.compile(rf'(?:(?<=[{end}])|\A)"([^"]*+(?:""[^"]*+)*+)("?)([^{end}]*+)')
    for cell in opened.finditer(text):
        if not cell[2] or (cell[3] and _LINE_END.search(cell[1])):
            line = len(_LINE_END.findall(text, 0, cell.start())) + skipped + 1
            raise ValueError(
                f"{path!r}, line {line}: a quote opens a cell here and is not closed at its end; "
                'close it, or write the text as """..."" if the quote belongs to it'
            )
