"""The reliability diagrams before and after calibration, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skllm_calib.display import ReliabilityDisplay
from skllm_calib.display.plotting import import_pyplot

__all__ = ["check_figure", "draw_before_after"]


def check_figure(path: str | os.PathLike[str]) -> None:
    """Make sure that a picture can be written, before anything is asked and paid for."""
    import_pyplot("the reliability diagram")
    from matplotlib.figure import Figure  # noqa: PLC0415 (optional)

    kinds = Figure().canvas.get_supported_filetypes()
    extension = Path(path).suffix.lstrip(".").lower()
    if extension not in kinds:
        raise ValueError(
            f"{str(path)!r}: the extension must be that of a picture: {', '.join(sorted(kinds))}"
        )


def draw_before_after(
    path: str | os.PathLike[str],
    y: Sequence[str],
    raw: NDArray[np.float64],
    calibrated: NDArray[np.float64],
    labels: Sequence[str],
) -> None:
    """Draw both diagrams into one file; its extension says which kind."""
    check_figure(path)
    from matplotlib.figure import Figure  # noqa: PLC0415 (optional)

    figure = Figure(figsize=(10.4, 6.0), layout="tight")
    pairs = (("raw", raw), ("calibrated", calibrated))
    for axes, (name, proba) in zip(figure.subplots(1, 2), pairs, strict=True):
        ReliabilityDisplay.from_predictions(
            y, proba, n_bins=10, strategy="quantile", labels=list(labels), name=name, ax=axes
        )
        axes.set_title(f"{name.capitalize()} probabilities")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
