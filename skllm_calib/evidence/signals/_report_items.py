"""Bringing a reply of any form into one shape: names with what is said of them.

Objects and lists may be JSON, Python or neither quite, in fences or in prose; what is no object is
read by its lines: "name: number", lists, tables. Nothing here decides what the pairs mean.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from skllm_calib.evidence.signals._names import Names
from skllm_calib.evidence.signals._report_numbers import read_number

__all__ = ["Kind", "Node", "field_of", "read_lines", "scan", "split_pair", "spoken"]

_THOUGHT = r"(?:think|thinking|thought|reasoning)>"


def spoken(text: str) -> str:
    """Return what stands behind the model's thoughts and before those it did not finish."""
    answer = re.split(rf"</{_THOUGHT}", text, flags=re.IGNORECASE)[-1]
    return re.split(rf"<{_THOUGHT}", answer, maxsplit=1, flags=re.IGNORECASE)[0]


# --- objects and lists ----------------------------------------------------------------------------

_START = re.compile(r"\{|\[(?=\s*\{)")
_TOKEN = re.compile(
    r"[{}\[\],:\"']|//[^\n]*"
    r"|(?P<bare>\d+,\d+(?:\s*%)?(?=\s*[,}\n])|[^\s{}\[\],:\"'](?:(?!\s//)[^{}\[\],:\n\"])*)"
)
_CLOSING = re.compile(r"\\.|[\"'](?=[ \t]*(?:[,:}\]\n]|\Z))", re.DOTALL)
_DEEPEST = 8
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass
class Node:
    """Pairs of a key and a value: an object, a list (keys are empty), or the lines of a reply."""

    start: int = 0
    listed: bool = False
    items: list[tuple[str, str | Node]] = field(default_factory=list)
    end: int = 0
    height: int = 1
    key: str = ""
    value: str | Node | None = None  # read, not yet known to be the value of `key`

    def flush(self) -> None:
        if self.value is not None:
            self.items.append((self.key, self.value))
        self.key, self.value = "", None


def scan(text: str) -> tuple[list[Node], list[Node]]:
    """Return the outermost complete objects and lists, in order, and those left open.

    One pass with a stack of its own, so that neither depth nor stray quotes and braces matter.
    """
    closings: dict[str, list[int]] = {'"': [], "'": []}
    for mark in _CLOSING.finditer(text):
        if mark[0] in closings:
            closings[mark[0]].append(mark.start())
    done: list[Node] = []
    stack: list[Node] = []
    position = 0
    while token := (_TOKEN if stack else _START).search(text, position):
        position = token.end()
        said = token[0]
        if said in ("{", "["):
            stack.append(Node(token.start(), said == "["))
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
        done += [value for _, value in node.items if isinstance(value, Node)]
        node.items = [(key, value) for key, value in node.items if isinstance(value, str)]
    return done, stack


def _close(stack: list[Node], done: list[Node], listed: bool, position: int) -> None:
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


def _put(node: Node, value: str | Node) -> None:
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


# --- lines and tables -----------------------------------------------------------------------------

_BULLET = re.compile(r"\s*(?:[-*•+>#]+\s+)?")
_COUNTER = re.compile(r"\d{1,3}[.)]\s+")
_SEPARATOR = re.compile(r"[:=]>?|->|\s-\s|\t|[(\[]|[.)]\s|,\s|\s(?:is|at|with)\s")
_SEGMENT_END = re.compile(r"[,;]\s+|\s/\s|\|")


def read_lines(text: str, names: Names) -> Node:
    """Return what the lines of a reply say, as an object would."""
    said = Node()
    for raw in text.splitlines():
        line = re.sub(r"\*\*|`|(?<=\d)\s+(?=%)", "", raw).strip()
        whole = split_pair(line, names)
        if row := _table_row(line, names):
            said.items += row
        elif whole and (read_number(whole[1]) or names.find(whole[1]) is not None):
            said.items.append(whole)
        else:
            parts = [part.strip() for part in _SEGMENT_END.split(line) if part.strip()]
            pairs = [split_pair(part, names) or _alone(part, names) for part in parts]
            # Within prose a lone word is no answer.
            alone = None not in pairs
            said.items += [pair for pair in pairs if pair and (pair[0] or alone)]
    return said


def _alone(part: str, names: Names) -> tuple[str, str] | None:
    return ("", part) if names.find(part) is not None or read_number(part) else None


def _table_row(line: str, names: Names) -> list[tuple[str, str | Node]]:
    if "|" not in line:
        return []
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    if len(cells) == 2 and field_of(cells[0])[0]:
        return [(cells[0], cells[1])] if _alone(cells[1], names) else []
    for i, cell in enumerate(cells):
        if (k := names.named(cell)) is not None:
            others = {names.find(c) for c in cells[i + 1 :] if not read_number(c)} - {None, k}
            if others:  # a key beside the wording of another class
                return [(cell, "?")]
            numbers = [c for c in cells[i + 1 :] if read_number(c) and names.find(c) != k]
            return [(cell, number) for number in numbers or ["?"]]
    return []


def split_pair(segment: str, names: Names) -> tuple[str, str] | None:
    """Split "name: what is said of it" where the longest name fits."""
    body = segment[_BULLET.match(segment).end() :]  # type: ignore[union-attr]
    counter = _COUNTER.match(body)
    for start in (counter.end(), 0) if counter else (0,):
        line, best = body[start:], None
        for separator in _SEPARATOR.finditer(line):
            if separator.start() > names.longest:
                break
            left, value = line[: separator.start()], line[separator.end() :].strip()
            within = value.partition(")")[0] if separator[0] == "(" else ""
            if field_of(left)[0] == "number" and names.find(within) is not None:
                continue  # "P(spam)" is one name
            if left.rstrip().endswith((":", "=")):
                continue  # the dash of "spam: - 0.3" is a sign
            if value and (names.named(left) is not None or field_of(left)[0]):
                best = (left, value)
            if best and field_of(left)[0]:
                break  # "Answer: A) spam" says that of the answer, not of "Answer: A"
        if best is None:
            left, _, value = line.rpartition(" ")
            if read_number(value) and (names.named(left) is not None or field_of(left)[0]):
                best = (left, value)
        if best is not None:
            return best
    return None


# --- what a key stands for ------------------------------------------------------------------------

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


def field_of(key: str) -> tuple[Kind, str]:
    """Tell what a key such as "finalAnswer", "confidence_score" or "P2" stands for."""
    if len(key) > 60:
        return "", ""
    words = [word.casefold() for word in _WORD.findall(key)]
    index = words.pop() if len(words) > 1 and words[-1].isdecimal() else ""
    core = [word for word in words if word not in _BESIDE]
    if not core or not all(word in _ANSWER or word in _NUMBER for word in core):
        return "", ""
    return ("answer" if core[-1] in _ANSWER else "number"), index
