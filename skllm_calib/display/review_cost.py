"""The review-cost curve: what a row costs on average, for every price of a review."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike

from skllm_calib.display._base import ProbabilityDisplay
from skllm_calib.display._matplotlib import GREY, holds, import_pyplot, next_style, tidy
from skllm_calib.metrics.review_cost import ReviewCostCurve, review_cost_curve

__all__ = ["ReviewCostDisplay"]

_CURVE = "review-cost-curve"
_ACCEPT_ALL, _REVIEW_ALL = "accept-all", "review-all"
_REFERENCE: dict[str, Any] = {"lw": 1, "ls": ":", "zorder": 1}


class ReviewCostDisplay(ProbabilityDisplay):
    """Mean cost of a row against the price of a review, both in errors.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    A row is accepted where its confidence is at least one minus the price of a review, which is
    the cheapest rule if the confidences are calibrated [1]_. The two dotted lines are the costs of
    reviewing every row and of accepting every row: a curve above the lower of them would have done
    better without any confidence.

    Parameters
    ----------
    curve : ReviewCostCurve
        Prices and costs, as :func:`skllm_calib.metrics.review_cost_curve` gives them.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    accept_line_, review_line_ : matplotlib Line2D or None
        Cost of accepting every row, and of reviewing every row; None where the axes have it
        already.
    price_line_ : matplotlib Line2D or None
        The price asked about.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure containing them.

    References
    ----------
    .. [1] C. K. Chow (1970). On Optimum Recognition Error and Reject Tradeoff. IEEE Transactions on
       Information Theory 16.

    Examples
    --------
    >>> from skllm_calib.display import ReviewCostDisplay
    >>> y_true, p_spam = ["ham", "spam", "spam", "ham"], [0.1, 0.9, 0.8, 0.6]
    >>> display = ReviewCostDisplay.from_predictions(y_true, p_spam, price=0.1)
    >>> display.ax_.get_xlabel()
    'Price of a review (an error costs 1)'
    """

    def __init__(self, curve: ReviewCostCurve, *, name: str | None = None) -> None:
        self.curve = curve
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        ref_lines: bool = True,
        price: float | None = None,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the curve; on axes that hold one already, as a further one.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        name : str, default=None
            Name of the curve in the legend; the stored name when None.
        ref_lines : bool, default=True
            Whether to draw the costs of accepting and of reviewing every row.
        price : float in [0, 1], default=None
            A price to mark, such as one's own.
        curve_kwargs : dict, default=None
            Properties of the curve, a :class:`matplotlib.lines.Line2D`.

        Returns
        -------
        display : ReviewCostDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `price` is no number from 0 to 1.
        """
        if price is not None and not 0 <= price <= 1:
            raise ValueError(
                f"price must lie between 0 and 1, got {price!r}: it is that of a review divided by "
                "the cost of an error."
            )
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=(5.4, 4.2), layout="tight")
        self.ax_, self.figure_ = ax, ax.figure
        style = next_style(ax, _CURVE) | {"marker": "none"}
        (self.line_,) = ax.plot(
            self.curve.price,
            self.curve.cost,
            label=self.name if name is None else name,
            **style,
        )
        self.line_.set(**(curve_kwargs or {}))
        self.accept_line_ = self.review_line_ = self.price_line_ = None
        if ref_lines:
            rate = self.curve.error_rate
            if rate not in [
                line.get_ydata()[0] for line in ax.lines if line.get_gid() == _ACCEPT_ALL
            ]:
                self.accept_line_ = ax.axhline(rate, color=self.line_.get_color(), **_REFERENCE)
                self.accept_line_.set(label=f"accept every row, {rate:.3g}", gid=_ACCEPT_ALL)
            if not holds(ax, _REVIEW_ALL):
                (self.review_line_,) = ax.plot([0, 1], [0, 1], color=GREY, **_REFERENCE)
                self.review_line_.set(label="review every row", gid=_REVIEW_ALL)
        if price is not None:
            self.price_line_ = ax.axvline(price, color=GREY, lw=1, zorder=1, label=f"{price:.3g}")
        highest = max(
            float(line.get_ydata().max()) for line in ax.lines if line.get_gid() == _CURVE
        )
        ax.set(
            xlim=(0, 1),
            ylim=(0, 1.35 * max(highest, 0.01)),
            xlabel="Price of a review (an error costs 1)",
            ylabel="Mean cost of a row",
        )
        tidy(ax)
        return self

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        pos_label: object = None,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> Self:
        """Draw the review-cost curve of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds the
            probability of `pos_label`.
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
        **plot_options : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : ReviewCostDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        curve = review_cost_curve(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        )
        return cls(curve, name=name).plot(ax, **plot_options)
