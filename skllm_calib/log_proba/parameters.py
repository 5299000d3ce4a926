"""Checks of single parameters: whole numbers, fractions, one of several names."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

from skllm_calib.exceptions import InvalidInput

__all__ = ["DEFAULT_CONFIDENCE", "check_choice", "check_count", "check_fraction"]

DEFAULT_CONFIDENCE = 0.95
"""Confidence of every interval, bound and promise unless the user says otherwise."""


def check_count(value: object, name: str, least: int = 1) -> int:
    """Return a whole number of at least `least`; booleans are refused."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InvalidInput(
            f"{name} must be an integer of at least {least}, got {value!r}", name, value=value
        )
    return int(value)


def check_fraction(
    value: object,
    name: str,
    low: float = 0.0,
    high: float = 1.0,
    *,
    include: str = "",
    hint: str = "",
) -> float:
    """Return a number between `low` and `high`.

    Parameters
    ----------
    value : object
        What was given.
    name : str
        The parameter.
    low, high : float, default=0.0, 1.0
        Ends of the range.
    include : {"", "low", "high", "both"}, default=""
        Which ends belong to it.
    hint : str, default=""
        What else to say, after a colon.

    Returns
    -------
    float

    Raises
    ------
    InvalidInput
        If it is not a number, or outside the range.
    """
    takes_low, takes_high = include in ("low", "both"), include in ("high", "both")
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if (low < number or (takes_low and number == low)) and (
            number < high or (takes_high and number == high)
        ):
            return number
    ends = f"{'[' if takes_low else '('}{low:g}, {high:g}{']' if takes_high else ')'}"
    tail = f": {hint}" if hint else ""
    raise InvalidInput(f"{name} must be a number in {ends}, got {value!r}{tail}", name, value=value)


def check_choice(value: object, name: str, choices: Sequence[object]) -> None:
    """Refuse a value that is not one of the choices."""
    # Types first: an array among the values would make a comparison of every entry.
    if not any(type(value) is type(one) and value == one for one in choices):
        *most, last = (repr(one) for one in choices)
        listed = f"{', '.join(most)} or {last}" if most else last
        raise InvalidInput(f"{name} must be {listed}, got {value!r}", name, value=value)
