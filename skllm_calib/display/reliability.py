"""The reliability diagram, for any number of classes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.display._intervals import accuracy_interval, consistency_band
from skllm_calib.display._matplotlib import CURVE_STYLES, counts_axes, import_pyplot
from skllm_calib.metrics._binning import Strategy, assign_bins, combine, judge, summarise
from skllm_calib.metrics._validation import check_input
from skllm_calib.metrics.noise import floor_of
from skllm_calib.metrics.reliability import ReliabilityCurve, curve_of

__all__ = ["ReliabilityDisplay"]

ErrorBars = Literal["wilson", "clopper-pearson"] | None

_CURVE, _DIAGONAL = "reliability-curve", "reliability-diagonal"
_GREY = "#767676"


class ReliabilityDisplay:
    """Reliability diagram: accuracy against confidence, with what chance alone would do.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    The shaded band holds the accuracies that a perfectly calibrated model would show in bins as
    small as these [1]_: points inside it are no evidence of miscalibration. A strip below tells
    how the confidences are spread.

    Parameters
    ----------
    curve : ReliabilityCurve
        Figures of the bins, as :func:`skllm_calib.metrics.reliability_curve` gives them.
    confidence : ndarray of shape (n_samples,)
        The confidences that are judged, for the strip below.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weights of the rows, for the strip below.
    calibration_error : float, default=None
        Expected calibration error (ECE), as a fraction, for the legend.
    noise_floor : float, default=None
        Error of a perfectly calibrated model at these confidences, as a fraction.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is judged.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    band_ : matplotlib PolyCollection or None
        The consistency band.
    error_bars_ : matplotlib ErrorbarContainer or None
        The error bars.
    ax_ : matplotlib Axes
        Axes with the curve.
    counts_ax_ : matplotlib Axes or None
        Axes with the strip of confidences.
    figure_ : matplotlib Figure
        Figure containing them.

    References
    ----------
    .. [1] J. Bröcker, L. A. Smith (2007). Increasing the Reliability of Reliability Diagrams.
       Weather and Forecasting 22.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skllm_calib.display import ReliabilityDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussianNB().fit(X[::2], y[::2])
    >>> display = ReliabilityDisplay.from_estimator(model, X[1::2], y[1::2])
    >>> display.ax_.get_xlabel()
    'Confidence'
    """

    def __init__(
        self,
        curve: ReliabilityCurve,
        confidence: NDArray[np.float64],
        *,
        sample_weight: NDArray[np.float64] | None = None,
        calibration_error: float | None = None,
        noise_floor: float | None = None,
        kind: object = "top-label",
        name: str | None = None,
    ) -> None:
        self.curve = curve
        self.confidence = confidence
        self.sample_weight = sample_weight
        self.calibration_error = calibration_error
        self.noise_floor = noise_floor
        self.kind = kind
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        ref_line: bool = True,
        band: float | None = 0.95,
        error_bars: ErrorBars = None,
        show_counts: bool = True,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> ReliabilityDisplay:
        """Draw the diagram; on axes that hold one already, as a further curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None. The strip of confidences takes its room from
            them.
        name : str, default=None
            Name of the curve in the legend; the stored name when None.
        ref_line : bool, default=True
            Whether to draw the diagonal of perfect calibration.
        band : float in (0, 1) or None, default=0.95
            Share of the accuracies of a calibrated model that the band of each bin holds; None for
            no band.
        error_bars : {"wilson", "clopper-pearson"} or None, default=None
            Intervals of 95 % confidence around each accuracy.
        show_counts : bool, default=True
            Whether to draw the strip of confidences.
        curve_kwargs : dict, default=None
            Keyword arguments of :meth:`matplotlib.axes.Axes.plot` for the curve.

        Returns
        -------
        display : ReliabilityDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `band` or `error_bars` has no meaning.
        """
        if band is not None and not 0 < band < 1:
            raise ValueError(f"band must lie between 0 and 1 or be None, got {band!r}.")
        if error_bars not in (None, "wilson", "clopper-pearson"):
            raise ValueError(
                f"error_bars must be 'wilson', 'clopper-pearson' or None, got {error_bars!r}."
            )
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=(5.4, 6.0), layout="tight")
        self.ax_, self.figure_ = ax, ax.figure
        drawn = sum(line.get_gid() == _CURVE for line in ax.lines)
        style = {**CURVE_STYLES[drawn % len(CURVE_STYLES)], "linewidth": 1.8, "markersize": 6}
        style |= {"markeredgecolor": "white", "markeredgewidth": 0.8, "zorder": 3}
        style |= {"label": self._legend_label(name)}
        if ref_line and all(line.get_gid() != _DIAGONAL for line in ax.lines):
            ax.plot([0, 1], [0, 1], color=_GREY, lw=1, ls=":", gid=_DIAGONAL, zorder=1)
        curve = self.curve
        (self.line_,) = ax.plot(curve.mean_confidence, curve.accuracy, gid=_CURVE, **style)
        self.line_.set(**(curve_kwargs or {}))  # "lw" and "linewidth" are one thing here
        colour = self.line_.get_color()
        self.band_ = None if band is None else self._draw_band(band, colour, drawn == 0)
        self.error_bars_ = None
        if error_bars is not None:
            low, high = accuracy_interval(curve, error_bars)
            reach = np.maximum([curve.accuracy - low, high - curve.accuracy], 0.0)
            self.error_bars_ = ax.errorbar(
                curve.mean_confidence,
                curve.accuracy,
                yerr=reach,
                fmt="none",
                ecolor=colour,
                elinewidth=1,
                capsize=2,
                zorder=2,
            )
        self._label_axes()
        self.counts_ax_ = self._draw_counts(plt, drawn, colour) if show_counts else None
        return self

    def _legend_label(self, name: str | None) -> str:
        name = self.name if name is None else name
        figures = f"n = {self.curve.counts.sum():,}"
        if self.noise_floor is not None:
            figures = f"noise floor {self.noise_floor:.1%}, {figures}"
        if self.calibration_error is not None:
            figures = f"ECE {self.calibration_error:.1%}, {figures}"
        return figures if name is None else f"{name}\n{figures}"

    def _draw_band(self, level: float, colour: str, explain: bool) -> Any:
        """Shade, around the diagonal, where a calibrated model's points would fall."""
        curve = self.curve
        low, high = consistency_band(curve, level)
        # Bars over the width of the bins, so that a single bin shows and no gap is bridged.
        x = np.column_stack([curve.edges, np.full(len(low), np.nan)]).ravel()
        low, high = (np.column_stack([end, end, end]).ravel() for end in (low, high))
        label = f"a calibrated model, {level:.0%} band" if explain else None
        return self.ax_.fill_between(
            x, low, high, color=colour, alpha=0.16, lw=0, zorder=0, label=label
        )

    def _label_axes(self) -> None:
        top = isinstance(self.kind, str) and self.kind == "top-label"
        self.ax_.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel="Confidence" if top else f"Probability of {self.kind}",
            ylabel="Accuracy" if top else f"Share of {self.kind}",
        )
        self.ax_.spines[["top", "right"]].set_visible(False)
        # Over-confident curves sag below the diagonal, modest ones rise above it.
        self.ax_.legend(
            loc="best", framealpha=0.85, edgecolor="none", fontsize="small", handlelength=2.6
        )

    def _draw_counts(self, plt: Any, drawn: int, colour: str) -> Any:
        strip = counts_axes(plt, self.ax_)
        edges = np.linspace(0, 1, 41)
        weight = np.ones(len(self.confidence)) if self.sample_weight is None else self.sample_weight
        share, _ = np.histogram(self.confidence, bins=edges, weights=weight / weight.sum())
        strip.stairs(share, edges, fill=True, color=colour, alpha=0.3, lw=0)
        dashes = CURVE_STYLES[drawn % len(CURVE_STYLES)]["linestyle"]
        strip.stairs(share, edges, color=colour, lw=1.2, ls=dashes)
        strip.set_ylim(0, max(strip.get_ylim()[1], 1.1 * float(share.max())))
        strip.set_xlabel(self.ax_.get_xlabel())
        return strip

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        n_bins: int = 15,
        strategy: Strategy = "uniform",
        kind: object = "top-label",
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        ref_line: bool = True,
        band: float | None = 0.95,
        error_bars: ErrorBars = None,
        show_counts: bool = True,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> ReliabilityDisplay:
        """Draw the reliability diagram of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted classifier, or pipeline ending in one, with ``predict_proba`` and ``classes_``.
        X : array-like of shape (n_samples, ...)
            Rows the classifier was not fitted on.
        y : array-like of shape (n_samples,)
            Their true labels; a class may be absent.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width or of equal mass.
        kind : "top-label" or a class label, default="top-label"
            Which confidence is judged: that of the most probable class, or that of one class.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        name : str, default=None
            Name of the curve; the name of the estimator's class when None.
        ax, ref_line, band, error_bars, show_counts, curve_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before the model is asked and paid for
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            n_bins=n_bins,
            strategy=strategy,
            kind=kind,
            labels=estimator.classes_,
            sample_weight=sample_weight,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            ref_line=ref_line,
            band=band,
            error_bars=error_bars,
            show_counts=show_counts,
            curve_kwargs=curve_kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        n_bins: int = 15,
        strategy: Strategy = "uniform",
        kind: object = "top-label",
        labels: ArrayLike | None = None,
        pos_label: object = None,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        ref_line: bool = True,
        band: float | None = 0.95,
        error_bars: ErrorBars = None,
        show_counts: bool = True,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> ReliabilityDisplay:
        """Draw the reliability diagram of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds the
            probability of `pos_label`.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width or of equal mass.
        kind : "top-label" or a class label, default="top-label"
            Which confidence is judged: that of the most probable class, or that of one class.
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y_true` lacks one of them.
        pos_label : object, default=None
            Class that 1-D probabilities belong to; the last of the sorted labels when None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        name : str, default=None
            Name of the curve.
        ax, ref_line, band, error_bars, show_counts, curve_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        judged = judge(
            check_input(
                y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
            ),
            kind,
        )
        bins = summarise(judged, assign_bins(judged.confidence, judged.weight, n_bins, strategy))
        display = cls(
            curve_of(judged, n_bins, strategy),
            judged.confidence,
            sample_weight=None if sample_weight is None else judged.weight,
            calibration_error=combine(bins.mass, bins.gap, "l1"),
            noise_floor=floor_of(bins),
            kind=kind,
            name=name,
        )
        return display.plot(
            ax,
            ref_line=ref_line,
            band=band,
            error_bars=error_bars,
            show_counts=show_counts,
            curve_kwargs=curve_kwargs,
        )
