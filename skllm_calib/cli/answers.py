"""Answers to the rows of a table: asked in chunks, kept as they come, and put beside the rows."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skllm_calib.cli.classifier import AGAIN, cache_of, inner_classifier, set_resume_hint
from skllm_calib.cli.console import listed, note, progress_wanted, remark
from skllm_calib.operations.predictions import with_columns
from skllm_calib.operations.report.evaluation import score
from skllm_calib.utils.partial import PartialAnswers
from skllm_calib.utils.progress import bar
from skllm_calib.utils.tables import Table, check_format, write_table
from skllm_calib.utils.tables.cells import unpaired

_CHUNK = 50
_CHUNK_WITHOUT_CACHE = 10  # what is lost at most when the process is killed


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


def answer_all(classifier: Any, table: Table, source: Any, args: SimpleNamespace) -> PartialAnswers:
    """Ask a classifier for what is missing; `source` is what answers depend on besides the rows.

    Raises ValueError if rows failed and that is to stop the command.
    """
    texts = table.column(args.text)
    inner_classifier(classifier).set_params(verbose=0)  # there is one bar over all chunks
    content = json.dumps([table.digest, args.text, source])
    partial = PartialAnswers(_file(args), hashlib.sha256(content.encode()).hexdigest())
    if partial.n_found:
        remark(args, f"Going on: {partial.n_found} of {len(texts)} rows are there already.")
    missing = [i for i in range(len(texts)) if i not in partial.answers]
    size = _CHUNK if cache_of(args) is not None else _CHUNK_WITHOUT_CACHE
    with bar(progress_wanted(args), "rows") as progress:
        for start in range(0, len(missing), size):
            chunk = missing[start : start + size]
            partial.add(_answer_chunk(classifier, texts, chunk))
            if progress is not None:
                progress(start + len(chunk), len(missing))
    failed = [i for i in sorted(partial.answers) if partial.answers[i]["failure"] is not None]
    if not failed:
        return partial
    note(f"{len(failed)} of {len(texts)} rows failed:")
    lines = [f"{table.name(i)}: {partial.answers[i]['failure']}" for i in failed]
    note(listed(lines, "; the column 'failure' has all reasons"))
    if args.on_error == "raise":
        raise ValueError("no result was written; pass --on-error nan to leave them empty")
    return partial


def _answer_chunk(classifier: Any, texts: list[Any], rows: list[int]) -> list[dict[str, Any]]:
    failures = {i: _unusable(texts[i]) for i in rows}
    usable = [i for i in rows if failures[i] is None]
    probas: dict[int, Any] = {}
    if usable:
        scores = score(classifier, [texts[i] for i in usable])
        failures |= {i: scores.failures.get(j) for j, i in enumerate(usable)}
        probas = dict(zip(usable, scores.calibrated.tolist(), strict=True))
    return [
        {"row": i, "proba": None if failures[i] else probas[i], "failure": failures[i]}
        for i in rows
    ]


def _unusable(text: str | None) -> str | None:
    if text is None or not text.strip():
        return "the text is missing" if text is None else "the text is empty"
    return "the text contains an unpaired surrogate" if unpaired(text) else None


def columns_of(labels: Sequence[str]) -> list[str]:
    """Return the columns that say what the model answers."""
    return ["label", "probability", *(f"proba_{label}" for label in labels), "failure"]


def cells_of(
    answer: Mapping[str, Any], labels: Sequence[str], label: str | None = None
) -> dict[str, Any]:
    """Return the cells of these columns; without a label decided, it is the most probable one."""
    if (proba := answer["proba"]) is None:
        return {"failure": answer["failure"]}
    chosen = proba.index(max(proba)) if label is None else labels.index(label)
    named = {f"proba_{one}": p for one, p in zip(labels, proba, strict=True)}
    return {"label": labels[chosen], "probability": proba[chosen], **named, "failure": None}


def put_out(
    table: Table,
    columns: Sequence[str],
    cells: Iterable[Mapping[str, Any]],
    partial: PartialAnswers,
    args: SimpleNamespace,
) -> str:
    """Put columns behind those of the table, and write all.

    What was kept on the way is not needed any more. Returns what to say of the file.
    """
    written, renamed = with_columns(table, columns, cells)
    if renamed:
        ours = ", ".join(f"'{name}'" for name in renamed)
        remark(args, f"The file has columns of these names, so ours are {ours}.")
    write_table(written, args.out or "-")
    if partial.path is None:
        return ""
    partial.path.unlink(missing_ok=True)
    return f"Wrote {args.out}: "
