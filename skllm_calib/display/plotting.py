"""The optional plotting library: imported late, styled in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skllm_calib.exceptions import InvalidInput, MissingDependency

__all__ = [
    "GREY",
    "UNIT_LIMITS",
    "check_figure",
    "holds",
    "import_pyplot",
    "next_style",
    "ref_line_style",
    "shade",
    "strip_below",
    "styled",
    "tidy",
]

# Okabe and Ito's colours for every kind of colour vision, in an order whose greys differ too; the
# marker and the dashes tell curves apart without any colour.
CURVE_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    {"color": "#7B2D5E", "marker": "^", "linestyle": "-."},
    {"color": "#56B4E9", "marker": "D", "linestyle": (0, (1, 1))},
)
GREY = "#767676"
# Markers and bars at 0 and 1 are seen whole.
UNIT_LIMITS = (-0.02, 1.02)


def import_pyplot(user: str) -> Any:
    """Return ``matplotlib.pyplot``, or say which extra to install."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  # optional, and slow to import
    except ImportError as error:
        raise MissingDependency(
            f"{user} needs matplotlib: pip install 'skllm-calib[plot]'"
        ) from error
    return plt


def check_figure(path: str | os.PathLike[str], user: str) -> None:
    """Make sure that a picture can be written to a file, before its data are asked and paid for.

    Raises
    ------
    ValueError
        If the extension is not that of a picture.
    MissingDependency
        If matplotlib is missing.
    """
    import_pyplot(user)
    from matplotlib.figure import Figure  # noqa: PLC0415 (optional)

    kinds = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in kinds:
        raise InvalidInput(
            f"{str(path)!r}: the extension must be that of a picture: {', '.join(sorted(kinds))}",
            "path",
            value=str(path),
        )


def styled(kind: str, defaults: Mapping[str, Any], *given: Mapping[str, Any] | None) -> Any:
    """Merge keyword arguments of an artist, the later winning; "lw" and "linewidth" are the same.

    `kind` is an artist of pyplot: "Line2D", "Polygon", "Rectangle" or "Text".
    """
    from matplotlib import cbook, pyplot  # noqa: PLC0415 (optional)

    merged: dict[str, Any] = {}
    for part in (defaults, *given):
        merged |= cbook.normalize_kwargs(dict(part or {}), getattr(pyplot, kind))
    return merged


def next_style(ax: Any, gid: str, given: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return how the next curve of a kind looks on axes that may hold some already."""
    drawn = sum(line.get_gid() == gid for line in ax.lines)
    style = {
        **CURVE_STYLES[drawn % len(CURVE_STYLES)],
        "linewidth": 1.8,
        "markersize": 6,
        "markeredgecolor": "white",
        "markeredgewidth": 0.8,
        "zorder": 3,
    }
    # The kind is how later curves find this one.
    return {**styled("Line2D", style, defaults, given), "gid": gid}


def ref_line_style(given: Mapping[str, Any] | None, **defaults: Any) -> Any:
    """Return how a line to compare with looks: thin, dotted, behind the curves."""
    style = {"color": GREY, "linewidth": 1, "linestyle": ":", "zorder": 1, **defaults}
    return styled("Line2D", style, given)


def holds(ax: Any, gid: str) -> bool:
    """Whether the axes hold a line of a kind."""
    return any(line.get_gid() == gid for line in ax.lines)


def shade(ax: Any, x: Any, low: Any, high: Any, given: Any = None, **defaults: Any) -> Any:
    """Fill between two curves, in the background."""
    style = {"alpha": 0.16, "linewidth": 0, "zorder": 0, **defaults}
    return ax.fill_between(x, low, high, **styled("Polygon", style, given))


def tidy(ax: Any, **legend: Any) -> None:
    """Take away two spines and show the legend."""
    ax.spines[["top", "right"]].set_visible(False)
    style = {"loc": "best", "framealpha": 0.85, "edgecolor": "none", "fontsize": "small"}
    # A legend wider than small axes in a grid must not shrink them to nothing.
    ax.legend(**style | {"handlelength": 2.6} | legend).set_in_layout(False)


def strip_below(ax: Any, size: str = "16%") -> Any:
    """Return narrow axes below ``ax``, made at the first call and shared by later curves.

    They take their room from ``ax`` and keep its width when its aspect is fixed.
    """
    from mpl_toolkits.axes_grid1 import make_axes_locatable  # noqa: PLC0415 (optional)

    label = f"strip below axes {id(ax)}"
    for other in ax.figure.axes:
        if other.get_label() == label:
            return other
    strip = make_axes_locatable(ax).append_axes(
        "bottom", size=size, pad=0.16, sharex=ax, label=label
    )
    strip.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelbottom=False)
    ax.xaxis.label.set_visible(False)  # shown below the strip instead
    return strip
