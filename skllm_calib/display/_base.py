"""What displays of probabilities share: asking a fitted classifier for them."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike

from skllm_calib.display._matplotlib import import_pyplot


class ProbabilityDisplay:
    """A display that can be drawn from labels and a matrix of probabilities."""

    @classmethod
    def from_predictions(cls, y_true: ArrayLike, y_proba: ArrayLike, **options: Any) -> Self:
        """Draw the display of probabilities."""
        raise NotImplementedError

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, name: str | None = None, **options: Any
    ) -> Self:
        """Draw the display of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted classifier, or pipeline ending in one, with ``predict_proba`` and ``classes_``.
        X : array-like of shape (n_samples, ...)
            Rows the classifier was not fitted on.
        y : array-like of shape (n_samples,)
            Their true labels; a class may be absent.
        name : str, default=None
            Name in the legend; the name of the estimator's class when None.
        **options : dict
            Keyword arguments of :meth:`from_predictions`, such as `kind`, `sample_weight` or `ax`.

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
        import_pyplot(f"{cls.__name__}.from_estimator")  # before the model is asked and paid for
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            labels=estimator.classes_,
            name=type(estimator).__name__ if name is None else name,
            **options,
        )
