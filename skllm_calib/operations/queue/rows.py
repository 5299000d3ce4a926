"""Rows as users give them -> rows that the queue can store: keys checked, values plain."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_classes, shown
from skllm_calib.log_proba.parameters import check_choice
from skllm_calib.log_proba.validation import check_proba

__all__ = ["ACTIONS", "KEYS", "Classes", "Entry", "audit_draw", "check_row", "records", "row_id"]

ACTIONS = ("accept", "review", "reject")
_NEEDED = ("id", "text", "proba", "action")
_OPTIONAL = ("label", "evidence", "reason")
# What `write_rows` adds, so that its files can be read again.
_WRITTEN = ("asked", "audit", "inclusion", "final_label", "labels")
KEYS = _NEEDED + _OPTIONAL


class Entry(NamedTuple):
    """A checked row. ``content`` is canonical JSON: two rows are the same if it is."""

    id: str
    content: str
    text: str
    action: str
    proposed: int | None
    doubt: float


class Classes:
    """The classes of a queue: sorted, known by their text, and kept as JSON."""

    def __init__(self, classes: Any) -> None:
        self.array = check_classes(classes)
        self.values: list[Any] = self.array.tolist()
        self.names = [str(value) for value in self.values]
        # A CSV file and a web page know texts only, so a class is known by its text everywhere.
        self._code = {name: code for code, name in enumerate(self.names)}

    def code(self, label: Any) -> int:
        """Return the number of the class that a label means."""
        try:
            return self._code[str(label)]
        except KeyError:
            raise InvalidInput(
                f"label {label!r} is not one of the classes {shown(self.values)}",
                "label",
                value=label,
            ) from None

    def proba(self, proba: Any) -> list[float] | None:
        """Return one probability per class, or None for a row that has none."""
        if proba is None:
            return None
        given = self._by_class(proba) if isinstance(proba, Mapping) else proba
        try:
            values = np.asarray(given, dtype=np.float64)
            if values.ndim == 1 and np.isnan(values).all() and values.size:
                return None  # as a classifier gives for a row that failed
            checked: list[float] = check_proba(values[None, :], classes=self.array)[0].tolist()
        except (TypeError, ValueError):
            raise InvalidInput(
                f"proba must hold {len(self.values)} probabilities that sum to 1, one per class of "
                f"{shown(self.values)}, got {given!r}",
                "proba",
                value=given,
            ) from None
        return checked

    def _by_class(self, proba: Mapping[Any, Any]) -> list[Any]:
        """Return the values of a mapping from labels in the order of the classes."""
        by_code = {self.code(label): value for label, value in proba.items()}
        missing = [v for code, v in enumerate(self.values) if code not in by_code]
        if missing:
            raise InvalidInput(
                f"proba has no probability of the class {missing[0]!r}", "proba", value=proba
            )
        return [by_code[code] for code in range(len(self.values))]


def records(rows: Any) -> Iterable[Any]:
    """Return rows one by one; a DataFrame by its columns."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return rows.to_dict(orient="records")  # type: ignore[no-any-return]
    if isinstance(rows, str | Mapping):
        raise InvalidInput(
            "rows must be a sequence of mappings or a DataFrame, not a single mapping", "rows"
        )
    return rows  # type: ignore[no-any-return]


def row_id(value: Any) -> str:
    """Return an id as text: CSV files know no numbers, so 7 and "7" are the same row."""
    if isinstance(value, np.generic):
        value = value.item()
    name = str(value)
    # Line breaks would not come back from a form as they were.
    if isinstance(value, bool) or not isinstance(value, str | int) or not name.isprintable():
        raise InvalidInput(
            f"id must be a printable text or an integer, got {value!r}", "id", value=value
        )
    if not name.strip():
        raise InvalidInput("id is empty", "id", value=value)
    return name


def check_row(row: Any, classes: Classes) -> Entry:
    """Return a row in plain form, or raise InvalidInput that names the key at fault."""
    _check_keys(row)
    text, action, reason = row["text"], row["action"], row.get("reason") or ""
    for name, value in (("text", text), ("reason", reason)):
        if not isinstance(value, str):
            raise InvalidInput(f"{name} must be a string, got {value!r}", name, value=value)
    check_choice(action, "action", ACTIONS)
    proba = classes.proba(row["proba"])
    proposed = _proposed(row.get("label"), proba, classes)
    if action == "accept" and proba is None:
        raise InvalidInput("a row without probabilities cannot be accepted", "action", value=action)
    content = {
        "text": text,
        "label": None if proposed is None else classes.values[proposed],
        "proba": proba,
        "action": str(action),
        "evidence": row.get("evidence"),
        "reason": reason,
    }
    doubt = 1.0 if proba is None or proposed is None else 1 - proba[proposed]
    return Entry(row_id(row["id"]), _as_json(content), text, str(action), proposed, doubt)


def _check_keys(row: Any) -> None:
    if not isinstance(row, Mapping):
        raise InvalidInput(f"a row must be a mapping, got {type(row).__name__}", "rows", value=row)
    missing = [key for key in _NEEDED if key not in row]
    if missing:
        raise InvalidInput(
            f"{missing[0]!r} is missing: a row needs {', '.join(_NEEDED)}", missing[0]
        )
    unknown = [key for key in row if key not in KEYS + _WRITTEN]
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} is not a key of a row; the keys are {', '.join(KEYS)}",
            str(unknown[0]),
            value=row[unknown[0]],
        )


def _proposed(label: Any, proba: list[float] | None, classes: Classes) -> int | None:
    """Return the code of the proposed class: the one given, else the most probable."""
    if label is not None:
        return classes.code(label)
    return None if proba is None else int(np.argmax(proba))


def _as_json(content: Mapping[str, Any]) -> str:
    try:
        encoded = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
        encoded.encode()  # an unpaired surrogate would fail only when it is written
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"text or evidence cannot be stored as JSON ({error})", "evidence"
        ) from None
    return encoded


def audit_draw(name: str) -> float:
    """Return a number in [0, 1) that only the id decides, and that looks uniform."""
    digest = hashlib.sha256(b"skllm-calib audit\0" + name.encode()).digest()
    return math.ldexp(int.from_bytes(digest[:8], "big") >> 11, -53)
