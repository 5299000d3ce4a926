"""Answers that are kept as they come, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skllm_calib.utils.files import write_text

__all__ = ["PartialAnswers"]


class PartialAnswers:
    """Answers by row number, appended to ``OUT.part`` as they come: they survive the process.

    Answers to another question are not taken over: their `signature` is another. Without a file,
    they are kept in memory only.
    """

    def __init__(self, out: str | Path | None, signature: str) -> None:
        self.path = None if out is None else Path(f"{out}.part")
        self._signature = signature
        self.answers: dict[int, dict[str, Any]] = self._read()
        self.n_found = len(self.answers)
        if self.path is not None:
            # Written anew, so that a line that was cut off does not spoil the next one.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = [{"signature": signature}, *self.answers.values()]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in content))

    def add(self, answers: list[dict[str, Any]]) -> None:
        """Keep some more answers; each has its row number in ``row``."""
        self.answers.update({answer["row"]: answer for answer in answers})
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as f:
                f.write("".join(json.dumps(answer) + "\n" for answer in answers))

    def _read(self) -> dict[int, dict[str, Any]]:
        """Return the answers of an earlier run; what failed then is to be asked again."""
        if self.path is None or not self.path.is_file():
            return {}
        lines = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:  # the process died while it wrote this line
                continue
        if not lines or lines[0].get("signature") != self._signature:
            return {}
        return {line["row"]: line for line in lines[1:] if line.get("failure") is None}
