"""Labelled rows: which can be used, which are drawn, and which have been used before.

Labelled rows are a DataFrame with the columns text, label and weight, whose index holds their
positions in the table.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas

from skllm_calib.cli.console import remark
from skllm_calib.utils.tables import Table, label_of, number_of, read_table, unpaired

_FILE = "calibration_rows.json"


def table_of(args: SimpleNamespace, path: str | None = None) -> Table:
    """Read the table of a command, or another one, as ``--sep`` and ``--encoding`` say."""
    return read_table(path or args.file, sep=args.sep, encoding=args.encoding)


def texts_of(table: Table, column: str) -> list[str | None]:
    """Return a column of texts, None where there is nothing but spaces."""
    return [text if text and text.strip() else None for text in table.column(column)]


def labelled_rows(table: Table, args: SimpleNamespace, weight: str | None = None) -> Any:
    """Take the rows that have a text and a label, and say how many have not."""
    labels, texts = table.labels(args.label), texts_of(table, args.text)
    used = leave_out(table, args, range(len(labels)), labels, "label")
    used = leave_out(table, args, used, texts, "text")
    for i in used:
        if unpaired(str(texts[i])):
            raise ValueError(f"{table.name(i)} has an unpaired surrogate in column {args.text!r}")
    rows = pandas.DataFrame({"text": texts, "label": labels}, dtype=object).loc[used]
    rows["weight"] = None if weight is None else weights_of(table, weight, used)
    return rows


def leave_out(
    table: Table,
    args: SimpleNamespace,
    used: Sequence[int],
    cells: Sequence[Any],
    what: str,
    *,
    say_so: bool = True,
) -> list[int]:
    """Return the positions of the rows that have something, and say how many have not."""
    left = [i for i in used if cells[i] is not None]
    if not left:
        raise ValueError(f"no row of {table.path!r} has a {what} in column {getattr(args, what)!r}")
    if say_so and (n := len(used) - len(left)):
        remark(args, f"Left out {n} of {len(table.rows)} rows: they have no {what}.")
    return left


def weights_of(
    table: Table,
    column: str,
    positions: Sequence[int],
    *,
    zero: bool = False,
    largest: float = float("inf"),
) -> list[float]:
    """Read the weights of some rows: numbers above zero, or from zero on."""
    cells, out = table.column(column), []
    for i in positions:
        try:
            out.append(number_of(cells[i], decimal_comma=table.decimal_comma))
        except ValueError:
            out.append(float("nan"))
        if not (0 < out[-1] < float("inf") or (zero and out[-1] == 0)):
            cell = (cells[i] or "").strip()
            said = f"has the weight {cell!r}" if cell else "has no weight"
            raise ValueError(
                f"{table.name(i)} {said} in column {column!r}, where a number "
                f"{'from zero on' if zero else 'above zero'} must be; a row without a label is "
                "left out"
            )
        if out[-1] > largest:
            raise ValueError(
                f"{table.name(i)} has the weight {out[-1]:g} in column {column!r}, above the "
                f"largest that the monitor is prepared for, {largest:g}: start it with "
                "--max-weight one over the smallest probability with which a row is labelled"
            )
    return out


def known_as(rows: Any, table: Table, classes: Sequence[Any]) -> Any:
    """Return the rows with the classes' own spelling of the labels; refuse other labels."""
    known = {label_of(one): str(one) for one in classes}
    for i, label in rows["label"].items():
        if label not in known:
            raise ValueError(
                f"{table.name(i)} has the label {label!r}, which the classifier does not know: "
                f"its classes are {', '.join(sorted(known.values()))}"
            )
    return rows.assign(label=[known[label] for label in rows["label"]])


def text_digest(text: str) -> str:
    """Return a short hash of a text, which tells nothing about it."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:20]


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_used(folder: str | Path, rows: Any, table: Table) -> None:
    """Record which rows calibrated the classifier in a folder: numbers and hashes, no texts."""
    content = {
        "about": "rows the classifier was calibrated on; 'evaluate' and 'decide' leave them out",
        "file": Path(table.path).name,
        "file_sha256": table.digest,
        "rows": [int(i) + 1 for i in rows.index],
        "texts": [text_digest(text) for text in rows["text"]],
    }
    Path(folder, _FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_used(folder: str | Path) -> set[str] | None:
    """Return the hashes of the texts that calibrated a classifier; None if not recorded."""
    file = Path(folder, _FILE)
    return set(json.loads(file.read_text("utf-8"))["texts"]) if file.is_file() else None


def unseen(rows: Any, table: Table, args: SimpleNamespace) -> tuple[Any, int | None]:
    """Leave out the texts that calibrated the classifier; say how many, None if not recorded."""
    used = read_used(args.classifier)
    if used is None:
        remark(
            args,
            f"{args.classifier} does not say which rows it was calibrated on: make sure that "
            f"{table.path} has none of them.",
        )
        return rows, None
    left = rows[[text_digest(text) not in used for text in rows["text"]]]
    n_left_out = len(rows) - len(left)
    if n_left_out:
        remark(args, f"Left out {n_left_out} rows that calibrated the classifier.")
    if not len(left):
        raise ValueError(f"every row of {table.path!r} calibrated the classifier: none is left")
    return left, n_left_out
