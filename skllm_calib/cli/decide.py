"""Accept, review or reject the rows of a table, by a policy with a promise or a risk matrix."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli import rules
from skllm_calib.cli.answers import answer_all, cells_of, check_out, columns_of, put_out
from skllm_calib.cli.classifier import load_classifier
from skllm_calib.cli.console import note, remark, say
from skllm_calib.cli.rows import fresh_rows, table_of
from skllm_calib.decisions import ReviewPolicy, RiskMatrix
from skllm_calib.operations.records import file_digest
from skllm_calib.operations.report.evaluation import score
from skllm_calib.persistence import model_file

_SAID = {"accept": "accepted", "review": "to review", "reject": "rejected"}


def run(args: SimpleNamespace) -> int:
    """Fit a policy if there are labelled rows, and decide about the others if there are any."""
    _check_arguments(args)
    check_out(args, args.file, args.labelled)
    rule: ReviewPolicy | RiskMatrix = rules.policy_of(args)
    table = None if args.file is None else table_of(args)
    if table is not None:
        table.column(args.text)
    classifier = load_classifier(args)
    labels = sorted(str(label) for label in classifier.classes_.tolist())
    impacts = None
    if args.risk_matrix is not None:
        rule = rules.read_matrix(args.risk_matrix, labels)
        assert table is not None  # the arguments have been checked
        impacts = rules.impacts_of(rule, table, args)
    elif args.labelled is not None:
        rule = _fitted(rule, classifier, labels, args)
    else:
        rule = rules.load_policy(args.classifier)
    if table is None:
        return 0

    source = [file_digest(model_file(args.classifier))]
    partial = answer_all(classifier, table, source, args)
    answers = [partial[i] for i in range(table.n_rows)]
    nothing = [np.nan] * len(labels)
    proba = np.array([nothing if a.proba is None else a.proba for a in answers])
    if isinstance(rule, RiskMatrix):
        decided = rules.decide_by_matrix(rule, impacts, proba, labels)
    else:
        actions = rule.decide(proba).tolist()
        decided = (rule.predict(proba).tolist(), actions, rule.explain(proba))
    cells = [
        {**cells_of(answer, labels, label), "action": action, "reason": reason}
        for answer, label, action, reason in zip(answers, *decided, strict=True)
    ]
    wrote = put_out(table, [*columns_of(labels), "action", "reason"], cells, partial, args)
    remark(args, f"{wrote}{_summary(decided[1], decided[0].count(None))}")
    return 0


def _check_arguments(args: SimpleNamespace) -> None:
    for_fit, matrix = rules.given_for_fit(args), args.risk_matrix is not None
    for_policy = for_fit + ["--labelled"] * (args.labelled is not None)
    mistakes = {
        f"{for_policy[0] if for_policy else ''} is about a policy, and --risk-matrix decides "
        "without one: pass one of the two": matrix and for_policy,
        "--risk-matrix needs FILE, the rows to decide about": matrix and args.file is None,
        "--impact goes with --risk-matrix": not matrix and args.impact is not None,
        f"{for_fit[0] if for_fit else ''} says how to fit a policy, which takes --labelled FILE; "
        f"the policy that is kept in {args.classifier} is used as it is": (
            args.labelled is None and for_fit
        ),
        "--labelled needs --label COL, the column with its labels": (
            args.labelled is not None and args.label is None
        ),
        "nothing to do: pass FILE with rows to decide about, or --labelled FILE to fit a policy "
        "to, or both": args.labelled is None and args.file is None,
        "--out is for decisions: pass FILE, the rows to decide about": (
            args.file is None and args.out is not None
        ),
    }
    for message, mistaken in mistakes.items():
        if mistaken:
            raise ValueError(message)


def _fitted(
    policy: Any, classifier: CalibratedLLMClassifier, labels: list[str], args: SimpleNamespace
) -> ReviewPolicy:
    """Fit, show and keep the policy; ValueError if rows failed and that is to stop the command."""
    table = table_of(args, args.labelled)
    rows, _ = fresh_rows(table, args, classifier.classes_, args.weight)
    scores = score(classifier, rows["text"].tolist())
    for i, reason in scores.failures.items():
        remark(args, f"{table.name(rows.index[i])} of {args.labelled} failed: {reason}")
    scores.answered()
    if scores.failures and args.on_error == "raise":
        raise ValueError("no policy was fitted; pass --on-error nan to go on without them")
    weights = None if args.weight is None else rows["weight"].to_numpy(dtype=float)
    fitted: ReviewPolicy = policy.fit(
        rows["label"].tolist(), scores.calibrated, weights, classes=labels
    )
    path = rules.save_policy(fitted, rows, table, args.classifier)
    if fitted.n_labels_ < len(rows):
        remark(
            args,
            f"As they count differently, {fitted.n_labels_} of the {len(rows)} labelled rows "
            "were drawn by their weight.",
        )
    # The decisions may be on standard output, and whoever reads them wants no other text there.
    show = note if args.file is not None and args.out in (None, "-") else say
    show(fitted.summary())
    show(f"\nSaved to {path}")
    return fitted


def _summary(actions: list[str], n_failed: int) -> str:
    counts = Counter(actions)
    own = sorted(counts.keys() - _SAID.keys())  # of a risk matrix with actions of its own
    said = {action: words for action, words in _SAID.items() if counts[action] or not own}
    said |= {action: action for action in own}
    if n_failed:
        said["review"] += f" ({n_failed:,} of them failed)"
    parts = [f"{counts[action]:,} {words}" for action, words in said.items()]
    return f"{len(actions):,} rows: {', '.join(parts)}"
