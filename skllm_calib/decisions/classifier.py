"""ReviewClassifier: a calibrated classifier that also says which rows need a person."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import (
    _check_method_params,
    _num_samples,
    check_is_fitted,
)

from skllm_calib.decisions.policy import ReviewPolicy
from skllm_calib.exceptions import InvalidInput, NotCertifiableError
from skllm_calib.log_proba.folds import stratified_folds
from skllm_calib.log_proba.labels import check_whole
from skllm_calib.log_proba.scores import Scores, cross_fitted, indexed
from skllm_calib.log_proba.validation import check_weighted_labels
from skllm_calib.log_proba.wrapper import WrapperMixin

__all__ = ["ReviewClassifier"]


class ReviewClassifier(WrapperMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier and a review policy in one estimator: labels, and what to do with them.

    ``fit`` trains the estimator on one part of the rows and the policy on the other, which the
    estimator has not seen: otherwise the promise would be too optimistic. With `cv`, all rows
    serve both, each row being judged by an estimator that has not seen it. A fitted estimator,
    wrapped in ``FrozenEstimator``, leaves all rows to the policy; they must not have trained it.

    Parameters
    ----------
    estimator : classifier
        With calibrated ``predict_proba``: usually a :class:`~skllm_calib.CalibratedLLMClassifier`.
    policy : ReviewPolicy, default=None
        What to accept; ``ReviewPolicy()`` when None.
    holdout : float in (0, 1), default=0.5
        Fraction of the rows, of every class, that is kept for the policy. Not used with `cv`.
    random_state : int, default=0
        Seed of the split, also into folds where `cv` is a number.
    cv : int, cross-validation generator or iterable, default=None
        Fit the policy to all rows, each with the probabilities of an estimator that was fitted to
        the other folds, and then the estimator to all rows. A number is the number of stratified
        folds. Rows in no test part only train. None keeps rows apart with `holdout`. A
        ``FrozenEstimator`` is not fitted, so it needs None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes of the estimator.
    estimator_ : classifier
        The fitted classifier.
    policy_ : ReviewPolicy
        The fitted policy, with its thresholds, evidence and ``summary()``.
    n_features_in_ : int
        Number of columns, where the estimator counts them.
    feature_names_in_ : ndarray of str
        Names of the columns, where the estimator knows them.

    See Also
    --------
    ReviewPolicy : The policy alone, on probabilities.
    skllm_calib.metrics.selective_risk_scorer : Scores this estimator, as it does any classifier.

    Notes
    -----
    With `holdout`, the promise of the policy is about this very estimator. With `cv`, it is about
    the estimators of the folds, which stand in for the final one. That one has seen more rows and
    is usually better; but this is an expectation and not a guarantee, and as the folds share rows,
    their errors are not quite independent. What it buys is labels: all of them count for the
    policy. In a simulation (logistic regression on five features, 200 rows, a precision of 90 %)
    accepted rows missed the target in 5.8 % of 1,000 draws with ``cv=5`` and in 3.1 % with
    ``holdout=0.5``, where a confidence of 90 % allows 10 %; of the rows to come, 74 % and 52 %
    were accepted (``benchmarks/cross_fitted_promises.py`` in the repository). Where the promise has
    to stand up to scrutiny, take `holdout`. A language model costs the same either way, as the
    folds find its answers in the cache.

    A row whose class is missing from the other folds counts as an error of their estimator.

    In a search, ``ReviewPolicy(on_not_certifiable="review")`` keeps candidates alive whose target
    cannot be certified in a fold. If you compare the coverages of several policies, check that of
    the best on other rows: it was chosen on these.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skllm_calib.decisions import ReviewClassifier, ReviewPolicy
    >>> X, y = make_classification(2000, class_sep=1.5, random_state=0)
    >>> clf = ReviewClassifier(LogisticRegression(), ReviewPolicy(target_precision=0.95))
    >>> clf.fit(X[:1000], y[:1000])
    ReviewClassifier(...)
    >>> decisions = clf.decide(X[1000:])
    >>> list(decisions)
    ['label', 'probability', 'action', 'reason']
    >>> accepted = decisions["action"] == "accept"
    >>> bool((decisions["label"] == y[1000:])[accepted].mean() >= 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "policy": [None, HasMethods(["fit", "decide", "explain"])],
        "holdout": [Interval(Real, 0, 1, closed="neither")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "cv": ["cv_object"],
    }

    def __init__(
        self,
        estimator: Any,
        policy: ReviewPolicy | None = None,
        *,
        holdout: float = 0.5,
        random_state: int = 0,
        cv: int | BaseCrossValidator | Any = None,
    ) -> None:
        self.estimator = estimator
        self.policy = policy
        self.holdout = holdout
        self.random_state = random_state
        self.cv = cv

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, **fit_params: Any
    ) -> Self:
        """Fit the estimator, then the policy on rows that it has not seen.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            What the estimator takes.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights for the policy, and for the estimator if it takes them.
        **fit_params : dict
            Further parameters of the estimator's ``fit``; with scikit-learn's metadata routing on,
            those it requested, and those that a splitter given as `cv` did, such as `groups`.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        NotCertifiableError
            If the labels cannot certify the target; its ``n_more`` counts all labels, those for the
            estimator alone included.
        ValueError
            If an input does not fit.
        """
        self._validate_params()
        labels, weight = check_weighted_labels(y, sample_weight, n_rows=_num_samples(X))
        check_whole(labels)
        if (labels == labels[0]).all():
            label = labels.tolist()[0]
            raise InvalidInput(
                f"y holds one class only, {label!r}: at least two are needed", "y", value=label
            )
        params, to_splitter = self._routed(weight, fit_params)
        X = indexed(X)
        if self.cv is not None:
            fitted, judged, proba = self._cross_fitted(X, labels, params, to_splitter, weight)
        else:
            fitted, judged, proba = self._held_out(X, labels, params, weight)
        classes = np.asarray(fitted.classes_)
        policy = ReviewPolicy() if self.policy is None else clone(self.policy)
        try:
            policy.fit(
                labels[judged],
                proba,
                None if weight is None else weight[judged],
                classes=classes,
            )
        except NotCertifiableError as error:
            if error.n_more is None or judged.size == labels.size:
                raise
            fraction = self.holdout if self.cv is None else judged.size / labels.size
            n_more = math.ceil(error.n_more / fraction)
            raise NotCertifiableError(
                f"{error} With the rows that train the estimator, that is {n_more} in all.", n_more
            ) from error
        self.estimator_, self.classes_, self.policy_ = fitted, classes, policy
        return self

    def _held_out(
        self, X: Any, y: NDArray[Any], params: dict[str, Any], weight: NDArray[Any] | None
    ) -> tuple[Any, NDArray[np.intp], NDArray[np.float64]]:
        """Fit to one part; return also the rows of the other one and their probabilities."""
        if isinstance(self.estimator, FrozenEstimator):
            fitted, judged = self.estimator, np.arange(y.size)
        else:
            train, judged = _apart(y, self.holdout, self.random_state)
            params = _check_method_params(X, params, indices=train)
            of_part = None if weight is None else weight[train]
            fitted = self._fitted_clone(_safe_indexing(X, train), y[train], params, of_part)
        return fitted, judged, fitted.predict_proba(_safe_indexing(X, judged))

    def _cross_fitted(
        self,
        X: Any,
        y: NDArray[Any],
        params: dict[str, Any],
        to_splitter: dict[str, Any],
        weight: NDArray[Any] | None,
    ) -> tuple[Any, NDArray[np.intp], NDArray[np.float64]]:
        """Fit to all rows; return also those in a test part, with probabilities of its fold."""
        if isinstance(self.estimator, FrozenEstimator):
            raise InvalidInput(
                f"cv={self.cv!r} fits the estimator again in every fold, and a FrozenEstimator is "
                "not fitted: leave cv=None, or pass the estimator itself.",
                "cv",
                value=self.cv,
            )
        if isinstance(self.cv, Integral):
            splits = stratified_folds(y, int(self.cv), self.random_state)
        else:
            splits = list(check_cv(self.cv, y, classifier=True).split(y, y, **to_splitter))
        if not splits:
            raise InvalidInput(
                f"cv={self.cv!r} makes no split: no row is left for the policy.",
                "cv",
                value=self.cv,
            )

        def fit(part: Any, train: NDArray[np.intp]) -> Any:
            of_part = None if weight is None else weight[train]
            given = _check_method_params(X, params, indices=train)
            return self._fitted_clone(part, y[train], given, of_part)

        # First, so that it asks a language model about all rows at once.
        fitted = self._fitted_clone(X, y, params, weight)
        proba = cross_fitted(
            fit, X, y, np.asarray(fitted.classes_), splits, score=_proba_of, blank_unknown=False
        ).log_proba
        judged = np.unique(np.concatenate([test for _, test in splits]))
        return fitted, judged, proba[judged]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the estimator's probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each row, as if it were accepted.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable label; with a policy by cost, the one of lowest expected cost. None
            for rows without probabilities.
        """
        proba = self.predict_proba(X)
        return self.policy_.predict(proba)

    def decide(self, X: Any) -> Any:
        """Return label, probability, action and reason of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        pandas.DataFrame or dict of str to ndarray
            ``label`` as from :meth:`predict`, its ``probability`` in [0, 1], ``action`` ("accept",
            "review" or "reject") and ``reason`` in words. A frame with the index of `X`, where it
            has one; a dict of arrays where pandas is not installed.
        """
        proba = self.predict_proba(X)
        labels = self.policy_.predict(proba)
        column = {label: number for number, label in enumerate(self.classes_.tolist())}
        # A row without a label has no probability: all of its columns are NaN.
        of_label = [column.get(label, 0) for label in labels.tolist()]
        decisions = {
            "label": labels,
            "probability": proba[np.arange(len(proba)), of_label],
            "action": self.policy_.decide(proba),
            "reason": np.array(self.policy_.explain(proba), dtype=object),
        }
        try:
            import pandas as pd  # noqa: PLC0415 (optional)
        except ImportError:
            return decisions
        index = X.index if isinstance(X, pd.DataFrame | pd.Series) else None
        return pd.DataFrame(decisions, index=index)


