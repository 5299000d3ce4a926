"""CalibratedLLMClassifier: any classifier with probabilities that mean what they say."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    _check_method_params,
    _num_samples,
    check_is_fitted,
)

from skllm_calib.calibration.calibrators import BaseCalibrator, resolve_calibrator
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.calibration.card_content import (
    describe_estimator,
    describe_method,
    describe_off_label,
    describe_rows,
    describe_usage,
    held_out_figures,
)
from skllm_calib.calibration.doubts import warn_of_doubts
from skllm_calib.exceptions import CalibrationMismatch, InvalidInput
from skllm_calib.log_proba.folds import Split, stratified_folds
from skllm_calib.log_proba.identity import differences, identity_of
from skllm_calib.log_proba.labels import check_whole, counting_labels, encode
from skllm_calib.log_proba.parameters import check_choice
from skllm_calib.log_proba.predicting import LogProbaMixin
from skllm_calib.log_proba.scores import (
    Scores,
    cross_fitted,
    needs_cross_fitting,
    prepare_rows,
    prepare_stream,
    sum_of,
    usage_of,
)
from skllm_calib.log_proba.streams import MappedStream, PreparedStream, ScoredBatch
from skllm_calib.log_proba.validation import check_weighted_labels
from skllm_calib.log_proba.wrapper import WrapperMixin
from skllm_calib.utils.files import read_saved, replacing, write_text
from skllm_calib.utils.progress import stage
from skllm_calib.utils.totals import add_to_total, forget_total, total_of

__all__ = ["CalibratedLLMClassifier"]

_PIECE = 10_000  # rows
_DATA, _PICKLE = "model.json", "model.joblib"
_FITTED = ("classes_", "estimator_", "calibrator_", "calibrated_for_", "calibration_card_")


def _estimator_has(name: str) -> Any:
    def check(self: CalibratedLLMClassifier) -> bool:
        return hasattr(getattr(self, "estimator_", self.estimator), name)

    return check


class CalibratedLLMClassifier(WrapperMixin, LogProbaMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calibrate the probabilities of a classifier on a few hundred labelled rows.

    Scores that do not depend on the labels (a zero-shot :class:`LLMClassifier`, a
    ``FrozenEstimator``) are computed once, and every row serves the calibrator. All other
    estimators are cross-fitted: no row is scored by a model that has seen it.

    Parameters
    ----------
    estimator : classifier
        Usually an :class:`LLMClassifier`; any classifier with probabilities will do.
    method : str or calibrator, default="auto"
        How to calibrate: a name in :data:`~skllm_calib.calibrators.CALIBRATORS`, such
        as "temperature", "vector", "platt" or "isotonic"; "auto" averages several (see
        :class:`AutoCalibrator`).
    cv : "auto", int, cross-validation generator or iterable, default="auto"
        How to cross-fit. "auto": once for scores that do not depend on the labels, else five
        stratified folds.
    on_mismatch : {"raise", "warn"}, default="raise"
        What to do if the model or its settings changed since calibration: another model (also
        one that the provider serves under the same name), prompt, signal, set of labels or
        version of the calibrators.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted; also those declared by the estimator and absent from `y`.
    estimator_ : classifier
        The fitted classifier.
    calibrator_ : BaseCalibrator
        The fitted calibrator.
    usage_ : Usage
        What ``fit`` and all calls since have used, in this process, as of :class:`LLMClassifier`.
    calibration_card_ : CalibrationCard
        What was done and how good it is: prints, and saves to JSON.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : The general tool; fails on declared but absent
        classes and on some labels, and scores each text once per fold.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib import CalibratedLLMClassifier, LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> from skllm_calib.datasets import load_messages
    >>> X, y = load_messages(return_X_y=True)
    >>> llm = LLMClassifier(TestingBackend(), classes=["negative", "positive"], cache=None)
    >>> clf = CalibratedLLMClassifier(llm, method="vector").fit(X[:200], y[:200])
    >>> clf.predict_proba(X[200:]).shape
    (565, 2)
    >>> clf.calibration_card_["n"]
    200
    """

    def __init__(
        self,
        estimator: Any,
        *,
        method: str | BaseCalibrator = "auto",
        cv: Literal["auto"] | int | BaseCrossValidator | Any = "auto",
        on_mismatch: Literal["raise", "warn"] = "raise",
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.cv = cv
        self.on_mismatch = on_mismatch

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, **fit_params: Any
    ) -> CalibratedLLMClassifier:
        """Score the rows, fit the calibrator, and write the card.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            What the estimator takes.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights for the calibrator, and for the estimator if it takes them. Rows of weight
            zero are left out.
        **fit_params : dict
            Further parameters of the estimator's ``fit``. With scikit-learn's metadata routing
            on, they go where they were requested: to the estimator's ``fit`` or, as `groups`, to
            the splitter given as `cv`.

        Returns
        -------
        CalibratedLLMClassifier
            This object.
        """
        calibrator = resolve_calibrator(self.method)
        labels, weight = check_weighted_labels(y, sample_weight)
        check_whole(labels)
        has_rows = isinstance(X, list | tuple) or bool(getattr(X, "shape", ()))
        if has_rows and _num_samples(X) != len(labels):
            raise InvalidInput(
                f"X and y are inconsistent: {_num_samples(X)} rows and {len(labels)} labels",
                "y",
                value=len(labels),
            )
        to_estimator, to_splitter = self._routed(weight, fit_params)
        forget_total(self)
        is_frozen = isinstance(self.estimator, FrozenEstimator)
        before = usage_of(self.estimator) if is_frozen else None
        with stage("calibration"):
            # The estimator reads X first, so that its own errors for a bad X are the ones seen.
            self.estimator_ = self._fitted(X, labels, to_estimator, weight)
            self.classes_ = np.asarray(self.estimator_.classes_)
            # Refuses labels that the estimator does not know.
            codes = encode(counting_labels(labels, weight), self.classes_)
            splits = self._splits(labels, to_splitter)
            if splits is None:
                prepared = prepare_rows(self.estimator_, X)
                fingerprint, scores, how = prepared.fingerprint, prepared.score(), "computed once"
            else:
                fingerprint = getattr(self.estimator_, "fingerprint_", None)
                scores = self._cross_fitted(X, labels, splits, to_estimator, weight)
                how = f"cross-fitted in {len(splits)} folds"
        add_to_total(self, scores.usage)

        counting = np.ones(len(labels), dtype=bool) if weight is None else weight > 0
        scored = ~np.isnan(scores.log_proba).any(axis=1)
        usable = scored & counting
        if not usable.any():
            raise InvalidInput(
                "the estimator scored none of the rows: there is nothing to calibrate", "X"
            )
        log_proba, labels = scores.log_proba[usable], labels[usable]
        weight = weight[usable] if weight is not None else None
        warn_of_doubts(log_proba, codes[usable], self.classes_)
        self.calibrator_ = calibrator.fit(log_proba, labels, weight, classes=self.classes_)
        self.calibrated_for_ = identity_of(fingerprint, scores.served_model)
        self.calibration_card_ = CalibrationCard(
            {
                **describe_rows(labels, self.classes_),
                **describe_estimator(self.estimator_, fingerprint, scores.served_model),
                **describe_method(self.method, self.calibrator_),
                "n_failed_rows": int((counting & ~scored).sum()),
                **describe_off_label(scores.off_label, usable),
                "scores": how,
                **describe_usage(self.usage_, before),
                "held_out": held_out_figures(calibrator, log_proba, labels, self.classes_, weight),
            }
        )
        return self

    def _fitted(
        self, X: Any, y: NDArray[Any], params: dict[str, Any], weight: NDArray[Any] | None
    ) -> Any:
        if isinstance(self.estimator, FrozenEstimator):
            return self.estimator
        return self._fitted_clone(X, y, params, weight)

    def _splits(self, y: NDArray[Any], params: dict[str, Any]) -> list[Split] | None:
        """Return how to cross-fit, or None where no score depends on the labels."""
        if isinstance(self.cv, str) and self.cv != "auto":
            raise InvalidInput(
                f"cv={self.cv!r}: must be 'auto', a number of folds or a splitter; for a fitted "
                "estimator pass FrozenEstimator(estimator) as 'estimator'",
                "cv",
                value=self.cv,
            )
        if not isinstance(self.cv, str):
            splitter = check_cv(self.cv, y, classifier=True)
            return list(splitter.split(np.zeros(len(y)), y, **params))
        return stratified_folds(y) if needs_cross_fitting(self.estimator) else None

    def _cross_fitted(
        self,
        X: Any,
        y: NDArray[Any],
        splits: list[Split],
        params: dict[str, Any],
        weight: NDArray[Any] | None,
    ) -> Scores:
        def fit(part: Any, train: NDArray[np.intp]) -> Any:
            of_part = None if weight is None else weight[train]
            given = _check_method_params(X, params, indices=train)
            return self._fitted(part, y[train], given, of_part)

        return cross_fitted(fit, X, y, self.classes_, splits)

    @property
    def usage_(self) -> Any:
        """What this object has used since its last ``fit``, in this process."""
        return sum_of([total_of(self), usage_of(self.estimator_)])

    @available_if(_estimator_has("estimate_cost"))  # type: ignore[untyped-decorator, unused-ignore]
    def estimate_cost(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Estimate requests, tokens and dollars of asking about rows; nothing is asked.

        ``fit`` asks about each row once, and so does each prediction of new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None
            Labels, to estimate ``fit`` where the estimator takes labels or examples from them.

        Returns
        -------
        CostEstimate
            As :meth:`LLMClassifier.estimate_cost`.
        """
        fitted = self.estimator if y is not None else getattr(self, "estimator_", self.estimator)
        return fitted.estimate_cost(X, y)

    # -- predicting ------------------------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return calibrated log-probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Natural logarithms, columns in the order of ``classes_``; NaN for rows that the
            estimator could not score.
        """
        check_is_fitted(self)
        prepared = prepare_rows(self.estimator_, X)
        self._check_match(identity_of(prepared.fingerprint, None))
        log_proba, served_model, *_ = prepared.score()
        self._check_match({"model as served": served_model})
        return self._calibrated(log_proba)

    def _calibrated(self, log_proba: NDArray[np.float64]) -> NDArray[np.float64]:
        usable = np.asarray(~np.isnan(log_proba).any(axis=1))
        out = np.full(log_proba.shape, np.nan)
        for start in range(0, len(out), _PIECE):  # what a calibrator needs on the way is not kept
            rows = np.flatnonzero(usable[start : start + _PIECE]) + start
            if len(rows):
                out[rows] = self.calibrator_.predict_log_proba(log_proba[rows])
        return out

    def prepare_stream(self, X: Iterable[Any], *, n_ahead: int) -> PreparedStream:
        """Let the estimator read the first row of a stream, without asking anything."""
        check_is_fitted(self)
        stream = prepare_stream(self.estimator_, X, n_ahead=n_ahead)

        def batches(as_they_come: bool) -> Iterator[ScoredBatch]:
            self._check_match(identity_of(stream.fingerprint, None))
            for batch in stream.batches(as_they_come=as_they_come):
                self._check_match({"model as served": batch.served_model})
                yield batch._replace(log_proba=self._calibrated(batch.log_proba))

        return MappedStream(getattr(self, "fingerprint_", None), batches)

    @available_if(_estimator_has("explain"))  # type: ignore[untyped-decorator, unused-ignore]
    def explain(self, X: Any) -> list[dict[str, Any]]:
        """Return the estimator's record of each row, with the calibrated probabilities added.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        list of dict
            As the estimator's ``explain``; with the key ``calibrated`` (probability by label) for
            rows that it could score.
        """
        check_is_fitted(self)
        prepared = prepare_rows(self.estimator_, X)
        self._check_match(identity_of(prepared.fingerprint, None))
        records, served_model = prepared.explain()
        self._check_match({"model as served": served_model})
        names = self.classes_.tolist()
        scored = [record for record in records if record["log_proba"] is not None]
        if scored:
            scores = np.array([[record["log_proba"][name] for name in names] for record in scored])
            calibrated = self.calibrator_.predict_proba(scores).tolist()
            for record, row in zip(scored, calibrated, strict=True):
                record["calibrated"] = dict(zip(names, row, strict=True))
        return records

    @available_if(_estimator_has("submit_batch"))  # type: ignore[untyped-decorator, unused-ignore]
    def submit_batch(self, X: Any, *, wait: float | None = None) -> Any:
        """Have the estimator ask about rows in batches, before ``fit`` or ``predict_proba``.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
        wait : float or None, default=None
            As in :meth:`LLMClassifier.submit_batch`.

        Returns
        -------
        BatchStatus
            How many rows are done, waiting and failed.
        """
        estimator = getattr(self, "estimator_", self.estimator)
        return estimator.submit_batch(X, wait=wait)

    def _check_match(self, now: dict[str, Any]) -> None:
        """Compare what answers now with what was calibrated, as far as both are known."""
        check_choice(self.on_mismatch, "on_mismatch", ("raise", "warn"))
        found = differences(self.calibrated_for_, now)
        if not found:
            return
        message = f"the model or its settings changed since calibration: {'; '.join(found)}. "
        if self.on_mismatch == "raise":
            raise CalibrationMismatch(
                f"{message}Change it back, or calibrate again with fit; on_mismatch='warn' "
                "continues with probabilities that are not calibrated for this model"
            )
        warnings.warn(
            f"{message}The probabilities are not calibrated for it: change it back, or calibrate "
            "again with fit",
            UserWarning,
            stacklevel=3,
        )

    # -- keeping ---------------------------------------------------------------------------------

    def save(
        self, path: str | os.PathLike[str], *, format: Literal["json", "joblib"] = "json"
    ) -> None:
        """Save the classifier to a folder: ``model.json`` and, to read, ``card.json``.

        Parameters
        ----------
        path : str or path-like
            The folder; created if it does not exist.
        format : {"json", "joblib"}, default="json"
            "json" keeps data alone, of the types of this package. "joblib" writes
            ``model.joblib``, a pickle, for a classifier that holds estimators of other packages.

        Raises
        ------
        TypeError
            If the classifier holds something that cannot be kept as JSON.
        """
        check_is_fitted(self)
        check_choice(format, "format", ("json", "joblib"))
        text = None
        if format == "json":
            try:
                text = _persistence().to_json(self)
            except (TypeError, RecursionError) as error:
                raise TypeError(
                    f"this classifier cannot be saved as JSON: {error}. format='joblib' saves it "
                    "as a pickle, for load(path, allow_pickle=True)"
                ) from error
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if text is not None:
            write_text(folder / _DATA, text)
        else:
            with replacing(folder / _PICKLE) as fresh:
                joblib.dump(self, fresh)
        (folder / (_PICKLE if text is not None else _DATA)).unlink(missing_ok=True)
        self.calibration_card_.save(folder / "card.json")

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, allow_pickle: bool = False
    ) -> CalibratedLLMClassifier:
        """Load a classifier that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The folder.
        allow_pickle : bool, default=False
            Whether to load ``model.joblib``, as earlier releases and ``format="joblib"`` write it.
            That runs whatever code the file holds: load only what you trust.

        Returns
        -------
        CalibratedLLMClassifier

        Raises
        ------
        FileNotFoundError
            If there is no classifier in the folder.
        DamagedFile
            If its file is damaged, or holds something else.
        ValueError
            If the classifier is a pickle, and `allow_pickle` is False.
        """
        folder = Path(path)
        if (folder / _DATA).is_file():
            way_out = "Restore a backup of it, or calibrate and save again."
            return read_saved(folder / _DATA, "calibrated classifier", cls._from_json, way_out)
        file = folder / _PICKLE
        if not file.is_file():
            raise FileNotFoundError(f"no calibrated classifier in {str(path)!r}: no {_DATA}")
        if not allow_pickle:
            raise InvalidInput(
                f"{str(file)!r} is a pickle, which runs whatever code it holds. If you trust it: "
                f"{cls.__name__}.load({str(path)!r}, allow_pickle=True), and save it again",
                "allow_pickle",
                value=False,
            )
        loaded = joblib.load(file)
        if not isinstance(loaded, cls):
            raise TypeError(f"{str(file)!r} holds a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded

    @classmethod
    def _from_json(cls, text: str) -> CalibratedLLMClassifier:
        loaded = _persistence().from_json(text)
        if not isinstance(loaded, cls):
            raise ValueError(f"it holds a {type(loaded).__name__}, not a {cls.__name__}")
        missing = {*cls(None).get_params(deep=False), *_FITTED} - vars(loaded).keys()
        if missing:
            raise ValueError(f"it has no {min(missing)!r}")
        return loaded


def _persistence() -> Any:
    # It knows the types of both wings, and so stands above this room.
    return import_module("skllm_calib.persistence")
