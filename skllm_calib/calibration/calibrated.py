"""CalibratedLLMClassifier: any classifier with probabilities that mean what they say."""

from __future__ import annotations

import datetime
import os
import platform
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import scipy
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    _num_samples,
    check_is_fitted,
)

from skllm_calib._version import __version__
from skllm_calib.calibration.calibrators import AutoCalibrator, BaseCalibrator, resolve_calibrator
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.exceptions import CalibrationMismatch
from skllm_calib.log_proba.folds import N_FOLDS, Split, stratified_folds
from skllm_calib.log_proba.identity import differences, identity_of
from skllm_calib.log_proba.labels import check_labels
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE
from skllm_calib.log_proba.predicting import LogProbaMixin
from skllm_calib.log_proba.scores import (
    cross_fitted,
    log_proba_of,
    needs_cross_fitting,
    served_model,
)
from skllm_calib.log_proba.wrapper import WrapperMixin
from skllm_calib.metrics.headline import measure

__all__ = ["CalibratedLLMClassifier"]


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
        What to do where the calibration was made for something else than what answers now: with
        another model (also where a provider serves another one under the same name), prompt,
        labels, signal or version of the calibrators.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted; also those declared by the estimator and absent from `y`.
    estimator_ : classifier
        The fitted classifier.
    calibrator_ : BaseCalibrator
        The fitted calibrator.
    calibration_card_ : CalibrationCard
        What was done and how good it is: prints, and saves to JSON.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : The general tool; fails on declared but absent
        classes and on some labels, and scores a text once a fold.

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
            Weights for the calibrator, and for the estimator if it takes them.
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
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        labels = check_labels(y)
        check_classification_targets(labels)
        weight = None
        if sample_weight is not None:
            weight = np.asarray(
                _check_sample_weight(sample_weight, labels, ensure_non_negative=True)
            )
        to_estimator, to_splitter = self._routed(weight, fit_params)
        # The estimator reads X first, so that its own errors for a bad X are the ones seen.
        self.estimator_ = self._fitted(X, labels, to_estimator)
        if _num_samples(X) != len(labels):
            raise ValueError(
                f"X has {_num_samples(X)} rows and y has {len(labels)}: one label a row is needed"
            )
        self.classes_ = self._all_classes(labels)
        log_proba, how, served = self._scores(X, labels, to_estimator, to_splitter)

        usable = ~np.isnan(log_proba).any(axis=1)
        if not usable.any():
            raise ValueError("the estimator scored none of the rows: there is nothing to calibrate")
        log_proba, labels = log_proba[usable], labels[usable]
        weight = weight[usable] if weight is not None else None
        self.calibrator_ = calibrator.fit(log_proba, labels, weight, classes=self.classes_)
        self.calibrated_for_ = identity_of(self.estimator_, served)
        self.calibration_card_ = CalibrationCard(
            {
                **self._describe(labels, served),
                "n_failed_rows": int((~usable).sum()),
                "scores": how,
                "held_out": self._held_out(log_proba, labels, weight),
            }
        )
        return self

    # -- scores to calibrate on ------------------------------------------------------------------

    def _fitted(self, X: Any, y: NDArray[Any], params: dict[str, Any]) -> Any:
        if isinstance(self.estimator, FrozenEstimator):
            return self.estimator
        return clone(self.estimator).fit(X, y, **params)

    def _all_classes(self, y: NDArray[Any]) -> NDArray[Any]:
        declared = np.asarray(self.estimator_.classes_)
        strange = [label for label in np.unique(y).tolist() if label not in set(declared.tolist())]
        if strange:
            raise ValueError(
                f"y holds the label {strange[0]!r}, which the estimator does not know: its classes "
                f"are {declared.tolist()}"
            )
        return declared

    def _scores(
        self, X: Any, y: NDArray[Any], params: dict[str, Any], to_splitter: dict[str, Any]
    ) -> tuple[NDArray[np.float64], str, str | None]:
        """Return the scores to calibrate on, how they were made, and by which model as served."""
        splits = self._splits(y, to_splitter)
        if splits is None:
            scores = log_proba_of(self.estimator_, X, self.classes_)
            return scores, "computed once", served_model(self.estimator_, X)

        def fit(part: Any, train: NDArray[np.intp]) -> Any:
            return self._fitted(part, y[train], _check_method_params(X, params, indices=train))

        log_proba, served = cross_fitted(fit, X, y, self.classes_, splits)
        return log_proba, f"cross-fitted in {len(splits)} folds", served

    def _splits(self, y: NDArray[Any], params: dict[str, Any]) -> list[Split] | None:
        if isinstance(self.cv, str) and self.cv != "auto":
            raise ValueError(
                f"cv={self.cv!r}: must be 'auto', a number of folds or a splitter; for a fitted "
                "estimator pass FrozenEstimator(estimator) as 'estimator'"
            )
        if not isinstance(self.cv, str):
            splitter = check_cv(self.cv, y, classifier=True)
            return list(splitter.split(np.zeros(len(y)), y, **params))
        return stratified_folds(y) if needs_cross_fitting(self.estimator) else None

    # -- the card --------------------------------------------------------------------------------

    def _describe(self, y: NDArray[Any], served: str | None) -> dict[str, Any]:
        fingerprint = getattr(self.estimator_, "fingerprint_", {})
        members = list(fingerprint.get("members", {}).values()) or [fingerprint]
        counts = {str(c): int((y == c).sum()) for c in self.classes_}
        absent = [label for label, n in counts.items() if n == 0]
        return {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "n": len(y),
            "classes": self.classes_.tolist(),
            "n_by_class": counts,
            "absent_classes": absent,
            "estimator": type(self.estimator_).__name__,
            "model": _joined(m.get("backend", {}).get("model") for m in members),
            "model_as_served": served,
            "prompt_hash": _joined(m.get("prompt") for m in members),
            "signal": _joined(_signal_text(m.get("signal")) for m in members),
            "signal_reason": getattr(self.estimator_, "signal_reason_", None),
            **{k: fingerprint[k] for k in ("prior_correction",) if k in fingerprint},
            "method": self.method if isinstance(self.method, str) else type(self.method).__name__,
            **_describe_calibrator(self.calibrator_),
            "versions": {
                "skllm-calib": __version__,
                "scikit-learn": sklearn.__version__,
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "python": platform.python_version(),
            },
        }

    def _held_out(
        self, log_proba: NDArray[np.float64], y: NDArray[Any], weight: NDArray[Any] | None
    ) -> dict[str, Any] | None:
        """Measure before and after, on calibrators that have not seen the row."""
        if len(y) < 2 * N_FOLDS or len(self.classes_) < 2:
            return None
        after = np.empty((len(y), len(self.classes_)))
        for train, test in stratified_folds(y):
            part = None if weight is None else weight[train]
            if part is not None and not part.any():
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the full fit has said it already
                fold = resolve_calibrator(self.method).fit(
                    log_proba[train], y[train], part, classes=self.classes_
                )
            after[test] = fold.predict_proba(log_proba[test])
        before = np.exp(log_proba - np.logaddexp.reduce(log_proba, axis=1, keepdims=True))
        return {
            "how": f"{len(y)} rows, calibrator refitted in {N_FOLDS} folds",
            "confidence": DEFAULT_CONFIDENCE,
            "before": self._metrics(y, before, weight),
            "after": self._metrics(y, after, weight),
        }

    def _metrics(
        self, y: NDArray[Any], proba: NDArray[np.float64], weight: NDArray[Any] | None
    ) -> dict[str, Any]:
        proba = proba / proba.sum(axis=1, keepdims=True)
        found = measure(y, proba, self.classes_, weight, n_resamples=500)
        names = ("log_loss", "brier", "ece", "ece_floor", "accuracy")
        ends = [found["ece_low"], found["ece_high"]]
        return {name: found[name] for name in names} | {"ece_interval": ends}

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
        self._check_match(None)
        scores = log_proba_of(self.estimator_, X, self.classes_)
        self._check_match(served_model(self.estimator_, X))
        usable = ~np.isnan(scores).any(axis=1)
        out = np.full(scores.shape, np.nan)
        if usable.any():
            out[usable] = self.calibrator_.predict_log_proba(scores[usable])
        return out

    @available_if(_estimator_has("explain"))  # type: ignore[untyped-decorator, unused-ignore]
    def explain(self, X: Any) -> list[dict[str, Any]]:
        """Return the estimator's record of each row, with the calibrated probabilities added."""
        check_is_fitted(self)
        self._check_match(None)
        records: list[dict[str, Any]] = self.estimator_.explain(X)
        self._check_match(served_model(self.estimator_, X))
        names = self.classes_.tolist()
        scored = [record for record in records if record["log_proba"] is not None]
        if scored:
            scores = np.array([[record["log_proba"][name] for name in names] for record in scored])
            calibrated = self.calibrator_.predict_proba(scores).tolist()
            for record, row in zip(scored, calibrated, strict=True):
                record["calibrated"] = dict(zip(names, row, strict=True))
        return records

    def _check_match(self, served: str | None) -> None:
        """Compare with what was calibrated: settings before anything is asked, `served` after."""
        if self.on_mismatch not in ("raise", "warn"):
            raise ValueError(f"on_mismatch={self.on_mismatch!r}: must be 'raise' or 'warn'")
        found = differences(self.calibrated_for_, identity_of(self.estimator_, served))
        if not found:
            return
        message = (
            "this calibration was made for something else than what answers now: "
            f"{'; '.join(found)}. Set it back, or calibrate anew with fit; on_mismatch='warn' goes "
            "on with probabilities that nobody has checked"
        )
        if self.on_mismatch == "raise":
            raise CalibrationMismatch(message)
        warnings.warn(message, UserWarning, stacklevel=3)

    # -- keeping ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the classifier in a folder: ``model.joblib`` and, to read, ``card.json``.

        Parameters
        ----------
        path : str or path-like
            The folder; made if need be.
        """
        check_is_fitted(self)
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(self, folder / "model.joblib")
        self.calibration_card_.save(folder / "card.json")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibratedLLMClassifier:
        """Read a classifier that :meth:`save` wrote. The file is code: trust where it comes from.

        Parameters
        ----------
        path : str or path-like
            The folder.

        Returns
        -------
        CalibratedLLMClassifier
        """
        file = Path(path) / "model.joblib"
        if not file.is_file():
            raise FileNotFoundError(f"no calibrated classifier in {str(path)!r}: no {file.name}")
        loaded = joblib.load(file)
        if not isinstance(loaded, cls):
            raise TypeError(f"{str(file)!r} holds a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded


def _describe_calibrator(calibrator: BaseCalibrator) -> dict[str, Any]:
    """Name the calibrator; of a mean of several, tell what each member scored."""
    out: dict[str, Any] = {"calibrator": type(calibrator).__name__}
    if isinstance(calibrator, AutoCalibrator):
        weights, scores = calibrator.weights_, calibrator.scores_
        out["calibrator"] = calibrator.chosen_
        if scores:
            out["calibrator"] = f"mean of {len(weights)}, mostly {calibrator.chosen_}"
            out["members"] = {n: {"weight": w} | scores[n] for n, w in weights.items()}
        out["expected_ece"] = calibrator.expected_ece_
    return out | {"parameters": calibrator.parameters_}


def _signal_text(signal: Any) -> str | None:
    """Write the identity of a signal as a user would: a name, with what is not the default."""
    if not isinstance(signal, dict):
        return None if signal is None else str(signal)
    named = {k: v for k, v in signal.items() if k != "name"}
    inner = [_signal_text(v) if k == "signal" else f"{k}={v!r}" for k, v in named.items()]
    if "signals" in named:
        parts = zip(named["signals"], named["weights"], strict=True)
        return " + ".join(f"{weight:.3g} {_signal_text(part)}" for part, weight in parts)
    return f"{signal['name']}({', '.join(map(str, inner))})"


def _joined(values: Iterable[str | None]) -> str | None:
    """Join what the members of an ensemble say, each value once."""
    return ", ".join(dict.fromkeys(filter(None, values))) or None
