"""Test a calibrated classifier on labelled rows it was not calibrated on."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skllm_calib.cli.classifier import load_classifier
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.picture import check_picture, draw_before_after
from skllm_calib.cli.rows import known_as, labelled_rows, table_of, unseen
from skllm_calib.metrics.headline import measure
from skllm_calib.operations.report.evaluation import (
    QUESTION,
    comparison,
    prior_log_loss,
    score,
    threshold,
    thresholds,
)
from skllm_calib.utils.files import write_text
from skllm_calib.utils.sampling import draw

_TARGETS = (0.90, 0.95, 0.99)


def run(args: SimpleNamespace) -> int:
    """Score, compare, and say what may be accepted."""
    args.how_to_resume = "Run the same command again: replies in the cache are not asked for twice."
    if args.plot:
        check_picture(args.plot)
    classifier = load_classifier(args)
    table = table_of(args)
    rows, n_left_out = unseen(labelled_rows(table, args), table, args)
    rows = rows.iloc[draw(rows["label"].tolist(), args.n_rows, args.seed)]
    rows = known_as(rows, table, classifier.classes_.tolist())

    scores = score(classifier, rows["text"].tolist())
    for i, reason in scores.failures.items():
        remark(args, f"{table.name(rows.index[i])} failed: {reason}")
    answered = scores.answered()
    y = rows["label"].iloc[answered].tolist()
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
    text = json.dumps(result, indent=2)
    if args.json == "-":  # for a program, so nothing else
        say(text)
    else:
        failed = f" ({len(scores.failures)} more failed)" if scores.failures else ""
        fresh = ", none of which calibrated the classifier" if n_left_out is not None else ""
        say(f"{len(y):,} rows{failed}{fresh}\n")
        say(comparison(result["raw"], result["calibrated"], result["prior_log_loss"]))
        say(f"\n{QUESTION} What can be promised with 95 % confidence:\n")
        say(thresholds(result["thresholds"], len(y)))
    if args.plot:
        draw_before_after(args.plot, y, raw, calibrated, scores.labels)
        remark(args, f"\nReliability diagram: {args.plot}")
    if args.json and args.json != "-":
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, text + "\n")
        remark(args, f"All figures: {args.json}")
    return 0
