"""ReviewPolicy: which rows pass, which a person looks at, and what is promised of them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllm_calib.decisions.policy.fits import (
    Fitted,
    PolicyEvidence,
    by_budget,
    by_class,
    by_cost,
    by_precision,
)
from skllm_calib.decisions.policy.rows import Floats, Rows, read_proba, read_rows
from skllm_calib.decisions.policy.rules import ACCEPT, REJECT, REVIEW, CostRule
from skllm_calib.decisions.policy.saved import SavedAsJson
from skllm_calib.decisions.policy.words import in_words

__all__ = ["PolicyEvidence", "ReviewPolicy"]

_SHARE = Interval(Real, 0, 1, closed="neither")


class ReviewPolicy(SavedAsJson, BaseEstimator):  # type: ignore[misc]
    """Accept a prediction, send it to review, or turn the row away.

    Fitted on labelled rows with calibrated probabilities that resemble the rows to come. There are
    three kinds of target; give one of them:

    * **Precision** (`target_precision` or `max_error`): accept as many rows as possible such that
      those accepted are right at least so often, overall or for every predicted class. Thresholds
      are tested from strict to loose with exact binomial tests, and the search stops at the first
      that fails (fixed-sequence testing [1]_), so picking one does not spoil the promise: it is
      broken in at most ``1 - confidence`` of the draws of labelled rows.
    * **Budget** (`max_reviews`): review the least sure rows, as many as the budget allows, and
      accept the others. The promise is about the number of reviews; what the labels can say of the
      precision of accepted rows is reported.
    * **Cost** (`costs` and `review_cost`): the action of lowest expected cost (Bayes [2]_). It is
      best only if the probabilities are calibrated. Labels are used to report what it costs.

    Parameters
    ----------
    target_precision : float in (0, 1), default=None
        Wanted share of right labels among accepted rows. 0.95 if no target of any kind is given.
    confidence : float in (0, 1), default=0.9
        Confidence of every promise.
    max_error : float in (0, 1), default=None
        The same target as an error rate: ``1 - target_precision``.
    per_class : bool, default=False
        Keep the precision for every predicted class, with a threshold each. The risk
        ``1 - confidence`` is shared equally (Bonferroni) by the classes predicted often enough to
        pass at all, so with this confidence *all* of them keep it. A class that cannot be certified
        is never accepted: its rows go to review, and ``uncertified_`` tells how many labels it
        lacks.
    max_reviews : float in (0, 1) or (int, int), default=None
        Budget of reviews: a share of all rows, or ``(50, 400)`` for 50 of the 400 rows of a day.
        The share is kept with `confidence`; the number in a fraction `confidence` of the days.
    costs : float or array-like of shape (n_classes, n_classes), default=None
        Cost of accepting the predicted class (column) when the true one is the row, in any unit;
        gains are negative. A number is the cost of every error, a right label being free.
    review_cost : float, default=None
        Price of a review, after which the label is right, in the unit of `costs`.
    reject_cost : float, default=None
        Price of turning a row away, in the unit of `costs`; None never does.
    reject_below : float in (0, 1), default=None
        For targets of precision or budget: rows whose largest probability is below this are
        rejected, neither accepted nor reviewed. For what no reviewer could decide either, such as
        texts that are none of the classes; those who sent them are to be asked again.
    on_not_certifiable : {"raise", "review"}, default="raise"
        What ``fit`` does if the precision cannot be certified: raise, or send everything to review
        (``certified_precision_`` is None then). "review" is for searches over several targets and
        for jobs that must not stop. A budget that the unscored rows alone exceed is treated alike;
        then nothing but those rows goes to review.
    random_state : int, default=0
        Seed of the thinning by `sample_weight` and of the interval of the cost.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the columns.
    thresholds_ : ndarray of shape (n_classes,) or None
        Largest probability from which a row is accepted, for each predicted class; infinite where
        nothing is accepted. None by cost.
    shares_ : dict
        Share of the fitted rows for each action. ``coverage_`` is that of "accept".
    certified_precision_ : float or None
        Precision of accepted rows that is promised with `confidence`; by class, of each class that
        has a threshold. None if nothing is promised.
    certified_review_share_ : float or None
        By budget: share of the rows to come that needs a review, at most, with `confidence`.
    expected_cost_ : float or None
        By cost: mean cost a row, of the labelled rows. Without labels, as the probabilities see it.
    expected_cost_interval_ : tuple of float or None
        Two-sided interval of `confidence` for it; None without labels.
    evidence_ : tuple of PolicyEvidence
        Numbers of rows, accepted ones and errors behind each threshold.
    uncertified_ : dict
        By class: class -> about how many further labels it takes, or None where more labels are
        not known to help. Classes with a threshold are not in it.
    n_labels_ : int
        Labelled rows that were used.

    See Also
    --------
    ReviewClassifier : A classifier and a policy in one estimator.
    accept_threshold : The threshold alone, as a function.

    Notes
    -----
    The lowest threshold at which 95 % of the labelled rows are right breaks the promise in about
    every second draw. What is certified here takes at least 45 accepted rows without an error for
    95 % and 230 for 99 %, at the default confidence.

    The promises are about rows drawn like the labelled ones, which did not train the model. Rows
    that fitted a calibrator of a few parameters did no harm in simulations; with more, the promise
    becomes optimistic: keep some apart. The row that sets a threshold counts among those above it,
    which is on the safe side where surer rows are right more often.

    A promise is about all draws of labelled rows, not about those that certified something: a model
    that is nowhere good enough passes in up to ``1 - confidence`` of them, and is then always
    wrong. To add labels and fit again is a second draw, which may err as often as the first; if you
    plan for two attempts, give each half of the risk. In a simulation with 200 labels and a target
    of 95 %, ``n_more`` further labels led to a certificate in about seven cases out of ten.

    Weighted rows are thinned: each is kept with a probability proportional to its weight. What is
    left is a plain sample of the population that the weights describe, and exact bounds hold for
    it. It costs labels; equal weights cost none.

    The interval of the cost is that of Gaffke [3]_: exact with two possible costs. For more it is
    not proven, but no counter-example is known.

    References
    ----------
    .. [1] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan, L. Lei (2021). Learn then
       Test: Calibrating Predictive Algorithms to Achieve Risk Control. arXiv:2110.01052.
    .. [2] C. Elkan (2001). The Foundations of Cost-Sensitive Learning. IJCAI.
    .. [3] N. Gaffke (2005). Three Test Statistics for a Nonparametric One-Sided Hypothesis on the
       Mean of a Nonnegative Variable. Mathematical Methods of Statistics 14.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.decisions import ReviewPolicy
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(0.4, 0.4, size=1000)  # calibrated probabilities of "spam"
    >>> y = np.where(rng.random(1000) < p, "spam", "ham")
    >>> policy = ReviewPolicy(target_precision=0.95).fit(p, y)
    >>> policy.decide([0.01, 0.4, 0.999])
    array(['accept', 'review', 'accept'], dtype='<U6')
    >>> print(policy.summary())
    Accept a row when its largest probability is at least ....
    Of the 1000 labelled rows, ... (...%) are accepted, ... (...%) go to review.
    Of the accepted rows, ... are wrong.
    Promise: accepted rows are right at least 95% of the time, with 90% confidence.

    Twenty reviews a day, of two hundred rows:

    >>> policy = ReviewPolicy(max_reviews=(20, 200)).fit(p, y)
    >>> policy.certified_precision_ < 0.95
    True

    An error costs 10, a review 1:

    >>> ReviewPolicy(costs=10, review_cost=1).fit(p, y).decide([[0.85, 0.15], [0.95, 0.05]])
    array(['review', 'accept'], dtype='<U6')
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_precision": [None, _SHARE],
        "confidence": [_SHARE],
        "max_error": [None, _SHARE],
        "per_class": ["boolean"],
        "max_reviews": [None, _SHARE, tuple, list],
        "costs": [None, Interval(Real, 0, None, closed="neither"), "array-like"],
        "review_cost": [None, Interval(Real, None, None, closed="neither")],
        "reject_cost": [None, Interval(Real, None, None, closed="neither")],
        "reject_below": [None, _SHARE],
        "on_not_certifiable": [StrOptions({"raise", "review"})],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        target_precision: float | None = None,
        *,
        confidence: float = 0.9,
        max_error: float | None = None,
        per_class: bool = False,
        max_reviews: float | tuple[int, int] | None = None,
        costs: float | ArrayLike | None = None,
        review_cost: float | None = None,
        reject_cost: float | None = None,
        reject_below: float | None = None,
        on_not_certifiable: Literal["raise", "review"] = "raise",
        random_state: int = 0,
    ) -> None:
        self.target_precision = target_precision
        self.confidence = confidence
        self.max_error = max_error
        self.per_class = per_class
        self.max_reviews = max_reviews
        self.costs = costs
        self.review_cost = review_cost
        self.reject_cost = reject_cost
        self.reject_below = reject_below
        self.on_not_certifiable = on_not_certifiable
        self.random_state = random_state

    def fit(
        self,
        proba: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Find out which rows may pass.

        Parameters
        ----------
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities in [0, 1], columns in sorted order of the classes; 1-D holds
            those of the last class. Rows of NaN could not be scored; they go to review.
        y : array-like of shape (n_samples,), default=None
            True labels. A precision needs them; by budget or cost they are needed only to report.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, such as one over the probability with which a row was chosen to be labelled.
        classes : array-like of shape (n_classes,), default=None
            Sorted classes of the columns; needed when `y` lacks one of them.

        Returns
        -------
        self : object
            The fitted policy.

        Raises
        ------
        NotCertifiableError
            If these labels cannot certify the target. Its ``n_more`` tells about how many further
            labels are needed if they look like the present ones, or is None when more would not
            help.
        ValueError
            If a parameter or an input does not fit; the message names it.
        """
        self._validate_params()
        kind = self._kind()
        if y is None and kind == "precision":
            raise ValueError("a target of precision needs labels, got y=None")
        rows = read_rows(proba, y, sample_weight, classes, self.random_state)
        fitted = self._fitted(kind, rows)
        if fitted.error is not None and self.on_not_certifiable == "raise":
            raise fitted.error
        done = fitted.rule.act(rows.proba)
        shares = {name: float((done == name).mean()) for name in (ACCEPT, REVIEW, REJECT)}
        n_labels = 0 if rows.codes is None else len(rows.codes)
        self._keep(rows.classes, fitted, shares, len(rows.proba), n_labels)
        return self

    def _keep(
        self,
        classes: NDArray[Any],
        fitted: Fitted,
        shares: dict[str, float],
        n_rows: int,
        n_labels: int,
    ) -> None:
        """Set what is known after ``fit``, and after a policy has been read from a file."""
        self.classes_ = classes
        self._rule = fitted.rule
        self.thresholds_ = fitted.thresholds
        self.evidence_ = fitted.evidence
        self.certified_precision_ = fitted.certified_precision
        self.certified_review_share_ = fitted.certified_review_share
        self.expected_cost_ = fitted.cost
        self.expected_cost_interval_ = fitted.cost_interval
        self.uncertified_ = {
            found.predicted: found.n_more
            for found in fitted.evidence
            if found.predicted is not None and np.isinf(found.threshold)
        }
        self.n_labels_ = n_labels
        self.shares_, self.coverage_ = shares, shares[ACCEPT]
        self._n_rows, self._error = n_rows, fitted.error

    def decide(self, proba: ArrayLike) -> NDArray[np.str_]:
        """Return the action of each row.

        Parameters
        ----------
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities, as in `fit`; rows of NaN go to review.

        Returns
        -------
        ndarray of shape (n_samples,)
            "accept", "review" or "reject".
        """
        return self._rule.act(self._read(proba))

    def predict(self, proba: ArrayLike) -> NDArray[Any]:
        """Return the label that acceptance gives each row.

        Parameters
        ----------
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities, as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable class; by cost, the one of lowest expected cost. None for rows of NaN,
            in an array of objects.
        """
        rows = self._read(proba)
        labels: NDArray[Any] = self.classes_[self._rule.pick(rows)]
        unscored = np.isnan(rows).any(axis=1)
        if unscored.any():
            labels = labels.astype(object)
            labels[unscored] = None
        return labels

    def explain(self, proba: ArrayLike) -> list[str]:
        """Return the reason of each action in words.

        Parameters
        ----------
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities, as in `fit`.

        Returns
        -------
        list of str
            One reason a row.
        """
        return self._rule.reasons(self._read(proba), self.classes_)

    def summary(self) -> str:
        """Say in plain words what the policy does, what it rests on, and what it promises.

        Returns
        -------
        str
            Several lines.
        """
        check_is_fitted(self)
        return in_words(self)

    def _read(self, proba: ArrayLike) -> Floats:
        check_is_fitted(self)
        return read_proba(proba, self.classes_.size)

    # -- what was asked for ----------------------------------------------------------------------

    def _kind(self) -> Literal["precision", "budget", "cost"]:
        targets = ("target_precision", "max_error", "max_reviews", "costs")
        given = [name for name in targets if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are two targets: give one of them")
        kind = given[0] if given else "target_precision"
        prices = ("review_cost", "reject_cost")
        if kind == "costs":
            if self.review_cost is None:
                raise ValueError("costs needs review_cost, the price of a review")
            misplaced = ["reject_below"] if self.reject_below is not None else []
        else:
            misplaced = [name for name in prices if getattr(self, name) is not None]
        if self.per_class and kind not in targets[:2]:
            misplaced.append("per_class")
        if misplaced:
            raise ValueError(
                f"{misplaced[0]}={getattr(self, misplaced[0])!r} means nothing together with "
                f"{kind}: review_cost and reject_cost belong to costs, reject_below to the other "
                "targets, per_class to target_precision and max_error"
            )
        return {"max_reviews": "budget", "costs": "cost"}.get(kind, "precision")  # type: ignore[return-value]

    def _fitted(self, kind: str, rows: Rows) -> Fitted:
        if kind == "budget":
            return by_budget(rows, self._budget(), self.confidence, self.reject_below)
        if kind == "cost":
            return by_cost(rows, self._cost_rule(rows.classes), self.confidence, self.random_state)
        how = by_class if self.per_class else by_precision
        return how(rows, self._target(), self.confidence, self.reject_below)

    def _target(self) -> float:
        if self.max_error is not None:
            return 1 - self.max_error
        return 0.95 if self.target_precision is None else self.target_precision

    def _budget(self) -> float | tuple[int, int]:
        budget = self.max_reviews
        if isinstance(budget, Real):
            return float(budget)
        if (
            isinstance(budget, tuple | list)
            and [isinstance(number, Integral) for number in budget] == [True, True]
            and 0 <= budget[0] < budget[1]
        ):
            return int(budget[0]), int(budget[1])
        raise ValueError(
            f"max_reviews={budget!r}: must be a share in (0, 1), or (N, M) for N reviews of the M "
            "rows of a day, with integers and 0 <= N < M"
        )

    def _cost_rule(self, classes: NDArray[Any]) -> CostRule:
        assert self.review_cost is not None
        return CostRule(self._cost_matrix(classes), self.review_cost, self.reject_cost)

    def _cost_matrix(self, classes: NDArray[Any]) -> Floats:
        n_classes = classes.size
        costs = np.asarray(self.costs, dtype=np.float64)
        if costs.ndim == 0:
            return float(costs) * (1 - np.eye(n_classes))
        if costs.shape != (n_classes, n_classes) or not np.isfinite(costs).all():
            raise ValueError(
                f"costs must be a number or finite numbers of shape ({n_classes}, {n_classes}), "
                f"true x predicted in the order {classes.tolist()}, got {costs.tolist()}"
            )
        return costs
