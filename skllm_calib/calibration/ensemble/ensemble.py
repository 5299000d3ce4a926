"""LLMEnsembleClassifier: several classifiers as one, and how far they disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import tee
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble._base import _BaseHeterogeneousEnsemble
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    _is_fitted,
    check_is_fitted,
)

from skllm_calib.calibration.ensemble.members import (
    combine_tags,
    common_classes,
    each,
    fitted_member,
    given_weights,
    kept_members,
    member_scores,
    score_unseen,
)
from skllm_calib.calibration.ensemble.pooling import fit_weights, split_uncertainty
from skllm_calib.calibration.ensemble.prepared import PreparedEnsemble, fingerprint_of
from skllm_calib.calibration.ensemble.streamed import StreamedEnsemble
from skllm_calib.calibration.ensemble.variants import variants
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_whole, counting_labels, encode
from skllm_calib.log_proba.numerics import Floats
from skllm_calib.log_proba.parameters import check_choice
from skllm_calib.log_proba.predicting import LogProbaMixin
from skllm_calib.log_proba.scores import (
    needs_cross_fitting,
    prepare_stream,
    sum_of,
    usage_of,
)
from skllm_calib.log_proba.validation import check_weighted_labels
from skllm_calib.utils.progress import stage
from skllm_calib.utils.totals import add_to_total, forget_total, total_of

__all__ = ["LLMEnsembleClassifier"]


def _some_member_has(name: str) -> Callable[[LLMEnsembleClassifier], bool]:
    return lambda self: any(hasattr(member, name) for member in self._members().values())


class LLMEnsembleClassifier(LogProbaMixin, ClassifierMixin, _BaseHeterogeneousEnsemble):  # type: ignore[misc]
    """Pool the probabilities of several prompts, signals, models or any classifiers.

    Pool first and calibrate the pool: wrap the ensemble in :class:`CalibratedLLMClassifier`. A
    mean of calibrated members is under-confident [1]_ [2]_. :meth:`over` makes the members from
    one classifier.

    Parameters
    ----------
    estimators : list of (str, classifier)
        The members by name. "drop" instead of a classifier leaves it out.
    pooling : {"log", "linear"}, default="log"
        "log": the normalised weighted geometric mean of the probabilities [3]_, the better choice
        for noisy members. "linear": their weighted mean [4]_, which forgives a member that is
        sure and wrong now and then.
    weights : "fit" or array-like of shape (n_estimators,) or None, default=None
        How much each member counts: non-negative numbers, scaled to sum to one; None for equal
        weights. "fit" finds those of the pool with the least log-loss on the rows of ``fit``:
        "linear" pools as they are, "log" pools as they are once calibrated, by the logistic
        regression of stacking [5]_ with weights that are not negative (its scale and biases are
        left to the calibrator). An over-confident member then counts for what it knows. Members
        that score rows seen in ``fit`` too well are cross-fitted for it. Members of weight zero
        are not asked.
    n_jobs : int or None, default=None
        How many members to ask at a time, in threads. Helps with hosted models; a local model is
        busy with one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted: those of the member with most classes. Members that lack some of
        them give these no probability.
    estimators_, named_estimators_ : list and Bunch of classifier
        The fitted members, without dropped ones.
    weights_ : ndarray of shape (n_members,)
        Their weights, which sum to one.
    fingerprint_ : dict
        What a calibration depends on, in plain values.
    usage_ : Usage
        What ``fit`` and all calls since have used, in this process: the sum over the members.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Of a table only: the number and, for DataFrames, the names of its columns.

    See Also
    --------
    sklearn.ensemble.VotingClassifier : ``voting="soft"`` is the linear pool.
    sklearn.ensemble.StackingClassifier : Learns a classifier on the members' probabilities.

    Notes
    -----
    What lies more than 25 nats below the best class of a row is lifted to there, as for the
    calibrators: in a geometric mean one zero would be a veto. A row that a member of positive
    weight could not score is NaN. Where all members work without ``fit``, so does the ensemble.

    References
    ----------
    .. [1] R. Ranjan and T. Gneiting (2010). "Combining Probability Forecasts." Journal of the
       Royal Statistical Society B, 72.
    .. [2] R. Rahaman and A. H. Thiery (2021). "Uncertainty Quantification and Deep Ensembles."
       NeurIPS.
    .. [3] C. Genest and J. V. Zidek (1986). "Combining Probability Distributions: A Critique and
       an Annotated Bibliography." Statistical Science, 1.
    .. [4] M. Stone (1961). "The Opinion Pool." Annals of Mathematical Statistics, 32.
    .. [5] D. H. Wolpert (1992). "Stacked Generalization." Neural Networks, 5.

    Examples
    --------
    >>> from skllm_calib import LLMClassifier, LLMEnsembleClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> sure = TestingBackend({"prize": {"ham": 0.2, "spam": 0.8}})
    >>> unsure = TestingBackend({"prize": {"ham": 0.5, "spam": 0.5}})
    >>> clf = LLMEnsembleClassifier(
    ...     [
    ...         ("sure", LLMClassifier(sure, classes=["ham", "spam"], cache=None)),
    ...         ("unsure", LLMClassifier(unsure, classes=["ham", "spam"], cache=None)),
    ...     ]
    ... )
    >>> clf.predict_proba(["You won a prize!"]).round(3)
    array([[0.333, 0.667]])
    >>> clf.set_params(pooling="linear").predict_proba(["You won a prize!"]).round(3)
    array([[0.35, 0.65]])
    >>> clf.uncertainty(["You won a prize!"])["epistemic"].round(3)
    array([0.051])
    """

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        pooling: Literal["log", "linear"] = "log",
        weights: Literal["fit"] | ArrayLike | None = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(estimators=estimators)
        self.pooling = pooling
        self.weights = weights
        self.n_jobs = n_jobs

    @classmethod
    def over(
        cls,
        estimator: Any,
        /,
        *,
        pooling: Literal["log", "linear"] = "log",
        weights: Literal["fit"] | ArrayLike | None = None,
        n_jobs: int | None = None,
        **grid: Iterable[Any],
    ) -> LLMEnsembleClassifier:
        """Make an ensemble of copies of one classifier that differ in a parameter.

        Several kinds of evidence from the same model, fused and calibrated in one line::

            CalibratedLLMClassifier(
                LLMEnsembleClassifier.over(
                    clf, signal=["logprobs", "self_reported"], weights="fit"
                )
            )

        The weights are fitted and cross-fitted with the calibrator on the same rows. With the
        cache of the classifier on, each member is asked about each row once.

        Parameters
        ----------
        estimator : classifier
            Usually an :class:`LLMClassifier`. It is copied and left alone.
        pooling, weights, n_jobs
            As for the class; `weights` in the order of the members.
        **grid : list
            What to vary: the values of a parameter, by its name as in ``set_params``, for example
            ``signal``, ``prompt``, ``model``, ``random_state`` or ``model__temperature``. With
            several, all combinations, in the order of
            :class:`sklearn.model_selection.ParameterGrid`: by the names in alphabetical order,
            the values of the last one changing fastest.

        Returns
        -------
        LLMEnsembleClassifier
            Not fitted. A member is named after its values: words as they are ("logprobs"), numbers
            with the parameter ("random_state_3"), objects by their `name`, anything else by its
            position in the list ("prompt_0"); several are joined by "_". If these names are not
            unique, all positions are used.

        Raises
        ------
        ValueError
            If no parameter is given, a value is not a list, is empty or repeats an entry, or the
            estimator has no such parameter.

        Examples
        --------
        >>> from skllm_calib import LLMClassifier, LLMEnsembleClassifier
        >>> from skllm_calib.backends import TestingBackend
        >>> clf = LLMClassifier(TestingBackend(), classes=["ham", "spam"], cache=None)
        >>> ensemble = LLMEnsembleClassifier.over(
        ...     clf, prompt=["Is this spam? {text} {hint}", "{text} Spam or ham? {hint}"]
        ... )
        >>> [name for name, _ in ensemble.estimators]
        ['prompt_0', 'prompt_1']
        >>> ensemble.predict_proba(["You won a prize!"]).shape
        (1, 2)
        """
        members = variants(estimator, grid, reserved=cls._get_param_names())
        return cls(members, pooling=pooling, weights=weights, n_jobs=n_jobs)

    # -- fitting ---------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> LLMEnsembleClassifier:
        """Fit the members, and the weights where they are to be fitted.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            What the members take.
        y : array-like of shape (n_samples,) or None, default=None
            Labels. Needed if a member needs them, and for ``weights="fit"``.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows, for ``weights="fit"`` and for members that take them.

        Returns
        -------
        LLMEnsembleClassifier
            This object.
        """
        members = kept_members(self.estimators)
        if not members:
            raise InvalidInput(
                f"estimators={self.estimators!r}: must be a list of (name, classifier), with at "
                "least one that is not 'drop'",
                "estimators",
                value=self.estimators,
            )
        self._validate_estimators()
        check_choice(self.pooling, "pooling", ("log", "linear"))
        weights = None if self._fits_weights() else self._given_weights()
        labels, row_weight = None, None
        if y is not None:
            labels, row_weight = check_weighted_labels(y, sample_weight)
            check_whole(labels)
        elif weights is None:
            raise InvalidInput(
                "weights='fit' requires y to be passed, but the target y is None", "y"
            )
        forget_total(self)
        with stage():
            fitted = each(self.n_jobs, fitted_member, members.values(), X, labels, row_weight)
            named = Bunch(**dict(zip(members, fitted, strict=True)))
            classes = common_classes(named)
            if labels is not None:
                # Refuses labels that no member knows.
                encode(counting_labels(labels, row_weight), classes)
            if weights is None:
                pairs = list(zip(members.values(), fitted, strict=True))
                unseen = score_unseen(self.n_jobs, pairs, X, labels, row_weight, classes)
                add_to_total(self, unseen.usage)
                weights = fit_weights(unseen.scores, unseen.codes, unseen.weight, self.pooling)
        self.estimators_, self.named_estimators_, self.weights_ = fitted, named, weights
        return self

    @property
    def fingerprint_(self) -> dict[str, Any]:
        """What a calibration depends on, in plain values; a parameter set later changes it."""
        if "weights_" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no fingerprint_ before fit")
        members = dict(self.named_estimators_)
        known = {name: getattr(m, "fingerprint_", None) for name, m in members.items()}
        return fingerprint_of(members, known, self.pooling, self.weights_)

    @property
    def usage_(self) -> Any:
        """What the members have used since their last ``fit``, and fitting the weights."""
        return sum_of([total_of(self), *map(usage_of, self._members().values())])

    @available_if(_some_member_has("estimate_cost"))  # type: ignore[untyped-decorator, unused-ignore]
    def estimate_cost(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Estimate requests, tokens and dollars of asking the members; nothing is asked.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None
            Labels, to estimate ``fit`` where members take labels or examples from them.

        Returns
        -------
        CostEstimate, summed over the members that count
        """
        members = self._members() if y is None else kept_members(self.estimators)
        fits = y is not None and self._fits_weights()  # which asks all of them
        weights = np.ones(len(members)) if fits else self._weights()
        asked = [m for m, w in zip(members.values(), weights, strict=True) if w]
        return sum_of(m.estimate_cost(X, y) for m in asked if hasattr(m, "estimate_cost"))

    def needs_cross_fitting(self) -> bool:
        """Return whether rows seen in ``fit`` score too well: if those of a member may."""
        given = kept_members(self.estimators).values()  # it is about what the next fit would do
        return self._fits_weights() or any(map(needs_cross_fitting, given))

    # -- predicting ------------------------------------------------------------------------------

    @property
    def classes_(self) -> NDArray[Any]:  # type: ignore[override]
        """The labels, sorted."""
        try:
            check_is_fitted(self)
            return common_classes(self._members())
        except ValueError as e:  # dir() and the display in a notebook ask, too
            raise AttributeError(str(e)) from e

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether it can predict: after fit, or at once where all members can."""
        members = self._members().values()
        ready = bool(members) and not self._fits_weights() and all(map(_is_fitted, members))
        return "weights_" in self.__dict__ or ready

    def predict_log_proba(self, X: Any) -> Floats:
        """Return the log-probabilities of the pool.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Normalised natural logarithms, columns in the order of ``classes_``; NaN for rows that
            a member could not score.
        """
        return self.prepare_rows(X).score().log_proba

    def prepare_rows(self, X: Any) -> PreparedEnsemble:
        """Let each member read rows and resolve its parameters for them, without asking anything.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        PreparedEnsemble
        """
        check_is_fitted(self)
        check_choice(self.pooling, "pooling", ("log", "linear"))
        return PreparedEnsemble.of(
            self._members(),
            X,
            weights=self._weights(),
            pooling=self.pooling,
            n_jobs=self.n_jobs,
            fitted="weights_" in self.__dict__,
        )

    def prepare_stream(self, X: Iterable[Any], *, n_ahead: int) -> StreamedEnsemble:
        """Let each member read the first row of a stream, without asking anything."""
        check_is_fitted(self)
        check_choice(self.pooling, "pooling", ("log", "linear"))
        members = self._members()
        copies = zip(members.items(), tee(X, len(members)), strict=True)
        with stage():  # one call, whose members share a budget
            streams = {n: prepare_stream(m, rows, n_ahead=n_ahead) for (n, m), rows in copies}
        return StreamedEnsemble(
            members,
            streams,
            common_classes(members),
            self._weights(),
            self.pooling,
            "weights_" in self.__dict__,
        )

    def member_log_proba(self, X: Any) -> Floats:
        """Return the log-probabilities of every member, also of those of weight zero.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_members, n_samples, n_classes)
            In the order of ``estimators_`` and of ``classes_``.
        """
        check_is_fitted(self)
        members = self._members()
        classes = common_classes(members)
        return np.stack(each(self.n_jobs, member_scores, members.values(), X, classes))

    def uncertainty(self, X: Any) -> dict[str, Floats]:
        """Split the uncertainty about each row into that within and that between members.

        ``total`` is the entropy of the weighted mean of the members' probabilities, ``aleatoric``
        the weighted mean of their entropies. ``epistemic``, the difference, is the mutual
        information of label and member [1]_ [2]_ [3]_: high where members are sure of different
        labels. It is that of the linear pool whatever `pooling`, because only in a mixture is the
        difference a mutual information, and never negative.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            ``total``, ``aleatoric`` and ``epistemic``, in nats.

        References
        ----------
        .. [1] N. Houlsby et al. (2011). "Bayesian Active Learning for Classification and
           Preference Learning." arXiv:1112.5745.
        .. [2] Y. Gal (2016). "Uncertainty in Deep Learning." PhD thesis, University of Cambridge.
        .. [3] S. Depeweg et al. (2018). "Decomposition of Uncertainty in Bayesian Deep Learning
           for Efficient and Risk-sensitive Learning." ICML.
        """
        return split_uncertainty(*self.prepare_rows(X).counting_scores())

    @available_if(_some_member_has("explain"))  # type: ignore[untyped-decorator, unused-ignore]
    def explain(self, X: Any) -> list[dict[str, Any]]:
        """Return one record per row: the pool, its uncertainty, and the record of each member.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        list of dict
            With the keys ``label``, ``probability``, ``log_proba`` (by label), ``uncertainty``
            (see :meth:`uncertainty`), ``failure`` and ``members``, their own records by name.
            The first four are None for a row that a member could not score. Where members know
            it, ``off_label`` is their weighted mean.
        """
        return self.prepare_rows(X).explain().records

    # -- members, weights, parameters ------------------------------------------------------------

    def _members(self) -> dict[str, Any]:
        """Return the fitted members, or before ``fit`` those given."""
        return dict(self.__dict__.get("named_estimators_") or kept_members(self.estimators))

    def _weights(self) -> Floats:
        fitted: Floats | None = self.__dict__.get("weights_")
        return self._given_weights() if fitted is None else fitted

    def _fits_weights(self) -> bool:
        return isinstance(self.weights, str) and self.weights == "fit"

    def _given_weights(self) -> Floats:
        return given_weights(self.weights, self.estimators)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of a table seen in fit."""
        return self._of_members("n_features_in_")  # type: ignore[no-any-return]

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns of a DataFrame seen in fit."""
        return self._of_members("feature_names_in_")  # type: ignore[no-any-return]

    def _of_members(self, name: str) -> Any:
        for member in self.__dict__.get("estimators_", ()):
            if hasattr(member, name):
                return getattr(member, name)
        raise AttributeError(f"{type(self).__name__} has no {name}: not fitted on such a table")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        members = kept_members(self.estimators).values()
        combine_tags(tags, members, fits_weights=self._fits_weights())
        return tags
