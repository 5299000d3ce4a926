"""The picture of a calibration."""

from collections.abc import Sequence
from pathlib import Path

from skllm_calib.display import CalibrationComparisonDisplay
from skllm_calib.display.plotting import check_figure, import_pyplot
from skllm_calib.operations.report.evaluation import Scores

_USER = "the reliability diagram"


def check_picture(path: str | Path) -> None:
    """Make sure that the picture can be written, before anything is asked and paid for."""
    check_figure(path, _USER)


def draw_before_after(path: str | Path, y: Sequence[str], scores: Scores) -> None:
    """Draw the reliability diagrams into one file, side by side."""
    names = ("Raw probabilities", "Calibrated probabilities")
    display = CalibrationComparisonDisplay.from_predictions(
        y, scores.raw, scores.calibrated, names=names, labels=scores.labels
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(path, dpi=150)
    import_pyplot(_USER).close(display.figure_)
