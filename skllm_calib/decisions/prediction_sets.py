"""Which labels a row may still have: conformal label sets with a promised coverage."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE
from skllm_calib.log_proba.validation import FIT_NAMES, check_input, check_proba
from skllm_calib.metrics.binning import DECIMALS

__all__ = ["PredictionSets"]

Floats = NDArray[np.float64]


class PredictionSets(BaseEstimator):  # type: ignore[misc]
    """Sets of labels that hold the true one as often as promised: "one of these two".

    Split-conformal sets. Every label of a row gets a score that is low when the label fits; the
    threshold is a quantile of the scores of the true labels of labelled rows; a set holds all
    labels whose score is no higher. The promise needs no trust in the probabilities, only that the
    labelled rows are drawn like the future ones. Better probabilities make smaller sets.

    Parameters
    ----------
    coverage : float in (0, 1), default=0.9
        Wanted fraction of rows whose set holds the true label.
    score : {"lac", "aps", "raps"}, default="lac"
        "lac": one minus the probability of the label [1]_. The smallest sets on average, at the
        price of less coverage on hard rows and more on easy ones. "aps": the probability of all
        more probable labels, and that of the label itself [2]_. Larger sets, of which hard rows get
        the largest, so that coverage varies less between easy and hard rows. "raps": the same
        plus a penalty that cuts long tails of improbable labels [3]_, for many classes.
    per_class : bool, default=False
        Whether the coverage is promised for the rows of each class (Mondrian), with a threshold for
        each, instead of for all rows together. It needs enough labels of every class.
    randomize : bool, default=True
        For "aps" and "raps", whether only a random part of the label's own probability counts,
        which makes the sets smaller. The part is drawn from the probabilities of the row and
        `random_state`: equal rows always get equal sets, in any order and any batch. It has no
        effect on "lac".
    allow_empty : bool, default=False
        Whether a set may be empty, which happens to rows that are more doubtful than nearly all
        labelled rows, or by chance. By default the most probable label fills it, which can only
        raise the coverage.
    penalty : float, default=0.1
        For "raps", what every rank after `n_free` adds to the score.
    n_free : int, default=2
        For "raps", how many of the most probable labels are free of the penalty. Do not choose
        `penalty` or `n_free` on the rows that `fit` is given.
    min_labels : int, default=20
        Fewest labelled rows, of every class with `per_class`. With fewer, coverage varies too much
        between draws of labels; see `coverage_interval_`.
    confidence : float in (0, 1), default=0.95
        Confidence of `coverage_interval_`.
    random_state : int, default=0
        Seed of the random parts.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order, also those that no labelled row had.
    n_features_in_ : int
        Number of columns, which is the number of classes.
    thresholds_ : ndarray of shape (n_classes,)
        Highest score of a label in a set; the same for all classes without `per_class`.
    n_labels_ : int or ndarray of shape (n_classes,)
        Number of labelled rows, of each class with `per_class`.
    coverage_interval_ : ndarray of shape (2,) or (n_classes, 2)
        Where the coverage that these thresholds reach on future rows lies, with `confidence` and
        equal tails; for each class with `per_class`.

    Raises
    ------
    NotCertifiableError
        By `fit`, with too few labels; ``n_more`` says how many are missing.

    See Also
    --------
    accept_threshold : Which rows may pass without a person.

    Notes
    -----
    With ``n`` labels the threshold is their ``k``-th smallest score, ``k = ceil((n + 1) *
    coverage)``. The promise, at least `coverage` and less than ``1 / (n + 1)`` above it, holds on
    average over draws of the labels. Any one draw reaches a coverage that follows the law
    Beta(``k``, ``n + 1 - k``) exactly [4]_: for a coverage of 90 %, 95 % of the draws reach .751 to
    .988 with 20 labels, .808 to .967 with 50, .856 to .938 with 200 and .881 to .918 with 1,000.
    Ties between scores and filled empty sets only raise it.

    The promise is about all rows. Among those that went to review because the model was in doubt
    the coverage is lower; to have it there, fit on labelled rows that went to review. Leave out
    rows that were used to fit the model or its calibrator, or the sets turn out too small. There
    are no sample weights: the law above is about rows that count alike.

    References
    ----------
    .. [1] M. Sadinle, J. Lei, L. Wasserman (2019). Least Ambiguous Set-Valued Classifiers with
       Bounded Error Levels. Journal of the American Statistical Association 114.
    .. [2] Y. Romano, M. Sesia, E. J. Candès (2020). Classification with Valid and Adaptive
       Coverage. NeurIPS 33.
    .. [3] A. N. Angelopoulos, S. Bates, J. Malik, M. I. Jordan (2021). Uncertainty Sets for Image
       Classifiers using Conformal Prediction. ICLR.
    .. [4] V. Vovk (2012). Conditional validity of inductive conformal predictors. ACML,
       Proceedings of Machine Learning Research 25.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.decisions import PredictionSets
    >>> rng = np.random.default_rng(0)
    >>> proba = rng.dirichlet([1, 1, 1], size=200)
    >>> y = np.array([rng.choice(["art", "coins", "stamps"], p=row) for row in proba])
    >>> sets = PredictionSets(coverage=0.9).fit(y, proba)
    >>> sets.coverage_interval_.round(3)
    array([0.856, 0.938])
    >>> sets.predict_set([[0.9, 0.05, 0.05], [0.35, 0.6, 0.05]])
    array([[ True, False, False],
           [ True,  True, False]])
    >>> sets.predict_labels([[0.9, 0.05, 0.05], [0.35, 0.6, 0.05]])
    [['art'], ['coins', 'art']]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "coverage": [Interval(Real, 0, 1, closed="neither")],
        "score": [StrOptions({"lac", "aps", "raps"})],
        "per_class": ["boolean"],
        "randomize": ["boolean"],
        "allow_empty": ["boolean"],
        "penalty": [Interval(Real, 0, None, closed="left")],
        "n_free": [Interval(Integral, 0, None, closed="left")],
        "min_labels": [Interval(Integral, 1, None, closed="left")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
    }

    classes_: NDArray[Any]
    n_features_in_: int
    thresholds_: Floats
    n_labels_: int | NDArray[np.int64]
    coverage_interval_: Floats

    def __init__(
        self,
        coverage: float = 0.9,
        *,
        score: Literal["lac", "aps", "raps"] = "lac",
        per_class: bool = False,
        randomize: bool = True,
        allow_empty: bool = False,
        penalty: float = 0.1,
        n_free: int = 2,
        min_labels: int = 20,
        confidence: float = DEFAULT_CONFIDENCE,
        random_state: int = 0,
    ) -> None:
        self.coverage = coverage
        self.score = score
        self.per_class = per_class
        self.randomize = randomize
        self.allow_empty = allow_empty
        self.penalty = penalty
        self.n_free = n_free
        self.min_labels = min_labels
        self.confidence = confidence
        self.random_state = random_state

    def fit(self, y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None) -> Self:
        """Find the thresholds.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            True labels of rows that were used to fit neither the model nor its calibrator.
        proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            Probabilities in [0, 1], columns in sorted order of the classes, or named by them in any
            order; 1-D holds those of the last class of two.
        classes : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y` lacks one of them.

        Returns
        -------
        self : PredictionSets
            The fitted object.

        Raises
        ------
        NotCertifiableError
            If there are too few labels, in all or of a class with `per_class`.
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        self._validate_params()
        checked = check_input(y, proba, labels=classes, names=FIT_NAMES)
        known = checked.classes
        codes = checked.codes
        self._check_enough(codes, known)
        scores = self._scores(checked.proba)[np.arange(codes.size), codes]
        self.classes_, self.n_features_in_ = known, known.size
        if self.per_class:
            groups = [scores[codes == code] for code in range(known.size)]
            self.n_labels_ = np.bincount(codes, minlength=known.size)
            self.thresholds_ = np.array([self._quantile(group) for group in groups])
            self.coverage_interval_ = np.array([self._interval(group.size) for group in groups])
        else:
            self.n_labels_ = codes.size
            self.thresholds_ = np.full(known.size, self._quantile(scores))
            self.coverage_interval_ = self._interval(codes.size)
        return self

    def predict_set(self, proba: ArrayLike) -> NDArray[np.bool_]:
        """Tell which labels are in the set of each row.

        Parameters
        ----------
        proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            Probabilities, as in :meth:`fit`.

        Returns
        -------
        sets : ndarray of shape (n_samples, n_classes)
            Whether the label of this column belongs to the set of this row.

        Raises
        ------
        ValueError
            If `proba` does not fit; the message names the row.
        """
        return self._sets(self._check_columns(proba))

    def predict_labels(self, proba: ArrayLike) -> list[list[Any]]:
        """List the labels in the set of each row, the most probable first.

        Parameters
        ----------
        proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            Probabilities, as in :meth:`fit`.

        Returns
        -------
        labels : list of n_samples lists
            The labels of each set.

        Raises
        ------
        ValueError
            If `proba` does not fit; the message names the row.
        """
        rows = self._check_columns(proba)
        order = _most_probable_first(rows)
        inside = np.take_along_axis(self._sets(rows), order, axis=1)
        names = self.classes_.tolist()
        return [
            [names[code] for code in ranked[chosen].tolist()]
            for ranked, chosen in zip(order, inside, strict=True)
        ]

    def _sets(self, proba: Floats) -> NDArray[np.bool_]:
        sets = np.asarray(self._scores(proba) <= self.thresholds_)
        if not self.allow_empty:
            empty = np.flatnonzero(~sets.any(axis=1))
            sets[empty, _most_probable_first(proba[empty])[:, 0]] = True
        return sets

    def _scores(self, proba: Floats) -> Floats:
        """Score every label of every row, (n, K)."""
        # Rounded, or the last bit of a probability would decide between equal scores.
        proba = np.round(proba, DECIMALS)
        if self.score == "lac":
            return np.round(1 - proba, DECIMALS)
        order = _most_probable_first(proba)
        ranked = np.take_along_axis(proba, order, axis=1)
        part = self._uniform(proba)[:, None] if self.randomize else 1.0
        ranked_scores = np.cumsum(ranked, axis=1) - (1 - part) * ranked
        if self.score == "raps":
            ranks = np.arange(1, proba.shape[1] + 1)
            ranked_scores = ranked_scores + self.penalty * np.maximum(ranks - self.n_free, 0)
        scores = np.empty_like(proba)
        np.put_along_axis(scores, order, np.round(ranked_scores, DECIMALS), axis=1)
        return scores

    def _uniform(self, proba: Floats) -> Floats:
        """Draw a number in [0, 1) for each row from its probabilities and the seed alone."""
        state = np.full(len(proba), self.random_state, dtype=np.uint64)
        for column in (proba + 0.0).T:  # adding turns -0.0 into 0.0, which has other bits
            state = _mix(state ^ np.ascontiguousarray(column).view(np.uint64))
        return np.asarray((state >> np.uint64(11)) * 2.0**-53)

    def _rank(self, n_labels: int) -> int:
        # A little less, as 0.55 * 100 is 55.00000000000001.
        return math.ceil((n_labels + 1) * self.coverage - 1e-9)

    def _quantile(self, scores: Floats) -> float:
        return float(np.sort(scores)[self._rank(scores.size) - 1])

    def _interval(self, n_labels: int) -> Floats:
        rank, tail = self._rank(n_labels), (1 - self.confidence) / 2
        return np.asarray(beta.ppf([tail, 1 - tail], rank, n_labels + 1 - rank))

    def _check_columns(self, proba: ArrayLike) -> Floats:
        check_is_fitted(self)
        return check_proba(proba, classes=self.classes_)

    def _check_enough(self, codes: NDArray[np.int64], classes: NDArray[Any]) -> None:
        """Refuse numbers of labels that cannot keep the promise, or only just."""
        possible = math.ceil(self.coverage / (1 - self.coverage) - 1e-9)
        needed = max(possible, self.min_labels)
        why = f"a coverage of {self.coverage:.4g} needs at least {possible}"
        if needed > possible:
            why += f", and min_labels={self.min_labels} requires more"
        if not self.per_class:
            missing = needed - codes.size
            if missing > 0:
                raise NotCertifiableError(
                    f"not certifiable with these {codes.size} labels: {why}. Label {missing} more "
                    f"row(s), or lower {'min_labels' if needed > possible else 'coverage'}.",
                    missing,
                )
            return
        counts = np.bincount(codes, minlength=classes.size)
        short = np.flatnonzero(counts < needed)
        if short.size:
            listed = ", ".join(
                f"{classes[code : code + 1].tolist()[0]!r} has {counts[code]} and needs "
                f"{needed - counts[code]} more"
                for code in short
            )
            raise NotCertifiableError(
                f"not certifiable for each class, which needs {needed} labels of every one: "
                f"{listed} ({why}). Label more of them, lower "
                f"{'min_labels' if needed > possible else 'coverage'}, or set per_class=False.",
                int((needed - counts[short]).sum()),
            )


def _most_probable_first(proba: Floats) -> NDArray[np.int64]:
    return np.argsort(-np.round(proba, DECIMALS), axis=1, kind="stable")


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits (SplitMix64, Steele et al. 2014): the same on every machine, and quick."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
