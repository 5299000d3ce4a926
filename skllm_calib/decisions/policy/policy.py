"""ReviewPolicy: which rows are accepted, which a person looks at, and what is promised of them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllm_calib.decisions._json import JsonMixin
from skllm_calib.decisions.policy import saved
from skllm_calib.decisions.policy.fitted import FittedPolicy, fit_rule
from skllm_calib.decisions.policy.targets import resolve_rule
from skllm_calib.decisions.rows import Floats, read_rows
from skllm_calib.decisions.rules import DecisionRule
from skllm_calib.decisions.rules.deciders import ACCEPT
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE
from skllm_calib.log_proba.validation import check_proba

__all__ = ["ReviewPolicy"]

_FRACTION = Interval(Real, 0, 1, closed="neither")
_PRICE = Interval(Real, None, None, closed="neither")


class ReviewPolicy(JsonMixin, BaseEstimator):  # type: ignore[misc]
    """Accept a prediction, send it to review, or reject the row.

    Fitted on labelled rows with calibrated probabilities that resemble the rows to come. Give one
    target:

    * **Precision** (`target_precision` or `max_error`): accept as many rows as possible such that
      those accepted are right at least this often, overall or for every predicted class. Thresholds
      are tested from strict to loose with exact binomial tests, and the search stops at the first
      that fails (fixed-sequence testing [1]_), so picking one does not spoil the promise: it is
      broken in at most ``1 - confidence`` of the draws of labelled rows.
    * **Budget** (`max_reviews`): review the least sure rows, as many as the budget allows, and
      accept the others. The promise is about the number of reviews; the precision of accepted rows
      that the labels support is reported.
    * **Cost** (`costs` and `review_cost`): the action of lowest expected cost (Bayes [2]_). It is
      best only if the probabilities are calibrated. Labels are used to report what it costs.
    * **Another rule** (`rule`): a :class:`~skllm_calib.decisions.DecisionRule`, also of your own.

    Parameters
    ----------
    target_precision : float in (0, 1), default=None
        Wanted fraction of right labels among accepted rows. 0.95 if no target is given.
    confidence : float in (0, 1), default=0.95
        Confidence of every promise.
    max_error : float in (0, 1), default=None
        The same target as an error rate: ``1 - target_precision``.
    per_class : bool, default=False
        Keep the precision for every predicted class, with a threshold each. The risk
        ``1 - confidence`` is shared equally (Bonferroni) by the classes predicted often enough to
        pass at all, so with this confidence *all* of them keep it. A class that cannot be certified
        is never accepted: its rows go to review, and ``uncertified_`` tells how many labels it
        needs.
    max_reviews : float in (0, 1) or (int, int), default=None
        Budget of reviews: a fraction of all rows, or ``(50, 400)`` for 50 of the 400 rows of a day.
        The fraction is kept with `confidence`; the number on a fraction `confidence` of days.
    costs : float or array-like of shape (n_classes, n_classes), default=None
        Cost of accepting the predicted class (column) when the true one is the row, in any unit;
        gains are negative. A number is the cost of every error, a right label being free.
    review_cost : float, default=None
        Price of a review, after which the label is right, in the unit of `costs`.
    reject_cost : float, default=None
        Price of rejecting a row, in the unit of `costs`; None rejects no row.
    reject_below : float in (0, 1), default=None
        For targets of precision or budget: rows whose largest probability is below this are
        rejected, neither accepted nor reviewed. This is for rows that no reviewer could decide
        either, such as texts that belong to no class: ask their senders again.
    rule : DecisionRule, default=None
        Another target. It has parameters of its own, such as ``rule__precision`` in a search.
    on_not_certifiable : {"raise", "review"}, default="raise"
        What ``fit`` does if the precision cannot be certified: raise, or send everything to review
        (``certified_precision_`` is None then). "review" is for searches over several targets and
        for jobs that must not stop. The same holds for a budget that the rows without
        probabilities alone exceed; then only those rows go to review.
    random_state : int, default=0
        Seed of the thinning by `sample_weight` and of the interval of the cost.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the columns.
    thresholds_ : ndarray of shape (n_classes,) or None
        Lowest probability at which a row is accepted, for each predicted class; infinite where
        nothing is accepted. None by cost.
    promises_ : tuple of Promise
        What is promised of rows to come: quantity, bound, confidence and text.
    action_rates_ : dict of str to float
        Fraction of the fitted rows for each action, "accept", "review" and "reject".
    coverage_ : float
        Fraction of the fitted rows that is accepted, in [0, 1].
    certified_precision_ : float or None
        Precision of accepted rows that is promised with `confidence`; by class, of each class that
        has a threshold. None if nothing is promised.
    certified_review_rate_ : float or None
        By budget: upper bound, with `confidence`, of the fraction of rows to come that go to
        review.
    expected_cost_ : float or None
        By cost: mean cost per row of the labelled rows; without labels, the mean expected cost.
    expected_cost_interval_ : tuple of float or None
        Two-sided interval of `confidence` for it; None without labels.
    evidence_ : tuple of PolicyEvidence
        Numbers of rows, accepted rows and errors behind each threshold.
    uncertified_ : dict
        By class: class -> about how many further labels it needs, or None where more labels are
        not known to help. Classes with a threshold are not in it.
    n_labels_ : int
        Number of labelled rows that were used.

    See Also
    --------
    ReviewClassifier : A classifier and a policy in one estimator.
    accept_threshold : The threshold alone, as a function.

    Notes
    -----
    The lowest threshold at which 95 % of the labelled rows are right breaks the promise in about
    every second draw. What is certified here needs at least 59 accepted rows without an error for
    95 % and 299 for 99 %, at the default confidence.

    The promises are about rows drawn like the labelled ones, which must not have trained the model.
    Rows that were also used to fit a calibrator of a few parameters did no harm in simulations;
    with more parameters the promise becomes optimistic: keep some rows apart.

    A promise is about all draws of labelled rows, not about those that certified something: a model
    that is nowhere good enough passes in up to ``1 - confidence`` of them, and is then always
    wrong. To add labels and fit again is a second draw, which may err as often as the first: if you
    plan for two attempts, give each half of the risk. In a simulation (200 labels, a target of 95 %
    with 90 % confidence) ``n_more`` further labels were enough in about seven cases out of ten.

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
    >>> policy = ReviewPolicy(target_precision=0.95).fit(y, p)
    >>> policy.decide([0.01, 0.4, 0.999])
    array(['accept', 'review', 'accept'], dtype='<U6')
    >>> print(policy.summary())
    Accept a row when its largest probability is at least ....
    Of the 1000 labelled rows, ... (...%) are accepted, ... (...%) go to review.
    Of the accepted rows, ... are wrong.
    Promise: accepted rows are right at least 95% of the time, with 95% confidence.

    Twenty reviews a day, of two hundred rows:

    >>> policy = ReviewPolicy(max_reviews=(20, 200)).fit(y, p)
    >>> policy.certified_precision_ < 0.95
    True

    An error costs 10, a review 1:

    >>> ReviewPolicy(costs=10, review_cost=1).fit(y, p).decide([[0.85, 0.15], [0.95, 0.05]])
    array(['review', 'accept'], dtype='<U6')
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_precision": [None, _FRACTION],
        "confidence": [_FRACTION],
        "max_error": [None, _FRACTION],
        "per_class": ["boolean"],
        "max_reviews": [None, _FRACTION, tuple, list],
        "costs": [None, Interval(Real, 0, None, closed="neither"), "array-like"],
        "review_cost": [None, _PRICE],
        "reject_cost": [None, _PRICE],
        "reject_below": [None, _FRACTION],
        "on_not_certifiable": [StrOptions({"raise", "review"})],
        "rule": [None, DecisionRule],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        target_precision: float | None = None,
        *,
        confidence: float = DEFAULT_CONFIDENCE,
        max_error: float | None = None,
        per_class: bool = False,
        max_reviews: float | tuple[int, int] | None = None,
        costs: float | ArrayLike | None = None,
        review_cost: float | None = None,
        reject_cost: float | None = None,
        reject_below: float | None = None,
        rule: DecisionRule | None = None,
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
        self.rule = rule
        self.on_not_certifiable = on_not_certifiable
        self.random_state = random_state

    def fit(
        self,
        y: ArrayLike | None,
        proba: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Find out which rows may pass.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or None
            True labels. A precision needs them; a budget or costs use them only to report.
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities in [0, 1], columns in sorted order of the classes, or named by
            them in any order; 1-D holds those of the last class. Rows of NaN could not be scored;
            they go to review.
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
            If these labels cannot certify the target. Its ``n_more`` is about how many further
            labels are needed if they look like the present ones, or None if more would not help.
        ValueError
            If a parameter or an input does not fit; the message names it.
        """
        rule = self._resolve_rule()
        if y is None and rule.needs_labels:
            raise InvalidInput(
                f"y=None, but {type(rule).__name__} needs labels: pass the true labels.", "y"
            )
        rows = read_rows(y, proba, sample_weight, classes, self.random_state)
        fitted = fit_rule(rule, rows, self.confidence)
        if fitted.findings.error is not None and self.on_not_certifiable == "raise":
            raise fitted.findings.error
        self._set(fitted)
        return self

    def _set(self, fitted: FittedPolicy) -> None:
        """Set what is known after ``fit``, and after a policy has been read from a file."""
        found = fitted.findings
        self._fitted = fitted
        self.classes_ = fitted.classes
        self.thresholds_ = fitted.decider.thresholds
        self.evidence_, self.promises_ = found.evidence, fitted.promises
        self.certified_precision_ = found.bounds.get("precision")
        self.certified_review_rate_ = found.bounds.get("review_rate")
        self.expected_cost_, self.expected_cost_interval_ = found.cost, found.cost_interval
        self.uncertified_ = fitted.uncertified
        self.action_rates_ = dict(fitted.action_rates)
        self.coverage_ = fitted.action_rates[ACCEPT]
        self.n_labels_ = fitted.n_labels

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
        return self._fitted.decider.act(self._read(proba))

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
        labels: NDArray[Any] = self.classes_[self._fitted.decider.pick(rows)]
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
            One reason per row.
        """
        return self._fitted.decider.reasons(self._read(proba), self.classes_)

    def summary(self) -> str:
        """Say in plain words what the policy does, what it rests on, and what it promises.

        Returns
        -------
        str
            Several lines.
        """
        check_is_fitted(self)
        return self._fitted.summary()

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted policy as plain values, ready for JSON.

        Returns
        -------
        content : dict
            What :meth:`from_dict` makes an equal policy of. Numbers that JSON does not have, such
            as the threshold of a class that is never accepted, are the texts "inf" and "nan".

        Raises
        ------
        ValueError
            If parameters were changed since the fit, the classes are not of type str, int, float or
            bool, or the class of `rule` is not in ``skllm_calib.decisions.RULES``.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        return saved.content_of(self._fitted, parameters, self._resolve_rule(), self.confidence)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the policy that :meth:`to_dict` described.

        Parameters
        ----------
        content : dict
            The content, also after a round trip through JSON. It is data: nothing in it is run. The
            key "about" is free for your own notes and is ignored.

        Returns
        -------
        policy : ReviewPolicy
            A policy that decides, explains and promises the same, float for float.

        Raises
        ------
        ValueError
            If it is something else, of another version, or contradicts itself.
        """
        policy = cls(**saved.read_parameters(content, cls().get_params(deep=False)))
        rule = policy._resolve_rule()  # its errors name the parameter that is wrong
        policy._set(saved.read_fitted(content, rule, policy.confidence))
        return policy

    def _read(self, proba: ArrayLike) -> Floats:
        check_is_fitted(self)
        return check_proba(proba, classes=self.classes_, allow_unscored=True)

    def _resolve_rule(self) -> DecisionRule:
        """Return the rule that the parameters describe."""
        self._validate_params()
        return resolve_rule(self.get_params(deep=False))
