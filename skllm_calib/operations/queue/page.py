"""The pages of the queue: what their templates are filled with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from skllm_calib.operations.pages import page_templates
from skllm_calib.operations.queue.results import QueueStatistics

__all__ = ["message_page", "name_page", "queue_templates", "work_page"]

_N_KEYS = 9


def queue_templates() -> Any:
    """Return the templates of the pages, or raise MissingDependency."""
    return page_templates("queue", "The page of the review queue")


def name_page(nonce: str) -> str:
    """Return the page that asks for the name of the reviewer."""
    return _render("name", nonce, "Who is reviewing?")


def message_page(nonce: str, text: str) -> str:
    """Return a page that only shows a message."""
    return _render("message", nonce, "Review queue", text=text)


def work_page(
    nonce: str,
    reviewer: str,
    *,
    row: dict[str, Any] | None,
    classes: Sequence[Any],
    statistics: QueueStatistics,
    last: tuple[str, Any] | None,
) -> str:
    """Return the page of one row, or of none when nothing waits."""
    given: dict[str, Any] = {"reviewer": reviewer, "row": row, "statistics": statistics}
    given["last"] = last
    if row is None:
        return _render("work", nonce, "Nothing to review", **given)
    evidence = row["evidence"]
    return _render(
        "work",
        nonce,
        f"Row {row['id']}",
        **given,
        evidence=None if evidence is None else json.dumps(evidence, indent=2, ensure_ascii=False),
        choices=_choices(row, classes),
        others=[] if len(classes) <= _N_KEYS else classes,
    )


def _choices(row: dict[str, Any], classes: Sequence[Any]) -> list[dict[str, Any]]:
    """Offer few classes each in its own place, which fingers learn; of many, the likeliest."""
    proba: dict[Any, float] = row["proba"] or {}
    offered = classes if len(classes) <= _N_KEYS else (list(proba) or classes)[:_N_KEYS]
    return [
        {"label": label, "proba": proba.get(label), "proposed": label == row["label"]}
        for label in offered
    ]


def _render(name: str, nonce: str, title: str, **given: Any) -> str:
    template = queue_templates().get_template(f"{name}.html.jinja")
    return str(template.render(nonce=nonce, title=title, **given))
