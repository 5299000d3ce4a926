"""What the commands print: results on standard output, everything else on standard error."""

import sys
import textwrap
from collections.abc import Sequence
from types import SimpleNamespace

_WIDTH = 92


def say(text: str = "") -> None:
    """Print a result."""
    known = sys.stdout.encoding or "utf-8"
    print(text.encode(known, "backslashreplace").decode(known), flush=True)


def note(text: str) -> None:
    """Print a line that is no result: an error, a warning."""
    print(text, file=sys.stderr, flush=True)


def remark(args: SimpleNamespace, text: str) -> None:
    """Print a line that ``--quiet`` turns off."""
    if not args.quiet:
        note(text)


def progress_wanted(args: SimpleNamespace) -> int:
    """Return the `verbose` of an estimator: a bar only where somebody watches."""
    return int(not args.quiet and sys.stderr.isatty())


def wrapped(text: str, indent: str = "") -> str:
    """Break a paragraph into lines of a readable length."""
    return textwrap.fill(
        " ".join(text.split()), _WIDTH, initial_indent=indent, subsequent_indent=indent
    )


def aligned(rows: Sequence[Sequence[str]], remarks: Sequence[str] = ()) -> str:
    """Lay out rows of cells in columns, each row with a remark behind its last column.

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