def _proba_of(estimator: Any, X: Any, classes: NDArray[Any]) -> Scores:
    """Return probabilities of all classes, zero for those that the estimator does not know."""
    # Not by way of their logarithms: a row at a threshold must not lose its last bit.
    proba = np.zeros((_num_samples(X), classes.size))
    proba[:, np.searchsorted(classes, estimator.classes_)] = estimator.predict_proba(X)
    return Scores(proba)


def _apart(
    labels: NDArray[Any], holdout: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows by chance, with the same proportions of the classes to within a row."""
    rng = np.random.default_rng(seed)
    codes = np.unique(labels, return_inverse=True)[1]
    order = rng.permutation(labels.size)
    order = order[np.argsort(codes[order], kind="stable")]
    held = np.empty(labels.size, dtype=bool)
    held[order] = np.diff(np.floor(np.arange(labels.size + 1) * holdout + rng.random())) > 0
    # The estimator has to know every class: the only row of one is for training.
    known = np.unique(codes[~held])
    for code in np.setdiff1d(codes, known):
        held[order[np.flatnonzero(codes[order] == code)[0]]] = False
    if held.all() or not held.any():
        raise InvalidInput(
            f"n_samples = {labels.size} with holdout={holdout} leaves no row for the policy: pass "
            "more labelled rows.",
            "holdout",
            value=holdout,
        )
    return np.flatnonzero(~held), np.flatnonzero(held)
