"""Test a calibrated classifier on labelled rows it was not calibrated on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from skllm_calib.cli.console import remark, say
from skllm_calib.cli.figure import check_figure, draw_before_after
from skllm_calib.cli.options import add_cache, add_file, count_or_all, load_classifier
from skllm_calib.cli.rows import LabelledRows, check_known, draw, unseen
from skllm_calib.cli.scoring import (
    QUESTION,
    comparison,
    measure,
    prior_log_loss,
    score,
    threshold,
    thresholds,
)
from skllm_calib.cli.tables import read_table

HELP = "test a calibrated classifier on other labelled rows"

_TARGETS = (0.90, 0.95, 0.99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_file(parser, label=True)
    parser.add_argument(
        "--classifier", required=True, metavar="DIR", help="folder that 'calibrate' wrote"
    )
    parser.add_argument(
        "--n-rows",
        type=count_or_all,
        metavar="N",
        help="rows to draw for the test (default: all that are left)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other rows")
    parser.add_argument("--plot", metavar="FILE", help="write the reliability diagram, as .png")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Score, compare, and say what may be accepted."""
    args.how_to_resume = "Run the same command again: replies in the cache are not asked for twice."
    if args.plot:
        check_figure(args.plot)
    classifier = load_classifier(args)
    rows = LabelledRows.of(read_table(args.file), args, path=args.file)
    rows, n_left_out = unseen(rows, args.file, args)
    rows = rows.take(draw(rows.labels, args.n_rows, args.seed))
    check_known(rows, classifier.classes_.tolist())

    scores = score(classifier, rows.texts)
    for i, reason in scores.failures.items():
        remark(args, f"row {rows.numbers[i]} failed: {reason}")
    answered = scores.answered()
    if not answered:
        raise ValueError(f"none of the {len(rows)} rows could be scored: {scores.failures[0]}")
    y = [rows.labels[i] for i in answered]
    raw, calibrated = scores.raw[answered], scores.calibrated[answered]
    counts = classifier.calibration_card_["n_by_class"]
    result: dict[str, Any] = {
        "n": len(y),
        "n_failed": len(scores.failures),
        "n_left_out": n_left_out,
        "classes": scores.labels,
        "raw": measure(y, raw, scores.labels),
        "calibrated": measure(y, calibrated, scores.labels),
        "prior_log_loss": prior_log_loss(y, counts, scores.labels),
        "thresholds": [threshold(y, calibrated, scores.labels, t) for t in _TARGETS],
    }
    failed = f" ({len(scores.failures)} more failed)" if scores.failures else ""
    say(f"{len(y):,} rows{failed}, none of which calibrated the classifier\n"
        if n_left_out is not None else f"{len(y):,} rows{failed}\n")  # fmt: skip
    say(comparison(result["raw"], result["calibrated"], result["prior_log_loss"]))
    say(f"\n{QUESTION} What can be promised with 95 % confidence:\n")
    say(thresholds(result["thresholds"], len(y)))
    if args.plot:
        draw_before_after(args.plot, y, raw, calibrated, scores.labels)
        remark(args, f"\nReliability diagram: {args.plot}")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        remark(args, f"All figures: {args.json}")
    return 0
