"""CalibrationMonitor: does the calibration still hold? Rows and labels in, alarms out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.operations.monitor import _state
from skllm_calib.operations.monitor._drift import uniform_draws
from skllm_calib.operations.monitor._export import prometheus_text
from skllm_calib.operations.monitor._fitting import (
    DETECTORS,
    describe,
    fresh_watches,
    warn_of_a_gap,
    watched_column,
)
from skllm_calib.operations.monitor._incoming import (
    Floats,
    RowId,
    Waiting,
    check_columns,
    check_ids,
    check_known_labels,
    check_reference,
    check_weights,
    watched,
)
from skllm_calib.operations.monitor._model import ModelWatch, check_fingerprint
from skllm_calib.operations.monitor._watches import LabelWatch, Now, Reading, RowWatch
from skllm_calib.operations.monitor.alarms import CalibrationAlarm
from skllm_calib.utils.files import write_text

__all__ = ["CalibrationMonitor"]

_MODEL = ("fingerprint", "probes")


class CalibrationMonitor(BaseEstimator):  # type: ignore[misc]
    """Watch over a calibrated classifier in production.

    Rows come with their probabilities, some of them with a label, at once or later. Every detector
    keeps a promise on its false alarms over a stream of any length, however often one looks:

    * "cusum": two-sided cumulative sum of confidence minus correctness [1]_. Its thresholds are
      computed [2]_ from the confidences of the reference rows.
    * "e_detector": bets on confidence minus correctness, with a proven bound [3]_ that holds for
      confidences of any distribution and for any weights up to `max_weight`.
    * "confidences" and "predicted_labels" need no labels: bets on the ranks of new rows among all
      rows so far [4]_ [5]_, exact for a reference of any size.

    Besides, a change of the model is seen by its `fingerprint`, or by its answers to fixed
    questions (:meth:`check_probes`). A detector that has raised an alarm rests until :meth:`reset`;
    after a recalibration, :meth:`fit` the monitor on its probabilities instead.

    Parameters
    ----------
    kind : "top-label" or a class label, default="top-label"
        Which confidence is watched: that of the most probable class, or that of one class.
    detectors : sequence of str, default=("cusum", "e_detector", "confidences", "predicted_labels")
        Detectors to use.
    average_run_length : float, default=10_000
        Mean number of *labels* until a false alarm, at least, for each of "cusum" and "e_detector".
    unlabelled_run_length : float, default=100_000
        Mean number of *rows* until a false alarm, at least, for each of the other two.
    tolerance : float in [0, 0.25], default=0.01
        Gap between mean confidence and accuracy that is no reason for an alarm. A calibrator
        fitted on a few hundred labels is never exact; with 0, that is found in the end.
    drift : float, default=0.06
        Gap that "cusum" is tuned to find soonest; above `tolerance`.
    max_weight : float, default=None
        Largest sample weight that labelled rows may have; that of the reference rows when None.
    probe_tolerance : float, default=0.02
        Mean total variation distance between old and new answers to the probes that is no reason
        for an alarm. Hosted models never repeat exactly: ask twice, and put it above what you see.
    max_pending : int, default=100_000
        Number of rows that may wait for a label; the oldest are dropped.
    random_state : int, default=0
        Seed of the draws that break ties among equal confidences and labels.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    n_rows_, n_labels_ : int
        Rows and labels seen since `fit`. The next row has the number ``n_rows_``.
    alarms_ : list of CalibrationAlarm
        Alarms since the last reset.
    max_weight_ : float
        Largest weight allowed.

    See Also
    --------
    skllm_calib.metrics.can_claim : What a fixed labelled sample allows to say.
    skllm_calib.metrics.estimate_class_prior : New shares of the classes, without labels.

    Notes
    -----
    A promise is about streams without a change. Labels have to be given for all rows, or for a
    random sample of them with ``1 / probability`` as `sample_weight`; and the wait for a label must
    not depend on whether it is right. Four detectors raise more false alarms than one: their rates
    add up. The promise of "cusum" is about streams with confidences like those of the reference,
    and that of the label-free detectors about reference and stream together, drawn anew.

    The estimated start of a change is the maximum likelihood estimate of the detector: a hint of
    where to look, with an error of some dozens of rows.

    References
    ----------
    .. [1] E. S. Page (1954). Continuous Inspection Schemes. Biometrika 41.
    .. [2] D. Brook, D. A. Evans (1972). An Approach to the Probability Distribution of CUSUM Run
       Length. Biometrika 59.
    .. [3] J. Shin, A. Ramdas, A. Rinaldo (2023). E-detectors: A Nonparametric Framework for
       Sequential Change Detection. The New England Journal of Statistics in Data Science.
       arXiv:2203.03532.
    .. [4] V. Vovk, A. Gammerman, G. Shafer (2005). Algorithmic Learning in a Random World.
       Springer.
    .. [5] V. Vovk et al. (2021). Retrain or not retrain: conformal test martingales for
       change-point detection. COPA. arXiv:2102.10439.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.operations.monitor import CalibrationMonitor
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(3, 1, size=500)  # calibrated probabilities of "yes"
    >>> monitor = CalibrationMonitor().fit(p, classes=["no", "yes"])
    >>> calm = rng.beta(3, 1, size=1000)
    >>> monitor.update(calm, np.where(rng.random(1000) < calm, "yes", "no"))
    []
    >>> sure = rng.beta(3, 1, size=1000)  # from now on, too sure of "yes"
    >>> raised = monitor.update(sure, np.where(rng.random(1000) < sure - 0.15, "yes", "no"))
    >>> sorted(alarm.kind for alarm in raised)
    ['cusum', 'e_detector']
    >>> print(raised[0])
    e_detector, row ...: The confidences are too high: ...% on average over the ... label(s) since
    about row ..., of which ...% are right. Recalibrate with about ... labels of rows since row ...
    >>> monitor.status
    'alarm'
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "kind": "no_validation",
        "detectors": [tuple, list],
        "average_run_length": [Interval(Real, 1, None, closed="neither")],
        "unlabelled_run_length": [Interval(Real, 1, None, closed="neither")],
        "tolerance": [Interval(Real, 0, 0.25, closed="both")],
        "drift": [Interval(Real, 0, 1, closed="neither")],
        "max_weight": [None, Interval(Real, 0, None, closed="neither")],
        "probe_tolerance": [Interval(Real, 0, 1, closed="left")],
        "max_pending": [Interval(Integral, 0, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    classes_: NDArray[Any]
    n_rows_: int
    n_labels_: int
    alarms_: list[CalibrationAlarm]
    max_weight_: float

    def __init__(
        self,
        *,
        kind: object = "top-label",
        detectors: Sequence[str] = DETECTORS,
        average_run_length: float = 10_000,
        unlabelled_run_length: float = 100_000,
        tolerance: float = 0.01,
        drift: float = 0.06,
        max_weight: float | None = None,
        probe_tolerance: float = 0.02,
        max_pending: int = 100_000,
        random_state: int = 0,
    ) -> None:
        self.kind = kind
        self.detectors = detectors
        self.average_run_length = average_run_length
        self.unlabelled_run_length = unlabelled_run_length
        self.tolerance = tolerance
        self.drift = drift
        self.max_weight = max_weight
        self.probe_tolerance = probe_tolerance
        self.max_pending = max_pending
        self.random_state = random_state

    def fit(
        self,
        proba: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        fingerprint: str | None = None,
        probes: ArrayLike | None = None,
    ) -> Self:
        """Learn what calm looks like, and begin to watch.

        Parameters
        ----------
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities of reference rows in [0, 1], columns in sorted order of the
            classes; 1-D holds those of the last class. They should not have fitted the calibrator.
        y : array-like of shape (n_samples,), default=None
            Their labels, where there are any: a gap that is there from the start is warned of.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights such as the labelled rows to come will have, if they are a weighted sample: the
            reference rows are taken to be a sample of the same kind.
        classes : array-like of shape (n_classes,), default=None
            Sorted classes of the columns; those of `y`, or 0, 1, ... when None.
        fingerprint : str, default=None
            What tells the model as served from others; the first one seen when None.
        probes : array-like of shape (n_probes, n_classes), default=None
            Probabilities of a fixed set of texts, for :meth:`check_probes`.

        Returns
        -------
        self : object
            The fitted monitor.

        Raises
        ------
        ValueError
            If an input does not fit; the message names the row or the value.

        Warns
        -----
        UserWarning
            If confidence and accuracy of the reference rows differ already.
        """
        self._validate_params()
        self._check_parameters()
        given = check_reference(proba, y, sample_weight, classes)
        answers = None if probes is None else check_columns(probes, given.classes.size, "probes")
        served = check_fingerprint(fingerprint)
        column = watched_column(self.kind, given.classes)
        largest = float(given.weight.max() if self.max_weight is None else self.max_weight)
        check_weights(given.weight, len(given.weight), largest)
        warn_of_a_gap(given, column, self.tolerance)

        self.classes_, self._column, self.max_weight_ = given.classes, column, largest
        # A cumulative sum is tuned to the weights of the reference; one weight tells of no others.
        self._only_weight = float(given.weight[0]) if np.ptp(given.weight) == 0 else None
        self._reference = describe(given, column)
        self._fresh = fresh_watches(given, column, self._reference, self.get_params(), largest)
        self._model = ModelWatch(served, answers, self.probe_tolerance, self._reference)
        self._pending: dict[RowId, Waiting] = {}
        self._n_dropped = 0
        self._n_alarms = dict.fromkeys((*self.detectors, *_MODEL), 0)
        self.n_rows_ = self.n_labels_ = 0
        self._restart()
        return self

    def update(
        self,
        proba: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        ids: Iterable[RowId] | None = None,
        fingerprint: str | None = None,
    ) -> list[CalibrationAlarm]:
        """Take one row or many, in the order in which they were classified.

        Parameters
        ----------
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities as in :meth:`fit`. A single row has the shape (1, n_classes).
        y : array-like of shape (n_samples,), default=None
            Labels; None or NaN where there is none.
        sample_weight : array-like of shape (n_samples,), default=None
            One over the probability with which a row was chosen to be labelled. Counts for labelled
            rows only, and is remembered for those whose label is to come. All rows weigh alike when
            None.
        ids : iterable of str or int, default=None
            What to call the rows in :meth:`add_labels`; without, their labels cannot come later.
        fingerprint : str, default=None
            What tells the model as served from others, such as the name and version in its replies.

        Returns
        -------
        raised : list of CalibrationAlarm
            Alarms that these rows raise, in order; they are in ``alarms_`` as well.

        Raises
        ------
        ValueError
            If an input does not fit; the message names the row or the value, and nothing is taken.
        """
        check_is_fitted(self)
        rows = check_columns(proba, self.classes_.size)
        codes = check_known_labels(y, len(rows), self.classes_)
        weight = self._check_weights(sample_weight, len(rows))
        names = None if ids is None else check_ids(ids, len(rows))
        for name in names or []:
            if name in self._pending:
                raise ValueError(f"ids holds {name!r}, a row that waits for its label already.")
        served = check_fingerprint(fingerprint)

        raised = [] if served is None else self._raise(self._model.note(served, self._now))
        confidence, code = watched(rows, self._column)
        predicted = rows.argmax(axis=1)
        draws = [
            uniform_draws(self.random_state, stream, self.n_rows_, len(rows)).tolist()
            for stream in (0, 1)
        ]
        for k, one in enumerate(confidence.tolist()):
            self.n_rows_ += 1
            raised += self._raise(
                self._rows.step(one, int(predicted[k]), (draws[0][k], draws[1][k]), self._now)
            )
            waiting = Waiting(self.n_rows_ - 1, one, int(code[k]), float(weight[k]))
            if codes[k] >= 0:
                raised += self._judge(waiting, int(codes[k]))
            elif names is not None:
                self._pending[names[k]] = waiting
        while len(self._pending) > self.max_pending:
            del self._pending[next(iter(self._pending))]
            self._n_dropped += 1
        return raised

    def add_labels(
        self,
        ids: Iterable[RowId],
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        unknown: Literal["raise", "ignore"] = "raise",
    ) -> list[CalibrationAlarm]:
        """Take labels of rows that came earlier, in the order in which they arrived.

        Parameters
        ----------
        ids : iterable of str or int
            Ids given to :meth:`update`.
        y : array-like of shape (n_labels,)
            Their labels.
        sample_weight : array-like of shape (n_labels,), default=None
            Weights, in place of those given to :meth:`update`.
        unknown : {"raise", "ignore"}, default="raise"
            What to do about ids that do not wait for a label.

        Returns
        -------
        raised : list of CalibrationAlarm
            Alarms that these labels raise.

        Raises
        ------
        ValueError
            If an id does not wait for a label, or an input does not fit; nothing is taken then.
        """
        check_is_fitted(self)
        if unknown not in ("raise", "ignore"):
            raise ValueError(f"unknown must be 'raise' or 'ignore', got {unknown!r}.")
        labels = np.asarray(y)
        if labels.ndim != 1:
            raise ValueError(f"y must have shape (n_labels,), got {labels.shape}.")
        names = check_ids(ids, len(labels))
        codes = check_known_labels(labels, len(labels), self.classes_)
        if (codes < 0).any():
            raise ValueError(f"y has no label in row {int((codes < 0).argmax())}.")
        weight = None if sample_weight is None else self._check_weights(sample_weight, len(labels))
        strange = [name for name in names if name not in self._pending]
        if strange and unknown == "raise":
            raise ValueError(
                f"{len(strange)} id(s) do not wait for a label, first {strange[0]!r}: never given "
                f"to update, labelled already, or dropped as one of more than {self.max_pending:,} "
                "(max_pending). With unknown='ignore' they are passed over."
            )
        raised: list[CalibrationAlarm] = []
        for k, name in enumerate(names):
            waiting = self._pending.pop(name, None)
            if waiting is not None:
                if weight is not None:
                    waiting = waiting._replace(weight=float(weight[k]))
                raised += self._judge(waiting, int(codes[k]))
        return raised

    def check_probes(self, proba: ArrayLike) -> list[CalibrationAlarm]:
        """Compare answers to the fixed questions with those at the time of :meth:`fit`.

        Parameters
        ----------
        proba : array-like of shape (n_probes, n_classes)
            Probabilities of the same texts, in the same order.

        Returns
        -------
        raised : list of CalibrationAlarm
            An alarm, if the mean total variation distance is above `probe_tolerance`.

        Raises
        ------
        ValueError
            If the monitor was fitted without probes, or the shape differs.
        """
        check_is_fitted(self)
        answers = check_columns(proba, self.classes_.size)
        return self._raise(self._model.compare(answers, self._now))

    def reset(self) -> Self:
        """Take note of the alarms and watch on, with the same reference.

        Every detector starts anew, and the latest fingerprint and answers to the probes are those
        to compare with. Row numbers go on, and rows go on waiting for their labels. After a
        recalibration use :meth:`fit`, as the probabilities are others then.

        Returns
        -------
        self : object
            The monitor.
        """
        check_is_fitted(self)
        self._model.accept(self._now)
        self._restart()
        return self

    @property
    def status(self) -> str:
        """``"alarm"`` if there was an alarm since the last reset, ``"calm"`` otherwise."""
        check_is_fitted(self)
        return "alarm" if self.alarms_ else "calm"

    def summary(self) -> dict[str, Any]:
        """Return the state for a dashboard, as plain JSON values.

        Returns
        -------
        summary : dict
            ``status``, counts of rows and labels, ``mean_confidence`` of all rows,
            ``labelled_confidence`` and ``labelled_accuracy``, ``predicted_labels`` (all since the
            last reset, None where nothing is known), ``reference``, ``detectors`` (statistic,
            threshold, alarmed, n_alarms) and ``alarms``.
        """
        check_is_fitted(self)
        alarmed = {alarm.kind for alarm in self.alarms_}
        reference = self._reference
        labels = zip(reference.names, self._rows.shares, reference.shares, strict=True)
        return {
            "status": self.status,
            "rows": self.n_rows_,
            "labels": self.n_labels_,
            "pending_rows": len(self._pending),
            "dropped_rows": self._n_dropped,
            "mean_confidence": self._rows.mean_confidence,
            "labelled_confidence": self._labels.mean_confidence,
            "labelled_accuracy": self._labels.accuracy,
            "predicted_labels": [
                {"label": label, "share": share, "reference_share": expected}
                for label, share, expected in labels
            ],
            "reference": {"confidence": reference.confidence, "accuracy": reference.accuracy},
            "fingerprint": self._model.latest_fingerprint,
            "detectors": {
                kind: {
                    "statistic": reading.statistic,
                    "threshold": reading.threshold,
                    "alarmed": kind in alarmed,
                    "n_alarms": self._n_alarms[kind],
                }
                for kind, reading in self._readings().items()
            },
            "alarms": [alarm.to_dict() for alarm in self.alarms_],
        }

    def to_prometheus(self, labels: Mapping[str, str] | None = None) -> str:
        """Return the state in the text format that Prometheus scrapes.

        Parameters
        ----------
        labels : mapping of str to str, default=None
            Labels for every sample, such as ``{"model": "customs"}``.

        Returns
        -------
        text : str
            Metrics named ``skllm_calib_monitor_...``, each with its HELP and TYPE line. What is
            not known yet is left out.
        """
        return prometheus_text(self.summary(), labels or {})

    def to_json(self) -> str:
        """Return the whole state as JSON, from which :meth:`from_json` goes on to the last bit.

        Returns
        -------
        text : str
            Parameters and state. Ids of waiting rows are in it; texts never come here.
        """
        check_is_fitted(self)
        return _state.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the monitor that :meth:`to_json` wrote.

        Parameters
        ----------
        text : str
            JSON of :meth:`to_json`. It is data: nothing in it is run.

        Returns
        -------
        monitor : CalibrationMonitor
            A monitor that decides as the other one would have.

        Raises
        ------
        ValueError
            If it is something else, or of another version.
        """
        return _state.from_json(cls, text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file, which is replaced in one step or not at all.

        Parameters
        ----------
        path : path-like
            The file.
        """
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that :meth:`save` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        monitor : CalibrationMonitor
            A monitor that decides as the other one would have.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    @property
    def _now(self) -> Now:
        return Now(self.n_rows_ - 1, self.n_labels_)

    def _check_parameters(self) -> None:
        strange = [name for name in self.detectors if name not in DETECTORS]
        if strange:
            raise ValueError(f"detectors must be among {DETECTORS}, got {strange[0]!r}.")
        if not self.drift > self.tolerance:
            raise ValueError(
                f"drift must be above tolerance={self.tolerance}, got {self.drift}: a gap within "
                "the tolerance is not looked for."
            )

    def _restart(self) -> None:
        self._labels = LabelWatch.from_dict(self._fresh["labels"], self._reference)
        self._rows = RowWatch.from_dict(self._fresh["rows"], self._reference)
        self.alarms_ = []

    def _check_weights(self, sample_weight: ArrayLike | None, n_rows: int) -> Floats:
        known = self._only_weight
        if sample_weight is None:
            return np.full(n_rows, 1.0 if known is None else known)
        weight = check_weights(sample_weight, n_rows, self.max_weight_)
        other = (weight != known) & (weight > 0)
        if "cusum" in self.detectors and known is not None and other.any():
            raise ValueError(
                f"sample_weight is {weight[other.argmax()]:.6g} in row {other.argmax()}, but the "
                f"thresholds of 'cusum' are for rows that all weigh {known:.6g}, as in fit. Fit "
                "with the weights of reference rows that were sampled in the same way, or leave "
                "'cusum' out of detectors."
            )
        return weight

    def _judge(self, waiting: Waiting, truth: int) -> list[CalibrationAlarm]:
        if waiting.weight == 0:
            return []
        self.n_labels_ += 1
        row, confidence, code, weight = waiting
        return self._raise(self._labels.step(row, confidence, code == truth, weight, self._now))

    def _raise(self, raised: list[CalibrationAlarm]) -> list[CalibrationAlarm]:
        for alarm in raised:
            self.alarms_.append(alarm)
            self._n_alarms[alarm.kind] += 1
        return raised

    def _readings(self) -> dict[str, Reading]:
        watches = (self._labels, self._rows, self._model)
        return {kind: reading for watch in watches for kind, reading in watch.readings().items()}
