"""Labelled rows: which can be used, which are drawn, and which have been used before.

Labelled rows are a DataFrame with the columns text, label and weight, whose index holds their
positions in the table.
"""

from collections.abc import Collection, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pandas

from skllm_calib.cli.console import remark
from skllm_calib.operations.records import read_used, text_digest
from skllm_calib.utils.sampling import draw
from skllm_calib.utils.tables import Table, label_of, number_of, read_table, unpaired


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
    rows["weight"] = weights_of(table, weight, used)
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
    column: str | None,
    positions: Sequence[int],
    *,
    zero: bool = False,
    largest: float = float("inf"),
) -> list[float] | None:
    """Read the weights of some rows: numbers above zero, or from zero on; None without a column."""
    if column is None:
        return None
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


def by_label(classes: Any) -> dict[str | None, Any]:
    """Return the classes of an estimator, an array, by what a table calls them."""
    return {label_of(one): one for one in classes.tolist()}


def check_known(  # noqa: PLR0917 (as the message reads)
    table: Table, used: Iterable[int], labels: Any, column: str, known: Collection[Any], of: str
) -> None:
    """Refuse a label that is not one of those known; a row without a label passes."""
    for i in used:
        if labels[i] is not None and labels[i] not in known:
            raise ValueError(
                f"{table.name(i)} has the label {labels[i]!r} in column {column!r}, which is not "
                f"one of {of}"
            )


def check_same(file: str, labels: Sequence[str], known: Iterable[Any], other: str) -> None:
    """Refuse a file whose probabilities are about other labels than those of a queue or monitor."""
    if list(labels) != (mine := sorted(map(str, known))):
        raise ValueError(
            f"{file!r} has probabilities of {', '.join(labels)}, but {other} {', '.join(mine)}: "
            "make another one for them"
        )


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


def fresh_rows(
    table: Table, args: SimpleNamespace, classes: Any, weight: str | None = None
) -> tuple[Any, int | None]:
    """Take labelled rows to test on, as many as ``--n-rows`` says, and what `unseen` left out."""
    rows, n_left_out = unseen(labelled_rows(table, args, weight), table, args)
    if getattr(args, "n_rows", None) is not None:
        rows = rows.iloc[draw(rows["label"].tolist(), args.n_rows, args.seed)]
    return known_as(rows, table, classes.tolist()), n_left_out
