"""The risk matrix as a heat map, with the rows in its cells."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.decisions.risk_matrix import RiskMatrix
from skllm_calib.display._base import Display
from skllm_calib.display.plotting import GREY, import_pyplot, styled
from skllm_calib.exceptions import InvalidInput

__all__ = ["RiskMatrixDisplay"]

# From light for the mildest action to dark for the strictest: the order shows in grey, and to every
# kind of colour vision. Stretches of ColorBrewer's YlOrBr, whose darkest tones swallow any text.
_COLOUR_MAP, _LIGHTEST, _DARKEST = "YlOrBr", 0.08, 0.78
# Where black and white text have the same contrast (WCAG).
_EVEN_LUMINANCE = 0.179


@dataclass(eq=False, repr=False)
class RiskMatrixDisplay(Display):
    """Heat map of a risk matrix: the action in each cell, and how many rows fall there.

    It is recommended to use :meth:`from_predictions` or :meth:`from_estimator`; all parameters are
    stored as attributes. The colours are those of the actions, the darker the stricter.

    Parameters
    ----------
    risk_matrix : RiskMatrix
        The matrix.
    counts : ndarray of shape (n_bands, n_levels), default=None
        Rows in each cell, as :meth:`skllm_calib.decisions.RiskMatrix.cells` gives them; None
        for the matrix alone.
    name : str, default=None
        Title of the legend.

    Attributes
    ----------
    mesh_ : matplotlib QuadMesh
        The coloured cells.
    text_ : ndarray of shape (n_bands, n_levels)
        The texts in them.
    ax_ : matplotlib Axes
        Axes with the matrix.
    figure_ : matplotlib Figure
        Figure containing them.

    Examples
    --------
    >>> from skllm_calib.display import RiskMatrixDisplay
    >>> from skllm_calib.decisions import RiskMatrix
    >>> matrix = RiskMatrix.five_by_five()
    >>> display = RiskMatrixDisplay.from_predictions(
    ...     matrix, [[0.9, 0.1], [0.3, 0.7], [0.995, 0.005]], impact=["minor", "major", "major"]
    ... )
    >>> print(display.text_[2, 1].get_text())  # possible, minor
    review
    1 (33.3%)
    """

    risk_matrix: RiskMatrix
    counts: NDArray[Any] | None = None
    _: KW_ONLY
    name: str | None = None

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        cmap: str | None = None,
        text_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the matrix, likelihood upwards and impact to the right.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        name : str, default=None
            Title of the legend; the stored name when None.
        cmap : str, default=None
            Name of another matplotlib colour map, from the mildest to the strictest action; only
            one that grows darker or lighter throughout is readable in grey.
        text_kw : dict, default=None
            Keyword arguments of matplotlib for the texts in the cells, such as ``{"fontsize": 8}``.
        **kwargs : dict
            Keyword arguments of :meth:`matplotlib.axes.Axes.pcolormesh` for the cells.

        Returns
        -------
        display : RiskMatrixDisplay
            This object.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If the counts do not have the shape of the matrix.
        """
        matrix = self.risk_matrix
        counts = None if self.counts is None else np.asarray(self.counts)
        if counts is not None and counts.shape != matrix.shape:
            raise InvalidInput(
                f"counts must have the shape {matrix.shape} of the risk matrix, got "
                f"{counts.shape}: take them from risk_matrix.cells(proba, impact).",
                "counts",
                value=counts.shape,
            )
        n_bands, n_levels = matrix.shape
        plt, ax, name = self._set_up(ax, name, (3.0 + 1.3 * n_levels, 1.3 + 0.68 * n_bands))
        colours = _colours(plt, cmap, len(matrix.action_order))
        ranks = np.array([matrix.action_order.index(action) for action in matrix.actions.flat])
        ranks = ranks.reshape(matrix.shape)
        self.mesh_ = ax.pcolormesh(
            ranks,
            cmap=plt.matplotlib.colors.ListedColormap(colours),
            vmin=-0.5,
            vmax=len(colours) - 0.5,
            **{"edgecolors": "white", "linewidth": 2, **kwargs},
        )
        style = {"ha": "center", "va": "center", "fontsize": "small", "linespacing": 1.5}
        self.text_ = np.empty(matrix.shape, dtype=object)
        for band, level in np.ndindex(matrix.shape):
            ink = {"color": _readable_on(colours[ranks[band, level]])}
            self.text_[band, level] = ax.text(
                level + 0.5,
                band + 0.5,
                self._cell(band, level, counts),
                **styled("Text", style, ink, text_kw),
            )
        self._label_axes()
        handles = [
            plt.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=GREY, linewidth=0.5)
            for colour in colours
        ]
        ax.legend(
            handles,
            self._totals(counts),
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            frameon=False,
            fontsize="small",
            title=name,
            title_fontsize="small",
            alignment="left",
            reverse=True,  # the strictest on top, as in the matrix
        )
        return self

    def _cell(self, band: int, level: int, counts: NDArray[Any] | None) -> str:
        """Return the words in a cell: the action, its rows and their fraction."""
        action = str(self.risk_matrix.actions[band, level])
        if counts is None:
            return action
        count = counts[band, level]
        # A dash, so that the cells that hold rows stand out.
        return f"{action}\n{_amount(count, counts.sum())}" if count else f"{action}\n–"

    def _totals(self, counts: NDArray[Any] | None) -> list[str]:
        """Return the words of the legend: each action, its rows and their fraction."""
        order = self.risk_matrix.action_order
        if counts is None:
            return list(order)
        return [
            f"{action}: {_amount(counts[self.risk_matrix.actions == action].sum(), counts.sum())}"
            for action in order
        ]

    def _label_axes(self) -> None:
        ax, matrix = self.ax_, self.risk_matrix
        levels = list(matrix.impact_levels)
        if matrix.impact_starts is not None:
            starts = zip(levels, matrix.impact_starts, strict=True)
            levels = [f"{level}\nfrom {start:,g}" for level, start in starts]
        bands = [
            f"{name}\n{_percent(low)} to {_percent(high)}"
            for name, (low, high) in matrix.likelihood_bands.items()
        ]
        event = matrix.event_class
        ax.set(
            xlabel="Impact",
            ylabel="Probability of error" if event is None else f"Probability of {event}",
        )
        ax.set_xticks(np.arange(len(levels)) + 0.5, levels, fontsize="small")
        ax.set_yticks(np.arange(len(bands)) + 0.5, bands, fontsize="small")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)

    @classmethod
    def from_predictions(
        cls,
        risk_matrix: RiskMatrix,
        y_proba: ArrayLike,
        impact: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the matrix with the rows of probabilities in its cells.

        Parameters
        ----------
        risk_matrix : RiskMatrix
            The matrix.
        y_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            Calibrated probabilities in [0, 1], columns in sorted order of the classes, or named
            by them in any order; 1-D holds those of the last class of two.
        impact : array-like of shape (n_samples,), level, or dict of class to level, default=None
            Impact of each row, of all rows or of each class; that of the matrix when None.
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
        display : RiskMatrixDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        counts = risk_matrix.cells(y_proba, impact, sample_weight=sample_weight)
        return cls(risk_matrix, counts, name=name).plot(ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        risk_matrix: RiskMatrix,
        estimator: Any,
        X: Any,
        impact: Any = None,
        *,
        name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the matrix with the rows that a fitted classifier is asked for.

        Parameters
        ----------
        risk_matrix : RiskMatrix
            The matrix.
        estimator : classifier
            Fitted, calibrated classifier with ``predict_proba`` and ``classes_``.
        X : array-like of shape (n_samples, ...)
            Rows; no labels are needed.
        impact : array-like of shape (n_samples,), level, or dict of class to level, default=None
            Impact of each row, of all rows or of each class; that of the matrix when None.
        name : str, default=None
            Title of the legend; the name of the estimator's class when None.
        **kwargs : dict
            Keyword arguments of :meth:`from_predictions`.

        Returns
        -------
        display : RiskMatrixDisplay
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit, or the matrix knows other classes than the estimator.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before the model is asked and paid for
        known, classes = risk_matrix.classes, np.asarray(estimator.classes_)
        if known is not None and known.tolist() != classes.tolist():
            raise InvalidInput(
                f"the risk matrix knows the classes {known.tolist()}, the estimator "
                f"{classes.tolist()}: give the matrix classes=estimator.classes_.",
                "risk_matrix",
                value=known.tolist(),
            )
        proba, name = cls._ask(estimator, X, name)
        return cls.from_predictions(risk_matrix, proba, impact, name=name, **kwargs)


def _colours(plt: Any, cmap: str | None, n_actions: int) -> NDArray[np.float64]:
    """Return a colour for each action, the mildest first; (n_actions, 3)."""
    shades = (
        np.linspace(_LIGHTEST, _DARKEST, n_actions)
        if cmap is None
        else np.linspace(0, 1, n_actions)
    )
    return np.asarray(plt.get_cmap(cmap or _COLOUR_MAP)(shades)[:, :3])


def _readable_on(colour: NDArray[np.float64]) -> str:
    """Return black or white, whichever stands out more."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > _EVEN_LUMINANCE else "white"


def _amount(count: float, total: float) -> str:
    """Return a number of rows, or a sum of weights, and its fraction."""
    number = f"{count:,.0f}" if float(count).is_integer() else f"{count:,.4g}"
    return f"{number} ({count / total:.1%})" if total else number


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.6g}%"
