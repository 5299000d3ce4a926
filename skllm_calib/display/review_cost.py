"""The review-cost curve: what a row costs on average, for every price of a review."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

from skllm_calib.display._base import ProbabilityDisplay
from skllm_calib.display.plotting import GREY, holds, next_style, ref_line_style, tidy
from skllm_calib.log_proba.parameters import check_fraction
from skllm_calib.log_proba.validation import Checked
from skllm_calib.metrics.review_cost import ReviewCostCurve, review_cost_curve

__all__ = ["ReviewCostDisplay"]

_CURVE = "review-cost-curve"
_ACCEPT_ALL, _REVIEW_ALL = "accept-all", "review-all"


@dataclass(eq=False, repr=False)
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

    curve: ReviewCostCurve
    _: KW_ONLY
    name: str | None = None

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        ref_lines: bool = True,
        price: float | None = None,
        ref_line_kw: dict[str, Any] | None = None,
        **kwargs: Any,
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
        ref_line_kw : dict, default=None
            Keyword arguments of matplotlib for these two lines.
        **kwargs : dict
            Keyword arguments of :meth:`matplotlib.axes.Axes.plot` for the curve.

        Returns
        -------
        display : ReviewCostDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `price` does not lie between 0 and 1.
        """
        self._check_options(price=price)
        _, ax, name = self._set_up(ax, name)
        style = next_style(ax, _CURVE, kwargs, marker="none", label=name)
        (self.line_,) = ax.plot(self.curve.price, self.curve.cost, **style)
        self.accept_line_ = self.review_line_ = self.price_line_ = None
        if ref_lines:
            self._draw_ref_lines(ref_line_kw)
        if price is not None:
            self.price_line_ = ax.axvline(price, color=GREY, lw=1, zorder=1, label=f"{price:.3g}")
        highest = max(
            float(line.get_ydata().max()) for line in ax.lines if line.get_gid() == _CURVE
        )
        ax.set(
            xlim=(0, 1),
            ylim=(0, 1.35 * max(highest, 0.01)),
            xlabel="Price of a review (an error costs 1)",
            ylabel="Mean cost per row",
        )
        tidy(ax)
        return self

    def _draw_ref_lines(self, given: dict[str, Any] | None) -> None:
        """Draw the costs of the two rules without confidences, unless the axes have them."""
        ax, rate = self.ax_, self.curve.error_rate
        known = [line.get_ydata()[0] for line in ax.lines if line.get_gid() == _ACCEPT_ALL]
        if rate not in known:
            label, colour = f"accept every row, {rate:.3g}", self.line_.get_color()
            style = ref_line_style(given, color=colour, label=label, gid=_ACCEPT_ALL)
            self.accept_line_ = ax.axhline(rate, **style)
        if not holds(ax, _REVIEW_ALL):
            style = ref_line_style(given, label="review every row", gid=_REVIEW_ALL)
            (self.review_line_,) = ax.plot([0, 1], [0, 1], **style)

    @classmethod
    def _check_options(cls, *, price: float | None = None, **_: Any) -> None:
        if price is not None:
            hint = "the price of a review divided by the cost of an error"
            check_fraction(price, "price", include="both", hint=hint)

    @classmethod
    def _of(cls, checked: Checked, name: str | None) -> Self:
        return cls(review_cost_curve(checked.codes, checked), name=name)
