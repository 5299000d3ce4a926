"""Answers to the rows of a table: a stream, kept as they come, and put beside the rows."""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from skllm_calib.cli.classifier import AGAIN, inner_classifier, set_resume_hint
from skllm_calib.cli.console import listed, note, progress_wanted, remark
from skllm_calib.log_proba.scores import prepare_stream
from skllm_calib.log_proba.streams import ScoredBatch
from skllm_calib.operations.predictions import free_names
from skllm_calib.utils.partial import Answer, PartialAnswers
from skllm_calib.utils.progress import bar
from skllm_calib.utils.tables import Table, TableFile, check_format, text_of, write_rows
from skllm_calib.utils.tables.cells import unpaired

_N_AHEAD = 1_000  # rows that a classifier which knows no streams is asked about together


def _file(args: SimpleNamespace) -> str | None:
    return None if args.out in (None, "-") else args.out


def check_out(args: SimpleNamespace, *read: str | None) -> None:
    """Refuse a result that cannot be written, or that would replace a file that is read."""
    set_resume_hint(args)
    if _file(args) is not None:
        args.how_to_resume = f"What is done is kept in {args.out}.part: {AGAIN}"
    check_format(args.out or "-")
    for path in read:
        both = path not in (None, "-") and _file(args) is not None and Path(args.out).exists()
        if both and Path(args.out).samefile(str(path)):
            raise ValueError(f"--out {args.out} is the file that is read: name another one")


def answer_all(
    classifier: Any, table: Table | TableFile, source: Any, args: SimpleNamespace
) -> PartialAnswers:
    """Ask a classifier for what is missing; `source` is what answers depend on besides the rows.

    Raises ValueError if rows failed and that is to stop the command.
    """
    partial, steps = begin_answers(classifier, table, source, args)
    for _ in steps:
        pass
    return partial


def begin_answers(
    classifier: Any, table: Table | TableFile, source: Any, args: SimpleNamespace
) -> tuple[PartialAnswers, Iterator[None]]:
    """Return the answers that are there, and what adds others each time it is taken a step on."""
    table.check(args.text)
    inner_classifier(classifier).set_params(verbose=0)  # there is one bar over all rows
    content = json.dumps([table.digest, args.text, source])
    partial = PartialAnswers(_file(args), hashlib.sha256(content.encode()).hexdigest())
    if partial.n_found:
        remark(args, f"Going on: {partial.n_found} of {table.n_rows} rows are there already.")
    return partial, _steps(classifier, table, partial, args)


def _steps(
    classifier: Any, table: Table | TableFile, partial: PartialAnswers, args: SimpleNamespace
) -> Iterator[None]:
    failed: dict[int, str] = {}
    n_done, n_missing = 0, table.n_rows - partial.n_found
    with bar(progress_wanted(args), "rows") as progress:
        for answers, names in _ask(classifier, table, partial, args):
            partial.add(answers)
            failed |= {a.row: names[a.row] for a in answers if a.failure is not None}
            n_done += len(answers)
            if progress is not None:
                progress(n_done, n_missing, str(inner_classifier(classifier).usage_))
            yield
    if not failed:
        return
    note(f"{len(failed)} of {table.n_rows} rows failed:")
    lines = [f"{failed[i]}: {partial.failures[i]}" for i in sorted(failed)]
    note(listed(lines, "; the column 'failure' has all reasons"))
    if args.on_error == "raise":
        raise ValueError("no result was written; pass --on-error nan to leave them empty")


def _ask(
    classifier: Any, table: Table | TableFile, partial: PartialAnswers, args: SimpleNamespace
) -> Iterator[tuple[list[Answer], dict[int, str]]]:
    """Yield answers to rows that have none, as they come, with what these rows are called."""
    asked: deque[tuple[int, str]] = deque()  # in the order of the stream
    unusable: list[tuple[Answer, str]] = []
    waiting: dict[int, tuple[int, str]] = {}  # by position in the stream

    def texts() -> Iterator[str]:
        for i, (name, cells) in enumerate(table.records()):
            if i in partial:
                continue
            text = text_of(cells.get(args.text))
            if text is None or (problem := _unusable(text)) is not None:
                failure = "the text is missing" if text is None else problem
                unusable.append((Answer(i, None, failure), name))
                continue
            asked.append((i, name))
            yield text

    order = np.argsort([str(label) for label in classifier.classes_.tolist()], kind="stable")
    n_taken, missing = 0, texts()
    first = list(islice(missing, 1))
    batches: Iterable[ScoredBatch] = ()
    if first:  # else not even the model is looked for
        stream = prepare_stream(classifier, chain(first, missing), n_ahead=_N_AHEAD)
        batches = stream.batches(as_they_come=True)
    for batch in batches:
        while asked:
            waiting[n_taken] = asked.popleft()
            n_taken += 1
        proba = np.exp(batch.log_proba[:, order])
        proba /= proba.sum(axis=1, keepdims=True)
        answers: list[Answer] = []
        names: dict[int, str] = {}
        for k, row in enumerate(proba.tolist()):
            assert batch.positions is not None
            i, name = waiting.pop(batch.positions[k])
            failure = batch.failures.get(k)
            answers.append(Answer(i, None if failure else row, failure))
            names[i] = name
        yield answers, names
        yield from _taken(unusable)
    yield from _taken(unusable)


def _taken(
    unusable: list[tuple[Answer, str]],
) -> Iterator[tuple[list[Answer], dict[int, str]]]:
    if unusable:
        answers, names = [a for a, _ in unusable], {a.row: name for a, name in unusable}
        unusable.clear()
        yield answers, names


def _unusable(text: str) -> str | None:
    if not text.strip():
        return "the text is empty"
    return "the text contains an unpaired surrogate" if unpaired(text) else None


def columns_of(labels: Sequence[str]) -> list[str]:
    """Return the columns that say what the model answers."""
    return ["label", "probability", *(f"proba_{label}" for label in labels), "failure"]


def cells_of(answer: Answer, labels: Sequence[str], label: str | None = None) -> dict[str, Any]:
    """Return the cells of these columns; without a label decided, it is the most probable one."""
    if (proba := answer.proba) is None:
        return {"failure": answer.failure}
    chosen = proba.index(max(proba)) if label is None else labels.index(label)
    named = {f"proba_{one}": p for one, p in zip(labels, proba, strict=True)}
    return {"label": labels[chosen], "probability": proba[chosen], **named, "failure": None}


def put_out(
    table: Table | TableFile,
    columns: Sequence[str],
    cells: Iterable[Mapping[str, Any]],
    partial: PartialAnswers,
    args: SimpleNamespace,
) -> str:
    """Put columns behind those of the table, and write all.

    What was kept on the way is not needed any more. Returns what to say of the file.
    """
    own = free_names(table.columns, columns)
    if renamed := ", ".join(f"'{new}'" for new in own if new not in columns):
        remark(args, f"The file has columns of these names, so ours are {renamed}.")
    rows = (
        {**row, **{new: ours.get(name) for name, new in zip(columns, own, strict=True)}}
        for (_, row), ours in zip(table.records(), cells, strict=True)
    )
    write_rows(args.out or "-", [*table.columns, *own], rows, own=own)
    if partial.path is None:
        return ""
    partial.path.unlink(missing_ok=True)
    return f"Wrote {args.out}: "
