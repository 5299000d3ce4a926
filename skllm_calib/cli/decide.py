"""Accept, review or reject the rows of a file, by a policy with a promise or a risk matrix."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

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
from skllm_calib.cli.console import note, progress_wanted, remark, say
from skllm_calib.cli.decisions import Decide, Decisions, by_matrix, by_policy
from skllm_calib.cli.matrices import impacts_of, read_matrix
from skllm_calib.cli.options import add_cache, load_classifier
from skllm_calib.cli.partial import PartialAnswers
from skllm_calib.cli.policies import (
    add_target,
    fit_policy,
    given_for_fit,
    load_policy,
    policy_of,
    save_policy,
)
from skllm_calib.cli.rows import LabelledRows, add_weight, check_known, file_digest, unseen
from skllm_calib.cli.scoring import score
from skllm_calib.cli.tables import Table, read_table
from skllm_calib.decisions import ReviewPolicy

HELP = "accept, review or reject the rows of a file"

_SAID = {"accept": "accepted", "review": "to review", "reject": "rejected"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="rows: .csv, .tsv, .jsonl or .parquet"
    )
    parser.add_argument("--text", required=True, metavar="COL", help="column with the texts")
    parser.add_argument(
        "--classifier", required=True, metavar="DIR", help="folder that 'calibrate' wrote"
    )
    parser.add_argument(
        "--labelled",
        metavar="FILE",
        help="labelled rows: fit a policy to those that did not calibrate the classifier, and keep "
        "it in DIR (default: the policy that is kept there)",
    )
    parser.add_argument("--label", metavar="COL", help="column with the labels of --labelled")
    add_weight(parser)
    add_target(parser)
    parser.add_argument(
        "--risk-matrix",
        metavar="F",
        help="decide by this matrix instead of a policy: a .json file of RiskMatrix.to_dict()",
    )
    parser.add_argument(
        "--impact",
        metavar="COL",
        help="column with the impact of each row, for --risk-matrix (default: the matrix's own)",
    )
    add_out(parser)
    add_cache(parser)
    parser.add_argument(
        "--on-error",
        choices=["raise", "nan"],
        default="nan",
        help="rows that fail: write no result, or send them to review (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Fit a policy if there are labelled rows, and decide about the others if there are any."""
    set_resume_hint(args)
    _check_arguments(args)
    check_out(args.out, args.file, args.labelled)
    unfitted = policy_of(args)
    table = None if args.file is None else read_table(args.file)
    texts = [] if table is None else table.column(args.text)
    classifier = load_classifier(args)
    labels = sorted(str(label) for label in classifier.classes_.tolist())
    decide: Decide
    if args.risk_matrix is not None:
        matrix = read_matrix(args.risk_matrix, labels)
        assert table is not None  # the arguments have been checked
        impacts = impacts_of(matrix, table, args)
        decide = by_matrix(matrix, None if impacts is None else np.array(impacts), labels)
    elif args.labelled is not None:
        policy = _fitted(unfitted, classifier, labels, args)
        if policy is None:
            return 1
        decide = by_policy(policy)
    else:
        decide = by_policy(load_policy(args.classifier))
    if table is None:
        return 0

    without_bars(classifier)
    source = [file_digest(Path(args.classifier, "model.joblib"))]
    partial = answer_all(
        lambda some: score(classifier, some), texts, source, args, progress_wanted(args)
    )
    if partial is None:
        return 1
    decisions, result = _result(decide, table, partial, labels, args)
    put_out(result, partial, args)
    remark(args, f"{f'Wrote {args.out}: ' if args.out else ''}{_summary(decisions)}")
    return 0


