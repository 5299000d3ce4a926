"""Test a calibrated classifier on labelled rows it was not calibrated on."""

from types import SimpleNamespace

from skllm_calib.cli.classifier import load_classifier, set_resume_hint
from skllm_calib.cli.console import figures_only, remark, say
from skllm_calib.cli.rows import fresh_rows, table_of
from skllm_calib.display.plotting import check_figure
from skllm_calib.operations.report.evaluation import (
    PICTURE,
    draw_comparison,
    evaluation,
    in_words,
    score,
)

_TARGETS = (0.90, 0.95, 0.99)


def run(args: SimpleNamespace) -> int:
    """Score, compare, and say what may be accepted."""
    set_resume_hint(args)
    if args.plot:
        check_figure(args.plot, PICTURE)
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
    if not figures_only(args, about | figures):
        failed = f" ({len(scores.failures)} more failed)" if scores.failures else ""
        fresh = ", none of which calibrated the classifier" if n_left_out is not None else ""
        say(f"{len(y):,} rows{failed}{fresh}\n")
        say(in_words(figures))
    if args.plot:
        draw_comparison(args.plot, y, scores.at(answered))
        remark(args, f"\nReliability diagram: {args.plot}")
    return 0
