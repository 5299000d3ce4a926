"""Labelled rows: which can be used, which are drawn, and which have been used before."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.cli.console import remark
from skllm_calib.cli.tables import Table

__all__ = [
    "LabelledRows",
    "add_weight",
    "check_known",
    "draw",
    "file_digest",
    "read_used",
    "read_weights",
    "text_digest",
    "unseen",
    "write_used",
]

_FILE = "calibration_rows.json"


@dataclass(frozen=True)
class LabelledRows:
    """Texts with labels.

    Attributes
    ----------
    numbers : list of int
        Their numbers in the file, from 1, the header not counted.
    texts, labels : list of str
        The rows.
    weights : list of float or None
        How much each of them counts; None for all alike.
    """

    numbers: list[int]
    texts: list[str]
    labels: list[str]
    weights: list[float] | None = None

    @classmethod
    def of(
        cls, table: Table, args: argparse.Namespace, *, path: str, weight: str | None = None
    ) -> LabelledRows:
        """Take the rows that have a text and a label, and say how many have not.

        Parameters
        ----------
        table : Table
            The content of the file.
        args : Namespace
            The arguments of the command, which name the columns of texts and labels.
        path : str
            The file, to name it in an error.
        weight : str or None, default=None
            The column of weights.

        Returns
        -------
        LabelledRows
        """
        out = cls([], [], [])
        no_label = no_text = 0
        texts, labels = table.column(args.text), table.column(args.label)
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
            if label is None or not label.strip():
                no_label += 1
            elif text is None or not text.strip():
                no_text += 1
            else:
                out.numbers.append(number)
                out.texts.append(text)
                out.labels.append(label.strip())
        for n, what in ((no_label, "label"), (no_text, "text")):
            if n:
                remark(args, f"Left out {n} of {len(texts)} rows: they have no {what}.")
        if not out.texts:
            raise ValueError(f"no row of {path!r} has both a text and a label")
        if weight is None:
            return out
        positions = [number - 1 for number in out.numbers]
        return replace(out, weights=read_weights(table, weight, positions))

    def take(self, chosen: Sequence[int] | NDArray[np.intp]) -> LabelledRows:
        """Return some of the rows, by position."""
        return LabelledRows(
            [self.numbers[i] for i in chosen],
            [self.texts[i] for i in chosen],
            [self.labels[i] for i in chosen],
            None if self.weights is None else [self.weights[i] for i in chosen],
        )

    def __len__(self) -> int:
        return len(self.texts)


def add_weight(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Declare the column of weights; `more` ends its help."""
    parser.add_argument(
        "--weight",
        metavar="COL",
        help="column that says how much each labelled row counts, such as one over the chance "
        f"with which it was chosen to be labelled{more}",
    )


def read_weights(table: Table, column: str, positions: Sequence[int]) -> list[float]:
    """Read the weights of some rows, given by position."""
    cells = table.column(column)
    return [_weight(cells[i], i + 1, column) for i in positions]


def _weight(cell: str | None, number: int, column: str | None) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        said = f"has the weight {cell!r}" if cell and cell.strip() else "has no weight"
        raise ValueError(
            f"row {number} {said} in column {column!r}, where a number above zero must be; a row "
            "without a label is left out"
        )
    return value


def check_known(rows: LabelledRows, classes: Sequence[Any]) -> None:
    """Refuse labels that the classifier does not know."""
    known = sorted(str(label) for label in classes)
    for number, label in zip(rows.numbers, rows.labels, strict=True):
        if label not in known:
            raise ValueError(
                f"row {number} has the label {label!r}, which the classifier does not know: its "
                f"classes are {', '.join(known)}"
            )


def draw(labels: Sequence[str], n: int | None, seed: int) -> list[int]:
    """Draw rows so that the classes keep their shares, each with a row at least if there is room.

    Parameters
    ----------
    labels : sequence of str
        The label of each row.
    n : int or None
        How many to draw; None or more than there are means all.
    seed : int
        Another seed draws other rows.

    Returns
    -------
    list of int
        Positions, ascending.

    Examples
    --------
    >>> labels = ["ham"] * 90 + ["spam"] * 9 + ["odd"]
    >>> sorted(labels[i] for i in draw(labels, 10, seed=0))
    ['ham', 'ham', 'ham', 'ham', 'ham', 'ham', 'ham', 'ham', 'odd', 'spam']
    """
    if n is None or n >= len(labels):
        return list(range(len(labels)))
    rng = np.random.default_rng(seed)
    _, codes = np.unique(np.asarray(labels), return_inverse=True)
    shuffled = rng.permutation(len(labels))
    counts = np.bincount(codes)
    # Rank of a row within its class, over the size of the class: the rows with the lowest values
    # hold every class in proportion. The first row of a class goes before all others.
    rank = np.empty(len(labels))
    for code in range(len(counts)):
        members = shuffled[codes[shuffled] == code]
        rank[members] = (np.arange(len(members)) + 0.5) / counts[code]
        rank[members[0]] = -counts[code]
    order = shuffled[np.argsort(rank[shuffled], kind="stable")]
    return sorted(order[:n].tolist())


def text_digest(text: str) -> str:
    """Return a short hash of a text, which tells nothing about it."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:20]


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_used(folder: str | os.PathLike[str], rows: LabelledRows, path: str) -> None:
    """Record which rows calibrated the classifier in a folder: numbers and hashes, no texts."""
    content = {
        "about": "rows the classifier was calibrated on; 'evaluate' and 'decide' leave them out",
        "file": Path(path).name,
        "file_sha256": file_digest(path),
        "rows": rows.numbers,
        "texts": [text_digest(text) for text in rows.texts],
    }
    Path(folder, _FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_used(folder: str | os.PathLike[str]) -> set[str] | None:
    """Return the hashes of the texts that calibrated a classifier; None if not recorded."""
    file = Path(folder, _FILE)
    if not file.is_file():
        return None
    return set(json.loads(file.read_text(encoding="utf-8"))["texts"])


def unseen(
    rows: LabelledRows, path: str, args: argparse.Namespace
) -> tuple[LabelledRows, int | None]:
    """Leave out the texts that calibrated the classifier, wherever they come from.

    Parameters
    ----------
    rows : LabelledRows
        The rows.
    path : str
        Their file, to name it.
    args : Namespace
        The arguments of the command, with the folder of the classifier.

    Returns
    -------
    rows : LabelledRows
        The others.
    n_left_out : int or None
        How many rows are left out; None if the folder does not say which those are.
    """
    used = read_used(args.classifier)
    if used is None:
        remark(
            args,
            f"{args.classifier} does not say which rows it was calibrated on: make sure that "
            f"{path} has none of them.",
        )
        return rows, None
    left = [i for i, text in enumerate(rows.texts) if text_digest(text) not in used]
    n_left_out = len(rows) - len(left)
    if n_left_out:
        remark(args, f"Left out {n_left_out} rows that calibrated the classifier.")
    if not left:
        raise ValueError(f"every row of {path!r} calibrated the classifier: none is left")
    return rows.take(left), n_left_out
