"""Reading what a language model says about its own probabilities.

Models are asked for JSON and answer with JSON in fences, Python dicts, tables, lists or lines of
prose. Whatever the form, a reply is first brought into one shape, names with what is said of them,
and then read by one set of rules. The rules are tolerant of form and strict in substance: what is
contradictory, out of range, cut off or about no label is an ``UnreadableReply``, never a guess.

All of it is pure and takes time in proportion to the reply, which comes from outside.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import UnreadableReply
from skllm_calib.signals._report_numbers import Number, as_probabilities, plain, read_number

__all__ = ["Names", "Report", "read_answer", "read_distribution", "read_guesses", "read_label"]

N_QUOTED = 200  # characters of a reply that an error shows

# --- which class a written name means -------------------------------------------------------------

_INTRO = r"(?:the\s+)?(?:option|choice|answer|class|label|category|letter|key)(?![^\W_])[\s:#_-]*"
_JOINT = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=\d)")
_MARKS = " \t\r\n\"'`*_()[]{},:;!?"
_PROBABILITY = r"(?:p|pr|prob|probability|likelihood|chance|confidence|certainty|score)"
_PROBABILITY_OF = re.compile(
    rf"(?:the\s+)?{_PROBABILITY}(?:\s*\(|[\s_]+(?:(?:of|for|in|that it is)[\s_]+)?)(.+?)\)?",
    re.IGNORECASE,
)
_OF_PROBABILITY = re.compile(rf"(.+?)[\s_-]+{_PROBABILITY}", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|no|non|never|neither|nor|cannot|without|than|hardly|unlikely)\b|n't\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?;\n]")


@dataclass(frozen=True)
class Names:
    """Which writings mean which class.

    Parameters
    ----------
    keys : tuple of str
        Option keys ("A", "B", ...), or () when the prompt shows none.
    texts : tuple of str
        Label wordings, one a class.

    Examples
    --------
    >>> names = Names(("A", "B"), ("spam", "not spam"))
    >>> [names.find(n) for n in ("(a)", "Option B", "NOT_SPAM", "A) spam", "A) not spam", "other")]
    [0, 1, 1, 0, None, None]
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]

    def find(self, name: str) -> int | None:
        """Return the index of the class that a written name means, else None.

        The writing may differ in case, quotes, spaces, underscores and hyphens where that leaves
        only one class; a key may be marked ("A)", "(A)", "Option A", "**A**") and stand before or
        behind the wording of its own class. A key goes before an equal wording.
        """
        name = plain(name).strip()
        if not name or len(name) > self.longest:
            return None
        if (k := self._direct(name)) is not None:
            return k
        if self.keys:
            for form in (self._key_first, self._key_last):
                if found := form.fullmatch(name):
                    k = self._levels[1][found["key"].casefold()]
                    rest = found["rest"]
                    agreed = not rest.strip(_MARKS) or self._direct(rest) == k
                    return k if agreed or (k is not None and self._opens(rest, k)) else None
            if name.isdecimal() and self.keys[0].isdecimal():  # JSON has no leading zeros
                equal = [i for i, key in enumerate(self.keys) if int(key) == int(name)]
                return equal[0] if equal else None
        bare = re.match(_INTRO, name, re.IGNORECASE)
        return self._direct(name[bare.end() :]) if bare else None

    def named(self, name: str) -> int | None:
        """Find a class also in "P(spam)", "probability of spam" or "spam_confidence"."""
        if (k := self.find(name)) is not None or len(name) > self.longest:
            return k
        for form in (_PROBABILITY_OF, _OF_PROBABILITY):
            if (found := form.fullmatch(name.strip(_MARKS.replace(")", "")))) and (
                k := self.find(found[1])
            ) is not None:
                return k
        return None

    def mentioned(self, prose: str) -> set[int]:
        """Return the classes that running prose names and does not deny.

        Label wordings count as whole words, the longest that fits. A key, or a wording as short as
        one, counts only where it is marked as such, since "A message" has an article.
        """
        found = set()
        for mention in self._in_prose.finditer(prose):
            before = prose[max(0, mention.start() - 80) : mention.start()]
            if not _NEGATION.search(_SENTENCE_END.split(before)[-1]):
                found.add(self._direct(mention["text"] or mention["marked"] or mention["quoted"]))
        return {k for k in found if k is not None}

    @cached_property
    def longest(self) -> int:
        """Characters beyond which no writing can be a name: a bound on the work."""
        return 2 * max(map(len, (*self.keys, *self.texts)), default=0) + 60

    @cached_property
    def _levels(self) -> list[dict[str, int | None]]:
        """Return, strictest first, which class owns a writing; None where several do."""
        levels: list[dict[str, int | None]] = []
        for level, write in enumerate(_WRITINGS):
            owners: dict[str, int | None] = {}
            for k, text in enumerate(self.texts):
                form = write(plain(text))
                owners[form] = k if owners.get(form, k) == k else None
            owners |= {write(key): k for k, key in enumerate(self.keys) if level < 2}
            owners.pop("", None)
            levels.append(owners)
        return levels

    def _direct(self, name: str) -> int | None:
        for candidate in (name, name.strip(_MARKS)):
            for write, owners in zip(_WRITINGS, self._levels, strict=True):
                if (form := write(candidate)) in owners:
                    return owners[form]
        return None

    def _opens(self, rest: str, k: int) -> bool:
        return bool(re.match(rf"\W*{_words(self.texts[k])}(?!\w)", rest, re.IGNORECASE))

    @cached_property
    def _key_first(self) -> re.Pattern[str]:
        return re.compile(
            rf"(?:{_INTRO})?[\s\"'(\[*`]*(?P<key>{_any(self.keys)})(?![^\W_])[\s\"')\].:,*`=-]*"
            r"(?P<rest>.*)",
            re.IGNORECASE | re.DOTALL,
        )

    @cached_property
    def _key_last(self) -> re.Pattern[str]:
        return re.compile(
            rf"(?P<rest>.+?)\s*[(\[]\s*(?:{_INTRO})?(?P<key>{_any(self.keys)})\s*[)\]]",
            re.IGNORECASE | re.DOTALL,
        )

    @cached_property
    def _in_prose(self) -> re.Pattern[str]:
        texts = [plain(text).strip() for text in self.texts]
        long = [t for t in texts if len(t) > 1 and any(map(str.isalpha, t))]
        short = [*self.keys, *(t for t in texts if t not in long)]
        words = "|".join(_words(t) for t in sorted(long, key=len, reverse=True)) or r"(?!)"
        marks = _any(short) if short else r"(?!)"
        reason = r"because|since|with|at"
        return re.compile(
            rf"(?<![\w-])(?P<text>(?i:{words}))(?!\w|-\w)"
            r"|\b(?i:option|choice|letter|answer|label|class|category|choose|pick|select)"
            rf"(?i:\s+is)?[\s:\"'(*]{{1,5}}(?P<marked>{marks})(?![\w-])"
            rf"(?!\s+(?!(?:{reason})\b)[^\W\d_])"
            rf"|[\"'(](?P<quoted>{marks})[\"')]"
        )


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _loosen(text: str) -> str:
    bare = text.strip(_MARKS).rstrip(".").strip(_MARKS)
    return _JOINT.sub("", re.sub(r"[\"'`*]", "", _fold(bare)))


