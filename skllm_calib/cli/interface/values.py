"""What the values of options mean; click says of which option what cannot be read."""

import csv
import math
import re
from collections.abc import Callable

import rich_click as click

from skllm_calib.utils.tables.cells import label_of


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _reader(what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not fits(_number(text)):
            raise click.BadParameter(f"{text!r} is not a number {what}")
        return float(text)

    return read


share = _reader("from 0 to 1", lambda x: 0 <= x <= 1)
inside = _reader("between 0 and 1", lambda x: 0 < x < 1)
price = _reader("above 0", lambda x: 0 < x < math.inf)


def share_or_auto(text: str) -> float | str:
    """Read a share, or "auto"."""
    return text if text == "auto" else share(text)


def prices(text: str) -> tuple[float, float]:
    """Read the prices of a million tokens read and written."""
    found = [_number(part) for part in text.split(",")]
    if len(found) != 2 or not all(0 <= one < math.inf for one in found):
        raise click.BadParameter(f"{text!r} must be two prices, such as 0.15,0.60")
    return found[0], found[1]


def budget(text: str) -> float | tuple[int, int]:
    """Read a share of rows, or N rows of M."""
    if match := re.fullmatch(r"([0-9]+)/([0-9]+)", text):
        if int(match[1]) < int(match[2]):
            return int(match[1]), int(match[2])
    elif 0 < _number(text) < 1:
        return float(text)
    raise click.BadParameter(
        f"{text!r} is neither a number between 0 and 1 nor N/M with N below M, such as 50/400"
    )


def spending(text: str) -> dict[str, float]:
    """Read an amount of dollars, or of tokens."""
    number, _, unit = text.removeprefix("$").partition(":")
    amount = _number(number)
    if unit == "tokens" and amount >= 1 and amount.is_integer():
        return {"tokens": int(amount)}
    if not unit and 0 < amount < math.inf:
        return {"usd": amount}
    raise click.BadParameter(
        f"{text!r} is neither a number of dollars above 0, such as 5, nor a number of tokens, such "
        "as 2000000:tokens"
    )


def classes(text: str) -> list[str]:
    """Read labels between commas; one that holds a comma stands in double quotes."""
    labels = [label_of(label) for label in next(csv.reader([text], skipinitialspace=True))]
    if len(labels) < 2 or None in labels:
        raise click.BadParameter(f"{text!r} must be two labels or more: a,b,c")
    return [str(label) for label in labels]


def count_or_all(text: str) -> int | None:
    """Read a number of rows; None for "all"."""
    if text != "all" and (not text.isdecimal() or int(text) < 1):
        raise click.BadParameter(f"{text!r} is neither a number of rows nor 'all'")
    return None if text == "all" else int(text)


def count(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def port(text: str) -> int:
    """Read the number of a port."""
    if not text.isdecimal() or int(text) > 65_535:
        raise click.BadParameter(f"{text!r} is not a port: it must be from 0 to 65535")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """Read NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def separator(text: str) -> str:
    r"""Read the character between cells; 'tab' and '\t' are names of one."""
    found = "\t" if text in ("tab", r"\t") else text
    if len(found) != 1 or found in '"\r\n':
        raise click.BadParameter(f"{text!r} is not one character (or 'tab')")
    return found
