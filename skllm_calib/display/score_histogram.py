"""How the confidences of right and of wrong rows are spread."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.display._base import ProbabilityDisplay, confidence_label, is_top_label
from skllm_calib.display.plotting import UNIT_LIMITS, styled, tidy
from skllm_calib.log_proba.parameters import check_choice, check_count
from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import DECIMALS, judge

__all__ = ["ScoreHistogramDisplay"]

Floats = NDArray[np.float64]
Stat = Literal["count", "proportion"]

# Light and dark, so that they differ in grey too; the hatch says it a third time.
_RIGHT: dict[str, Any] = {"color": "#A6CEE8", "edgecolor": "#0072B2", "linewidth": 0.6}
_WRONG: dict[str, Any] = {
    "color": "#B84A00",
    "edgecolor": "white",
    "linewidth": 0.0,
    "hatch": "////",
}
_DEFAULT_BINS = 20
# More different values than this are a continuum to the eye.
_MOST_VALUES = 25
_WIDEST_BAR = 0.035


@dataclass(eq=False, repr=False)
class ScoreHistogramDisplay(ProbabilityDisplay):
    """Histogram of the confidences, of right against wrong rows.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    Scores that can tell right from wrong have their wrong rows (dark, hatched) to the left. Scores
    with few different values, such as stated confidences or fractions of votes, get a bar at each
    value instead of bins, which would hide how few they are.

    Parameters
    ----------
    confidence : ndarray of shape (n_samples,)
        The confidences, in [0, 1].
    hit : ndarray of shape (n_samples,)
        Whether the row is right (1) or wrong (0); for one class, whether it is of that class.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weights of the rows.
    kind : "top-label" or a class label, default="top-label"
        Whose probability it is: that of the most probable class, or that of one class.
    name : str, default=None
        Title of the legend.

    Attributes
    ----------
    right_bars_, wrong_bars_ : matplotlib BarContainer
        Bars of the right and of the wrong rows.
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure containing them.

    Examples
    --------
    >>> from skllm_calib.display import ScoreHistogramDisplay
    >>> stated = [0.9, 0.9, 0.8, 0.95, 0.9, 0.8]
    >>> right = [True, True, False, True, False, True]
    >>> display = ScoreHistogramDisplay.from_predictions(right, stated, kind=True)
    >>> len(display.right_bars_)  # a bar for each of .8, .9 and .95
    3
    """

    _figsize: ClassVar[tuple[float, float]] = (5.4, 3.4)

    confidence: Floats
    hit: Floats
    _: KW_ONLY
    sample_weight: Floats | None = None
    kind: object = "top-label"
    name: str | None = None

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        bins: int | Literal["auto", "distinct"] = "auto",
        stat: Stat = "count",
        **kwargs: Any,
    ) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        name : str, default=None
            Title of the legend; the stored name when None.
        bins : int, "auto" or "distinct", default="auto"
            Number of bins of equal width from 0 to 1; "distinct" for a bar at each different value;
            "auto" for "distinct" with at most 25 different values that repeat, else 20 bins.
        stat : {"count", "proportion"}, default="count"
            "count": rows (or their weights), the right ones on top of the wrong ones. "proportion":
            right rows upwards and wrong rows downwards, each as proportions of their own number,
            which shows how the two are spread when one is rare.
        **kwargs : dict
            Keyword arguments of :meth:`matplotlib.axes.Axes.bar` for all bars.

        Returns
        -------
        display : ScoreHistogramDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `bins` or `stat` has no meaning.
        """
        self._check_options(bins=bins, stat=stat)
        plt, ax, name = self._set_up(ax, name)
        hit = np.asarray(self.hit, dtype=np.float64)
        weight = np.ones(hit.size) if self.sample_weight is None else self.sample_weight
        centre, width, number = _bars(np.asarray(self.confidence), bins)
        right, wrong = (
            np.bincount(number, weights=weight * part, minlength=centre.size)
            for part in (hit, 1 - hit)
        )
        base = height = wrong
        if stat == "proportion":
            right, wrong = (part / max(part.sum(), 1e-300) for part in (right, wrong))
            base, height = np.zeros_like(wrong), -wrong
        wrong_label, right_label = self._labels(weight)
        of_right = styled("Rectangle", {**_RIGHT, "label": right_label}, kwargs)
        of_wrong = styled("Rectangle", {**_WRONG, "label": wrong_label}, kwargs)
        with plt.rc_context({"hatch.linewidth": 0.6}):
            self.right_bars_ = ax.bar(centre, right, width, bottom=base, **of_right)
            self.wrong_bars_ = ax.bar(centre, height, width, **of_wrong)
        low, high = ax.dataLim.intervaly
        ax.set_ylim(top=high + 0.3 * (high - low))  # room for the legend
        ax.set(
            xlim=UNIT_LIMITS,
            xlabel=confidence_label(self.kind),
            ylabel="Proportion of each" if stat == "proportion" else "Rows",
        )
        if stat == "proportion":
            ax.axhline(0, color="black", lw=0.8)
            ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0%}")
        tidy(ax, title=name, title_fontsize="small", alignment="left")
        return self

    @classmethod
    def _check_options(cls, *, bins: object = "auto", stat: object = "count", **_: Any) -> None:
        if isinstance(bins, str):
            check_choice(bins, "bins", ("auto", "distinct"))
        else:
            check_count(bins, "bins")
        check_choice(stat, "stat", ("count", "proportion"))

    def _labels(self, weight: Floats) -> tuple[str, str]:
        """Return the legend's words for wrong and for right rows."""
        other = not self.kind if isinstance(self.kind, bool | np.bool_) else f"not {self.kind}"
        names = ("wrong", "right") if is_top_label(self.kind) else (f"{other}", f"{self.kind}")
        labels = []
        for value, word in enumerate(names):
            part = self.hit == value
            text = f"{word}: {part.sum():,} rows"
            if part.any():
                text += f", mean {np.average(self.confidence[part], weights=weight[part]):.2f}"
            labels.append(text)
        return labels[0], labels[1]

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        kind: object = "top-label",
        labels: ArrayLike | None = None,
        pos_label: object = None,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the histogram of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes, or named by them in any
            order; 1-D holds the probability of `pos_label`. For a confidence alone, pass whether
            each row is right as `y_true`, the confidences as `y_proba` and ``kind=True``.
        kind : "top-label" or a class label, default="top-label"
            Which probability: that of the most probable class, or that of one class.
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y_true` lacks one of them.
        pos_label : object, default=None
            Class that 1-D probabilities belong to; the last of the sorted labels when None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        name : str, default=None
            Title of the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        **kwargs : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : ScoreHistogramDisplay
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
        display = cls(
            judged.confidence, judged.hit, sample_weight=judged.weight, kind=kind, name=name
        )
        return display.plot(ax, **kwargs)


def _bars(
    confidence: Floats, bins: int | Literal["auto", "distinct"]
) -> tuple[Floats, float, NDArray[np.int64]]:
    """Return the middles of the bars, their width, and the bar of every row."""
    confidence = np.round(confidence, DECIMALS)
    values, number = np.unique(confidence, return_inverse=True)
    few = values.size <= min(_MOST_VALUES, confidence.size // 2)
    if bins == "distinct" or (bins == "auto" and few):
        nearest = float(np.diff(values).min()) if values.size > 1 else 1.0
        return values, min(0.85 * nearest, _WIDEST_BAR), number
    n_bins = _DEFAULT_BINS if bins == "auto" else int(bins)
    number = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    return (np.arange(n_bins) + 0.5) / n_bins, 1 / n_bins, number
