"""What displays share: asking a fitted classifier, reading labels and probabilities, axes."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike

from skllm_calib.display.plotting import import_pyplot
from skllm_calib.log_proba.validation import Checked, check_input

__all__ = ["Display", "ProbabilityDisplay", "confidence_label", "is_top_label"]


class Display:
    """Base of the displays: set-up of axes and name, and the question to a classifier."""

    name: str | None
    _figsize: ClassVar[tuple[float, float]] = (5.4, 4.2)
    _response_method: ClassVar[str] = "predict_proba"

    def _set_up(self, ax: Any, name: str | None, figsize: tuple[float, float] | None = None) -> Any:
        """Return pyplot, the axes to draw on, and the name to show."""
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=figsize or self._figsize, layout="tight")
        self.ax_, self.figure_ = ax, ax.figure
        return plt, ax, self.name if name is None else name

    @classmethod
    def _ask(cls, estimator: Any, X: Any, name: str | None) -> tuple[Any, str]:
        """Return what a fitted classifier says of rows, and the name to show."""
        import_pyplot(f"{cls.__name__}.from_estimator")
        response = getattr(estimator, cls._response_method)(X)
        return response, type(estimator).__name__ if name is None else name


class ProbabilityDisplay(Display):
    """Base of the displays of labels and probabilities."""

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw what the attributes hold."""
        raise NotImplementedError

    @classmethod
    def _check_options(cls, **options: Any) -> None:
        """Refuse options that have no meaning, before a model is asked and paid for."""

    @classmethod
    def _of(cls, checked: Checked, name: str | None) -> Self:
        """Return the display of rows that have been read, not drawn."""
        raise NotImplementedError

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, name: str | None = None, **kwargs: Any
    ) -> Self:
        """Draw the display of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted classifier, or pipeline ending in one, with ``classes_`` and ``predict_proba``
            (a learning curve needs ``predict_log_proba``). It is asked once for every row.
        X : array-like of shape (n_samples, ...)
            Rows that were not used to fit the classifier.
        y : array-like of shape (n_samples,)
            Their true labels; a class may be absent.
        name : str, default=None
            Name in the legend; the name of the estimator's class when None.
        **kwargs : dict
            Keyword arguments of :meth:`from_predictions`, such as `sample_weight` or `ax`.

        Returns
        -------
        display : object
            The drawn display.

        Raises
        ------
        MissingDependency
            If matplotlib is not installed.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        cls._check_options(**kwargs)
        response, name = cls._ask(estimator, X, name)
        return cls.from_predictions(y, response, labels=estimator.classes_, name=name, **kwargs)

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
        **kwargs: Any,
    ) -> Self:
        """Draw the display of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes, or named by them in any
            order; 1-D holds the probability of `pos_label`.
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y_true` lacks one of them.
        pos_label : object, default=None
            Class that 1-D probabilities belong to; the last of the sorted labels when None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure when None.
        **kwargs : dict
            Keyword arguments of :meth:`plot`.

        Returns
        -------
        display : object
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
        return cls._of(checked, name).plot(ax, **kwargs)


def is_top_label(kind: object) -> bool:
    """Whether the most probable class is judged, not one that is named."""
    return isinstance(kind, str) and kind == "top-label"


def confidence_label(kind: object) -> str:
    """Return what an axis calls the judged probability."""
    return "Confidence" if is_top_label(kind) else f"Probability of {kind}"
