"""Probabilities as models write them: "0.7", "70 %", "7/10", "0,6-0,7", "very likely".

Pure: text in, numbers out. What is no number is None, what is a number but no probability is an
error; nothing in between is made to fit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from math import isclose, isfinite, nan
from typing import NamedTuple

__all__ = ["WORDS", "Number", "as_probabilities", "plain", "read_number"]

# What people take the words to mean: medians of the survey of W. Fagen-Ulmschneider, "Perception of
# Probability Words" (University of Illinois, 2019; 123 answers), as K. Tian et al., "Just Ask for
# Calibration" (EMNLP 2023), use them for language models. The ends are those of S. Kent, "Words of
# Estimative Probability" (Studies in Intelligence, 1964). "very" is not in the survey: it halves
# the distance to the nearer end (F. Mosteller and C. Youtz, "Quantifying Probabilistic
# Expressions", Statistical Science 5, 1990), here from "likely" and "unlikely".
WORDS = {
    "certain": 1.0,
    "absolutely certain": 1.0,
    "almost certain": 0.95,
    "highly likely": 0.9,
    "very likely": 0.85,
    "very good chance": 0.8,
    "probable": 0.7,
    "probably": 0.7,
    "likely": 0.7,
    "better than even": 0.6,
    "about even": 0.5,
    "even chance": 0.5,
    "even chances": 0.5,
    "fifty fifty": 0.5,
    "toss up": 0.5,
    "probably not": 0.25,
    "unlikely": 0.2,
    "little chance": 0.1,
    "chances are slight": 0.1,
    "improbable": 0.1,
    "very unlikely": 0.1,
    "highly unlikely": 0.05,
    "almost no chance": 0.02,
    "impossible": 0.0,
}

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff"),
        "—": " - ",
        "→": "->",
        "⁄": "/",
        "٪": "%",
    }
)
_CURLY = {
    '"': str.maketrans(dict.fromkeys("“”„‟«»″", '"')),
    "'": str.maketrans(dict.fromkeys("‘’‚‛′", "'")),
}
_FILLER = re.compile(
    r"(?:(?:with|an?|the|is|of|at|about|around|approximately|approx|roughly|nearly|circa|between"
    r"|confidence|probability|prob|p|likelihood|certainty|score|chance|level)\b\.?"
    r"|[\s:=~≈(\[\"'*])*",
    re.IGNORECASE,
)
_UNSIGNED = r"(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:e[-+]?\d+)?"
_UNIT = r"\s*(?:%|(?:percent|per cent|pct)\b)"
_PHRASE = re.compile(
    rf"(?P<first>[-+]?{_UNSIGNED})(?P<unit>{_UNIT})?"
    rf"(?:\s*(?P<link>/|-|\b(?:out of|of|in|to|and)\b)\s*"
    rf"(?P<second>{_UNSIGNED})(?P<second_unit>{_UNIT})?)?",
    re.IGNORECASE,
)
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf|infinity)\b", re.IGNORECASE)
# Behind the number prose may follow, but neither a second number nor what turns it round.
_REST = re.compile(
    r"(?![\w%]|\s*(?:not|un(?:likely|certain|sure)|improbable|against|wrong|doubt|less|more)\b)"
    r"\D*\Z",
    re.IGNORECASE,
)
# A whole number without a unit may count anything: "2 links" is said of no probability.
_COUNTED = re.compile(
    r"[.)]?\s+(?!(?:confiden|certain|sure|likel|probab|chance)|because\b|since\b|as\b)[^\W\d_]",
    re.IGNORECASE,
)


class Number(NamedTuple):
    """A number as written; `bare` if it has no unit, so that 70 may mean 70 %."""

    text: str
    value: float
    bare: bool


def plain(text: str) -> str:
    """Write full-width digits and signs, curly quotes and odd dashes as plain ones.

    Curly quotes stay where there are straight ones, which they then may stand within.
    """
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    for straight, table in _CURLY.items():
        if straight not in text:
            text = text.translate(table)
    return text


def read_number(text: str) -> Number | None:
    """Read the number that a text consists of or begins with.

    Parameters
    ----------
    text : str
        As :func:`plain` leaves it.

    Returns
    -------
    Number or None
        None when there is no number, or more than one. A number that cannot be a probability is
        returned as it is: :func:`as_probabilities` rejects it. A range is its midpoint.

    Examples
    --------
    >>> [read_number(t).value for t in ("70 %", "about 0,7", "7 out of 10", "0.6-0.8", "likely")]
    [0.7, 0.7, 0.7, 0.7, 0.7]
    """
    bare_text = text[_FILLER.match(text).end() :]  # type: ignore[union-attr]
    for candidate in (text, bare_text):
        if len(candidate) < 60:
            words = " ".join(re.findall(r"\w+", candidate.casefold()))
            if words in WORDS and "," not in candidate:
                return Number(candidate, WORDS[words], False)
    if _NOT_FINITE.match(bare_text):
        return Number(bare_text.split()[0], nan, False)
    phrase = _PHRASE.match(bare_text)
    if phrase is None or not _REST.match(bare_text, phrase.end()):
        return None
    link = (phrase["link"] or "").lower()
    whole = phrase["first"].isdecimal() and not phrase["unit"] and not link
    if whole and _COUNTED.match(bare_text, phrase.end()):
        return None
    if link == "and" and "between" not in text.lower():
        return None
    return _evaluate(phrase, link)


def _evaluate(phrase: re.Match[str], link: str) -> Number:
    shown = phrase.group().strip()
    first, percent = _float(phrase["first"]), bool(phrase["unit"])
    if not link:
        return Number(shown, first / 100 if percent else first, not percent)
    second, percent_too = _float(phrase["second"]), bool(phrase["second_unit"])
    if link in ("/", "out of", "of", "in"):
        if percent or percent_too or second <= 0:
            return Number(shown, nan, False)
        if second not in (1, 100) and any(isclose(first + second, whole) for whole in (1, 100)):
            # Not a fraction but the two sides of a bet; only of equal ones the order is no matter.
            return Number(shown, 0.5 if first == second else nan, False)
        return Number(shown, first / second, False)
    if percent and not percent_too:  # "70% to 0.8"
        return Number(shown, nan, False)
    if first > second or first < 0 or (not percent_too and first < 1 < second):
        return Number(shown, nan, False)
    middle = round((first + second) / 2, 12)
    return Number(shown, middle / 100 if percent_too else middle, not percent_too)


def _float(numeral: str) -> float:
    return float(numeral.replace(",", "."))


def as_probabilities(numbers: Sequence[Number]) -> list[float]:
    """Bring the numbers of one report to [0, 1].

    Numbers without a unit are percentages when any of them is above 1. Where the largest is no more
    than 10 they may as well be out of ten, which is not guessed at.

    Raises
    ------
    ValueError
        If one is negative, above 100 %, or no finite number, or the scale is not clear.

    Examples
    --------
    >>> as_probabilities([read_number("99.5"), read_number("0.5")])
    [0.995, 0.005]
    """
    largest = max((n for n in numbers if n.bare), key=lambda n: n.value, default=None)
    if largest is not None and 1 < largest.value <= 10:
        raise ValueError(f"{largest.text[:40]!r} may be out of 10 or a percentage")
    scale = 100.0 if largest is not None and largest.value > 1 else 1.0
    values = [n.value / scale if n.bare else n.value for n in numbers]
    for number, value in zip(numbers, values, strict=True):
        if not isfinite(value) or not 0 <= value <= 1:
            raise ValueError(f"{number.text[:40]!r} is no probability")
    return values
