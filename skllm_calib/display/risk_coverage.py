"""The risk-coverage curve: how wrong the rows are that a threshold lets pass."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skllm_calib.display._base import ProbabilityDisplay
from skllm_calib.display._intervals import Interval, check_interval, proportion_interval
from skllm_calib.display.plotting import next_style, ref_line_style, shade, tidy
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import Checked
from skllm_calib.metrics.binning import DECIMALS, judge
from skllm_calib.metrics.selective import RiskCoverageCurve, aurc, risk_coverage_curve

__all__ = ["RiskCoverageDisplay"]

_CURVE = "risk-coverage-curve"
# Below this coverage a handful of rows decides: it is drawn, but does not set the scale.
_LEAST_COVERAGE = 0.05
# With so few thresholds each of them is marked.
_MOST_MARKS = 25
# More steps than this are not seen, and make a picture of vectors large.
_MOST_STEPS = 500


@dataclass(eq=False, repr=False)
class RiskCoverageDisplay(ProbabilityDisplay):
    """Error rate among the accepted rows against the fraction of rows accepted.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`; all parameters are
    stored as attributes.

    Rows are accepted from the highest confidence down [1]_. The horizontal line is the error rate
    of accepting in random order: a confidence is worth as much as the curve lies below it. Rows of
    equal confidence are accepted together, hence the steps; the area under them is
    :func:`skllm_calib.metrics.aurc`.

    Parameters
    ----------
    curve : RiskCoverageCurve
        Figures of the thresholds, as :func:`skllm_calib.metrics.risk_coverage_curve` gives them.
    n_accepted : ndarray of shape (n_thresholds,), default=None
        Number of equally weighted rows accepted at each threshold, for the interval and the legend.
    area : float, default=None
        Area under the curve (AURC), for the legend.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    interval_ : matplotlib PolyCollection or None
        Pointwise interval of the risk.
    random_line_ : matplotlib Line2D or None
        The risk of a random order.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure containing them.

    Notes
    -----
    The picture describes these rows. A threshold that is read off it breaks its promise in about
    every second draw: :func:`skllm_calib.accept_threshold` gives one with a promise. The interval
    is pointwise: right for a threshold fixed beforehand, not for the best-looking one.

    References
    ----------
    .. [1] Y. Geifman, R. El-Yaniv (2017). Selective Classification for Deep Neural Networks.
       NeurIPS.

    Examples
    --------
    >>> from skllm_calib.display import RiskCoverageDisplay
    >>> y_true, p_spam = ["ham", "spam", "spam", "ham"], [0.1, 0.9, 0.8, 0.6]
    >>> display = RiskCoverageDisplay.from_predictions(y_true, p_spam)
    >>> display.ax_.get_xlabel()
    'Coverage (fraction of rows accepted)'
    """

    curve: RiskCoverageCurve
    _: KW_ONLY
    n_accepted: NDArray[np.float64] | None = None
    area: float | None = None
    name: str | None = None

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        ref_line: bool = True,
        interval: Interval = None,
        ref_line_kw: dict[str, Any] | None = None,
        fill_between_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curve; on axes that hold one already, as a further one.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        name : str, default=None
            Name of the curve in the legend; the stored name when None.
        ref_line : bool, default=True
            Whether to draw the risk of a random order.
        interval : {"wilson", "clopper-pearson"} or None, default=None
            Pointwise interval of 95 % confidence of the risk at each threshold.
        ref_line_kw, fill_between_kw : dict, default=None
            Keyword arguments of matplotlib for the line of a random order and for the interval.
        **kwargs : dict
            Keyword arguments of :meth:`matplotlib.axes.Axes.plot` for the curve.

        Returns
        -------
        display : RiskCoverageDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If `interval` has no meaning, or is asked for without `n_accepted`.
        """
        self._check_options(interval=interval)
        if interval is not None and self.n_accepted is None:
            raise InvalidInput(
                f"interval={interval!r} needs the number of accepted rows: pass n_accepted, or use "
                "from_predictions.",
                "n_accepted",
            )
        _, ax, name = self._set_up(ax, name)
        n_steps = self.curve.coverage.size
        shown = np.unique(
            np.linspace(0, n_steps - 1, min(n_steps, _MOST_STEPS)).round().astype(int)
        )
        at, risk = self.curve.coverage[shown], self.curve.risk[shown]
        coverage, risk = np.r_[0.0, at], np.r_[risk[0], risk]
        # The first point is no threshold.
        marks = {"markevery": slice(1, None)} if n_steps <= _MOST_MARKS else {"marker": "none"}
        style = next_style(
            ax, _CURVE, kwargs, drawstyle="steps-pre", label=self._legend_label(name), **marks
        )
        (self.line_,) = ax.plot(coverage, risk, **style)
        colour = self.line_.get_color()
        self.random_line_ = self.interval_ = None
        if ref_line:
            label = f"random order, {risk[-1]:.1%}"
            style = ref_line_style(ref_line_kw, color=colour, label=label)
            self.random_line_ = ax.axhline(risk[-1], **style)
        if interval is not None and self.n_accepted is not None:
            low, high = proportion_interval(risk[1:], self.n_accepted[shown], interval)
            low, high = np.r_[low[0], low], np.r_[high[0], high]
            style = {"color": colour, **(fill_between_kw or {}), "step": "pre"}
            self.interval_ = shade(ax, coverage, low, high, style)
        self._label_axes()
        return self

    @classmethod
    def _check_options(cls, *, interval: Interval = None, **_: Any) -> None:
        check_interval(interval, "interval")

    def _legend_label(self, name: str | None) -> str:
        figures = [] if self.area is None else [f"AURC {self.area:.1%}"]
        if self.n_accepted is not None:
            figures.append(f"n = {self.n_accepted[-1]:,.0f}")
        return "\n".join(filter(None, [name, ", ".join(figures)]))

    def _label_axes(self) -> None:
        ax = self.ax_
        lines = [line for line in ax.lines if line.get_gid() == _CURVE]
        highest = max(
            float(line.get_ydata()[line.get_xdata() >= _LEAST_COVERAGE].max()) for line in lines
        )
        ax.set(
            xlim=(0, 1.01),
            ylim=(0, min(1.02, max(1.35 * highest, 0.01))),
            xlabel="Coverage (fraction of rows accepted)",
            ylabel="Error rate among accepted rows",
        )
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        tidy(ax)

    @classmethod
    def _of(cls, checked: Checked, name: str | None) -> Self:
        judged = judge(checked)
        _, group = np.unique(np.round(judged.confidence, DECIMALS), return_inverse=True)
        weight, squares = (
            np.cumsum(np.bincount(group, weights=judged.weight**power)[::-1]) for power in (1, 2)
        )
        return cls(
            risk_coverage_curve(checked.codes, checked),
            n_accepted=weight**2 / squares,
            area=aurc(checked.codes, checked),
            name=name,
        )
