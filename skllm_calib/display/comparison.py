"""Before and after a calibration: two reliability diagrams over two score histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skllm_calib.display._base import Display
from skllm_calib.display._reliability_parts import figures_of
from skllm_calib.display.plotting import GREY, import_pyplot, strip_below, tidy
from skllm_calib.display.reliability import ReliabilityDisplay
from skllm_calib.display.score_histogram import ScoreHistogramDisplay
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import Strategy, judge

__all__ = ["CalibrationComparisonDisplay"]


@dataclass(eq=False, repr=False)
class CalibrationComparisonDisplay(Display):
    """Reliability diagrams before and after a calibration, with their score histograms below.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    Each legend gives the ECE with its 95 % interval, the noise floor (the ECE that a perfectly
    calibrated model would show at these confidences) and the number of rows. The thin grey curve of
    the right diagram repeats the left one.

    Parameters
    ----------
    reliability : pair of ReliabilityDisplay
        The diagrams, before and after.
    scores : pair of ScoreHistogramDisplay
        The histograms, before and after.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes of shape (2, 2)
        Diagrams in the first row, histograms in the second; before in the first column.
    figure_ : matplotlib Figure
        Figure containing them.

    See Also
    --------
    ReliabilityDisplay : One diagram, or several curves on the same axes.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.display import CalibrationComparisonDisplay
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(size=500)
    >>> y = rng.random(500) < p
    >>> too_sure = p**3 / (p**3 + (1 - p) ** 3)
    >>> display = CalibrationComparisonDisplay.from_predictions(y, too_sure, p)
    >>> display.ax_.shape
    (2, 2)
    """

    reliability: tuple[ReliabilityDisplay, ReliabilityDisplay]
    scores: tuple[ScoreHistogramDisplay, ScoreHistogramDisplay]

    def plot(self, ax: Any = None, *, names: Sequence[str] | None = None, **kwargs: Any) -> Self:
        """Draw both diagrams.

        Parameters
        ----------
        ax : matplotlib Axes or pair of them, default=None
            One for each diagram; a single one is divided between them; a new figure when None.
        names : pair of str, default=None
            Names in the legends; the stored ones when None.
        **kwargs : dict
            Keyword arguments of :meth:`ReliabilityDisplay.plot`, such as `band` or `error_bars`.

        Returns
        -------
        display : CalibrationComparisonDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `ax`, `names` or an option of the diagrams has no meaning.
        """
        if names is not None:
            _check_pair(names)
        upper = _pair_of_axes(import_pyplot(type(self).__name__), ax)
        lower = []
        for number, (axes, diagram, scores) in enumerate(
            zip(upper, self.reliability, self.scores, strict=True)
        ):
            name = None if names is None else names[number]
            diagram.plot(axes, name=name, show_counts=False, **kwargs)
            lower.append(strip_below(axes, "34%"))
            scores.plot(lower[-1])
        self._repeat_before(upper[1], None if names is None else names[0])
        highest = max(strip.get_ylim()[1] for strip in lower)
        for strip in lower:
            strip.set_ylim(0, highest)
        self.ax_, self.figure_ = np.array([upper, lower]), upper[0].figure
        return self

    def _repeat_before(self, ax: Any, name: str | None) -> None:
        """Draw the first curve, thin and grey, behind the second; the bands are explained once."""
        before, after = self.reliability
        line = before.line_ if before.smooth_line_ is None else before.smooth_line_
        (repeated,) = ax.plot(*line.get_data(), color=GREY, lw=0.9, zorder=1.5)
        repeated.set_label(before.name if name is None else name)
        tidy(ax, handles=[after.line_, repeated])

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        before: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a calibrated classifier beside the one that it calibrates, or any two.

        Parameters
        ----------
        estimator : classifier
            Fitted and calibrated, such as :class:`skllm_calib.CalibratedLLMClassifier`.
        X : array-like of shape (n_samples, ...)
            Rows that were used to fit neither. Both classifiers are asked; replies that are cached
            cost nothing the second time.
        y : array-like of shape (n_samples,)
            Their true labels; a class may be absent.
        before : classifier, default=None
            Fitted classifier to compare with; ``estimator.estimator_`` when None.
        **kwargs : dict
            Keyword arguments of :meth:`from_predictions`.

        Returns
        -------
        display : CalibrationComparisonDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If there is nothing to compare with, the classes differ, or an input does not fit.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before the models are asked and paid for
        if before is None:
            before = getattr(estimator, "estimator_", None)
        if before is None:
            raise InvalidInput(
                f"{type(estimator).__name__} has no estimator_ to compare with: pass the fitted "
                "classifier before calibration as before=.",
                "before",
            )
        if not np.array_equal(before.classes_, estimator.classes_):
            raise InvalidInput(
                "both classifiers must know the same classes, got "
                f"{np.asarray(before.classes_).tolist()} before and "
                f"{np.asarray(estimator.classes_).tolist()} after.",
                "before",
            )
        proba, _ = cls._ask(estimator, X, None)
        return cls.from_predictions(
            y, before.predict_proba(X), proba, labels=estimator.classes_, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        before: ArrayLike,
        after: ArrayLike,
        *,
        names: Sequence[str] = ("before", "after"),
        n_bins: int = 10,
        strategy: Strategy = "quantile",
        kind: object = "top-label",
        smooth: bool = False,
        labels: ArrayLike | None = None,
        pos_label: object = None,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw probabilities of the same rows before and after a calibration.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        before, after : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes, or named by them in
            any order; 1-D holds those of `pos_label`.
        names : pair of str, default=("before", "after")
            Names in the legends.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="quantile"
            Bins of equal width or of equal mass.
        kind : "top-label" or a class label, default="top-label"
            Which confidence is judged: that of the most probable class, or that of one class.
        smooth : bool, default=False
            Whether to draw smooth curves through the points of the bins.
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y_true` lacks one of them.
        pos_label : object, default=None
            Class that 1-D probabilities belong to; the last of the sorted labels when None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        ax : matplotlib Axes or pair of them, default=None
            As in :meth:`plot`.
        **kwargs : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : CalibrationComparisonDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        _check_pair(names)
        diagrams, histograms = [], []
        for proba, name in zip((before, after), names, strict=True):
            judged = judge(
                check_input(
                    y_true, proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
                ),
                kind,
            )
            diagrams.append(
                ReliabilityDisplay(
                    **figures_of(judged, n_bins, strategy, smooth, show_interval=True),
                    kind=kind,
                    name=name,
                )
            )
            histograms.append(
                ScoreHistogramDisplay(
                    judged.confidence, judged.hit, sample_weight=judged.weight, kind=kind
                )
            )
        display = cls((diagrams[0], diagrams[1]), (histograms[0], histograms[1]))
        return display.plot(ax, **kwargs)


def _check_pair(names: Sequence[str]) -> None:
    if isinstance(names, str) or len(names) != 2:
        raise InvalidInput(
            f"names must be two, one before and one after, got {names!r}.", "names", value=names
        )


def _pair_of_axes(plt: Any, ax: Any) -> list[Any]:
    """Return the axes of both diagrams, made or divided if need be."""
    if ax is None:
        figure = plt.figure(figsize=(9.6, 6.2), layout="tight")
        return list(figure.subplots(1, 2))
    if not hasattr(ax, "figure"):
        pair = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(pair) != 2:
            raise InvalidInput(
                f"ax must be one Axes or two, got {len(pair)}.", "ax", value=len(pair)
            )
        return pair
    place = ax.get_subplotspec()
    if place is None:
        raise InvalidInput(
            "ax is not part of a grid, so it cannot be divided: pass two Axes, or one that "
            "plt.subplots made.",
            "ax",
        )
    ax.set_axis_off()  # it stays for its title
    halves = place.subgridspec(1, 2)
    return [ax.figure.add_subplot(halves[0, number]) for number in range(2)]
