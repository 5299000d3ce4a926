"""Answers that are kept as they come, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skllm_calib.utils.files import replacing

__all__ = ["Answer", "PartialAnswers"]


class Answer(NamedTuple):
    """The probabilities of a row, or why it has none."""

    row: int
    proba: Sequence[float] | None
    failure: str | None = None


class PartialAnswers:
    """Answers by row number, appended to ``OUT.part`` as they come: they survive the process.

    Answers to another question are not taken over: their `signature` is another. Without a file,
    they are kept in memory only, where an answer takes 8 bytes per class.

    Attributes
    ----------
    path : Path or None
        The file.
    n_found : int
        How many answers were there at the beginning.
    failures : dict of int to str
        Why rows have no probabilities.
    """

    def __init__(self, out: str | Path | None, signature: str) -> None:
        self.path = None if out is None else Path(f"{out}.part")
        self.failures: dict[int, str] = {}
        self._signature = signature
        self._proba = array("d")
        self._is_known = bytearray()
        self._n_classes = 0
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Written anew, so that a line that was cut off does not spoil the next one.
            with replacing(self.path) as fresh, open(fresh, "w", encoding="utf-8") as file:
                file.write(json.dumps({"signature": signature}) + "\n")
                for answer in self._read():
                    self._take(answer)
                    file.write(_line(answer))
        self.n_found = sum(self._is_known)

    def __contains__(self, row: int) -> bool:
        return row < len(self._is_known) and bool(self._is_known[row])

    def __getitem__(self, row: int) -> Answer:
        if row not in self:
            return Answer(row, None, self.failures.get(row))
        k = self._n_classes
        return Answer(row, self._proba[row * k : (row + 1) * k].tolist())

    def is_settled(self, row: int) -> bool:
        """Tell whether a row has been answered, or failed."""
        return row in self or row in self.failures

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep some more answers."""
        for answer in answers:
            self._take(answer)
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as f:
                f.write("".join(map(_line, answers)))

    def _take(self, answer: Answer) -> None:
        if answer.proba is None:
            self.failures[answer.row] = answer.failure or ""
            return
        self._n_classes = len(answer.proba)
        if (n_more := answer.row + 1 - len(self._is_known)) > 0:
            self._is_known.extend(bytes(n_more))
            self._proba.extend([0.0] * n_more * self._n_classes)
        start = answer.row * self._n_classes
        self._proba[start : start + self._n_classes] = array("d", answer.proba)
        self._is_known[answer.row] = True

    def _read(self) -> Iterator[Answer]:
        """Yield the answers of an earlier run; what failed then is to be asked again."""
        if self.path is None or not self.path.is_file():
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for n, line in enumerate(file):
                found = _parsed(line)
                if n == 0 and found.get("signature") != self._signature:
                    return
                if found.get("proba") is not None:
                    yield Answer(found["row"], found["proba"])


def _line(answer: Answer) -> str:
    return json.dumps(answer._asdict()) + "\n"


def _parsed(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (TypeError, ValueError):  # the process died while it wrote this line
        return {}
