"""The parts of a reliability diagram around its points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skllm_calib.display._intervals import consistency_band, share_interval
from skllm_calib.display._smooth import SmoothReliabilityCurve
from skllm_calib.metrics.reliability import ReliabilityCurve


def draw_band(ax: Any, curve: ReliabilityCurve, level: float, colour: str, explain: bool) -> Any:
    """Shade, around the diagonal, where a calibrated model's points would fall."""
    low, high = consistency_band(curve, level)
    # Bars over the width of the bins, so that a single bin shows and no gap is bridged.
    x = np.column_stack([curve.edges, np.full(len(low), np.nan)]).ravel()
    low, high = (np.column_stack([end, end, end]).ravel() for end in (low, high))
    label = f"a calibrated model, {level:.0%} band" if explain else None
    return ax.fill_between(x, low, high, color=colour, alpha=0.16, lw=0, zorder=0, label=label)


def draw_error_bars(ax: Any, curve: ReliabilityCurve, method: str, colour: str) -> Any:
    """Draw the interval of 95 % confidence of each accuracy."""
    low, high = share_interval(curve.accuracy, curve.effective_count, method)
    return ax.errorbar(
        curve.mean_confidence,
        curve.accuracy,
        yerr=np.maximum([curve.accuracy - low, high - curve.accuracy], 0.0),
        fmt="none",
        ecolor=colour,
        elinewidth=1,
        capsize=2,
        zorder=2,
    )


def draw_smooth(ax: Any, smooth: SmoothReliabilityCurve, like: Any, explain: bool) -> Any:
    """Draw the curve without bins, in the style of a line, and its band; return both."""
    x, colour = smooth.confidence, like.get_color()
    (line,) = ax.plot(x, smooth.accuracy, color=colour, lw=like.get_linewidth(), zorder=2.5)
    line.set_linestyle(like.get_linestyle())
    if explain:
        line.set_label("kernel-smoothed, 95% bootstrap band")
    band = ax.fill_between(x, smooth.low, smooth.high, color=colour, alpha=0.25, lw=0, zorder=2)
    return line, band


def draw_folds(ax: Any, curves: Sequence[ReliabilityCurve], colour: str) -> list[Any]:
    """Draw the curve of every fold, thin."""
    style = {"color": colour, "lw": 0.8, "alpha": 0.5, "zorder": 1.5}
    lines = [ax.plot(fold.mean_confidence, fold.accuracy, **style)[0] for fold in curves]
    if lines:
        lines[0].set_label(f"each of {len(lines)} folds")
    return lines
