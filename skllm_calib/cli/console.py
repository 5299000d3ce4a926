"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

__all__ = ["aligned", "note", "progress_wanted", "remark", "say", "wrapped"]

_WIDTH = 92


def say(text: str = "") -> None:
    """Print a result."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print a line that is no result: an error, a warning."""
    print(text, file=sys.stderr, flush=True)


def remark(args: argparse.Namespace, text: str) -> None:
    """Print a line that ``--quiet`` turns off."""
    if not args.quiet:
        note(text)


def progress_wanted(args: argparse.Namespace) -> int:
    """Return the `verbose` of an estimator: a bar only where somebody watches."""
    return int(not args.quiet and sys.stderr.isatty())


def wrapped(text: str, indent: str = "") -> str:
    """Break a paragraph into lines of a readable length.

    Examples
    --------
    >>> print(wrapped("word " * 20, indent="  "))
      word word word word word word word word word word word word word word word word word word
      word word
    """
    return textwrap.fill(
        " ".join(text.split()), _WIDTH, initial_indent=indent, subsequent_indent=indent
    )


def aligned(rows: Sequence[Sequence[str]], remarks: Sequence[str] = ()) -> str:
    """Lay out rows of cells in columns: the first to the left, the others to the right.

    Remarks, one a row, follow behind the last column.

    Examples
    --------
    >>> print(aligned([["", "raw", "calibrated"], ["log-loss", "0.602", "0.503"]]))
                  raw  calibrated
      log-loss  0.602       0.503
    """
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    lines = []
    for row, behind in zip(rows, remarks or [""] * len(rows), strict=True):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"  {'  '.join(cells)}   {behind}".rstrip())
    return "\n".join(lines)
