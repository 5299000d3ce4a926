"""Classify the rows of a file: label, probability of each class, and what failed and why."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from skllm_calib._progress import bar
from skllm_calib.calibrated import CalibratedLLMClassifier
from skllm_calib.classifier import LLMClassifier
from skllm_calib.cli.console import note, progress_wanted, remark
from skllm_calib.cli.options import (
    add_cache,
    add_evidence,
    add_file,
    add_prompt,
    add_server,
    build_classifier,
    cache_of,
    class_list,
    load_classifier,
)
from skllm_calib.cli.partial import PartialAnswers
from skllm_calib.cli.rows import file_digest
from skllm_calib.cli.scoring import score
from skllm_calib.cli.tables import Table, check_format, read_table, to_csv, write_table

HELP = "classify the rows of a file"

_CHUNK = 50
_CHUNK_WITHOUT_CACHE = 10  # what is lost at most when the process is killed
_LISTED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_file(parser, label=False)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--classifier", metavar="DIR", help="folder that 'calibrate' wrote")
    which.add_argument("--model", help="a model without calibration: smollm2, openai:NAME, ...")
    parser.add_argument(
        "--classes", type=class_list, metavar="A,B,C", help="the labels, for --model"
    )
    add_prompt(parser)
    add_evidence(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="result, in the format of its extension (default: CSV, shown)"
    )
    parser.add_argument(
        "--threshold",
        type=_probability,
        metavar="T",
        help="add the column 'action': accept from this probability on, else review",
    )
    add_server(parser)
    add_cache(parser)
    parser.add_argument(
        "--on-error",
        choices=["raise", "nan"],
        default="nan",
        help="rows that fail: write no result, or leave them empty (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Ask for what is missing, and write the result when it is complete."""
    _set_resume_hint(args)
    _check_out(args)
    table = read_table(args.file)
    texts = table.column(args.text)
    classifier = _classifier(args)
    partial = PartialAnswers(args.out, _signature(args))
    if partial.n_found:
        remark(args, f"Going on: {partial.n_found} of {len(texts)} rows are there already.")
    _answer(classifier, texts, partial, args)

    failed = {i: a["failure"] for i, a in partial.answers.items() if a["failure"] is not None}
    _list_failures(failed, len(texts))
    if failed and args.on_error == "raise":
        note("skllm-calib: error: no result was written; pass --on-error nan to leave them empty")
        return 1
    result = _result(table, partial, classifier, args)
    if args.out is None:
        sys.stdout.write(to_csv(result))
        return 0
    write_table(result, args.out)
    partial.remove()
    remark(args, f"Wrote {args.out}: {_summary(result, len(failed), args)}")
    return 0


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability between 0 and 1")
    return value


def _set_resume_hint(args: argparse.Namespace) -> None:
    again = "run the same command again and only the rest is asked."
    if args.out is not None:
        args.how_to_resume = f"What is done is kept in {args.out}.part: {again}"
    elif cache_of(args) is not None:
        args.how_to_resume = f"Replies so far are kept: {again}"
    else:
        args.how_to_resume = "Nothing was kept: that takes --out or a cache."


def _check_out(args: argparse.Namespace) -> None:
    if args.out is None:
        return
    check_format(args.out)
    if Path(args.out).exists() and Path(args.out).samefile(args.file):
        raise ValueError(f"--out {args.out} is the file that is read: name another one")


def _classifier(args: argparse.Namespace) -> CalibratedLLMClassifier | LLMClassifier:
    if args.classifier is not None:
        if args.classes:
            raise ValueError("--classes goes with --model: a calibrated classifier has its own")
        classifier: CalibratedLLMClassifier | LLMClassifier = load_classifier(args)
        inner = classifier.estimator_
    else:
        if not args.classes:
            raise ValueError("--model needs the labels to choose from: --classes a,b,c")
        classifier = inner = build_classifier(args, args.classes)
        remark(args, "These probabilities are raw; 'skllm-calib calibrate' makes them honest.")
    inner.set_params(verbose=0)  # one bar over all the chunks instead
    return classifier


def _signature(args: argparse.Namespace) -> str:
    """Hash what the answers depend on."""
    if args.classifier is not None:
        source = [file_digest(Path(args.classifier, "model.joblib"))]
    else:
        asked = ("model", "classes", "prompt", "instruction", "answer", "base_url")
        read = ("signal", "order_averaging")
        source = [getattr(args, name) for name in (*asked, *read)]
        source += [path and file_digest(path) for path in (args.prompt_file, args.label_texts)]
    content = json.dumps([file_digest(args.file), args.text, source])
    return hashlib.sha256(content.encode()).hexdigest()


def _answer(
    classifier: CalibratedLLMClassifier | LLMClassifier,
    texts: list[str | None],
    partial: PartialAnswers,
    args: argparse.Namespace,
) -> None:
    missing = [i for i in range(len(texts)) if i not in partial.answers]
    size = _CHUNK if cache_of(args) is not None else _CHUNK_WITHOUT_CACHE
    with bar(progress_wanted(args), "rows") as progress:
        for start in range(0, len(missing), size):
            chunk = missing[start : start + size]
            partial.add(_answer_chunk(classifier, texts, chunk))
            if progress is not None:
                progress(start + len(chunk), len(missing))


def _answer_chunk(
    classifier: CalibratedLLMClassifier | LLMClassifier, texts: list[str | None], rows: list[int]
) -> list[dict[str, Any]]:
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
        scores = score(classifier, [text for _, text in usable])
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


def _result(
    table: Table,
    partial: PartialAnswers,
    classifier: CalibratedLLMClassifier | LLMClassifier,
    args: argparse.Namespace,
) -> Table:
    labels = sorted(str(label) for label in classifier.classes_.tolist())
    ours = ["label", "probability", *(f"proba_{label}" for label in labels), "failure"]
    if args.threshold is not None:
        ours.append("action")
    names = {name: _free_name(name, table.columns) for name in ours}
    renamed = [f"'{new}'" for name, new in names.items() if new != name]
    if renamed:
        remark(args, f"The file has columns of these names, so ours are {', '.join(renamed)}.")
    rows = []
    for i, row in enumerate(table.rows):
        cells = _cells(partial.answers[i], labels, args.threshold)
        rows.append({**row, **{names[name]: cells.get(name) for name in ours}})
    return Table([*table.columns, *names.values()], rows)


def _free_name(name: str, taken: list[str]) -> str:
    while name in taken:
        name = f"predicted_{name}"
    return name


def _cells(answer: dict[str, Any], labels: list[str], threshold: float | None) -> dict[str, Any]:
    proba = answer["proba"]
    if proba is None:
        return {"failure": answer["failure"], "action": "review"}
    best = max(range(len(labels)), key=lambda k: proba[k])
    accepted = threshold is not None and proba[best] >= threshold
    return {
        "label": labels[best],
        "probability": proba[best],
        **{f"proba_{label}": p for label, p in zip(labels, proba, strict=True)},
        "action": "accept" if accepted else "review",
    }


def _summary(result: Table, n_failed: int, args: argparse.Namespace) -> str:
    parts = [f"{len(result.rows):,} rows"]
    if n_failed:
        parts.append(f"{n_failed:,} failed")
    if args.threshold is not None:
        n_accepted = sum(row[result.columns[-1]] == "accept" for row in result.rows)
        parts += [f"{n_accepted:,} accepted", f"{len(result.rows) - n_accepted:,} to review"]
    return ", ".join(parts)
