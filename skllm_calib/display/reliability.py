"""The reliability diagram, for any number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.display._base import ProbabilityDisplay, confidence_label, is_top_label
from skllm_calib.display._folds import held_out_predictions
from skllm_calib.display._intervals import Interval, check_interval
from skllm_calib.display._reliability_parts import (
    draw_band,
    draw_counts,
    draw_error_bars,
    draw_folds,
    draw_smooth,
    figures_of,
)
from skllm_calib.display._smooth import SmoothReliabilityCurve
from skllm_calib.display.plotting import (
    UNIT_LIMITS,
    holds,
    import_pyplot,
    next_style,
    ref_line_style,
    tidy,
)
from skllm_calib.log_proba.parameters import check_fraction
from skllm_calib.log_proba.validation import check_input, check_weighted_labels
from skllm_calib.metrics.binning import Judged, Strategy, judge
from skllm_calib.metrics.noise import CalibrationErrorInterval
from skllm_calib.metrics.reliability import ReliabilityCurve, curve_of

__all__ = ["ReliabilityDisplay"]

_CURVE, _DIAGONAL = "reliability-curve", "reliability-diagonal"


@dataclass(eq=False, repr=False)
class ReliabilityDisplay(ProbabilityDisplay):
    """Reliability diagram: accuracy against confidence, with what chance alone would do.

    It is recommended to use :meth:`from_estimator`, :meth:`from_predictions` or
    :meth:`from_cv_results`; all parameters are stored as attributes.

    The shaded band holds the accuracies that a perfectly calibrated model would show in bins as
    small as these [1]_: points inside it are no evidence of miscalibration. A strip below tells
    how the confidences are spread.

    With ``smooth=True`` a curve without bins goes through the points: a kernel regression [2]_ of
    the gap between outcome and confidence, added to the diagonal. It is local linear with a
    Gaussian kernel [3]_, whose bandwidth is the one of twelve from .01 to .5 with the least squared
    error when rows are left out one by one. The band around it is pointwise: 1.96 standard
    deviations of 500 bootstrap samples of the rows, or of a calibrated model's outcomes where these
    are more. It is a 95 % interval of the smoothed accuracy; sharp bends of the true one are
    rounded off. Nothing is drawn where fewer than ten rows are in reach of the kernel.

    Parameters
    ----------
    curve : ReliabilityCurve
        Figures of the bins, as :func:`skllm_calib.metrics.reliability_curve` gives them.
    confidence : ndarray of shape (n_samples,)
        Confidences that are judged, for the strip below.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weights of the rows, for the strip below.
    calibration_error : float, default=None
        Expected calibration error (ECE), as a fraction, for the legend.
    error_interval : CalibrationErrorInterval, default=None
        Its 95 % interval, for the legend.
    noise_floor : float, default=None
        Error of a perfectly calibrated model at these confidences, as a fraction.
    smooth_curve : SmoothReliabilityCurve, default=None
        The curve without bins: named arrays ``confidence``, ``accuracy``, ``low`` and ``high``.
    fold_curves : sequence of ReliabilityCurve, default=None
        Curves of the folds of a cross-validation, drawn thin.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is judged.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve; with a smooth curve, its points only.
    band_ : matplotlib PolyCollection or None
        The consistency band.
    error_bars_ : matplotlib ErrorbarContainer or None
        The error bars.
    smooth_line_ : matplotlib Line2D or None
        The smooth curve.
    smooth_band_ : matplotlib PolyCollection or None
        Its bootstrap band.
    fold_lines_ : list of matplotlib Line2D
        The curves of the folds.
    ax_ : matplotlib Axes
        Axes with the curve.
    counts_ax_ : matplotlib Axes or None
        Axes with the strip of confidences.
    figure_ : matplotlib Figure
        Figure containing them.

    See Also
    --------
    CalibrationComparisonDisplay : Two diagrams, before and after a calibration.

    References
    ----------
    .. [1] J. Bröcker, L. A. Smith (2007). Increasing the Reliability of Reliability Diagrams.
       Weather and Forecasting 22.
    .. [2] J. B. Copas (1983). Plotting p against x. Applied Statistics 32.
    .. [3] J. Fan (1992). Design-adaptive Nonparametric Regression. JASA 87.

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

    _figsize: ClassVar[tuple[float, float]] = (5.4, 6.0)

    curve: ReliabilityCurve
    confidence: NDArray[np.float64]
    _: KW_ONLY
    sample_weight: NDArray[np.float64] | None = None
    calibration_error: float | None = None
    error_interval: CalibrationErrorInterval | None = None
    noise_floor: float | None = None
    smooth_curve: SmoothReliabilityCurve | None = None
    fold_curves: Sequence[ReliabilityCurve] | None = None
    kind: object = "top-label"
    name: str | None = None

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        ref_line: bool = True,
        band: float | None = 0.95,
        error_bars: Interval = None,
        show_counts: bool = True,
        ref_line_kw: dict[str, Any] | None = None,
        fill_between_kw: dict[str, Any] | None = None,
        errorbar_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
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
            Fraction of the accuracies of a calibrated model that the band of each bin holds; None
            for no band.
        error_bars : {"wilson", "clopper-pearson"} or None, default=None
            Intervals of 95 % confidence around each accuracy.
        show_counts : bool, default=True
            Whether to draw the strip of confidences.
        ref_line_kw, fill_between_kw, errorbar_kw : dict, default=None
            Keyword arguments of matplotlib for the diagonal, the band and the error bars.
        **kwargs : dict
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
        self._check_options(band=band, error_bars=error_bars)
        _, ax, name = self._set_up(ax, name)
        first, curve = not holds(ax, _CURVE), self.curve
        if ref_line and not holds(ax, _DIAGONAL):
            ax.plot([0, 1], [0, 1], **ref_line_style(ref_line_kw, gid=_DIAGONAL))
        style = next_style(ax, _CURVE, kwargs, label=self._legend_label(name))
        (self.line_,) = ax.plot(curve.mean_confidence, curve.accuracy, **style)
        colour = self.line_.get_color()
        self.band_ = self.error_bars_ = self.smooth_line_ = self.smooth_band_ = None
        if band is not None:
            label = f"a calibrated model, {band:.0%} band" if first else None
            self.band_ = draw_band(ax, curve, band, fill_between_kw, color=colour, label=label)
        if error_bars is not None:
            self.error_bars_ = draw_error_bars(ax, curve, error_bars, colour, errorbar_kw)
        ax.set(
            xlim=UNIT_LIMITS,
            ylim=UNIT_LIMITS,
            aspect="equal",
            xlabel=confidence_label(self.kind),
            ylabel="Accuracy" if is_top_label(self.kind) else f"Fraction of {self.kind}",
        )
        self.counts_ax_ = None
        if show_counts:
            self.counts_ax_ = draw_counts(ax, self.confidence, self.sample_weight, self.line_)
        if self.smooth_curve is not None:
            label = "kernel-smoothed, 95% bootstrap band" if first else None
            drawn = draw_smooth(ax, self.smooth_curve, self.line_, label)
            self.smooth_line_, self.smooth_band_ = drawn
            self.line_.set_linestyle("none")  # the smooth curve joins the points
        self.fold_lines_ = draw_folds(ax, self.fold_curves or [], colour)
        tidy(ax)
        return self

    @classmethod
    def _check_options(
        cls, *, band: float | None = None, error_bars: Interval = None, **_: Any
    ) -> None:
        if band is not None:
            check_fraction(band, "band")
        check_interval(error_bars, "error_bars")

    def _legend_label(self, name: str | None) -> str:
        figures = f"n = {self.curve.counts.sum():,}"
        if self.noise_floor is not None:
            figures = f"noise floor {self.noise_floor:.1%}, {figures}"
        ends = self.error_interval
        if self.calibration_error is not None:
            # With its interval it fills a line.
            rest = ", " if ends is None else f" [{100 * ends.low:.1f}, {100 * ends.high:.1f}]\n"
            figures = f"ECE {self.calibration_error:.1%}{rest}{figures}"
        return figures if name is None else f"{name}\n{figures}"

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        n_bins: int = 15,
        strategy: Strategy = "uniform",
        kind: object = "top-label",
        smooth: bool = False,
        show_interval: bool = False,
        labels: ArrayLike | None = None,
        pos_label: object = None,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the reliability diagram of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes, or named by them in any
            order; 1-D holds the probability of `pos_label`.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width or of equal mass.
        kind : "top-label" or a class label, default="top-label"
            Which confidence is judged: that of the most probable class, or that of one class.
        smooth : bool, default=False
            Whether to draw a smooth curve with a bootstrap band through the points of the bins.
        show_interval : bool, default=False
            Whether to give the 95 % interval of the ECE in the legend
            (:func:`skllm_calib.metrics.calibration_error_interval`).
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y_true` lacks one of them.
        pos_label : object, default=None
            Class that 1-D probabilities belong to; the last of the sorted labels when None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        name : str, default=None
            Name of the curve.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        **kwargs : dict
            Keyword arguments of :meth:`plot`.

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
        checked = check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        )
        display = cls(
            **figures_of(judge(checked, kind), n_bins, strategy, smooth, show_interval),
            kind=kind,
            name=name,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        X: Any,
        y: ArrayLike,
        *,
        show_folds: bool = True,
        n_bins: int = 10,
        strategy: Strategy = "quantile",
        kind: object = "top-label",
        smooth: bool = False,
        show_interval: bool = False,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the diagram of all held-out predictions of a cross-validation.

        Parameters
        ----------
        cv_results : dict
            What :func:`sklearn.model_selection.cross_validate` returns with
            ``return_estimator=True`` and ``return_indices=True``. Test sets must not overlap.
        X : array-like of shape (n_samples, ...)
            The rows that were cross-validated. Each estimator is asked for its held-out ones.
        y : array-like of shape (n_samples,)
            Their labels.
        show_folds : bool, default=True
            Whether to draw the curve of every fold, thin, behind the curve of all of them.
        n_bins : int, default=10
            Number of bins, of each fold and of all rows.
        strategy : {"uniform", "quantile"}, default="quantile"
            Bins of equal width or of equal mass.
        kind, smooth, show_interval, sample_weight, name, ax, **kwargs
            As in :meth:`from_predictions`.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display; its ``curve`` pools the folds, ``fold_curves`` holds theirs.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `cv_results` lacks estimators or indices, a row was held out twice, the estimators
            know different classes, or an input does not fit.

        Notes
        -----
        The pooled curve is that of the procedure; each fold has an estimator of its own, on few
        rows: its curve strays further, and the mean ECE of the folds lies above the pooled one.
        """
        cls._check_options(**kwargs)
        import_pyplot(f"{cls.__name__}.from_cv_results")  # before the models are asked and paid for
        held_out = held_out_predictions(cv_results, X, y)
        truth, weight = check_weighted_labels(y, sample_weight)
        truth, weight = truth[held_out.row], None if weight is None else weight[held_out.row]
        checked = check_input(truth, held_out.proba, labels=held_out.classes, sample_weight=weight)
        judged = judge(checked, kind)
        fold = held_out.fold if weight is None else held_out.fold[weight > 0]
        display = cls(
            **figures_of(judged, n_bins, strategy, smooth, show_interval),
            fold_curves=[
                curve_of(Judged(*(column[fold == one] for column in judged)), n_bins, strategy)
                for one in np.unique(fold)
            ]
            if show_folds
            else None,
            kind=kind,
            name=name,
        )
        return display.plot(ax, **kwargs)