def _check_arguments(args: argparse.Namespace) -> None:
    for_fit = given_for_fit(args)
    if args.risk_matrix is not None:
        policy = for_fit + (["--labelled"] if args.labelled is not None else [])
        if policy:
            raise ValueError(
                f"{policy[0]} is about a policy, and --risk-matrix decides without one: pass one "
                "of the two"
            )
        if args.file is None:
            raise ValueError("--risk-matrix needs FILE, the rows to decide about")
    elif args.impact is not None:
        raise ValueError("--impact goes with --risk-matrix")
    elif args.labelled is None and for_fit:
        raise ValueError(
            f"{for_fit[0]} says how to fit a policy, which takes --labelled FILE; the policy that "
            f"is kept in {args.classifier} is used as it is"
        )
    elif args.labelled is not None and args.label is None:
        raise ValueError("--labelled needs --label COL, the column with its labels")
    elif args.labelled is None and args.file is None:
        raise ValueError(
            "nothing to do: pass FILE with rows to decide about, or --labelled FILE to fit a "
            "policy to, or both"
        )
    if args.file is None and args.out is not None:
        raise ValueError("--out is for decisions: pass FILE, the rows to decide about")


def _fitted(
    policy: ReviewPolicy,
    classifier: CalibratedLLMClassifier,
    labels: list[str],
    args: argparse.Namespace,
) -> ReviewPolicy | None:
    """Fit, show and keep the policy; None if rows failed and that is to stop the command."""
    table = read_table(args.labelled)
    rows = LabelledRows.of(table, args, path=args.labelled, weight=args.weight)
    rows, _ = unseen(rows, args.labelled, args)
    check_known(rows, labels)
    scores = score(classifier, rows.texts)
    for i, reason in scores.failures.items():
        remark(args, f"row {rows.numbers[i]} of {args.labelled} failed: {reason}")
    if not scores.answered():
        raise ValueError(f"none of the {len(rows)} rows could be scored: {scores.failures[0]}")
    if scores.failures and args.on_error == "raise":
        note("skllm-calib: error: no policy was fitted; pass --on-error nan to go on without them")
        return None
    fit_policy(policy, rows, scores.calibrated, labels)
    path = save_policy(policy, rows, args)
    if policy.n_labels_ < len(rows):
        remark(
            args,
            f"As they count differently, {policy.n_labels_} of the {len(rows)} labelled rows "
            "were drawn by their weight.",
        )
    # The decisions may be on stdout, and whoever reads them wants no other text there.
    show = note if args.file is not None and args.out is None else say
    show(policy.summary())
    show(f"\nSaved to {path}")
    return policy


def _result(
    decide: Decide,
    table: Table,
    partial: PartialAnswers,
    labels: list[str],
    args: argparse.Namespace,
) -> tuple[Decisions, Table]:
    answers = [partial.answers[i] for i in range(len(table.rows))]
    nothing = [np.nan] * len(labels)
    decisions = decide(np.array([nothing if a["proba"] is None else a["proba"] for a in answers]))
    named = [f"proba_{label}" for label in labels]
    columns = ["label", "probability", *named, "failure", "action", "reason"]

    def cells() -> Iterator[dict[str, Any]]:
        for answer, label, action, reason in zip(answers, *decisions, strict=True):
            ours = {"failure": answer["failure"], "action": action, "reason": reason}
            if label is not None:
                proba = answer["proba"]
                ours |= {"label": label, "probability": proba[labels.index(label)]}
                ours |= dict(zip(named, proba, strict=True))
            yield ours

    return decisions, beside_the_rows(table, columns, cells(), args)


def _summary(decisions: Decisions) -> str:
    counts, n_failed = Counter(decisions.actions), decisions.labels.count(None)
    own = sorted(counts.keys() - _SAID.keys())  # of a risk matrix with actions of its own
    said = {action: words for action, words in _SAID.items() if counts[action] or not own}
    said |= {action: action for action in own}
    if n_failed:
        said["review"] += f" ({n_failed:,} of them failed)"
    parts = [f"{counts[action]:,} {words}" for action, words in said.items()]
    return f"{len(decisions.actions):,} rows: {', '.join(parts)}"
