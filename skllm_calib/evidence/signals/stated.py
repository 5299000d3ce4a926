"""Reading the probabilities that a language model states.

Two forms are read, each only as the whole reply: JSON, which is what models are asked for (a fence
around it is allowed), and lines of the form ``label: number``. The rest, such as a number in a
sentence or in a table, is no answer: what a model quotes, counts or denies looks just like what it
states. A reply that can be understood in two ways is an ``UnreadableReply``, never a guess.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.signals.label_names import LabelNames, quoted, without_thoughts
from skllm_calib.exceptions import UnreadableReply

__all__ = ["read_answer", "read_distribution", "read_guesses"]

# Keys under which a model gives one label and its probability. "code" is what qualitative research
# calls a label.
_LABEL_KEYS = frozenset(
    ("label", "option", "answer", "class", "category", "choice", "prediction", "guess", "code")
)
_PROBABILITY_KEYS = frozenset(
    ("probability", "prob", "p", "confidence", "likelihood", "certainty", "score")
)
_FENCE = re.compile(r"```(?:json)?((?:(?!```).)*)```", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"([-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:e[-+]?[0-9]+)?)\s*(%?)", re.I)


def read_distribution(text: str, names: LabelNames) -> NDArray[np.float64]:
    r"""Read a reply to "give a probability for every label".

    Parameters
    ----------
    text : str
        The reply: a JSON object with a number for each label, or a line ``label: number`` for
        each. Numbers are all between 0 and 1, or all percentages with a percent sign.
    names : LabelNames

    Returns
    -------
    ndarray of shape (n_classes,)
        The stated probability of each class; they need not sum to one.

    Raises
    ------
    UnreadableReply
        If the reply is anything else, a label is missing or has two different numbers, a number is
        out of range, numbers with and without a percent sign are mixed, or all are 0.

    Examples
    --------
    >>> names = LabelNames(("A", "B"), ("ham", "spam"))
    >>> read_distribution('```json\n{"A": 0.3, "B": 0.7}\n```', names)
    array([0.3, 0.7])
    >>> read_distribution("ham: 30%\nspam: 70%", names)
    array([0.3, 0.7])
    """
    reading = _Reading(text, names, "a probability for each label, as JSON")
    stated = reading.probabilities()
    for k in np.flatnonzero(np.isnan(stated)):
        reading.fail(f"no probability of {names.texts[k]!r}")
    return stated


def read_guesses(text: str, names: LabelNames) -> NDArray[np.float64]:
    r"""Read a reply to "give your best guesses, each with a probability".

    Parameters
    ----------
    text : str
        The reply: a JSON list of objects such as ``{"label": "spam", "probability": 0.7}``, which
        may be the value of "guesses", or what :func:`read_distribution` reads, for some labels.
    names : LabelNames

    Returns
    -------
    ndarray of shape (n_classes,)
        The stated probability of each class, NaN where none was stated.

    Raises
    ------
    UnreadableReply
        As :func:`read_distribution`, but labels may be missing.

    Examples
    --------
    >>> names = LabelNames((), ("ham", "spam"))
    >>> read_guesses('{"guesses": [{"label": "spam", "probability": 0.7}]}', names)
    array([nan, 0.7])
    """
    return _Reading(text, names, "the best guesses with probabilities, as JSON").probabilities()


def read_answer(text: str, names: LabelNames) -> tuple[int, float]:
    r"""Read a reply to "give the label and the probability that it is right".

    Parameters
    ----------
    text : str
        The reply: a JSON object such as ``{"label": "spam", "probability": 0.7}``, the same as two
        lines, or one line ``label: number``.
    names : LabelNames

    Returns
    -------
    label : int
        Index of the class.
    probability : float
        What was stated of it, in [0, 1]; 0 is allowed.

    Raises
    ------
    UnreadableReply
        As :func:`read_distribution`, or if not exactly one label is named.

    Examples
    --------
    >>> read_answer("Answer: spam\nConfidence: 85%", LabelNames((), ("ham", "spam")))
    (1, 0.85)
    """
    reading = _Reading(text, names, "one label with its probability, as JSON")
    stated = reading.probabilities(may_be_zero=True)
    named = np.flatnonzero(~np.isnan(stated))
    if len(named) != 1:
        reading.fail("more than one label is named")
    return int(named[0]), float(stated[named[0]])


class _Number(NamedTuple):
    value: float
    percent: bool


@dataclass(frozen=True)
class _Record:
    """Keys with their values: a JSON object, or all lines of a reply."""

    pairs: Sequence[tuple[str, Any]]
    is_json: bool = True


class _Reading:
    """One reply being read; fails with a message that shows it."""

    def __init__(self, text: str, names: LabelNames, wanted: str) -> None:
        self.text, self.names, self.wanted = text, names, wanted

    def probabilities(self, *, may_be_zero: bool = False) -> NDArray[np.float64]:
        """Return what is stated of each class, NaN where nothing is."""
        said = [pair for record in self._records() for pair in self._said(record)]
        if not said:
            self.fail("no label is named")
        if len({number.percent for _, number in said}) > 1:
            self.fail("numbers with and without a percent sign are mixed")
        stated = np.full(len(self.names.texts), np.nan)
        for k, number in said:
            if not np.isnan(stated[k]) and stated[k] != number.value:
                self.fail(f"two probabilities of {self.names.texts[k]!r}")
            stated[k] = number.value
        if not may_be_zero and not np.nanmax(stated) > 0:
            self.fail("all probabilities are 0")
        return stated

    def _records(self) -> list[_Record]:
        reply = without_thoughts(self.text).strip()
        if fenced := _FENCE.fullmatch(reply):
            reply = fenced[1].strip()
        if not reply.startswith(("{", "[")):
            return [_Record(self._lines(reply), is_json=False)]
        try:
            content = json.loads(reply, object_pairs_hook=_Record)
        except (ValueError, RecursionError):
            self.fail("the reply is not valid JSON")
        match content:
            case _Record([("guesses", list(guesses))]):
                content = guesses
        records = content if isinstance(content, list) else [content]
        if not all(isinstance(record, _Record) for record in records):
            self.fail("the JSON is not an object, or a list of objects")
        return records

    def _lines(self, reply: str) -> list[tuple[str, str]]:
        lines = unicodedata.normalize("NFKC", reply).splitlines()
        pairs = [_split(line) for line in lines if line.strip()]
        if not pairs or not all(key.strip() and value for key, value in pairs):
            self.fail("the reply is neither JSON nor lines of the form 'label: number'")
        return pairs

    def _said(self, record: _Record) -> list[tuple[int, _Number]]:
        """Return the classes that a record speaks of, with their numbers."""
        named = [v for key, v in record.pairs if _in(key, _LABEL_KEYS) and self._is_name(v)]
        if named:
            return self._one_label(record, named)
        said = []
        for key, value in record.pairs:
            k = self.names.find(key)
            if k is not None:
                said.append((k, self._number(value, key)))
            elif not self._is_remark(record, value):
                self.fail(f"{key.strip()[:40]!r} is not one of the labels")
        return said

    def _one_label(self, record: _Record, named: list[Any]) -> list[tuple[int, _Number]]:
        labels = {self.names.find(str(name)) for name in named}
        if len(labels) > 1:
            self.fail("different labels are named")
        (label,) = labels
        if label is None:
            self.fail(f"{str(named[0]).strip()[:40]!r} is not one of the labels")
        said = []
        for key, value in record.pairs:
            if _in(key, _PROBABILITY_KEYS):
                said.append((label, self._number(value, key)))
            elif not (_in(key, _LABEL_KEYS) or self._is_remark(record, value)):
                self.fail(f"it is not clear what {key.strip()[:40]!r} says of the label")
        if not said:
            self.fail(f"no probability of {self.names.texts[label]!r}")
        return said

    def _is_name(self, value: Any) -> bool:
        """Tell whether a value is meant as a label: a label may be a number, too."""
        if not isinstance(value, str | int | float):
            return False
        return self.names.find(str(value)) is not None or _is_text(value)

    def _is_remark(self, record: _Record, value: Any) -> bool:
        """Tell whether a value, such as a reason in words, says nothing of any label."""
        return record.is_json and _is_text(value) and self.names.find(value) is None

    def _number(self, value: Any, key: str) -> _Number:
        if isinstance(value, bool):
            value = None
        if isinstance(value, int | float):
            number = _Number(value, percent=False)
        elif isinstance(value, str) and (match := _NUMBER.fullmatch(value.strip())):
            number = _Number(float(match[1]) / (100 if match[2] else 1), bool(match[2]))
        else:
            self.fail(f"the value of {key.strip()[:40]!r} is not a number")
        if not 0 <= number.value <= 1:
            self.fail(f"the value of {key.strip()[:40]!r} is not a probability")
        return number

    def fail(self, why: str) -> NoReturn:
        labels = ", ".join(map(repr, self.names.texts[:5]))
        more = ", ..." if len(self.names.texts) > 5 else ""
        raise UnreadableReply(
            f"{why}: asked for {self.wanted} ({labels}{more}), the model wrote {quoted(self.text)}"
        )


def _split(line: str) -> tuple[str, str]:
    key, _, value = line.rpartition(":")
    if _is_text(value):  # "Answer: a label: with a colon"
        key, _, value = line.partition(":")
    return key, value.strip(" \t*`,;")


def _in(key: str, known: frozenset[str]) -> bool:
    return key.strip(" \t*_").casefold() in known


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _NUMBER.fullmatch(value.strip())
