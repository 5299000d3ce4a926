"""Write the report of a calibrated classifier on labelled rows: one page, and figures as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skllm_calib.cli.columns import read_ids, read_true_labels
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.matrices import impacts_of, read_matrix
from skllm_calib.cli.options import add_cache, count_or_all, load_classifier
from skllm_calib.cli.policies import has_policy, load_policy, saw
from skllm_calib.cli.probabilities import read_probabilities
from skllm_calib.cli.rows import (
    LabelledRows,
    add_weight,
    check_known,
    draw,
    read_weights,
    unseen,
)
from skllm_calib.cli.tables import Table, read_table
from skllm_calib.operations.report import CalibrationReport, require_page

HELP = "write a report on labelled rows, as a page and as JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="rows: .csv, .tsv, .jsonl or .parquet")
    parser.add_argument("--label", required=True, metavar="COL", help="column with the true labels")
    parser.add_argument(
        "--classifier",
        metavar="DIR",
        help="folder that 'calibrate' wrote; rows that calibrated it are left out, and the policy "
        "that 'decide' keeps there is reported, too (default: the columns proba_LABEL of FILE, as "
        "'predict' and 'decide' write them)",
    )
    parser.add_argument(
        "--text", metavar="COL", help="column with the texts; needed with --classifier"
    )
    parser.add_argument(
        "--id", metavar="COL", help="column that names the rows (default: their numbers, from 1)"
    )
    add_weight(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the page, as .html")
    parser.add_argument("--json", metavar="FILE", help="all figures, without texts")
    parser.add_argument("--title", default="Calibration report", help="title of the page")
    parser.add_argument(
        "--no-texts", action="store_true", help="show no texts: for readers who may not see them"
    )
    parser.add_argument(
        "--n-listed", type=int, default=10, metavar="N", help="rows in each list (%(default)s)"
    )
    parser.add_argument(
        "--n-rows",
        type=count_or_all,
        metavar="N",
        help="rows to draw for the report (default: all that are left)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other rows")
    parser.add_argument(
        "--risk-matrix", metavar="F", help="a .json file of RiskMatrix.to_dict(): count its cells"
    )
    parser.add_argument(
        "--impact",
        metavar="COL",
        help="column with the impact of each row, for --risk-matrix (default: the matrix's own)",
    )
    parser.add_argument(
        "--price-per-million",
        type=_prices,
        metavar="READ,WRITTEN",
        help="price of a million tokens read and of a million written, to tell the cost",
    )
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Score the rows or read their probabilities, and write what they tell."""
    args.how_to_resume = "Run the same command again: replies in the cache are not asked for twice."
    _check_arguments(args)
    table = read_table(args.file)
    options: dict[str, Any] = {
        "title": args.title,
        "n_rows": args.n_listed,
        "price_per_million": args.price_per_million,
    }
    make = _from_file if args.classifier is None else _from_classifier
    report = make(table, args, options)
    for path in filter(None, (args.json, args.out)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        report.save(path)
    say(str(report))
    remark(args, f"\nWritten: {', '.join(filter(None, (args.out, args.json)))}")
    return 0


def _prices(text: str) -> tuple[float, float]:
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = -1.0
    if not (0 <= read < np.inf and 0 <= written < np.inf):
        raise argparse.ArgumentTypeError(f"{text!r} must be two prices: 0.15,0.60")
    return read, written


def _check_arguments(args: argparse.Namespace) -> None:
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


def _from_classifier(
    table: Table, args: argparse.Namespace, options: dict[str, Any]
) -> CalibrationReport:
    classifier = load_classifier(args)
    rows = LabelledRows.of(table, args, path=args.file, weight=args.weight)
    rows, _ = unseen(rows, args.file, args)
    rows = rows.take(draw(rows.labels, args.n_rows, args.seed))
    known = {str(label): label for label in classifier.classes_.tolist()}
    check_known(rows, list(known))
    policy = load_policy(args.classifier) if has_policy(args.classifier) else None
    report = CalibrationReport.from_estimator(
        classifier,
        rows.texts,
        np.array([known[label] for label in rows.labels]),
        sample_weight=rows.weights,
        show_texts=not args.no_texts,
        policy=policy,
        policy_saw_rows=policy is not None and saw(args.classifier, rows),
        **_around(table, args, sorted(known), [number - 1 for number in rows.numbers]),
        **options,
    )
    for failed in report.figures["rows"]["failed"]:
        remark(args, f"row {failed['id']} failed: {failed['reason']}")
    return report


def _from_file(
    table: Table, args: argparse.Namespace, options: dict[str, Any]
) -> CalibrationReport:
    found = read_probabilities(table)
    labels = read_true_labels(table, args.label)
    there = [i for i, label in enumerate(labels) if label is not None]
    if len(there) < len(labels):
        remark(
            args, f"Left out {len(labels) - len(there)} of {len(labels)} rows: they have no label."
        )
    if not there:
        raise ValueError(f"no row of {args.file!r} has a label in column {args.label!r}")
    chosen = [there[i] for i in draw([str(labels[i]) for i in there], args.n_rows, args.seed)]
    texts = None if args.text is None else table.column(args.text)
    rows = LabelledRows(
        [i + 1 for i in chosen],
        ["" if texts is None else texts[i] or "" for i in chosen],
        [str(labels[i]) for i in chosen],
        None if args.weight is None else read_weights(table, args.weight, chosen),
    )
    check_known(rows, found.labels)
    return CalibrationReport.from_predictions(
        rows.labels,
        found.matrix[chosen],
        labels=found.labels,
        texts=None if args.no_texts or texts is None else rows.texts,
        sample_weight=rows.weights,
        **_around(table, args, found.labels, chosen),
        **options,
    )


def _around(
    table: Table, args: argparse.Namespace, labels: Sequence[str], positions: Sequence[int]
) -> dict[str, Any]:
    """Return names and impacts of the rows at some positions of the file."""
    out: dict[str, Any] = {"ids": [i + 1 for i in positions]}
    if args.id is not None:
        out["ids"] = read_ids(table, args.id, positions)
    if args.risk_matrix is not None:
        matrix = out["risk_matrix"] = read_matrix(args.risk_matrix, labels)
        impacts = impacts_of(matrix, table, args)
        out["impact"] = None if impacts is None else [impacts[i] for i in positions]
    return out
