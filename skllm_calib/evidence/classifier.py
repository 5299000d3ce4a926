"""LLMClassifier: a language model as an ordinary scikit-learn classifier.

Only the contract with scikit-learn lives here: parameters, what ``fit`` learns, and the public
methods. Each of these makes one :class:`~skllm_calib.evidence.bound_model.BoundModel`, which does
the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.batches import BatchStatus, submit_rows
from skllm_calib.evidence.binding import Known, bind_model
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.estimating import CostEstimate
from skllm_calib.evidence.failures import check_usable
from skllm_calib.evidence.fit_labels import declared_classes, learn_labels
from skllm_calib.evidence.money.budget import Budget
from skllm_calib.evidence.money.prices import Prices
from skllm_calib.evidence.prepared_rows import PreparedRows
from skllm_calib.evidence.priors import fit_label_bias
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.row_streams import StreamedRows, read_pieces
from skllm_calib.evidence.signals import Signal
from skllm_calib.evidence.text_input import TextRows, read_texts
from skllm_calib.evidence.usage import Usage
from skllm_calib.log_proba.parameters import check_choice, check_count
from skllm_calib.log_proba.predicting import LogProbaMixin
from skllm_calib.log_proba.validation import check_weight
from skllm_calib.utils.progress import Verbose
from skllm_calib.utils.totals import forget_total, total_of

__all__ = ["LLMClassifier"]


class LLMClassifier(LogProbaMixin, ClassifierMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Classify texts with a language model and read its probability of each class.

    Parameters
    ----------
    model : str or BaseBackend or None, default=None
        Which model to ask: "smollm2" (small, on this machine), "llamacpp:PATH.gguf",
        "openai:NAME", or a backend such as ``OpenAIBackend(NAME, base_url=...)``. There is no
        default model: None raises an error when one is needed.
    classes : array-like or None, default=None
        The labels to choose from (str, int or bool). With it the classifier works without
        ``fit``, and `y` may lack some of them. A `y` of other labels may hold their positions
        in sorted order (0, 1, ...), as votes, stacks and ``cross_val_predict`` of scikit-learn
        pass them; the classifier then predicts positions. With classes that are listed in another
        order such a `y` is an error, as 0 could mean either class. None takes the labels of `y`.
    label_texts : dict or None, default=None
        The wording of labels in the prompt, by label, for example ``{0: "no", 1: "yes"}``. A
        label without one is written as ``str(label)``.
    label_descriptions : dict or None, default=None
        What labels mean, by label; shown to the model beside them.
    prompt : Prompt or str or list of dict or None, default=None
        The question: a template such as ``"Is this spam? {hint} {text}"``, a chat, or a
        :class:`Prompt`; None uses the built-in wording.
    signal : str or Signal or list of these, default="auto"
        The evidence to read: "logprobs" (token probabilities of the labels), "decisions" (a
        decision endpoint), "self_reported" (probabilities that the model states),
        "self_consistency" (votes of several draws), "self_check" (votes of its own reasons),
        "p_true" (the model judges its answer), "reasoned" (chain of thought, then the label),
        "mc_dropout", or an object of :mod:`skllm_calib.signals` with parameters of its own. A
        list pools several with equal weights. "auto" takes the first of "logprobs", "decisions",
        "self_reported" and "self_consistency" that the model shows; ``fit`` finds out with a
        question of a few tokens, where the backend does not know, and fixes it.
    n_shots : int, default=0
        Number of examples per class in the prompt, chosen in ``fit``.
    prior_correction : {"contextual", "domain", "batch"}, dict, array-like or None, default=None
        How to remove, without labels, the bias of the model towards some classes. Estimated
        in ``fit``, never from the rows to predict. "contextual": its answer to texts without
        content [2]_. "domain": to texts of random words of `X` [3]_. "batch": its mean answer
        over `X` [4]_. A class prior, by label or in the order of ``classes_``: the mean answer
        over `X` is made equal to it; the best choice where it is known. With 100 labels or more a
        calibrator does better than any of these. Do not pass a uniform prior as a guess.
    order_averaging : int, default=1
        In how many orders of the options to ask about each row, one request per order: their mean
        reduces the effect of the position in the list; as many orders as classes remove it [5]_.
        Applied before `prior_correction`.
    max_off_label : float or "auto", default="auto"
        Largest part of the evidence on a row that may fall on no label, in [0, 1]: a row above it
        fails, and the reason says what the model wanted to write instead. "auto" takes 0.8 where
        the model is asked for option keys, and 0.95 where it is asked for words: small local
        models spread over many wordings and still tell the labels apart (SmolLM2 leaves .15 to
        .93 of the probability off the labels, .45 to .68 with keys), while a refusal of a hosted
        model leaves more than .95. 1 accepts every row.
    on_error : {"raise", "nan"}, default="raise"
        What to do with a row that cannot be answered. "raise": raise an error, after all other
        rows have been answered and kept in the cache. "nan": return a row of NaN and None as its
        prediction, with a ``FailedRowsWarning``; ``explain`` gives the reason. No label is ever
        guessed.
    cache : ResponseCache or str or None, default="default"
        Where replies are kept, so that nothing is paid for twice: "default" (see
        :class:`ResponseCache`), the path of a file, the address of a PostgreSQL database, a cache,
        or None to disable caching.
    random_state : int or None, default=None
        Seed of the choice of examples; None is the same as 0, so that results are reproducible.
    verbose : int or "auto", default="auto"
        Progress on stderr: count, rate, time left, tokens and money. "auto" shows it for what takes
        more than some seconds: a bar in a terminal or notebook, else a line every ten seconds. 0
        never, 1 at once.
    budget : Budget or float or None, default=None
        The most that may be spent: a :class:`Budget` of dollars or tokens, which clones and workers
        share, or a number of dollars for one call. What is not asked then fails with
        ``BudgetExceeded``, and a larger budget goes on from there.
    prices : mapping or path or None, default=None
        What models charge by name or pattern, in dollars per million tokens read and written:
        ``{"my-model": (0.15, 0.60)}``, or the path of a JSON file. None takes the file in the
        variable ``SKLLM_CALIB_PRICES``. What is not there has the price in the package's table.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; known before ``fit`` when `classes` is given.
    examples_ : list of (str, label)
        The rows shown in the prompt.
    signal_ : str
        The evidence in use, for example "logprobs"; for several "logprobs+self_reported".
    signal_reason_ : str
        Why "auto" chose it.
    usage_ : Usage
        Requests, tokens and dollars that this object has used in this process, in its last ``fit``
        and in all calls since.
    label_bias_ : ndarray of shape (n_classes,)
        What `prior_correction` subtracts from the log-probabilities.
    fingerprint_ : dict
        Model, prompt, labels and signal in plain values, as they are now: what a calibration
        depends on.
    n_features_in_ : int
        Number of columns, for tables only.
    feature_names_in_ : ndarray of str
        Names of the columns, for DataFrames only.

    See Also
    --------
    CalibratedLLMClassifier : Fixes the over-confidence of the probabilities with some labels.

    References
    ----------
    .. [1] T. B. Brown et al. (2020). "Language Models are Few-Shot Learners." NeurIPS.
    .. [2] Z. Zhao, E. Wallace, S. Feng, D. Klein, S. Singh (2021). "Calibrate Before Use:
       Improving Few-Shot Performance of Language Models." ICML.
    .. [3] Y. Fei, Y. Hou, Z. Chen, A. Bosselut (2023). "Mitigating Label Biases for In-context
       Learning." ACL.
    .. [4] H. Zhou et al. (2024). "Batch Calibration: Rethinking Calibration for In-Context
       Learning and Prompt Engineering." ICLR.
    .. [5] C. Zheng, H. Zhou, F. Meng, J. Zhou, M. Huang (2024). "Large Language Models Are Not
       Robust Multiple Chosen Selectors." ICLR.

    Examples
    --------
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> backend = TestingBackend({"free prize": {"ham": 0.2, "spam": 0.8}})
    >>> clf = LLMClassifier(backend, classes=["ham", "spam"], cache=None)
    >>> clf.predict(["You won a free prize!"])
    array(['spam'], dtype='<U4')
    >>> clf.predict_proba(["You won a free prize!"])
    array([[0.2, 0.8]])
    """

    def __init__(
        self,
        model: str | BaseBackend | None = None,
        *,
        classes: ArrayLike | None = None,
        label_texts: Mapping[Any, str] | None = None,
        label_descriptions: Mapping[Any, str] | None = None,
        prompt: Prompt | str | list[dict[str, str]] | None = None,
        signal: str | Signal | Sequence[str | Signal] = "auto",
        n_shots: int = 0,
        prior_correction: Literal["contextual", "domain", "batch"]
        | Mapping[Any, float]
        | ArrayLike
        | None = None,
        order_averaging: int = 1,
        max_off_label: float | Literal["auto"] = "auto",
        on_error: Literal["raise", "nan"] = "raise",
        cache: ResponseCache | str | os.PathLike[str] | None = "default",
        random_state: int | None = None,
        verbose: Verbose = "auto",
        budget: Budget | float | None = None,
        prices: Prices | None = None,
    ) -> None:
        self.model = model
        self.classes = classes
        self.label_texts = label_texts
        self.label_descriptions = label_descriptions
        self.prompt = prompt
        self.signal = signal
        self.n_shots = n_shots
        self.prior_correction = prior_correction
        self.order_averaging = order_averaging
        self.max_off_label = max_off_label
        self.on_error = on_error
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose
        self.budget = budget
        self.prices = prices

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> LLMClassifier:
        """Learn the labels, choose the examples, and settle what evidence to read.

        The model is asked only what ``signal="auto"`` and `prior_correction` need.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Texts, or rows of a table.
        y : array-like of shape (n_samples,) or None, default=None
            Labels. Needed unless `classes` is given and `n_shots` is 0.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Rows of weight zero are left out. Other weights count where `prior_correction` takes a
            mean over the rows, and change nothing else.

        Returns
        -------
        LLMClassifier
            This object.

        Raises
        ------
        ValueError
            For labels outside `classes`, texts that cannot be used, or bad parameters.
        """
        check_choice(self.on_error, "on_error", ("raise", "nan"))
        rows = read_texts(X, self, reset=True, allow_missing=self.on_error == "nan")
        check_usable(rows, self.on_error)
        weight = check_weight(sample_weight, len(rows))
        forget_total(self)
        self._learn(rows, y, weight)
        model = self._bind(rows.columns)
        self.signal_, self.signal_reason_ = model.signal.label, model.signal_reason
        if isinstance(self.signal, str) and self.signal == "auto":
            self._auto = self.signal_, self.signal_reason_
        if model.prior is not None:
            self.label_bias_ = fit_label_bias(model, rows, weight, self.random_state or 0)
        return self

    def _learn(self, rows: TextRows, y: Any, weight: NDArray[np.float64]) -> None:
        """Learn what needs no answer: the classes, and the examples to show."""
        n_shots, seed = check_count(self.n_shots, "n_shots", 0), self.random_state or 0
        learned = learn_labels(rows, y, weight, classes=self.classes, n_shots=n_shots, seed=seed)
        self._fit_classes = learned.classes
        self._examples = [(rows.fields[i], k) for i, k in learned.shown]
        self.examples_ = [(rows.texts[i], self._fit_classes[k]) for i, k in learned.shown]
        self._columns = rows.columns
        for name in ("_auto", "label_bias_"):
            self.__dict__.pop(name, None)

    def _declared(self) -> NDArray[Any]:
        return declared_classes(self.classes)

    @property
    def classes_(self) -> NDArray[Any]:  # type: ignore[override]
        """The labels, sorted."""
        if "_fit_classes" in self.__dict__:
            return self._fit_classes
        if self.classes is not None:
            return self._declared()
        raise AttributeError(f"{type(self).__name__} has no classes_ before fit or classes=[...]")

    @property
    def fingerprint_(self) -> dict[str, Any]:
        """What a calibration depends on, in plain values; a parameter set later changes it."""
        if "_fit_classes" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no fingerprint_ before fit")
        return self._bind(self._columns).fingerprint()

    @property
    def usage_(self) -> Usage:
        """What this object has used since its last ``fit``, in this process."""
        found: Usage = total_of(self) or Usage()
        return found

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether it can predict: after fit, or at once when there is nothing to learn."""
        return "_fit_classes" in self.__dict__ or not self._requires_fit()

    def _requires_fit(self) -> bool:
        return self.classes is None or bool(self.n_shots) or self.prior_correction is not None

    def needs_cross_fitting(self) -> bool:
        """Return whether rows seen in ``fit`` score too well: only with examples in the prompt."""
        return check_count(self.n_shots, "n_shots", 0) > 0

    # -- binding: from parameters to what a call works with --------------------------------------

    def _bind(self, columns: Sequence[str], *, ask: bool = True) -> BoundModel:
        known = Known(
            classes := self.classes_,
            classes if self.classes is None else self._declared(),
            getattr(self, "_examples", []),
            getattr(self, "_auto", None),
            getattr(self, "label_bias_", None),
        )
        return bind_model(self, known, columns, ask=ask)

    def prepare_rows(self, X: Any, *, ask: bool = True) -> PreparedRows:
        """Read rows and resolve all parameters for them, without asking anything.

        Wrappers such as :class:`CalibratedLLMClassifier` use it to compare its ``fingerprint``
        before they call its ``score`` or ``explain``.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        ask : bool, default=True
            Whether ``signal="auto"`` may ask what the model shows, where that is not settled.
        """
        fitted, reader, how = self._reading()
        rows = read_texts(X, reader, **how)
        return PreparedRows(self._bind(rows.columns, ask=ask), rows, fitted)

    def prepare_stream(self, X: Iterable[Any], *, n_ahead: int) -> StreamedRows:
        """Read the first row of a stream and resolve all parameters, without asking anything."""
        fitted, reader, how = self._reading()
        columns, pieces = read_pieces(X, reader, **how)
        return StreamedRows(self._bind(columns), pieces, n_ahead, fitted)

    def _reading(self) -> tuple[bool, Any, dict[str, bool]]:
        """Return whether this is fitted, and how rows are read."""
        check_is_fitted(self)
        check_choice(self.on_error, "on_error", ("raise", "nan"))
        fitted = "_fit_classes" in self.__dict__
        # Without fit, the table itself says what the columns are.
        reader = self if fitted else BaseEstimator()
        return fitted, reader, {"reset": not fitted, "allow_missing": self.on_error == "nan"}

    # -- predicting ------------------------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the log-probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Normalised natural logarithms, columns in the order of ``classes_``.
        """
        return self.prepare_rows(X).score().log_proba

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the log-probabilities as features, as ``predict_log_proba``."""
        return self.predict_log_proba(X)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns of ``transform``, such as "logprob_spam"."""
        check_is_fitted(self)
        return np.asarray([f"logprob_{label}" for label in self.classes_], dtype=object)

    def render(self, X: Any) -> list[list[dict[str, str]]]:
        """Return the conversation that each row becomes, without asking anything.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        list of list of dict
            Chat messages, one list per row.
        """
        return self.prepare_rows(X).render()

    def explain(self, X: Any) -> list[dict[str, Any]]:
        """Return one record per row: the evidence behind it, and what it cost.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        list of dict
            With the keys ``label`` (None for a failed row), ``probability``, ``log_proba`` (by
            label), ``off_label`` (probability of what is no label), ``written``,
            ``signal`` and ``signal_reason`` (which evidence was read, and why), ``answers``,
            ``model``, ``fingerprint``, ``notes``, ``n_requests``, ``prompt_tokens``,
            ``completion_tokens``, ``reasoning_tokens`` (hidden reasoning, which is no evidence),
            ``cached`` and ``failure``; and what the signal knows: for "logprobs"
            ``label_mass_low`` and ``label_mass_high`` (bounds on each label's probability before
            normalising), ``label_listed``, ``shared_beginnings`` and ``top_tokens``, for votes
            ``votes``, for stated probabilities ``stated``, for several orders ``order_flips``.
        """
        return self.prepare_rows(X).explain().records

    def estimate_cost(self, X: Any, y: Any = None) -> CostEstimate:
        """Estimate requests, tokens and dollars of asking about rows; nothing is asked.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None
            Labels, to estimate before ``fit`` with labels or examples taken from them.

        Returns
        -------
        CostEstimate
            Tokens are exact for models on this machine; what the cache has is free.
        """
        if y is None:
            return self.prepare_rows(X, ask=False).estimate_cost()
        planned = clone(self)
        rows = read_texts(X, planned, reset=True, allow_missing=self.on_error == "nan")
        planned._learn(rows, y, np.ones(len(rows)))
        return PreparedRows(planned._bind(rows.columns, ask=False), rows).estimate_cost()

    def submit_batch(self, X: Any, *, wait: float | None = None) -> BatchStatus:
        """Ask about rows in batches of the provider: at half the price, within a day.

        Each call, in any process with the same cache, collects what is finished and hands in what
        is to be asked next, nothing twice; then ``predict_proba`` reads it from the cache. OpenAI,
        Anthropic and Mistral have batches. The first two rows are asked at once, at full price.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        wait : float or None, default=None
            Seconds between two looks, until all is done; None returns at once.

        Returns
        -------
        BatchStatus
            How many rows are done, waiting and failed.

        Raises
        ------
        InvalidInput
            If the model has no batches, or there is no cache.
        BackendError
            If nothing can be handed in or looked at, or a batch was refused.

        Examples
        --------
        >>> clf = LLMClassifier("openai:gpt-4o-mini", classes=["ham", "spam"])
        >>> clf.submit_batch(texts)  # doctest: +SKIP
        BatchStatus(n_rows=1000, n_done=2, n_waiting=998, n_failed=0, ids=('batch_123',))
        """
        return submit_rows(self.prepare_rows(X), wait)

    def order_flip_rate(self, X: Any, n_orders: int = 2) -> float:
        """Return how often the label changes when the options are listed in another order.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        n_orders : int, default=2
            How many orders to compare, the first being the usual one.

        Returns
        -------
        float
            Fraction of the rows, in [0, 1], whose most probable label (before `prior_correction`)
            is not the same in all orders; rows that cannot be answered are left out.

        Raises
        ------
        ValueError
            If no row can be answered, or fewer than two orders are to be compared.
        """
        n_orders = check_count(n_orders, "n_orders", 2)
        return self.prepare_rows(X).order_flip_rate(n_orders)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.on_error == "nan"
        tags.requires_fit = self._requires_fit()
        tags.target_tags.required = self.classes is None
        tags.classifier_tags.poor_score = self.n_shots == 0
        return tags
