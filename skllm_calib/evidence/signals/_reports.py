"""Reading what a language model says about its own probabilities.

Models are asked for JSON and answer with JSON in fences, Python dicts, tables, lists or lines of
prose. Whatever the form, a reply is first brought into one shape, names with what is said of them,
and then read by one set of rules. The rules are tolerant of form and strict in substance: what is
contradictory, out of range, cut off or about no label is an ``UnreadableReply``, never a guess.

All of it is pure and takes time in proportion to the reply, which comes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.signals._names import Names
from skllm_calib.evidence.signals._report_items import (
    Kind,
    Node,
    field_of,
    read_lines,
    scan,
    split_pair,
    spoken,
)
from skllm_calib.evidence.signals._report_numbers import (
    Number,
    as_probabilities,
    plain,
    read_number,
)
from skllm_calib.exceptions import UnreadableReply

__all__ = ["Names", "Report", "read_answer", "read_distribution", "read_guesses", "read_label"]

N_QUOTED = 200  # characters of a reply that an error shows

_NOTHING = frozenset(["", "null", "none", "n/a", "-"])


@dataclass
class _Said:
    """What a reply says: a number of a class, the answer, a number of the answer.

    A class is None where a name is outside the list.
    """

    of_class: list[tuple[int | None, str]] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)  # a class named under an unknown key
    numbers: list[str] = field(default_factory=list)

    @property
    def about_labels(self) -> bool:
        return bool(self.of_class or self.answers or self.hints)


def _collect(node: Node, names: Names, said: _Said, in_list: bool = False) -> _Said:
    """Add what a node and those within it say; depth is bounded by the scan."""
    records: dict[str, _Said] = {}
    known = [k for k, v in node.items if isinstance(v, str) and names.find(v) is not None]
    record = any(field_of(key)[0] == "answer" for key in known)
    for key, content in node.items:
        k = names.named(key)
        kind, index = field_of(key)
        if isinstance(content, Node):
            if k is None or content.listed:
                _collect(content, names, said, in_list=node.listed)
            else:
                inner = [v for key, v in content.items if field_of(key)[0] == "number"]
                said.of_class += [(k, v if isinstance(v, str) else "?") for v in inner or ["?"]]
            continue
        if node.listed:
            continue  # a bare list of names or numbers does not say what belongs together
        value = plain(content)
        here = records.setdefault(index, _Said()) if index or in_list else said
        if k is not None and not (record and kind == "number") and _is_number(value, kind):
            if value.strip().casefold() not in _NOTHING:
                said.of_class.append((k, value))
        elif kind == "answer":
            answer, number = _read_answer_text(value, names)
            if answer is not None or value.strip().casefold() not in _NOTHING:
                here.answers.append(answer)
                here.numbers += number
        elif kind == "number":
            here.numbers.append(value)
        elif (answer := names.find(value)) is not None:
            here.hints.append(answer)
        elif not key:
            here.numbers.append(value)
    for one in records.values():
        for answer in one.answers or one.hints:
            said.of_class += [(answer, number) for number in one.numbers or ["?"]]
        said.of_class += one.of_class
    return said


def _is_number(value: str, kind: Kind) -> bool:
    # "answer" may be the name of a class, too: then only a number is said of it.
    return kind != "answer" or read_number(value) is not None


def _read_answer_text(value: str, names: Names) -> tuple[int | None, list[str]]:
    if (k := names.find(value)) is not None:
        return k, []
    pair = split_pair(value, names)
    if pair and read_number(pair[1]) and (k := names.named(pair[0])) is not None:
        return k, [pair[1]]
    mentioned = names.mentioned(f"answer: {value}")
    return (mentioned.pop() if len(mentioned) == 1 else None), []


@dataclass(frozen=True, eq=False)
class Report:
    """What a model said about its own probabilities.

    Attributes
    ----------
    stated : ndarray of shape (n_classes,)
        What was said of each class, in [0, 1]; NaN where nothing was said. Sums to anything.
    answer : int or None
        Index of the class that was named as the answer, if one was.
    """

    stated: NDArray[np.float64]
    answer: int | None


def read_distribution(text: str, names: Names) -> Report:
    r"""Read a reply to "give a probability for every class".

    Parameters
    ----------
    text : str
        The reply. Of several JSON objects the last one that names labels counts, and nothing
        within ``<think>...</think>``.
    names : Names
        Build it once for many replies: it remembers what it has worked out.

    Returns
    -------
    Report
        Classes that the reply passes over are NaN; nothing is normalised.

    Raises
    ------
    UnreadableReply
        If no label or no number is named, a number is no probability, all are 0, the same label
        has different ones, the answer is outside the list, or the reply is cut off.

    Examples
    --------
    >>> names = Names(("A", "B"), ("ham", "spam"))
    >>> read_distribution('```json\n{"A": "30 %", "B": "70 %",}\n```', names).stated
    array([0.3, 0.7])
    """
    return _Reading(text, names, "a probability for every label").classes()


def read_guesses(text: str, names: Names) -> Report:
    r"""Read a reply to "give your k best guesses, each with a probability".

    Parameters, errors and what is returned are those of :func:`read_distribution`. The form is the
    one that served best in the source [1]_.

    References
    ----------
    .. [1] K. Tian et al. (2023). "Just Ask for Calibration: Strategies for Eliciting Calibrated
       Confidence Scores from Language Models Fine-Tuned with Human Feedback." EMNLP.

    Examples
    --------
    >>> read_guesses("G1: spam\nP1: 0.7\nG2: ham\nP2: 0.2", Names((), ("ham", "spam"))).stated
    array([0.2, 0.7])
    """
    return _Reading(text, names, "the best guesses, each with a probability").classes()


def read_answer(text: str, names: Names) -> Report:
    r"""Read a reply to "give the label and the probability that it is right".

    Parameters and errors are those of :func:`read_distribution`. The answer is never None; where a
    reply gives several labels with numbers and no answer, it is the one with the highest.

    Examples
    --------
    >>> read_answer("Answer: spam\nConfidence: 85%", Names((), ("ham", "spam")))
    Report(stated=array([ nan, 0.85]), answer=1)
    """
    return _Reading(text, names, "one label and its probability", several=False).answer()


def read_label(text: str, names: Names) -> int:
    """Read only which label a reply decides for; numbers need not be there.

    Returns
    -------
    int
        Index of the class.

    Raises
    ------
    UnreadableReply
        If no label is named, or several different ones.

    Examples
    --------
    >>> read_label("I would call this spam.", Names((), ("ham", "spam")))
    1
    """
    return _Reading(text, names, "one label", several=False).label()


class _Reading:
    """One reply being read; its methods raise what :func:`read_distribution` documents."""

    def __init__(self, text: str, names: Names, wanted: str, several: bool = True) -> None:
        self.names, self.wanted = names, wanted
        self.text = plain(spoken(text))
        self.shown = self.text if self.text.strip() else text
        self.in_prose, self.said = self._read(several)

    def classes(self) -> Report:
        answer = self._named_answer(strict=False)
        if self.said.of_class:
            return Report(self._stated(self.said.of_class), answer)
        if answer is None:
            self._fail("no label is named with a probability")
        return Report(self._stated([(answer, number) for number in self._numbers()]), answer)

    def answer(self) -> Report:
        answer = self._named_answer()
        if answer is not None and (numbers := self._numbers()):
            # A named answer with a stated 0 is one that the model does not believe in.
            stated = self._stated([(answer, number) for number in numbers], zero=True)
            return Report(stated, answer)
        if answer is None and not self.said.of_class:
            self._fail("no label is named with a probability")
        stated = self._stated(self.said.of_class)
        if answer is None:
            best = np.flatnonzero(stated == np.nanmax(stated))
            if len(best) > 1:
                self._fail("several labels have the highest probability")
            answer = int(best[0])
        if np.isnan(stated[answer]):
            self._fail(f"no probability is given for the answer {self.names.texts[answer]!r}")
        return Report(stated, answer)

    def label(self) -> int:
        answer = self._named_answer()
        if answer is not None:
            return answer
        if any(read_number(said) for _, said in self.said.of_class):
            stated = self._stated(self.said.of_class)
            likely = np.flatnonzero(~np.isnan(stated))
            if len(likely) == 1 and stated[likely[0]] > 0.5:
                return int(likely[0])
        elif self.in_prose and not self._mixed():
            mentioned = self.names.mentioned(self.text)
            if len(mentioned) == 1:
                return mentioned.pop()
        self._fail("no label, or more than one, is named as the answer")

    def _mixed(self) -> bool:
        """Tell whether one class is given for another, as by "A) not spam" where A is "spam"."""
        return any(self.names.find(said) not in (None, k) for k, said in self.said.of_class)

    def _read(self, several: bool) -> tuple[bool, _Said]:
        """Return whether lines rather than an object were read, and what they say."""
        done, cut = scan(self.text)
        if any(_collect(node, self.names, _Said()).about_labels for node in cut):
            self._fail("the reply is cut off")
        for i in reversed(range(len(done))):
            said = _collect(done[i], self.names, _Said())
            if said.about_labels:
                return False, self._with_neighbours(done[: i + 1], said) if several else said
        before = self.text[: cut[0].start] if cut else self.text
        return True, _collect(read_lines(before, self.names), self.names, _Said())

    def _with_neighbours(self, nodes: list[Node], last: _Said) -> _Said:
        """Add the guesses that stand one an object before the last one, as a list would."""
        guesses = _guess(last)
        for node, following in zip(reversed(nodes[:-1]), reversed(nodes), strict=False):
            more = _guess(_collect(node, self.names, _Said()))
            apart = self.text[node.end : following.start].strip(" \t\r\n,;")
            if apart or not guesses or not more or more[0][0] in dict(guesses):
                break
            guesses += more
        return _Said(of_class=guesses) if len(guesses) > 1 else last

    def _named_answer(self, strict: bool = True) -> int | None:
        named: set[int | None] = set(self.said.answers or self.said.hints)
        if len(named) > 1 and (strict or self.said.answers):
            self._fail("different answers are named")
        if named == {None}:
            self._fail("the answer is outside the list of labels")
        return named.pop() if len(named) == 1 else None

    def _numbers(self) -> list[str]:
        return [number for number in self.said.numbers if read_number(number)]

    def _stated(
        self, said: Sequence[tuple[int | None, str]], zero: bool = False
    ) -> NDArray[np.float64]:
        read = [(k, read_number(text)) for k, text in said]
        given: list[tuple[int | None, Number]] = [(k, n) for k, n in read if n is not None]
        if not given:
            self._fail("no number is given")
        unread = {k for k, n in read if n is None and k is not None} - {k for k, _ in given}
        if unread:
            self._fail(f"what is said of {self.names.texts[min(unread)]!r} is no number")
        try:
            values = as_probabilities([number for _, number in given])
        except ValueError as e:
            self._fail(str(e))
        stated = np.full(len(self.names.texts), np.nan)
        outside = 0.0
        for (k, _), value in zip(given, values, strict=True):
            if k is None:
                outside = max(outside, value)
            elif not np.isnan(stated[k]) and abs(stated[k] - value) > 1e-9:
                self._fail(f"{self.names.texts[k]!r} has different numbers")
            else:
                stated[k] = value
        if not np.nanmax(stated, initial=0.0) >= outside:
            self._fail("the likeliest answer is outside the list of labels")
        if not zero and not np.nanmax(stated, initial=0.0) > 0:
            self._fail("all numbers are 0")
        return stated

    def _fail(self, why: str) -> NoReturn:
        # Quotes and backslashes would be doubled on the way into the message.
        clean = "".join(c if c.isprintable() and c != "\\" else " " for c in self.shown)
        shown = " ".join(clean.split())
        if len(shown) > N_QUOTED:
            shown = shown[: N_QUOTED - 1] + "…"
        texts = ", ".join(map(repr, self.names.texts[:5]))
        more = ", ..." if len(self.names.texts) > 5 else ""
        raise UnreadableReply(
            f"{why}: wanted {self.wanted} (of {texts}{more}), the reply is {shown!r}"
        )


def _guess(said: _Said) -> list[tuple[int | None, str]]:
    """Return the one label with one number that an object may consist of."""
    named = said.answers or said.hints
    alone = len(named) == len(said.numbers) == 1 and not said.of_class
    return [(named[0], said.numbers[0])] if alone else []
