"""How the work on a review queue stands, as text and as JSON."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from typing import Any

from skllm_calib.cli.console import aligned, remark, say, wrapped
from skllm_calib.operations.queue import AcceptedError, QueueStatistics, ReviewQueue
from skllm_calib.utils.files import write_text

__all__ = ["show_status"]

_LISTED = 20


def show_status(queue: ReviewQueue, args: argparse.Namespace) -> None:
    """Print the figures, or write them where ``--json`` says."""
    done, error, disputed = queue.statistics(), queue.accepted_error(), queue.disputed()
    if args.json is not None:
        figures = {
            "classes": queue.classes.tolist(),
            "audit_share": queue.audit_share,
            **_counts(done),
            "accepted_error": {k: _known(v) for k, v in asdict(error).items()},
            "disputed": [{"id": row["id"], "labels": row["labels"]} for row in disputed],
        }
        text = json.dumps(figures, indent=2, ensure_ascii=False)
        if args.json == "-":
            say(text)
            return
        write_text(args.json, text + "\n")
    _show(queue, done, error, disputed)
    if args.json is not None:
        remark(args, f"\nAll figures: {args.json}")


def _counts(done: QueueStatistics) -> dict[str, Any]:
    figures = {name: _known(value) for name, value in asdict(done).items()}
    figures["by_class"] = [
        {"label": label, "n_done": n, "n_left_as_proposed": n_same}
        for label, (n, n_same) in done.by_class.items()
    ]
    return figures


def _known(value: Any) -> Any:
    """Return None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _show(
    queue: ReviewQueue,
    done: QueueStatistics,
    error: AcceptedError,
    disputed: list[dict[str, Any]],
) -> None:
    share = f"{100 * queue.audit_share:.3g}%"
    agreed = f"{done.agreement:.0%} left as proposed" if not math.isnan(done.agreement) else ""
    numbers = [("rows", done.n_rows), ("waiting", done.n_waiting), ("done", done.n_done)]
    numbers.append(("disputed", done.n_disputed))
    say(
        aligned(
            [[name, f"{n:,}"] for name, n in numbers],
            [
                f"{done.n_accepted:,} accepted, {done.n_review:,} to review, "
                f"{done.n_rejected:,} rejected",
                f"{done.n_audit_waiting:,} of them accepted, for the audit ({share} of new ones)",
                agreed,
                "",
            ],
        )
    )
    if done.n_done:
        table = [["proposed", "done", "left as proposed"]]
        table += [[str(k), f"{n:,}", f"{same:,}"] for k, (n, same) in done.by_class.items()]
        say("\n" + aligned(table))
    if disputed:
        say("\nDisputed, until they agree or somebody says 'queue label ... --final':")
        for row in disputed[:_LISTED]:
            said = ", ".join(f"{who} says {label}" for who, label in row["labels"].items())
            say(f"  {row['id']}: {said}")
        if len(disputed) > _LISTED:
            say(f"  ... and {len(disputed) - _LISTED} more; --json has them all")
    if error.n_accepted:
        say("\n" + wrapped(str(error)))
