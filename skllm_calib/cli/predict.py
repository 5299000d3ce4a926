"""Classify the rows of a file: label, probability of each class, and what failed and why."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.answers import (
    add_out,
    answer_all,
    beside_the_rows,
    check_out,
    put_out,
    set_resume_hint,
    without_bars,
)
from skllm_calib.cli.console import progress_wanted, remark
from skllm_calib.cli.options import (
    add_cache,
    add_evidence,
    add_file,
    add_prompt,
    add_server,
    build_classifier,
    class_list,
    load_classifier,
)
from skllm_calib.cli.partial import PartialAnswers
from skllm_calib.cli.rows import file_digest
from skllm_calib.cli.scoring import score
from skllm_calib.cli.tables import Table, read_table
from skllm_calib.evidence.classifier import LLMClassifier

HELP = "classify the rows of a file"


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
    add_out(parser)
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
    set_resume_hint(args)
    check_out(args.out, args.file)
    table = read_table(args.file)
    texts = table.column(args.text)
    classifier = _classifier(args)
    partial = answer_all(
        lambda some: score(classifier, some), texts, _source(args), args, progress_wanted(args)
    )
    if partial is None:
        return 1
    result = _result(table, partial, classifier, args)
    put_out(result, partial, args)
    if args.out is not None:
        n_failed = sum(answer["failure"] is not None for answer in partial.answers.values())
        remark(args, f"Wrote {args.out}: {_summary(result, n_failed, args)}")
    return 0


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability between 0 and 1")
    return value


def _classifier(args: argparse.Namespace) -> CalibratedLLMClassifier | LLMClassifier:
    if args.classifier is not None:
        if args.classes:
            raise ValueError("--classes goes with --model: a calibrated classifier has its own")
        classifier: CalibratedLLMClassifier | LLMClassifier = load_classifier(args)
    else:
        if not args.classes:
            raise ValueError("--model needs the labels to choose from: --classes a,b,c")
        classifier = build_classifier(args, args.classes)
        remark(args, "These probabilities are raw; 'skllm-calib calibrate' makes them honest.")
    without_bars(classifier)
    return classifier


def _source(args: argparse.Namespace) -> list[Any]:
    """Return what the answers depend on besides the rows."""
    if args.classifier is not None:
        return [file_digest(Path(args.classifier, "model.joblib"))]
    asked = ("model", "classes", "prompt", "instruction", "answer", "base_url")
    read = ("signal", "order_averaging")
    source = [getattr(args, name) for name in (*asked, *read)]
    return source + [path and file_digest(path) for path in (args.prompt_file, args.label_texts)]


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
    cells = [_cells(partial.answers[i], labels, args.threshold) for i in range(len(table.rows))]
    return beside_the_rows(table, ours, cells, args)


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
