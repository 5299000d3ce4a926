"""LLMClassifier: a language model as an ordinary scikit-learn classifier.

Only the scikit-learn contract lives here; what to ask stands in ``prompts``, how to read the reply
in ``signals``, who answers in ``backends``, and where they meet in ``evidence``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skllm_calib.evidence.asking import RowRecord, collect
from skllm_calib.evidence.backends.base import BaseBackend, Reply
from skllm_calib.evidence.backends.providers import resolve_model
from skllm_calib.evidence.cache import ResponseCache, resolve_cache
from skllm_calib.evidence.examples import select_examples
from skllm_calib.evidence.explaining import explain_row
from skllm_calib.evidence.priors import check_prior, estimate_bias, reference_texts, subtract
from skllm_calib.evidence.probing import Chosen, first_available
from skllm_calib.evidence.prompts import Prompt, resolve_prompt
from skllm_calib.evidence.questions import BoundPrompt, Question
from skllm_calib.evidence.signals import OrderAveragedSignal, Signal, resolve_signal
from skllm_calib.evidence.text_input import Rows, read_rows
from skllm_calib.evidence.usage import Usage
from skllm_calib.exceptions import BackendError, FailedRowsWarning
from skllm_calib.log_proba.labels import check_classes, check_known, check_labels, label_wording
from skllm_calib.log_proba.predicting import LogProbaMixin
from skllm_calib.utils.progress import bar

__all__ = ["LLMClassifier"]


class LLMClassifier(LogProbaMixin, ClassifierMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Classify texts with a language model and read its probability of each class.

    Parameters
    ----------
    model : str or BaseBackend or None, default=None
        Which model to ask: "smollm2" (small, on this machine), "llamacpp:PATH.gguf",
        "openai:NAME", or a backend such as ``OpenAIBackend(NAME, base_url=...)``. There is no
        default: None is an error when the model is needed.
    classes : array-like or None, default=None
        The labels to choose from (str, int or bool). With it the classifier works without
        ``fit``, and `y` may lack some of them. A `y` of other labels may hold their positions
        in sorted order (0, 1, ...), as votes, stacks and ``cross_val_predict`` of scikit-learn
        pass them; the classifier then predicts positions. None takes the labels of `y`.
    label_texts : dict or None, default=None
        The wording of labels in the prompt, by label, for example ``{0: "no", 1: "yes"}``. A
        label without one is written as ``str(label)``.
    label_descriptions : dict or None, default=None
        What labels mean, by label; shown to the model beside them.
    prompt : Prompt or str or list of dict or None, default=None
        The question: a template such as ``"Is this spam? {hint} {text}"``, a chat, or a
        :class:`Prompt`; None takes a wording of our own.
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
        Examples a class to show in the prompt, chosen in ``fit``.
    prior_correction : {"contextual", "domain", "batch"}, dict, array-like or None, default=None
        How to take out, without labels, what the model would answer whatever the text. Estimated
        in ``fit``, never from the rows to predict. "contextual": its answer to texts without
        content [2]_. "domain": to texts of random words of `X` [3]_. "batch": its mean answer
        over `X` [4]_. Shares of the classes, by label or in the order of ``classes_``: so that
        the mean answer over `X` has these shares; the best choice where they are known. With 100
        labels or more a calibrator does better than any of these. Never assume equal shares that
        you do not know of.
    order_averaging : int, default=1
        In how many orders of the options to ask, each a request: the mean takes out what a place
        in the list is worth; as many as there are classes take it out in full [5]_. Applied
        before `prior_correction`.
    on_error : {"raise", "nan"}, default="raise"
        What a row that cannot be answered means. "raise": an error, after all other rows have
        been answered and kept in the cache. "nan": a row of NaN, None as its prediction, a
        ``FailedRowsWarning``, and the reason in ``explain``. Never a guess.
    cache : ResponseCache or str or None, default="default"
        Where replies are kept, so that nothing is paid for twice: "default" (see
        :class:`ResponseCache`), the path of a file, a cache, or None for none.
    random_state : int or None, default=None
        Seed of the choice of examples; None is the same as 0, so that results repeat.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; known before ``fit`` when `classes` is given.
    examples_ : list of (str, label)
        The rows shown in the prompt.
    signal_ : str
        The evidence in use, for example "logprobs"; for several "logprobs+self_reported".
    signal_reason_ : str
        Why "auto" took it.
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
        on_error: Literal["raise", "nan"] = "raise",
        cache: ResponseCache | str | os.PathLike[str] | None = "default",
        random_state: int | None = None,
        verbose: int = 0,
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
        self.on_error = on_error
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> LLMClassifier:
        """Learn the labels, choose the examples, and settle what evidence to read.

        Asks the model nothing but what ``signal="auto"`` and `prior_correction` need to know.

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
        self._check_on_error()
        rows = read_rows(X, self, reset=True, allow_missing=self.on_error == "nan")
        self._check_rows(rows)
        counts = np.ones(len(rows))
        if sample_weight is not None:
            counts = _check_sample_weight(sample_weight, rows.fields, ensure_non_negative=True)
            if not counts.any():
                raise ValueError("sample_weight is zero for every row: nothing to learn from")
        if y is None:
            if self.classes is None:
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None. "
                    "Without labels, say which to choose from: classes=[...]"
                )
            if self.n_shots:
                raise ValueError(f"n_shots={self.n_shots} needs labelled examples: pass y to fit")
            self._fit_classes = check_classes(self.classes, at_least=1, sort=True)
            examples: list[int] = []
            codes = np.empty(0, dtype=np.intp)
        else:
            labels = check_labels(y)
            check_classification_targets(labels)
            check_consistent_length(rows.fields, labels)
            used = counts > 0
            self._fit_classes = self._classes_of(labels[used])
            codes = np.searchsorted(self._fit_classes, labels)
            texts = [t if u else "" for t, u in zip(rows.texts, used, strict=True)]
            examples = select_examples(
                texts, codes, len(self._fit_classes), self._shots(), self.random_state or 0
            )
        self._examples = [(rows.fields[i], int(codes[i])) for i in examples]
        self.examples_ = [(rows.texts[i], self._fit_classes[codes[i]]) for i in examples]
        self._columns = rows.columns
        self._auto: tuple[str, str] | None = None
        choice = self._choose_signal()
        self.signal_, self.signal_reason_ = choice.signal.label, choice.reason
        if isinstance(self.signal, str) and self.signal == "auto":
            self._auto = self.signal_, self.signal_reason_
        self._bind()  # a prompt that does not suit the labels is told here
        self._fit_prior(rows, counts)
        return self

    @property
    def fingerprint_(self) -> dict[str, Any]:
        """Say in plain values what a calibration depends on; a parameter set later changes it."""
        if "_fit_classes" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no fingerprint_ before fit")
        empty = dict.fromkeys(("text", *self._columns), "")
        found = {
            "backend": resolve_model(self.model).identity(),
            "prompt": _digest(self._bind().render(empty, [])),
            "examples": _digest(self._examples),
            "classes": self._fit_classes.tolist(),
            "signal": self._averaged(self._choose_signal().signal).identity(),
        }
        if self.prior_correction is not None:
            prior = check_prior(self.prior_correction, self._named_classes().tolist())
            found["prior_correction"] = prior if isinstance(prior, str) else prior.tolist()
        return found

    def _fit_prior(self, rows: Rows, counts: NDArray[np.float64]) -> None:
        """Estimate the label bias from the rows of ``fit``."""
        self.__dict__.pop("label_bias_", None)
        if self.prior_correction is None:
            return
        prior = check_prior(self.prior_correction, self._named_classes().tolist())
        used = [text for text, n in zip(rows.texts, counts, strict=True) if n]
        texts = reference_texts(prior, used, self.random_state or 0)
        if texts is None:
            places = [i for i, row in enumerate(rows.fields) if row and counts[i]]
            fields, weight = [rows.fields[i] for i in places], counts[places]
        else:
            places, weight = list(range(len(texts))), np.ones(len(texts))
            fields = [dict.fromkeys(("text", *rows.columns), text) for text in texts]
        records = self._records(fields, self._bind(rows.columns))
        self._report_failures(records, places)
        self.label_bias_ = estimate_bias(prior, self._matrix(records), weight)

    def _choose_signal(self) -> Chosen:
        """Say what evidence is read; for "auto" what ``fit`` settled, or would settle."""
        if not isinstance(self.signal, str) or self.signal != "auto":
            return Chosen(resolve_signal(self.signal), "it was asked for")
        if settled := getattr(self, "_auto", None):
            return Chosen(resolve_signal(settled[0]), settled[1])
        return first_available(resolve_model(self.model), resolve_cache(self.cache))

    def _averaged(self, signal: Signal) -> Signal:
        n_orders = self.order_averaging
        if not isinstance(n_orders, int | np.integer) or n_orders < 1:
            raise ValueError(f"order_averaging={n_orders!r}: must be a whole number, 1 or more")
        return OrderAveragedSignal(signal, n_orders=int(n_orders)) if n_orders > 1 else signal

    def _shots(self) -> int:
        if not isinstance(self.n_shots, int | np.integer) or self.n_shots < 0:
            raise ValueError(f"n_shots={self.n_shots!r}: must be a whole number, 0 or more")
        return int(self.n_shots)

    def _classes_of(self, labels: NDArray[Any]) -> NDArray[Any]:
        present = np.unique(labels)
        if self.classes is None:
            return present
        classes = declared = check_classes(self.classes, at_least=1, sort=True)
        given, positions = set(present.tolist()), np.arange(len(classes))
        if not given <= set(classes.tolist()) and given <= set(positions.tolist()):
            # Many of scikit-learn's tools (votes, stacks, cross_val_predict, temperature
            # calibration) replace labels by their positions before they call fit. The model must
            # still be asked for the labels that were declared.
            classes = positions
        strange = [label for label in present.tolist() if label not in set(classes.tolist())]
        if strange:
            raise ValueError(
                f"y holds the label {strange[0]!r}, which is not in classes={declared.tolist()}"
            )
        return classes

    @property
    def classes_(self) -> NDArray[Any]:  # type: ignore[override]
        """The labels, sorted."""
        if "_fit_classes" in self.__dict__:
            return self._fit_classes
        if self.classes is not None:
            return check_classes(self.classes, at_least=1, sort=True)
        raise AttributeError(f"{type(self).__name__} has no classes_ before fit or classes=[...]")

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether it can predict: after fit, or at once when there is nothing to learn."""
        return "_fit_classes" in self.__dict__ or not self._requires_fit()

    def _requires_fit(self) -> bool:
        return self.classes is None or bool(self.n_shots) or self.prior_correction is not None

    def needs_cross_fitting(self) -> bool:
        """Tell whether scores of rows seen in ``fit`` flatter: only with examples in the prompt."""
        return self._shots() > 0

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
        records, _ = self._ask(X)
        return self._matrix(records)

    def _matrix(self, records: Sequence[RowRecord]) -> NDArray[np.float64]:
        """Return the log-probabilities, corrected where a bias is known."""
        out = np.full((len(records), len(self.classes_)), np.nan)
        for i, record in enumerate(records):
            if record.evidence is not None:
                out[i] = self._corrected(record.evidence.log_proba)
        return out

    def _corrected(self, log_proba: NDArray[np.float64]) -> NDArray[np.float64]:
        bias = getattr(self, "label_bias_", None)
        return log_proba if bias is None else subtract(log_proba, bias)

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
            Chat messages, one list a row.
        """
        rows = self._read(X)
        bound = self._bind(rows.columns)
        return [
            [m._asdict() for m in bound.render(fields, self._shown())] if fields else []
            for fields in rows.fields
        ]

    def explain(self, X: Any) -> list[dict[str, Any]]:
        """Return one record a row: the evidence behind it, and what it took.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        list of dict
            With the keys ``label`` (None for a failed row), ``probability``, ``log_proba`` (by
            label), ``off_label`` (share of the evidence that fell on no label), ``written``,
            ``signal`` and ``signal_reason`` (which evidence was read, and why), ``answers``,
            ``model``, ``fingerprint``, ``notes``, ``n_requests``, ``prompt_tokens``,
            ``completion_tokens``, ``reasoning_tokens`` (hidden reasoning, which is no evidence),
            ``cached`` and ``failure``; and what the signal knows: for "logprobs"
            ``label_mass_low`` and ``label_mass_high`` (bounds on each label's probability before
            normalising), ``label_listed``, ``shared_beginnings`` and ``top_tokens``, for votes
            ``votes``, for stated probabilities ``stated``, for several orders ``order_flips``.
        """
        records, answers = self._ask(X, on_error="nan")
        labels, choice = self.classes_.tolist(), self._choose_signal()
        out = []
        for record in records:
            evidence = record.evidence
            log_proba = None if evidence is None else self._corrected(evidence.log_proba)
            row = explain_row(record, log_proba, labels, answers, choice)
            if "label_bias_" in self.__dict__:
                row["label_bias"] = dict(zip(labels, self.label_bias_.tolist(), strict=True))
            out.append(row)
        return out

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
            Share of the rows, in [0, 1], whose most probable label (before `prior_correction`)
            is not the same in all orders; rows that cannot be answered are left out.

        Raises
        ------
        ValueError
            If no row can be answered, or fewer than two orders are to be compared.
        """
        if n_orders < 2:
            raise ValueError(f"n_orders={n_orders!r}: must be 2 or more, to compare them")
        signal = OrderAveragedSignal(self._choose_signal().signal, n_orders=n_orders)
        records, _ = self._ask(X, on_error="nan", signal=signal)
        flips = [r.evidence.details["order_flips"] > 0 for r in records if r.evidence is not None]
        if not flips:
            raise ValueError("no row could be answered, so there is nothing to compare")
        return float(np.mean(flips))

    def served_model(self, X: Any) -> str | None:
        """Return the model as served for the first row of `X`, as the cache knows it.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        str or None
            None if the row is not in the cache; nothing is asked.
        """
        cache = resolve_cache(self.cache)
        if cache is None:
            return None
        rows = self._read(X)
        bound = self._bind(rows.columns)
        identity = resolve_model(self.model).identity()
        fields = next((fields for fields in rows.fields if fields), None)
        if fields is None:
            return None
        question = Question(bound, fields, self._shown())
        first, *_ = next(self._averaged(self._choose_signal().signal).ask(question))
        known = cache.get_many([first.key(identity)])
        return next((Reply.from_json(value).model for value in known.values()), None)

    # -- asking ----------------------------------------------------------------------------------

    def _read(self, X: Any) -> Rows:
        check_is_fitted(self)
        self._check_on_error()
        # Without fit, the first table seen says what the columns are.
        unseen = "_fit_classes" not in self.__dict__
        reader = _Unfitted() if unseen else self
        return read_rows(X, reader, reset=unseen, allow_missing=self.on_error == "nan")

    def _check_on_error(self) -> None:
        if self.on_error not in ("raise", "nan"):
            raise ValueError(f"on_error={self.on_error!r}: must be 'raise' or 'nan'")

    def _check_rows(self, rows: Rows) -> None:
        if rows.problems and self.on_error == "raise":
            problem, n = next(iter(rows.problems.values())), len(rows.problems)
            others = f" ({n} such rows in all)" if n > 1 else ""
            raise ValueError(
                f"X cannot be used: {problem}{others}. Remove it, or pass on_error='nan' to get "
                "NaN for such rows"
            )

    def _bind(self, columns: Sequence[str] | None = None) -> BoundPrompt:
        backend = resolve_model(self.model)
        labels = self._named_classes().tolist()
        descriptions = self.label_descriptions or {}
        check_known(descriptions, labels, "label_descriptions")
        return resolve_prompt(self.prompt).bind(
            label_wording(labels, self.label_texts),
            [descriptions.get(label) for label in labels],
            answer_form=backend.answer_form,
            columns=getattr(self, "_columns", ()) if columns is None else columns,
        )

    def _named_classes(self) -> NDArray[Any]:
        """Return the labels that the model is asked for; ``classes_`` may be their positions."""
        return (
            self.classes_
            if self.classes is None
            else check_classes(self.classes, at_least=1, sort=True)
        )

    def _shown(self) -> list[tuple[Mapping[str, str], int]]:
        return getattr(self, "_examples", [])

    def _ask(
        self, X: Any, on_error: str | None = None, signal: Signal | None = None
    ) -> tuple[list[RowRecord], tuple[str, ...]]:
        """Return a record of each row, and what the model was to write for each class."""
        rows = self._read(X)
        policy = on_error or self.on_error
        if policy == "raise":
            self._check_rows(rows)
        bound = self._bind(rows.columns)
        usable = [i for i, fields in enumerate(rows.fields) if fields]
        records = self._records([rows.fields[i] for i in usable], bound, signal)
        answered = dict(zip(usable, records, strict=True))
        out = [
            answered[i] if i in answered else _bad_row(rows.problems[i]) for i in range(len(rows))
        ]
        if on_error is None:
            self._report_failures(out)
        return out, bound.answers

    def _records(
        self,
        fields: Sequence[Mapping[str, str]],
        bound: BoundPrompt,
        signal: Signal | None = None,
    ) -> list[RowRecord]:
        shown = self._shown()
        with bar(self.verbose, "rows") as progress:
            return collect(
                [Question(bound, row, shown) for row in fields],
                signal or self._averaged(self._choose_signal().signal),
                resolve_model(self.model),
                resolve_cache(self.cache),
                progress=progress,
            )

    def _report_failures(
        self, records: Sequence[RowRecord], places: Sequence[int] | None = None
    ) -> None:
        """Raise or warn of failed rows; `places`: where each stands in `X`, if not all do."""
        numbered = zip(places or range(len(records)), records, strict=True)
        failed = [(i, r.failure) for i, r in numbered if r.failure is not None]
        if not failed:
            return
        i, failure = failed[0]
        story = f"{len(failed)} of {len(records)} rows failed; the first is row {i}: {failure}"
        if self.on_error == "nan":
            warnings.warn(f"{story}. They are NaN", FailedRowsWarning, stacklevel=4)
            return
        kept = "" if resolve_cache(self.cache) is None else " The replies to the others are kept."
        story += f".{kept} Pass on_error='nan' to get NaN for rows that fail"
        error = copy.copy(failure)  # of the same type, with what else it knows
        error.args = (story,)
        raise error from failure

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.on_error == "nan"
        tags.requires_fit = self._requires_fit()
        tags.target_tags.required = self.classes is None
        tags.classifier_tags.poor_score = self.n_shots == 0
        return tags


class _Unfitted(BaseEstimator):  # type: ignore[misc]
    """Stands in for the estimator when a table is read without fit: nothing is to be kept."""


def _bad_row(problem: str) -> RowRecord:
    return RowRecord(None, BackendError(problem), (), Usage())


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
