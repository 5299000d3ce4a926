"""What cells of a table mean: as text, as a label or an id, as a number.

One rule for labels and ids, wherever they come from: the text without spaces around it; a whole
number is written without a decimal point, so 1, 1.0 and "1 " are the label 1, while 007 stays 007;
true and false, however they are written, are the labels True and False.
"""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["guarded", "label_of", "number_of", "text_of", "unguarded", "unpaired"]

_WHOLE = re.compile(r"([+-]?\d+)\.0+")
# Some spreadsheets skip a line break, and read the wide forms of East Asian keyboards.
_SIGN = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_FORMULA, _GUARDED = re.compile(f"'*{_SIGN}"), re.compile(f"'+{_SIGN}")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+)")


def text_of(cell: Any) -> str | None:
    """Return a cell as text; None where there is nothing.

    Raises
    ------
    TypeError
        For what is neither text nor a plain value: its Python form would be no text of the user's.
    """
    if isinstance(cell, str) or cell is None:
        return cell
    if hasattr(cell, "item") and not getattr(cell, "shape", ()):
        cell = cell.item()  # of numpy
    if isinstance(cell, float):
        if math.isnan(cell):
            return None
        return str(int(cell)) if cell.is_integer() else str(cell)
    if isinstance(cell, bytes | bytearray | memoryview | dict | list | tuple | set) or hasattr(
        cell, "shape"
    ):
        kind = {"dict": "an object", "list": "a list"}.get(type(cell).__name__)
        raise TypeError(f"holds {kind or type(cell).__name__}, where text or a number is needed")
    return str(cell)


def label_of(cell: Any) -> str | None:
    """Return a cell as a label or an id; None where there is nothing.

    Examples
    --------
    >>> [label_of(cell) for cell in (1, 1.0, "1 ", "1.0", "007", True, "TRUE", " spam", "  ")]
    ['1', '1', '1', '1', '007', 'True', 'True', 'spam', None]
    """
    text = (text_of(cell) or "").strip()
    if whole := _WHOLE.fullmatch(text):
        return whole[1]
    return text.capitalize() if text.lower() in ("true", "false") else text or None


def number_of(text: str | None, *, decimal_comma: bool = False) -> float:
    """Read a number, NaN where there is nothing; raise ValueError for anything else."""
    if text is None or not text.strip():
        return math.nan
    if decimal_comma and (found := _DECIMAL_COMMA.fullmatch(text.strip())):
        text = f"{found[1]}.{found[2]}"
    return float(text)


def guarded(cell: Any) -> Any:
    """Return a cell for a text file that spreadsheets open, where no text may run as a formula.

    Texts come from strangers. One that begins like a formula (``=``, ``+``, ``-``, ``@``, also in
    their wide forms, a tab, a line break) gets an apostrophe in front, unless it is a number;
    `unguarded` takes it off.

    Examples
    --------
    >>> [guarded(cell) for cell in ("=1+1", "-1.5", -1.5, "- no", "'=1", "fine", None)]
    ["'=1+1", '-1.5', -1.5, "'- no", "''=1", 'fine', None]
    """
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def unguarded(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell[:1] == "'" and _GUARDED.match(cell) else cell


def unpaired(text: str) -> bool:
    """Tell whether a text holds half of a surrogate pair, which no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
