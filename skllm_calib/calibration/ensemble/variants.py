"""Copies of one classifier that differ in some parameters, with readable names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Set
from itertools import product
from numbers import Number
from typing import Any

from sklearn.base import clone

from skllm_calib.exceptions import InvalidInput

__all__ = ["variants"]

_WORD = re.compile(r"[A-Za-z0-9]([\w.:+-]{0,38}[A-Za-z0-9])?")


def variants(
    estimator: Any, grid: Mapping[str, Iterable[Any]], reserved: Collection[str]
) -> list[tuple[str, Any]]:
    """Return copies of a classifier by name, one for each combination of the values.

    Parameters
    ----------
    estimator : classifier
        It is copied and left alone.
    grid : mapping of str to list
        Values by parameter.
    reserved : collection of str
        Names that no copy may have.

    Returns
    -------
    list of (str, classifier)
        In the order of :class:`sklearn.model_selection.ParameterGrid`.

    Raises
    ------
    ValueError
        If there is nothing to vary, or the estimator has no such parameter.
    """
    if not grid:
        raise InvalidInput(
            "name what the members differ in: a parameter of the classifier and its values, for "
            'example signal=["logprobs", "self_reported"]',
            "grid",
        )
    values = {parameter: _values(parameter, grid[parameter]) for parameter in sorted(grid)}
    words = {parameter: _value_names(parameter, listed) for parameter, listed in values.items()}
    names = ["_".join(chosen) for chosen in product(*words.values())]
    if len(set(names)) < len(names) or any("__" in n or n in reserved for n in names):
        positions = [_by_position(parameter, listed) for parameter, listed in values.items()]
        names = ["_".join(chosen) for chosen in product(*positions)]
    members = []
    for chosen in product(*values.values()):
        member = clone(estimator)
        # What is nested belongs to the new value of what is around it, which therefore goes first.
        for parameter, value in sorted(zip(values, chosen, strict=True), key=_depth):
            if parameter not in member.get_params():
                raise InvalidInput(
                    f"{parameter!r} is not a parameter of {type(estimator).__name__}, which has: "
                    + ", ".join(sorted(member.get_params())),
                    parameter,
                )
            member.set_params(**{parameter: clone(value, safe=False)})
        members.append(member)
    return list(zip(names, members, strict=True))


def _depth(setting: tuple[str, Any]) -> int:
    return setting[0].count("__")


def _values(parameter: str, given: Any) -> list[Any]:
    if isinstance(given, (str, bytes, Mapping, Set)) or not isinstance(given, Iterable):
        raise InvalidInput(
            f"{parameter}={given!r}: must be a list of values, one for each member",
            parameter,
            value=given,
        )
    values = list(given)
    if not values:
        raise InvalidInput(
            f"{parameter}={given!r}: must list at least one value", parameter, value=given
        )
    plain = [value for value in values if isinstance(value, (str, Number, type(None)))]
    twice = [value for value in plain if plain.count(value) > 1]
    if twice:
        raise InvalidInput(
            f"{parameter}={values!r}: lists {twice[0]!r} more than once", parameter, value=twice[0]
        )
    return values


def _value_names(parameter: str, values: list[Any]) -> list[str]:
    # Signals and other objects may bear a name.
    words = [str(v if isinstance(v, str) else getattr(v, "name", "")) for v in values]
    if all(map(_WORD.fullmatch, words)):
        return words
    if all(isinstance(value, (Number, type(None))) for value in values):
        return [f"{_last(parameter)}_{value}" for value in values]
    return _by_position(parameter, values)


def _by_position(parameter: str, values: list[Any]) -> list[str]:
    return [f"{_last(parameter)}_{i}" for i in range(len(values))]


def _last(parameter: str) -> str:
    return parameter.rpartition("__")[2]
