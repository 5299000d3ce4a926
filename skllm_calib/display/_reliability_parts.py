"""The parts of a reliability diagram: its figures, and what is drawn around its points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.display._intervals import consistency_band, proportion_interval
from skllm_calib.display._smooth import SmoothReliabilityCurve, smooth_curve_of
from skllm_calib.display.plotting import shade, strip_below
from skllm_calib.metrics.binning import Judged, Strategy, assign_bins, combine, summarise
from skllm_calib.metrics.noise import calibration_error_interval, floor_of
from skllm_calib.metrics.reliability import ReliabilityCurve, curve_of

__all__ = [
    "draw_band",
    "draw_counts",
    "draw_error_bars",
    "draw_folds",
    "draw_smooth",
    "figures_of",
]


def figures_of(
    judged: Judged, n_bins: int, strategy: Strategy, smooth: bool, show_interval: bool
) -> dict[str, Any]:
    """Return the parameters of a :class:`ReliabilityDisplay` that follow from the rows."""
    bins = summarise(judged, assign_bins(judged.confidence, judged.weight, n_bins, strategy))
    interval = None
    if show_interval:
        interval = calibration_error_interval(
            judged.hit.astype(np.int64),
            judged.confidence,
            n_bins=n_bins,
            strategy=strategy,
            kind=1,
            labels=[0, 1],
            sample_weight=judged.weight,
        )
    return {
        "curve": curve_of(judged, n_bins, strategy),
        "confidence": judged.confidence,
        "sample_weight": judged.weight,
        "calibration_error": combine(bins.mass, bins.gap, "l1"),
        "error_interval": interval,
        "noise_floor": floor_of(bins),
        "smooth_curve": smooth_curve_of(judged) if smooth else None,
    }


def draw_band(ax: Any, curve: ReliabilityCurve, level: float, given: Any, **style: Any) -> Any:
    """Shade, around the diagonal, where a calibrated model's points would fall."""
    low, high = consistency_band(curve, level)
    # Bars over the width of the bins, so that a single bin shows and no gap is bridged.
    x = np.column_stack([curve.edges, np.full(len(low), np.nan)]).ravel()
    low, high = (np.column_stack([end, end, end]).ravel() for end in (low, high))
    return shade(ax, x, low, high, given, **style)


def draw_error_bars(
    ax: Any, curve: ReliabilityCurve, method: str, colour: str, given: dict[str, Any] | None
) -> Any:
    """Draw the interval of 95 % confidence of each accuracy."""
    low, high = proportion_interval(curve.accuracy, curve.effective_count, method)
    defaults = {"ecolor": colour, "elinewidth": 1, "capsize": 2, "zorder": 2}
    return ax.errorbar(
        curve.mean_confidence,
        curve.accuracy,
        yerr=np.maximum([curve.accuracy - low, high - curve.accuracy], 0.0),
        **{"fmt": "none", **defaults, **(given or {})},
    )


def draw_smooth(ax: Any, smooth: SmoothReliabilityCurve, like: Any, label: str | None) -> Any:
    """Draw the curve without bins, in the style of a line, and its band; return both."""
    x, colour = smooth.confidence, like.get_color()
    (line,) = ax.plot(x, smooth.accuracy, color=colour, lw=like.get_linewidth(), zorder=2.5)
    line.set(linestyle=like.get_linestyle())
    if label is not None:
        line.set_label(label)
    return line, shade(ax, x, smooth.low, smooth.high, color=colour, alpha=0.25, zorder=2)


def draw_folds(ax: Any, curves: Sequence[ReliabilityCurve], colour: str) -> list[Any]:
    """Draw the curve of every fold, thin."""
    style = {"color": colour, "lw": 0.8, "alpha": 0.5, "zorder": 1.5}
    lines = [ax.plot(fold.mean_confidence, fold.accuracy, **style)[0] for fold in curves]
    if lines:
        lines[0].set_label(f"each of {len(lines)} folds")
    return lines


def draw_counts(
    ax: Any, confidence: NDArray[np.float64], weight: NDArray[np.float64] | None, like: Any
) -> Any:
    """Draw how the confidences are spread in a strip below, in the style of a line."""
    strip = strip_below(ax)
    edges = np.linspace(0, 1, 41)
    weight = np.ones(len(confidence)) if weight is None else weight
    fraction, _ = np.histogram(confidence, bins=edges, weights=weight / weight.sum())
    highest = strip.get_ylim()[1] if strip.patches else 0.0
    colour, dashes = like.get_color(), like.get_linestyle()
    strip.stairs(fraction, edges, fill=True, color=colour, alpha=0.3, lw=0)
    strip.stairs(fraction, edges, color=colour, lw=1.2, ls=dashes)
    strip.set(ylim=(0, max(highest, 1.1 * float(fraction.max()))), ylabel="Fraction")
    strip.locator_params(axis="y", nbins=2)
    strip.set_xlabel(ax.get_xlabel())
    return strip