_WRITINGS: tuple[Callable[[str], str], ...] = (str.strip, _fold, _loosen)


def _any(names: Sequence[str]) -> str:
    return "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))


def _words(text: str) -> str:
    return r"[\s_-]{1,3}".join(re.escape(word) for word in re.split(r"[\s_-]+", text.strip()))


# --- from a reply to pairs of a name and what is said of it ---------------------------------------

_THOUGHT = r"(?:think|thinking|thought|reasoning)>"
_START = re.compile(r"\{|\[(?=\s*\{)")
_TOKEN = re.compile(
    r"[{}\[\],:\"']|//[^\n]*"
    r"|(?P<bare>\d+,\d+(?:\s*%)?(?=\s*[,}\n])|[^\s{}\[\],:\"'](?:(?!\s//)[^{}\[\],:\n\"])*)"
)
_CLOSING = re.compile(r"\\.|[\"'](?=[ \t]*(?:[,:}\]\n]|\Z))", re.DOTALL)
_DEEPEST = 8
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass
class _Node:
    """Pairs of a key and a value: an object, a list (keys are empty), or the lines of a reply."""

    start: int = 0
    listed: bool = False
    items: list[tuple[str, str | _Node]] = field(default_factory=list)
    end: int = 0
    height: int = 1
    key: str = ""
    value: str | _Node | None = None  # read, not yet known to be the value of `key`

    def flush(self) -> None:
        if self.value is not None:
            self.items.append((self.key, self.value))
        self.key, self.value = "", None


