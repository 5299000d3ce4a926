"""The learning curve of a calibration: what more labels would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.calibration.learning_curve import (
    CalibrationLearningCurve,
    calibration_learning_curve,
)
from skllm_calib.display._matplotlib import holds, import_pyplot, next_style, tidy

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


class CalibrationLearningCurveDisplay:
    """Held-out quality of a calibration against the number of labels.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    The line joins the means over the draws, the band spans one standard deviation to each side, the
    hollow marker at the end is all the rows in cross-validation, and the horizontal line is what
    there is without any label.

    Parameters
    ----------
    curve : CalibrationLearningCurve
        Figures, as :func:`skllm_calib.metrics.calibration_learning_curve` gives them.
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

    def __init__(
        self,
        curve: CalibrationLearningCurve,
        *,
        metric: Metric = "log_loss",
        name: str | None = None,
    ) -> None:
        self.curve = curve
        self.metric = metric
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        metric: Metric | None = None,
        name: str | None = None,
        band: bool = True,
        baseline: bool = True,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> CalibrationLearningCurveDisplay:
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
        curve_kwargs : dict, default=None
            Properties of the curve, a :class:`matplotlib.lines.Line2D`.

        Returns
        -------
        display : CalibrationLearningCurveDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `metric` is none of the three.
        """
        metric = self.metric if metric is None else metric
        _check_metric(metric)
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=(6.0, 4.2), layout="tight")
        self.ax_, self.figure_ = ax, ax.figure
        n_labels = self.curve.n_labels
        mean: NDArray[np.float64] = getattr(self.curve, metric)
        spread: NDArray[np.float64] = getattr(self.curve, f"{metric}_sd")
        first, style = not holds(ax, _CURVE), next_style(ax, _CURVE)
        drawn_from_rows = slice(1, -1)  # without the first, no label, and the last, all rows
        x, y, reach = (part[drawn_from_rows] for part in (n_labels, mean, spread))
        (self.line_,) = ax.plot(x, y, label=self._legend_label(name), **style)
        self.line_.set(**(curve_kwargs or {}))  # knows short names too: lw, ls, mfc
        colour, marker = self.line_.get_color(), self.line_.get_marker()
        hollow = {"ls": "", "color": colour, "marker": marker, "mfc": "white", "ms": 7}
        if first:
            hollow["label"] = "all rows, cross-validated"
        (self.all_rows_,) = ax.plot(n_labels[-1:], mean[-1:], zorder=3, **hollow)
        self.band_ = (
            ax.fill_between(x, y - reach, y + reach, color=colour, alpha=0.16, lw=0, zorder=0)
            if band
            else None
        )
        self.baseline_ = None
        if baseline:
            self.baseline_ = ax.axhline(
                mean[0], color=colour, lw=1, ls=":", zorder=1, label="no calibration"
            )
        self._label_axes(metric)
        return self

    def _legend_label(self, name: str | None) -> str:
        name = self.name if name is None else name
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
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        calibrator: str | BaseCalibrator = "auto",
        n_labels: Sequence[int] | None = None,
        n_draws: int = 30,
        random_state: int | np.random.Generator | None = 0,
        metric: Metric = "log_loss",
        name: str | None = None,
        ax: Any = None,
        band: bool = True,
        baseline: bool = True,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> CalibrationLearningCurveDisplay:
        """Draw the learning curve of calibrating a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted, uncalibrated classifier with ``predict_log_proba`` and ``classes_``. It is asked
            once for every row.
        X : array-like of shape (n_samples, ...)
            Rows the classifier was not fitted on.
        y : array-like of shape (n_samples,)
            Their true labels; a class may be absent.
        calibrator : str or BaseCalibrator, default="auto"
            Calibrator or its name.
        n_labels : sequence of int, default=None
            Numbers of labels; chosen by the number of rows when None.
        n_draws : int, default=30
            Number of draws.
        random_state : int, Generator or None, default=0
            Seed of the draws.
        metric : {"log_loss", "brier", "ece"}, default="log_loss"
            Which figure to draw.
        name : str, default=None
            Name of the curve; the name of the estimator's class when None.
        ax, band, baseline, curve_kwargs
            As in :meth:`plot`.

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
        _check_metric(metric)
        import_pyplot(f"{cls.__name__}.from_estimator")  # before the model is asked and paid for
        return cls.from_predictions(
            y,
            estimator.predict_log_proba(X),
            calibrator=calibrator,
            n_labels=n_labels,
            n_draws=n_draws,
            labels=estimator.classes_,
            random_state=random_state,
            metric=metric,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            band=band,
            baseline=baseline,
            curve_kwargs=curve_kwargs,
        )

    @classmethod
    def from_predictions(
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
        band: bool = True,
        baseline: bool = True,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> CalibrationLearningCurveDisplay:
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
        ax, band, baseline, curve_kwargs
            As in :meth:`plot`.

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
        _check_metric(metric)
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
        display = cls(curve, metric=metric, name=name)
        return display.plot(ax, band=band, baseline=baseline, curve_kwargs=curve_kwargs)


def _check_metric(metric: object) -> None:
    """Refuse a figure that the curve does not have."""
    if metric not in _AXIS_LABELS:
        raise ValueError(f"metric must be 'log_loss', 'brier' or 'ece', got {metric!r}.")
