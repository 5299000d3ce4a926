"""The page of a report: what its templates are filled with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skllm_calib._version import __version__
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.display.plotting import import_pyplot
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE
from skllm_calib.operations.pages import page_templates
from skllm_calib.operations.report.words import (
    about,
    count,
    decision,
    in_short,
    limits,
    percent,
    spaced,
)

__all__ = ["frame", "page", "report_templates", "require_page"]

# Each is a template of that name.
_SECTIONS = (
    ("short", "In short"),
    ("before-after", "Before and after calibration"),
    ("reliability", "Reliability"),
    ("decisions", "What can be accepted without review"),
    ("risk-matrix", "Risk matrix"),
    ("costs", "Cost of errors and reviews"),
    ("classes", "Classes"),
    ("rows", "Rows to look at"),
    ("made-of", "Data and model"),
    ("limits", "Limits"),
)


def require_page(caller: str) -> None:
    """Raise MissingDependency unless pages can be made: before rows are paid for.

    Parameters
    ----------
    caller : str
        Who needs the page, for the message.
    """
    report_templates(caller)
    import_pyplot(caller)


def report_templates(caller: str) -> Any:
    """Return the templates of the page, or raise MissingDependency."""
    environment = page_templates("report", caller)
    environment.filters |= {
        "about": about,
        "count": count,
        "number": "{:,}".format,
        "percent": percent,
        "spaced": spaced,
    }
    return environment


def page(
    templates: Any,
    figures: Mapping[str, Any],
    charts: Mapping[str, str],
    *,
    title: str,
    created: str,
    price_per_million: tuple[float, float] | None,
) -> str:
    """Lay out figures and pictures as one HTML document."""
    from markupsafe import Markup  # noqa: PLC0415 (comes with Jinja)

    card = figures["card"] or {}
    subtitle = [card.get("model_as_served") or card.get("model"), created]
    policy = figures["policy"]
    html: str = templates.get_template("page.html.jinja").render(
        title=title,
        subtitle=" · ".join(str(part) for part in subtitle if part),
        created=created,
        version=__version__,
        sections=[one for one in _SECTIONS if one[0] != "risk-matrix" or figures["risk_matrix"]],
        figures=figures,
        chart=lambda name: Markup(charts[name]),
        summary=in_short(figures),
        limits=limits(figures),
        decision=None if policy is None else decision(policy),
        interval=DEFAULT_CONFIDENCE,
        cost=_cost(figures["usage"], price_per_million),
        unit="$" if price_per_million is None else "",
        card=_card(figures["card"]),
    )
    return html


def frame(templates: Any, title: str, page: str) -> str:
    """Return a page as a frame inside of another, which a notebook shows."""
    return str(templates.get_template("frame.html.jinja").render(title=title, page=page))


def _cost(
    usage: Mapping[str, Any] | None, price_per_million: tuple[float, float] | None
) -> float | None:
    if usage is None:
        return None
    if price_per_million is None:
        known: float | None = usage["usd"]
        return known
    read, written = price_per_million
    return float(usage["prompt_tokens"] * read + usage["completion_tokens"] * written) / 1e6


def _card(content: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if content is None:
        return None
    card = CalibrationCard(content)
    _, _, tables = repr(card).partition("\n\n")
    return {"pairs": card.rows(), "tables": tables}