def _scan(text: str) -> tuple[list[_Node], list[_Node]]:
    """Return the outermost complete objects and lists, in order, and those left open.

    One pass with a stack of its own, so that neither depth nor stray quotes and braces matter.
    """
    closings: dict[str, list[int]] = {'"': [], "'": []}
    for mark in _CLOSING.finditer(text):
        if mark[0] in closings:
            closings[mark[0]].append(mark.start())
    done: list[_Node] = []
    stack: list[_Node] = []
    position = 0
    while token := (_TOKEN if stack else _START).search(text, position):
        position = token.end()
        said = token[0]
        if said in ("{", "["):
            stack.append(_Node(token.start(), said == "["))
        elif said in ("}", "]"):
            if any(node.listed == (said == "]") for node in stack[-_DEEPEST:]):
                _close(stack, done, said == "]", position)
        elif said == ",":
            stack[-1].flush()
        elif said == ":":
            node = stack[-1]
            if isinstance(node.value, str) and not node.key:
                node.key, node.value = node.value, None
        elif said in closings:
            i = bisect_right(closings[said], token.start())
            if i < len(closings[said]):
                position = closings[said][i] + 1
                _put(stack[-1], _unescape(text[token.end() : position - 1]))
        elif token["bare"]:
            _put(stack[-1], said.strip())
    for node in stack:
        node.flush()
        done += [value for _, value in node.items if isinstance(value, _Node)]
        node.items = [(key, value) for key, value in node.items if isinstance(value, str)]
    return done, stack


def _close(stack: list[_Node], done: list[_Node], listed: bool, position: int) -> None:
    """Close the innermost object (or list), and what was left open within it."""
    closed = False
    while not closed:
        node = stack.pop()
        node.flush()
        node.end = position
        closed = node.listed == listed
        if stack:
            stack[-1].height = max(stack[-1].height, node.height + 1)
            _put(stack[-1], node if node.height < _DEEPEST else "")
        else:
            done.append(node)


def _put(node: _Node, value: str | _Node) -> None:
    if node.value is not None:  # a comma was forgotten
        node.flush()
    node.value = value


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return _ESCAPE.sub(r"\1", text)


_BULLET = re.compile(r"\s*(?:[-*•+>#]+\s+)?")
_COUNTER = re.compile(r"\d{1,3}[.)]\s+")
_SEPARATOR = re.compile(r"[:=]>?|->|\s-\s|\t|[(\[]|[.)]\s|,\s|\s(?:is|at|with)\s")
_SEGMENT_END = re.compile(r"[,;]\s+|\s/\s|\|")


def _lines(text: str, names: Names) -> _Node:
    """Return what the lines of a reply say, as an object would."""
    said = _Node()
    for raw in text.splitlines():
        line = re.sub(r"\*\*|`|(?<=\d)\s+(?=%)", "", raw).strip()
        whole = _pair(line, names)
        if row := _table_row(line, names):
            said.items += row
        elif whole and (read_number(whole[1]) or names.find(whole[1]) is not None):
            said.items.append(whole)
        else:
            parts = [part.strip() for part in _SEGMENT_END.split(line) if part.strip()]
            pairs = [_pair(part, names) or _alone(part, names) for part in parts]
            # Within prose a lone word is no answer.
            alone = None not in pairs
            said.items += [pair for pair in pairs if pair and (pair[0] or alone)]
    return said


def _alone(part: str, names: Names) -> tuple[str, str] | None:
    return ("", part) if names.find(part) is not None or read_number(part) else None


def _table_row(line: str, names: Names) -> list[tuple[str, str | _Node]]:
    if "|" not in line:
        return []
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    if len(cells) == 2 and _field(cells[0])[0]:
        return [(cells[0], cells[1])] if _alone(cells[1], names) else []
    for i, cell in enumerate(cells):
        if (k := names.named(cell)) is not None:
            numbers = [c for c in cells[i + 1 :] if read_number(c) and names.find(c) != k]
            return [(cell, number) for number in numbers or ["?"]]
    return []


