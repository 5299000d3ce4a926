"""The pictures of a report: the displays of the package, as inline SVG that follows the page.

Colours become variables of the page's style sheet, so that one picture serves light, dark and
paper; texts stay texts, so that they can be read aloud, searched and copied.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from skllm_calib.display import (
    ReliabilityDisplay,
    ReviewCostDisplay,
    RiskCoverageDisplay,
    ScoreHistogramDisplay,
)
from skllm_calib.display.plotting import import_pyplot
from skllm_calib.metrics.headline import BINS
from skllm_calib.operations.report.material import Material

__all__ = ["charts_of"]

_Side = tuple[str, str, Any]

# Colours that nothing else uses, for ink and ground: matplotlib leaves plain black unsaid.
_INK, _GROUND = "#010101", "#fefefe"
_VARIABLES = {
    _INK: "ink",
    _GROUND: "card",
    "#ffffff": "card",
    "#000000": "ink",
    "#767676": "soft",
    "#0072b2": "first",
    "#e69f00": "second",
    "#a6cee8": "right",
    "#b84a00": "wrong",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "skllm-calib",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": _GROUND,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.labelcolor": _INK,
    "font.size": 11,
}


def charts_of(material: Material) -> dict[str, str]:
    """Draw every picture; names to SVG elements that say what they show."""
    plt = import_pyplot("CalibrationReport.to_html")
    sides = [("before", "raw", material.before), ("after", "calibrated", material.rows)]
    if material.before is None:
        sides = [("after", "probabilities", material.rows)]

    def draw(display: Any, chosen: Sequence[_Side], **options: Any) -> Callable[[Any], None]:
        def on(ax: Any) -> None:
            for _, name, judged in reversed(chosen):  # the calibrated one in the first colour
                legend = {"name": name} if len(chosen) > 1 else {}
                display.from_predictions(judged, judged, ax=ax, **legend, **options)

        return on

    pictures: list[tuple[str, tuple[float, float], str, Callable[[Any], None]]] = []
    for side in sides:
        name = side[1]
        pictures += [
            (
                f"reliability-{side[0]}",
                (5.4, 6.0),
                f"Reliability diagram, {name}: accuracy against confidence",
                draw(ReliabilityDisplay, [side], **BINS),
            ),
            (
                f"scores-{side[0]}",
                (5.4, 3.2),
                f"Histogram of the confidences of right and wrong rows, {name}",
                draw(ScoreHistogramDisplay, [side]),
            ),
        ]
    pictures += [
        (
            "risk-coverage",
            (5.4, 4.2),
            "Risk-coverage curve: error rate among the accepted rows against their share",
            draw(RiskCoverageDisplay, sides, interval="clopper-pearson"),
        ),
        (
            "review-cost",
            (5.4, 4.2),
            "Mean cost of a row against the price of a review",
            draw(ReviewCostDisplay, sides),
        ),
    ]
    with plt.rc_context(_STYLE):
        return {name: _drawn(name, size, title, on) for name, size, title, on in pictures}


def _drawn(name: str, size: tuple[float, float], title: str, draw: Callable[[Any], object]) -> str:
    from matplotlib.figure import Figure  # noqa: PLC0415 (optional)

    figure = Figure(figsize=size, layout="tight")
    draw(figure.subplots())
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return _inline(written.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    """Make an element of a page out of an SVG file."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    # Names must be unique on a page that holds several pictures; those nobody refers to go.
    used = set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', svg))
    used = {one for pair in used for one in pair}
    svg = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' * (found[1] in used), svg
    )
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    colours = "|".join(_VARIABLES)
    svg = re.sub(colours, lambda found: f"var(--{_VARIABLES[found[0]]})", svg)
    view = re.search(r'viewBox="[^"]+"', svg)
    assert view is not None
    start = svg.index(">") + 1
    return (
        f'<svg {view[0]} role="img" aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{escape(title)}</title>{svg[start:].strip()}'
    )
