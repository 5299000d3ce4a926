"""CalibrationCard: what was calibrated, on what, how, and how good it is on held-out rows."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from skllm_calib.utils.files import read_saved, write_text

__all__ = ["CalibrationCard"]

_MOST_SHOWN = 12
_MOST_PARAMETERS = 5  # a mean of calibrators has dozens; all of them are in the JSON
_METRICS = {"log_loss": "log-loss", "brier": "Brier", "ece": "ECE", "accuracy": "accuracy"}


class CalibrationCard(Mapping[str, Any]):
    """A read-only record in plain JSON values that prints well.

    Parameters
    ----------
    content : dict
        Plain JSON values.

    Examples
    --------
    >>> card = CalibrationCard({"n": 200, "classes": ["ham", "spam"], "method": "vector"})
    >>> card["n"]
    200
    >>> print(card)
    Calibration card
      n        200
      classes  ham, spam
      method   vector
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def to_json(self) -> str:
        """Return the card as indented JSON."""
        return json.dumps(self._content, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the card to a JSON file."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibrationCard:
        """Read a card that :meth:`save` wrote."""
        return read_saved(path, "calibration card", cls._from_json, "Save the card again.")

    @classmethod
    def _from_json(cls, text: str) -> CalibrationCard:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it does not hold an object")
        return cls(content)

    def __repr__(self) -> str:
        rows = list(self.rows())
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"  {name:<{width}}  {value}" for name, value in rows]
        return "\n".join(["Calibration card", *lines, *self._members(), *self._table()])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self.rows()
        )
        table = html.escape("\n".join([*self._members(), *self._table()]))
        return f"<b>Calibration card</b><table>{cells}</table><pre>{table}</pre>"

    def rows(self) -> Iterator[tuple[str, str]]:
        """Return names and values as they are shown, without the tables of figures."""
        for name, value in self._content.items():
            if name not in ("members", "held_out"):
                most = _MOST_PARAMETERS if name == "parameters" else _MOST_SHOWN
                yield name.replace("_", " "), _shown(value, most)

    def _members(self) -> list[str]:
        """Lay out the weights and scores of the members of a mean, one line each."""
        members = self._content.get("members")
        if not members:
            return []
        width = max(map(len, members))
        lines = ["", "  members, cross-validated", f"  {'':<{width}}{'weight':>8}{'log-loss':>10}"]
        for name, found in members.items():
            line = f"  {name:<{width}}{found['weight']:>8.2f}{found['log_loss']:>10.3f}"
            if found["standard_error"]:
                line += f"   difference from the best: standard error {found['standard_error']:.3f}"
            lines.append(line)
        return lines

    def _table(self) -> list[str]:
        """Lay out the held-out metrics before and after, one line each."""
        held_out = self._content.get("held_out")
        if not held_out:
            return []
        before, after = held_out["before"], held_out["after"]
        lines = ["", f"  held out ({held_out['how']})", f"  {'':<10}{'raw':>8}{'calibrated':>12}"]
        for key, name in _METRICS.items():
            line = f"  {name:<10}{before[key]:>8.3f}{after[key]:>12.3f}"
            if key == "ece":
                low, high = after["ece_interval"]
                line += (
                    f"   {held_out['confidence']:.0%} interval {low:.3f} to {high:.3f}, "
                    f"a perfectly calibrated model would show {after['ece_floor']:.3f}"
                )
            lines.append(line)
        return lines


def _shown(value: Any, most: int = _MOST_SHOWN) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and value:
        shown = [_shown(v) for v in value[:most]]
        return ", ".join(shown + ([f"... ({len(value)} in all)"] if len(value) > most else []))
    if isinstance(value, Mapping):
        shown = [f"{k}: {_shown(v)}" for k, v in list(value.items())[:most]]
        return "; ".join(shown + ([f"... ({len(value)} in all)"] if len(value) > most else []))
    return str(value) if value or value == 0 else "-"  # None and empty lists
