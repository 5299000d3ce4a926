"""Answers to the rows of a file: asked in chunks, kept as they come, and put beside the rows."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sklearn.frozen import FrozenEstimator

from skllm_calib.cli.console import note, remark
from skllm_calib.cli.options import cache_of
from skllm_calib.cli.partial import PartialAnswers
from skllm_calib.cli.rows import file_digest
from skllm_calib.cli.scoring import Scores
from skllm_calib.cli.tables import Table, check_format, to_csv, write_table
from skllm_calib.utils.progress import bar

__all__ = [
    "add_out",
    "answer_all",
    "beside_the_rows",
    "check_out",
    "put_out",
    "set_resume_hint",
    "signature",
    "without_bars",
]

_CHUNK = 50
_CHUNK_WITHOUT_CACHE = 10  # what is lost at most when the process is killed
_LISTED = 20

Ask = Callable[[list[str]], Scores]


def add_out(parser: argparse.ArgumentParser) -> None:
    """Declare where the result goes."""
    parser.add_argument(
        "--out", metavar="FILE", help="result, in the format of its extension (default: CSV, shown)"
    )


def set_resume_hint(args: argparse.Namespace) -> None:
    """Say what is kept, for those who stop the command."""
    again = "run the same command again and only the rest is asked."
    if args.out is not None:
        args.how_to_resume = f"What is done is kept in {args.out}.part: {again}"
    elif cache_of(args) is not None:
        args.how_to_resume = f"Replies so far are kept: {again}"
    else:
        args.how_to_resume = "Nothing was kept: that takes --out or a cache."


def check_out(out: str | None, *read: str | None) -> None:
    """Refuse a result that cannot be written, or that would replace a file that is read."""
    if out is None:
        return
    check_format(out)
    for path in read:
        if path is not None and Path(out).exists() and Path(out).samefile(path):
            raise ValueError(f"--out {out} is the file that is read: name another one")


def signature(args: argparse.Namespace, source: Any) -> str:
    """Hash what the answers depend on: the rows and the `source` of the answers."""
    content = json.dumps([file_digest(args.file), args.text, source])
    return hashlib.sha256(content.encode()).hexdigest()


def without_bars(classifier: Any) -> None:
    """Turn off the progress bars of a classifier: there is one over all the chunks instead."""
    inner = getattr(classifier, "estimator_", classifier)
    if isinstance(inner, FrozenEstimator):
        inner = inner.estimator
    inner.set_params(verbose=0)


def answer_all(
    ask: Ask, texts: list[str | None], source: Any, args: argparse.Namespace, verbose: int
) -> PartialAnswers | None:
    """Ask for what is missing.

    Parameters
    ----------
    ask : callable
        Scores texts.
    texts : list of str or None
        The text of each row.
    source : object
        What the answers depend on besides the rows, in plain JSON values.
    args : Namespace
        The arguments of the command.
    verbose : int
        Whether to show a progress bar.

    Returns
    -------
    PartialAnswers or None
        All answers; None if rows failed and that is to stop the command, which has been said.
    """
    partial = PartialAnswers(args.out, signature(args, source))
    if partial.n_found:
        remark(args, f"Going on: {partial.n_found} of {len(texts)} rows are there already.")
    missing = [i for i in range(len(texts)) if i not in partial.answers]
    size = _CHUNK if cache_of(args) is not None else _CHUNK_WITHOUT_CACHE
    with bar(verbose, "rows") as progress:
        for start in range(0, len(missing), size):
            chunk = missing[start : start + size]
            partial.add(_answer_chunk(ask, texts, chunk))
            if progress is not None:
                progress(start + len(chunk), len(missing))
    failed = {i: a["failure"] for i, a in partial.answers.items() if a["failure"] is not None}
    _list_failures(failed, len(texts))
    if failed and args.on_error == "raise":
        note("skllm-calib: error: no result was written; pass --on-error nan to leave them empty")
        return None
    return partial


def _answer_chunk(ask: Ask, texts: list[str | None], rows: list[int]) -> list[dict[str, Any]]:
    out: dict[int, dict[str, Any]] = {}
    usable: list[tuple[int, str]] = []
    for i in rows:
        text = texts[i]
        if text is None or not text.strip():
            why = "the text is missing" if text is None else "the text is empty"
            out[i] = {"row": i, "proba": None, "failure": why}
        else:
            usable.append((i, text))
    if usable:
        scores = ask([text for _, text in usable])
        for j, (i, _) in enumerate(usable):
            failure = scores.failures.get(j)
            proba = None if failure is not None else scores.calibrated[j].tolist()
            out[i] = {"row": i, "proba": proba, "failure": failure}
    return [out[i] for i in rows]


def _list_failures(failed: dict[int, str], n_rows: int) -> None:
    if not failed:
        return
    note(f"{len(failed)} of {n_rows} rows failed:")
    for i in sorted(failed)[:_LISTED]:
        note(f"  row {i + 1}: {failed[i]}")
    if len(failed) > _LISTED:
        note(f"  ... and {len(failed) - _LISTED} more; the column 'failure' has all reasons")


def beside_the_rows(
    table: Table,
    columns: Sequence[str],
    cells: Iterable[Mapping[str, Any]],
    args: argparse.Namespace,
) -> Table:
    """Put columns behind those of the table, under other names where it has these already.

    Parameters
    ----------
    table : Table
        The rows of the user.
    columns : sequence of str
        The names of our columns.
    cells : iterable of dict
        Our cells of each row, by name.
    args : Namespace
        The arguments of the command.

    Returns
    -------
    Table
    """
    names = {name: _free_name(name, table.columns) for name in columns}
    renamed = [f"'{new}'" for name, new in names.items() if new != name]
    if renamed:
        remark(args, f"The file has columns of these names, so ours are {', '.join(renamed)}.")
    rows = [
        {**row, **{names[name]: ours.get(name) for name in columns}}
        for row, ours in zip(table.rows, cells, strict=True)
    ]
    return Table([*table.columns, *names.values()], rows)


def _free_name(name: str, taken: list[str]) -> str:
    while name in taken:
        name = f"predicted_{name}"
    return name


def put_out(result: Table, partial: PartialAnswers, args: argparse.Namespace) -> None:
    """Write the result, or show it; what was kept on the way is not needed any more."""
    if args.out is None:
        sys.stdout.write(to_csv(result))
        return
    write_table(result, args.out)
    partial.remove()
