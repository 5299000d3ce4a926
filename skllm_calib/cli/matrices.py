"""A risk matrix from a file, and the impact of the rows from a column."""

from __future__ import annotations

import argparse
import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from skllm_calib.cli.tables import Table
from skllm_calib.decisions import RiskMatrix

__all__ = ["impacts_of", "read_matrix"]


def read_matrix(path: str, labels: Sequence[str]) -> RiskMatrix:
    """Read what ``RiskMatrix.to_dict`` returned, for probabilities of these labels.

    Raises
    ------
    ValueError
        If the file holds something else, or a matrix of other classes.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"--risk-matrix {path}: not JSON ({e})") from e
    if not isinstance(content, dict):
        raise ValueError(
            f"--risk-matrix {path}: holds a {type(content).__name__}, where the object of "
            "RiskMatrix.to_dict() is needed"
        )
    try:
        matrix = RiskMatrix.from_dict(content)
    except (AttributeError, TypeError, ValueError) as e:
        raise ValueError(f"--risk-matrix {path}: {e}") from e
    known = None if matrix.classes is None else [str(label) for label in matrix.classes.tolist()]
    if known is not None and known != list(labels):
        raise ValueError(
            f"--risk-matrix {path}: is about the classes {', '.join(known)}, but those of the "
            f"classifier are {', '.join(labels)}"
        )
    return matrix


def _read_impacts(table: Table, column: str, matrix: RiskMatrix) -> list[str]:
    """Return the impact level of each row, from the names or numbers of a column.

    Raises
    ------
    ValueError
        If a row has another impact or none; the message names it.
    """
    return [_level(cell, i, column, matrix) for i, cell in enumerate(table.column(column), 1)]


def impacts_of(matrix: RiskMatrix, table: Table, args: argparse.Namespace) -> list[str] | None:
    """Return the impact of each row from the column that was named; None for the matrix's own.

    Raises
    ------
    ValueError
        If there is neither.
    """
    if args.impact is not None:
        return _read_impacts(table, args.impact, matrix)
    if matrix.impact is None:
        raise ValueError(
            f"--risk-matrix {args.risk_matrix}: has no impact of its own: name the column that has "
            "it with --impact COL"
        )
    return None


def _level(cell: str | None, row: int, column: str, matrix: RiskMatrix) -> str:
    names, starts = matrix.impact_levels, matrix.impact_starts
    name = (cell or "").strip()
    if name in names:
        return name
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    if starts is not None and value >= starts[0]:
        return names[bisect_right(starts, value) - 1]
    said = f"has the impact {name!r}" if name else "has no impact"
    numbers = "" if starts is None else f", or a number from {starts[0]:g} on"
    raise ValueError(
        f"row {row} {said} in column {column!r}, where one of the levels must be: "
        f"{', '.join(names)}{numbers}"
    )