def _pair(segment: str, names: Names) -> tuple[str, str] | None:
    """Split "name: what is said of it" where the longest name fits."""
    body = segment[_BULLET.match(segment).end() :]  # type: ignore[union-attr]
    counter = _COUNTER.match(body)
    for start in (counter.end(), 0) if counter else (0,):
        line, best = body[start:], None
        for separator in _SEPARATOR.finditer(line):
            if separator.start() > names.longest:
                break
            left, value = line[: separator.start()], line[separator.end() :].strip()
            if value and (names.named(left) is not None or _field(left)[0]):
                best = (left, value)
            if best and _field(left)[0]:
                break  # "Answer: A) spam" says that of the answer, not of "Answer: A"
        if best is None:
            left, _, value = line.rpartition(" ")
            if read_number(value) and (names.named(left) is not None or _field(left)[0]):
                best = (left, value)
        if best is not None:
            return best
    return None


# --- what the pairs say of the classes ------------------------------------------------------------

Kind = Literal["answer", "number", ""]
_ANSWER = frozenset(
    (
        *("answer", "label", "class", "category", "prediction", "guess", "g", "choice", "option"),
        *("classification", "decision", "verdict"),
    )
)
_NUMBER = frozenset(
    (
        *("confidence", "probability", "prob", "p", "score", "likelihood", "certainty", "chance"),
        *("percent", "percentage"),
    )
)
_BESIDE = frozenset(
    (
        *("the", "my", "your", "final", "best", "most", "likely", "predicted", "chosen"),
        *("selected", "estimated", "estimate", "overall", "level", "value"),
    )
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")
_NOTHING = frozenset(["", "null", "none", "n/a", "-"])


def _field(key: str) -> tuple[Kind, str]:
    """Tell what a key such as "finalAnswer", "confidence_score" or "P2" stands for."""
    if len(key) > 60:
        return "", ""
    words = [word.casefold() for word in _WORD.findall(key)]
    index = words.pop() if len(words) > 1 and words[-1].isdecimal() else ""
    core = [word for word in words if word not in _BESIDE]
    if not core or not all(word in _ANSWER or word in _NUMBER for word in core):
        return "", ""
    return ("answer" if core[-1] in _ANSWER else "number"), index


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


def _collect(node: _Node, names: Names, said: _Said, in_list: bool = False) -> _Said:
    """Add what a node and those within it say; depth is bounded by the scan."""
    records: dict[str, _Said] = {}
    known = [k for k, v in node.items if isinstance(v, str) and names.find(v) is not None]
    record = any(_field(key)[0] == "answer" for key in known)
    for key, content in node.items:
        k = names.named(key)
        kind, index = _field(key)
        if isinstance(content, _Node):
            if k is None or content.listed:
                _collect(content, names, said, in_list=node.listed)
            else:
                inner = [v for key, v in content.items if _field(key)[0] == "number"]
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
    if (pair := _pair(value, names)) and read_number(pair[1]):
        if (k := names.named(pair[0])) is not None:
            return k, [pair[1]]
    mentioned = names.mentioned(f"answer: {value}")
    return (mentioned.pop() if len(mentioned) == 1 else None), []


# --- the readers ----------------------------------------------------------------------------------


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
        self.text = plain(_spoken(text))
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
            return Report(self._stated([(answer, number) for number in numbers]), answer)
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
        elif self.in_prose and len(mentioned := self.names.mentioned(self.text)) == 1:
            return mentioned.pop()
        self._fail("no label, or more than one, is named as the answer")

    def _read(self, several: bool) -> tuple[bool, _Said]:
        """Return whether lines rather than an object were read, and what they say."""
        done, cut = _scan(self.text)
        if any(_collect(node, self.names, _Said()).about_labels for node in cut):
            self._fail("the reply is cut off")
        for i in reversed(range(len(done))):
            said = _collect(done[i], self.names, _Said())
            if said.about_labels:
                return False, self._with_neighbours(done[: i + 1], said) if several else said
        before = self.text[: cut[0].start] if cut else self.text
        return True, _collect(_lines(before, self.names), self.names, _Said())

    def _with_neighbours(self, nodes: list[_Node], last: _Said) -> _Said:
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

    def _stated(self, said: Sequence[tuple[int | None, str]]) -> NDArray[np.float64]:
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
        if not np.nanmax(stated, initial=0.0) > 0:
            self._fail("all numbers are 0")
        return stated

    def _fail(self, why: str) -> NoReturn:
        shown = " ".join("".join(c if c.isprintable() else " " for c in self.shown).split())
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


def _spoken(text: str) -> str:
    """Return what stands behind the model's thoughts and before those it did not finish."""
    answer = re.split(rf"</{_THOUGHT}", text, flags=re.IGNORECASE)[-1]
    return re.split(rf"<{_THOUGHT}", answer, maxsplit=1, flags=re.IGNORECASE)[0]
