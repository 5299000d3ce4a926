"""Classify the rows of a table: label, probability of each class, and what failed and why."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skllm_calib.cli.answers import answer_all, check_out, put_out, set_resume_hint
from skllm_calib.cli.classifier import build_classifier, load_classifier
from skllm_calib.cli.console import remark
from skllm_calib.cli.rows import file_digest, table_of


def run(args: SimpleNamespace) -> int:
    """Ask for what is missing, and write the result when it is complete."""
    set_resume_hint(args)
    check_out(args, args.file)
    table = table_of(args)
    table.column(args.text)
    classifier: Any
    if args.classifier is not None:
        if args.classes:
            raise ValueError("--classes goes with --model: a calibrated classifier has its own")
        classifier = load_classifier(args)
        source = [file_digest(Path(args.classifier, "model.joblib"))]
    else:
        if not args.classes:
            raise ValueError("--model needs the labels to choose from: --classes a,b,c")
        remark(args, "These probabilities are raw; 'skllm-calib calibrate' calibrates them.")
        classifier = build_classifier(args, args.classes)
        names = ("model", "classes", "prompt", "instruction", "answer", "base_url", "signal",
                 "order_averaging")  # fmt: skip
        source = [getattr(args, name) for name in names]
        source += [path and file_digest(path) for path in (args.prompt_file, args.label_texts)]
    partial = answer_all(classifier, table, source, args)
    if partial is None:
        return 1
    labels = sorted(str(label) for label in classifier.classes_.tolist())
    ours = ["label", "probability", *(f"proba_{label}" for label in labels), "failure"]
    if args.threshold is not None:
        ours.append("action")
    cells = [_cells(partial.answers[i], labels, args.threshold) for i in range(len(table.rows))]
    wrote = put_out(table, ours, cells, partial, args)
    if wrote:
        remark(args, f"{wrote}{_summary(cells, args)}")
    return 0


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


def _summary(cells: list[dict[str, Any]], args: SimpleNamespace) -> str:
    parts = [f"{len(cells):,} rows"]
    if n_failed := sum("failure" in one for one in cells):
        parts.append(f"{n_failed:,} failed")
    if args.threshold is not None:
        n_accepted = sum(one["action"] == "accept" for one in cells)
        parts += [f"{n_accepted:,} accepted", f"{len(cells) - n_accepted:,} to review"]
    return ", ".join(parts)
