"""Text that is laid out for people: paragraphs and columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

__all__ = ["aligned", "dollars", "wrapped"]

_WIDTH = 92


def wrapped(text: str) -> str:
    """Break a paragraph into lines of a readable length."""
    return textwrap.fill(" ".join(text.split()), _WIDTH)


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


def dollars(usd: float) -> str:
    """Write an amount of money: cents, and below a dollar two figures.

    Examples
    --------
    >>> dollars(1234.5), dollars(0.25), dollars(0.000123), dollars(0)
    ('$1,234.50', '$0.25', '$0.00012', '$0.00')
    """
    if usd >= 0.1 or usd <= 0:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}"
