"""Calibrate a language model on some labelled rows of a file, and keep it in a folder."""

from __future__ import annotations

import argparse

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.calibration.calibrators import CALIBRATORS
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.options import (
    add_cache,
    add_evidence,
    add_file,
    add_prompt,
    add_server,
    build_classifier,
    cache_of,
    class_list,
    count_or_all,
)
from skllm_calib.cli.rows import LabelledRows, add_weight, draw, write_used
from skllm_calib.cli.search import search_prompt
from skllm_calib.cli.tables import read_table
from skllm_calib.evidence.backends.providers import resolve_model

HELP = "calibrate a model on labelled rows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_file(parser, label=True)
    parser.add_argument("--model", required=True, help="smollm2, llamacpp:PATH.gguf or openai:NAME")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to keep it in")
    parser.add_argument(
        "--method",
        default="auto",
        choices=sorted(CALIBRATORS),
        help="how to calibrate (default: chosen from the data)",
    )
    parser.add_argument(
        "--classes", type=class_list, metavar="A,B,C", help="the labels (default: those of FILE)"
    )
    add_prompt(parser)
    add_evidence(parser)
    parser.add_argument(
        "--n-shots", type=int, default=0, metavar="N", help="examples of each label in the prompt"
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="try several wordings of the question and keep the best",
    )
    parser.add_argument(
        "--n-rows",
        type=count_or_all,
        default=200,
        metavar="N",
        help="rows to draw for the calibration, or 'all' (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other rows")
    add_weight(
        parser,
        "; the draw of --n-rows does not look at it, and drawn rows keep theirs, so 'all' makes "
        "the most of them",
    )
    add_server(parser)
    add_cache(parser)
    parser.add_argument(
        "--on-error",
        choices=["raise", "nan"],
        default="raise",
        help="a row that fails: stop, or go on without it (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Calibrate, save, and show the card."""
    kept = cache_of(args) is not None
    args.how_to_resume = (
        "Replies so far are kept: run the same command again and only the rest is asked."
        if kept
        else "Nothing was kept, because of --cache none."
    )
    resolve_model(args.model)  # an unknown name is an error before anything else happens
    rows = LabelledRows.of(read_table(args.file), args, path=args.file, weight=args.weight)
    classes = args.classes or sorted(set(rows.labels))
    if len(classes) < 2:
        raise ValueError(
            f"column {args.label!r} holds the one label {classes[0]!r}: there is nothing to tell "
            "apart; name the others with --classes"
        )
    _check_labels(rows, classes, args.label)
    drawn = rows.take(draw(rows.labels, args.n_rows, args.seed))
    if args.n_rows is not None and len(drawn) < args.n_rows:
        remark(args, f"There are only {len(drawn)} labelled rows; all of them are used.")

    llm = build_classifier(args, classes, n_shots=args.n_shots, seed=args.seed)
    classifier = CalibratedLLMClassifier(llm, method=args.method)
    weighted = {} if drawn.weights is None else {"sample_weight": drawn.weights}
    if args.search:
        classifier = search_prompt(classifier, drawn.texts, drawn.labels, args, weighted)
    classifier.fit(drawn.texts, drawn.labels, **weighted)
    for estimator in (classifier.estimator, classifier.estimator_):
        estimator.set_params(verbose=0)
    classifier.save(args.out)
    write_used(args.out, drawn, args.file)

    say(repr(classifier.calibration_card_))
    say(f"\nSaved to {args.out}")
    if left := len(rows) - len(drawn):
        remark(
            args,
            f"{left:,} labelled rows are left to test it on: skllm-calib evaluate {args.file} "
            f"--text {args.text} --label {args.label} --classifier {args.out}",
        )
    return 0


def _check_labels(rows: LabelledRows, classes: list[str], column: str) -> None:
    for number, label in zip(rows.numbers, rows.labels, strict=True):
        if label not in classes:
            raise ValueError(
                f"row {number} has the label {label!r} in column {column!r}, which is not one of "
                f"--classes {','.join(classes)}"
            )
