"""The optional plotting library: imported late, styled in one place."""

from __future__ import annotations

from typing import Any

from skllm_calib.exceptions import MissingDependency

# Okabe and Ito's colours for every kind of colour vision, in an order whose greys differ too; the
# marker and the dashes tell curves apart without any colour.
CURVE_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    {"color": "#7B2D5E", "marker": "^", "linestyle": "-."},
    {"color": "#56B4E9", "marker": "D", "linestyle": (0, (1, 1))},
)


def import_pyplot(user: str) -> Any:
    """Return ``matplotlib.pyplot``, or say which extra to install."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  # optional, and slow to import
    except ImportError as error:
        raise MissingDependency(
            f"{user} needs matplotlib: pip install 'skllm-calib[plot]'"
        ) from error
    return plt


def counts_axes(plt: Any, ax: Any) -> Any:
    """Return the strip below ``ax``, made at the first call and shared by later curves."""
    from mpl_toolkits.axes_grid1 import make_axes_locatable  # noqa: PLC0415 (optional)

    label = f"confidences below axes {id(ax)}"
    for other in ax.figure.axes:
        if other.get_label() == label:
            return other
    strip = make_axes_locatable(ax).append_axes(
        "bottom", size="16%", pad=0.16, sharex=ax, label=label
    )
    strip.set(ylabel="Share")
    strip.set_ylim(0, 1e-3)  # grows with every curve
    strip.spines[["top", "right"]].set_visible(False)
    strip.yaxis.set_major_locator(plt.MaxNLocator(2))
    ax.tick_params(labelbottom=False)
    ax.xaxis.label.set_visible(False)  # shown below the strip instead
    return strip
