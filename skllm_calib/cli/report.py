"""Write the report of a calibrated classifier on labelled rows: one page, and figures as JSON."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas

from skllm_calib.cli.classifier import load_classifier, set_resume_hint
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.rows import fresh_rows, known_as, leave_out, table_of, weights_of
from skllm_calib.cli.rules import has_policy, impacts_of, load_policy, read_matrix, saw
from skllm_calib.operations.predictions import read_ids, read_probabilities, read_true_labels
from skllm_calib.operations.report import CalibrationReport, require_page
from skllm_calib.utils.sampling import draw
from skllm_calib.utils.tables import Table


def run(args: SimpleNamespace) -> int:
    """Score the rows or read their probabilities, and write what they tell."""
    set_resume_hint(args)
    _check_arguments(args)
    table = table_of(args)
    make = _from_file if args.classifier is None else _from_classifier
    report = make(table, args)
    for path in filter(None, (args.json, args.out)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        report.save(path)
    say(str(report))
    remark(args, f"\nWritten: {', '.join(filter(None, (args.out, args.json)))}")
    return 0


def _check_arguments(args: SimpleNamespace) -> None:
    """Refuse what cannot be done before anything is asked and paid for."""
    require_page("skllm-calib report")
    for option, path, endings in (
        ("--out", args.out, (".html", ".htm")),
        ("--json", args.json, (".json",)),
    ):
        if path is not None and Path(path).suffix.lower() not in endings:
            raise ValueError(f"{option} {path}: must end in {endings[0]}")
    if args.classifier is not None and args.text is None:
        raise ValueError("--classifier needs --text COL, the column with the texts to classify")
    if args.impact is not None and args.risk_matrix is None:
        raise ValueError("--impact goes with --risk-matrix")


def _from_classifier(table: Table, args: SimpleNamespace) -> CalibrationReport:
    classifier = load_classifier(args)
    rows, _ = fresh_rows(table, args, classifier.classes_, args.weight)
    known = {str(label): label for label in classifier.classes_.tolist()}
    policy = load_policy(args.classifier) if has_policy(args.classifier) else None
    report = CalibrationReport.from_estimator(
        classifier,
        rows["text"].tolist(),
        np.array([known[label] for label in rows["label"]]),
        sample_weight=None if args.weight is None else rows["weight"].tolist(),
        show_texts=not args.no_texts,
        policy=policy,
        policy_saw_rows=policy is not None and saw(args.classifier, rows),
        **_around(table, args, sorted(known), rows.index.tolist()),
    )
    for failed in report.figures["rows"]["failed"]:
        remark(args, f"row {failed['id']} failed: {failed['reason']}")
    return report


def _from_file(table: Table, args: SimpleNamespace) -> CalibrationReport:
    found = read_probabilities(table)
    labels = read_true_labels(table, args.label)
    there = leave_out(table, args, range(len(labels)), labels, "label")
    rows = pandas.DataFrame({"label": [labels[i] for i in there]}, index=there)
    rows = rows.iloc[draw(rows["label"].tolist(), args.n_rows, args.seed)]
    rows = known_as(rows, table, found.labels)
    chosen = rows.index.tolist()
    texts = None if args.text is None or args.no_texts else table.column(args.text)
    return CalibrationReport.from_predictions(
        rows["label"].tolist(),
        found.matrix[chosen],
        labels=found.labels,
        texts=None if texts is None else [texts[i] or "" for i in chosen],
        sample_weight=weights_of(table, args.weight, chosen),
        **_around(table, args, found.labels, chosen),
    )


def _around(
    table: Table, args: SimpleNamespace, labels: Sequence[str], positions: Sequence[int]
) -> dict[str, Any]:
    """Return what to show, and names and impacts of the rows at some positions of the table."""
    out: dict[str, Any] = {
        "title": args.title,
        "n_rows": args.n_listed,
        "price_per_million": args.price_per_million,
        "ids": [i + 1 for i in positions],
    }
    if args.id is not None:
        out["ids"] = read_ids(table, args.id, positions)
    if args.risk_matrix is not None:
        matrix = out["risk_matrix"] = read_matrix(args.risk_matrix, labels)
        impacts = impacts_of(matrix, table, args)
        out["impact"] = None if impacts is None else [impacts[i] for i in positions]
    return out
