"""The learning curve of a calibration: what more labels would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.calibration.learning_curve import (
    CalibrationLearningCurve,
    calibration_learning_curve,
)
from skllm_calib.display._base import ProbabilityDisplay
from skllm_calib.display.plotting import (
    holds,
    import_pyplot,
    next_style,
    ref_line_style,
    shade,
    tidy,
)
from skllm_calib.log_proba.parameters import check_choice

if TYPE_CHECKING:
    from skllm_calib.calibration.calibrators import BaseCalibrator

__all__ = ["CalibrationLearningCurveDisplay"]

Metric = Literal["log_loss", "brier", "ece"]

_CURVE = "calibration-learning-curve"
_AXIS_LABELS = {
    "log_loss": "Held-out log-loss (nats)",
    "brier": "Held-out Brier score",
    "ece": "Held-out debiased ECE",
}


@dataclass(eq=False, repr=False)
class CalibrationLearningCurveDisplay(ProbabilityDisplay):
    """Held-out quality of a calibration against the number of labels.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    The line joins the means over the draws, the band spans one standard deviation to each side, the
    hollow marker at the end is all the rows in cross-validation, and the horizontal line is what
    there is without any label.

    Parameters
    ----------
    curve : CalibrationLearningCurve
        Figures, as :func:`skllm_calib.calibration.calibration_learning_curve` gives them.
    metric : {"log_loss", "brier", "ece"}, default="log_loss"
        Which of them to draw.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    band_ : matplotlib PolyCollection or None
        One standard deviation around it.
    all_rows_ : matplotlib Line2D
        The marker of all rows.
    baseline_ : matplotlib Line2D or None
        The line of no calibration.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure containing them.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.display import CalibrationLearningCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=300)
    >>> log_proba = np.column_stack([np.zeros(300), 4 * rng.normal(2 * y - 1, 1.0)])
    >>> display = CalibrationLearningCurveDisplay.from_predictions(
    ...     y, log_proba, calibrator="temperature", n_draws=3
    ... )
    >>> display.ax_.get_xlabel()
    'Labels'
    """

    _figsize: ClassVar[tuple[float, float]] = (6.0, 4.2)
    _response_method: ClassVar[str] = "predict_log_proba"

    curve: CalibrationLearningCurve
    _: KW_ONLY
    metric: Metric = "log_loss"
    name: str | None = None

    def plot(
        self,
        ax: Any = None,
        *,
        metric: Metric | None = None,
        name: str | None = None,
        band: bool = True,
        baseline: bool = True,
        ref_line_kw: dict[str, Any] | None = None,
        fill_between_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curve; on axes that hold one already, as a further one.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        metric : {"log_loss", "brier", "ece"}, default=None
            Which figure to draw; the stored one when None.
        name : str, default=None
            Name of the curve in the legend; the stored name when None.
        band : bool, default=True
            Whether to shade one standard deviation to each side.
        baseline : bool, default=True
            Whether to draw the line of no calibration.
        ref_line_kw, fill_between_kw : dict, default=None
            Keyword arguments of matplotlib for the line of no calibration and for the band.
        **kwargs : dict
            Keyword arguments of :meth:`matplotlib.axes.Axes.plot` for the curve.

        Returns
        -------
        display : CalibrationLearningCurveDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `metric` is not one of these three.
        """
        metric = self.metric if metric is None else metric
        self._check_options(metric=metric)
        _, ax, name = self._set_up(ax, name)
        n_labels = self.curve.n_labels
        mean: NDArray[np.float64] = getattr(self.curve, metric)
        spread: NDArray[np.float64] = getattr(self.curve, f"{metric}_sd")
        first = not holds(ax, _CURVE)
        drawn_from_rows = slice(1, -1)  # without the first, no label, and the last, all rows
        x, y, reach = (part[drawn_from_rows] for part in (n_labels, mean, spread))
        style = next_style(ax, _CURVE, kwargs, label=self._legend_label(name))
        (self.line_,) = ax.plot(x, y, **style)
        colour, marker = self.line_.get_color(), self.line_.get_marker()
        hollow = {"ls": "", "color": colour, "marker": marker, "mfc": "white", "ms": 7}
        if first:
            hollow["label"] = "all rows, cross-validated"
        (self.all_rows_,) = ax.plot(n_labels[-1:], mean[-1:], zorder=3, **hollow)
        self.band_ = self.baseline_ = None
        if band:
            self.band_ = shade(ax, x, y - reach, y + reach, fill_between_kw, color=colour)
        if baseline:
            style = ref_line_style(ref_line_kw, color=colour, label="no calibration")
            self.baseline_ = ax.axhline(mean[0], **style)
        self._label_axes(metric)
        return self

    @classmethod
    def _check_options(cls, *, metric: object = "log_loss", **_: Any) -> None:
        check_choice(metric, "metric", tuple(_AXIS_LABELS))

    def _legend_label(self, name: str | None) -> str:
        figures = f"{self.curve.n_draws} draws, {self.curve.n_test:,} held-out rows"
        return figures if name is None else f"{name}\n{figures}"

    def _label_axes(self, metric: str) -> None:
        ax = self.ax_
        ax.set(xscale="log", xlabel="Labels", ylabel=_AXIS_LABELS[metric])
        ticks = {int(n) for line in ax.lines if line.get_gid() == _CURVE for n in line.get_xdata()}
        ticks.add(int(self.curve.n_labels[-1]))
        ax.set_xticks(sorted(ticks), [f"{n:,}" for n in sorted(ticks)])
        ax.minorticks_off()
        if metric == "ece":
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        tidy(ax)

    @classmethod
    def from_predictions(  # type: ignore[override]  # log-probabilities, and other options
        cls,
        y_true: ArrayLike,
        log_proba: ArrayLike,
        *,
        calibrator: str | BaseCalibrator = "auto",
        n_labels: Sequence[int] | None = None,
        n_draws: int = 30,
        labels: ArrayLike | None = None,
        random_state: int | np.random.Generator | None = 0,
        metric: Metric = "log_loss",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the learning curve of calibrating log-probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        log_proba : array-like of shape (n_samples, n_classes)
            Uncalibrated log-probabilities, columns in sorted order of the classes.
        calibrator : str or BaseCalibrator, default="auto"
            Calibrator or its name.
        n_labels : sequence of int, default=None
            Numbers of labels; chosen by the number of rows when None.
        n_draws : int, default=30
            Number of draws.
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y_true` lacks one of them.
        random_state : int, Generator or None, default=0
            Seed of the draws.
        metric : {"log_loss", "brier", "ece"}, default="log_loss"
            Which figure to draw.
        name : str, default=None
            Name of the curve.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        **kwargs : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : CalibrationLearningCurveDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        cls._check_options(metric=metric)
        import_pyplot(f"{cls.__name__}.from_predictions")  # before the many fits
        curve = calibration_learning_curve(
            log_proba,
            y_true,
            calibrator=calibrator,
            n_labels=n_labels,
            n_draws=n_draws,
            labels=labels,
            random_state=random_state,
        )
        return cls(curve, metric=metric, name=name).plot(ax, **kwargs)
