"""Test a calibrated classifier on labelled rows it was not calibrated on."""

import json
from pathlib import Path
from types import SimpleNamespace

from skllm_calib.cli.classifier import load_classifier, set_resume_hint
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.picture import check_picture, draw_before_after
from skllm_calib.cli.rows import fresh_rows, table_of
from skllm_calib.operations.report.evaluation import (
    QUESTION,
    comparison,
    evaluation,
    score,
    thresholds,
)
from skllm_calib.utils.files import write_text

_TARGETS = (0.90, 0.95, 0.99)


def run(args: SimpleNamespace) -> int:
    """Score, compare, and say what may be accepted."""
    set_resume_hint(args)
    if args.plot:
        check_picture(args.plot)
    classifier = load_classifier(args)
    table = table_of(args)
    rows, n_left_out = fresh_rows(table, args, classifier.classes_)
    scores = score(classifier, rows["text"].tolist())
    for i, reason in scores.failures.items():
        remark(args, f"{table.name(rows.index[i])} failed: {reason}")
    answered = scores.answered()
    y = rows["label"].iloc[answered].tolist()
    counts = classifier.calibration_card_["n_by_class"]
    figures = evaluation(y, scores.at(answered), counts, _TARGETS)
    about = {"n": len(y), "n_failed": len(scores.failures), "n_left_out": n_left_out}
    text = json.dumps(about | figures, indent=2)
    if args.json == "-":  # for a program, so nothing else
        say(text)
    else:
        failed = f" ({len(scores.failures)} more failed)" if scores.failures else ""
        fresh = ", none of which calibrated the classifier" if n_left_out is not None else ""
        say(f"{len(y):,} rows{failed}{fresh}\n")
        say(comparison(figures))
        say(f"\n{QUESTION} What can be promised with 95 % confidence:\n")
        say(thresholds(figures["thresholds"], len(y)))
    if args.plot:
        draw_before_after(args.plot, y, scores.at(answered))
        remark(args, f"\nReliability diagram: {args.plot}")
    if args.json and args.json != "-":
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, text + "\n")
        remark(args, f"All figures: {args.json}")
    return 0
