"""CalibrationMonitor: does the calibration still hold? Rows and labels in, alarms out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.log_proba.label_arrays import label_array
from skllm_calib.log_proba.labels import counting_labels, encode, encode_labels
from skllm_calib.log_proba.parameters import check_choice
from skllm_calib.log_proba.validation import (
    FIT_NAMES,
    check_input,
    check_proba,
    check_weighted_labels,
)
from skllm_calib.operations.monitor._incoming import (
    Floats,
    RowId,
    check_equal_weights,
    check_ids,
    check_new,
    check_waiting,
    check_weights,
    is_empty,
    scored_rows,
)
from skllm_calib.operations.monitor._model import check_fingerprint
from skllm_calib.operations.monitor._prometheus import prometheus_text
from skllm_calib.operations.monitor._reference import check_detectors, new_state
from skllm_calib.operations.monitor._state import MonitorState, read_json, write_json
from skllm_calib.operations.monitor.alarms import DETECTORS, CalibrationAlarm
from skllm_calib.utils.files import locked
from skllm_calib.utils.saved import SavedAsText

__all__ = ["CalibrationMonitor"]


class CalibrationMonitor(SavedAsText, BaseEstimator):  # type: ignore[misc]
    """Watch a calibrated classifier in production, and raise an alarm when its calibration fails.

    Rows come with their probabilities; their labels may come at once, later, or never. Every
    detector bounds its false alarms over a stream of any length, however often one looks:

    * "cusum": two-sided cumulative sum of confidence minus correctness [1]_, with thresholds
      computed [2]_ from the confidences of the reference rows.
    * "e_detector": bets on confidence minus correctness, with a proven bound [3]_ for confidences
      of any distribution and for any weights up to `max_weight`.
    * "confidences" and "predicted_labels" need no labels: bets on the ranks of new rows among all
      rows so far [4]_ [5]_, exact for a reference of any size.

    A change of the model itself is seen by its `fingerprint`, or by its answers to fixed questions
    (:meth:`check_probes`). A detector that has raised an alarm is silent until :meth:`reset`; after
    a recalibration, :meth:`fit` the monitor on the new probabilities instead.

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
        Gap between mean confidence and accuracy that raises no alarm. A calibrator fitted on a few
        hundred labels is never exact; with 0, even its error is found in the end.
    drift : float, default=0.06
        Gap that "cusum" is tuned to find soonest; must exceed `tolerance`.
    max_weight : float, default=None
        Largest sample weight of labelled rows. None takes that of the reference rows.
    probe_tolerance : float, default=0.02
        Mean total variation distance between old and new answers to the probes that raises no
        alarm. Hosted models never repeat exactly: ask twice, and set it above what you see.
    max_pending : int, default=100_000
        Number of rows that may wait for a label; beyond it, the oldest are dropped.
    random_state : int, default=0
        Seed of the random numbers that break ties among equal confidences and labels.

    See Also
    --------
    skllm_calib.metrics.can_claim : Whether a fixed labelled sample supports a claim.
    skllm_calib.metrics.estimate_class_prior : New shares of the classes, without labels.

    Notes
    -----
    The bounds hold for streams without a change. Labels have to be given for all rows, or for a
    random sample of them with ``1 / probability`` as `sample_weight`, and the delay of a label must
    not depend on whether the row is right. The false alarm rates of several detectors add up. The
    bound of "cusum" assumes confidences like those of the reference; those of the label-free
    detectors are about reference and stream together, drawn anew.

    The start of a change is a maximum likelihood estimate: a hint of where to look, with an error
    of some dozens of rows.

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
    >>> monitor = CalibrationMonitor().fit(None, p, classes=["no", "yes"])
    >>> calm = rng.beta(3, 1, size=1000)
    >>> monitor.update(np.where(rng.random(1000) < calm, "yes", "no"), calm)
    []
    >>> sure = rng.beta(3, 1, size=1000)  # from now on, too sure of "yes"
    >>> raised = monitor.update(np.where(rng.random(1000) < sure - 0.15, "yes", "no"), sure)
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

    _state: MonitorState

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
        y: ArrayLike | None,
        proba: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        fingerprint: str | None = None,
        probes: ArrayLike | None = None,
    ) -> Self:
        """Learn what the reference rows are like, and begin to monitor.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or None
            Labels of the reference rows, if there are any: a gap that exists from the start causes
            a warning.
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities of the reference rows in [0, 1], columns in sorted order of the
            classes; 1-D holds those of the last class. These rows should not have been used to fit
            the calibrator.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights like those of the labelled rows to come, if these are a weighted sample: the
            reference rows are taken to be a sample of the same kind.
        classes : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. None takes those of `y`, or 0, 1, ... without `y`.
        fingerprint : str, default=None
            Identifies the model as served. None takes the first one that :meth:`update` gets.
        probes : array-like of shape (n_probes, n_classes), default=None
            Probabilities of a fixed set of texts, for :meth:`check_probes`.

        Returns
        -------
        self : object
            The fitted monitor.

        Raises
        ------
        InvalidInput
            If an input cannot be used; it knows the parameter, the row and the value.

        Warns
        -----
        UserWarning
            If confidence and accuracy of the reference rows differ already.
        """
        self._validate_params()
        check_detectors(self.detectors, drift=self.drift, tolerance=self.tolerance)
        given = check_input(
            y,
            proba,
            labels=classes,
            sample_weight=sample_weight,
            names=FIT_NAMES,
            allow_unlabelled=y is None,
            allow_unscored=True,
        )
        given = scored_rows(given)
        answers = None if probes is None else check_proba(probes, "probes", classes=given.classes)
        served = check_fingerprint(fingerprint)
        self._state = new_state(given, self.get_params(), fingerprint=served, probes=answers)
        return self

    def update(
        self,
        y: ArrayLike | None,
        proba: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        ids: Iterable[RowId] | None = None,
        fingerprint: str | None = None,
    ) -> list[CalibrationAlarm]:
        """Take one or more rows, in the order in which they were classified.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or None
            Labels; None or NaN for a row without one, None for no labels at all.
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Calibrated probabilities as in :meth:`fit`, shape (1, n_classes) for a single row; there
            may be none. A row of NaN, which failed, is counted and not watched.
        sample_weight : array-like of shape (n_samples,), default=None
            One over the probability with which a row was chosen to be labelled. Rows whose label
            comes later keep theirs; None weighs all rows alike.
        ids : iterable of str or int, default=None
            Names of the rows for :meth:`add_labels`. Without ids, labels cannot come later.
        fingerprint : str, default=None
            Identifies the model as served, such as the name and version in its replies.

        Returns
        -------
        raised : list of CalibrationAlarm
            Alarms that these rows raise, in order; they are in ``alarms_`` as well.

        Raises
        ------
        InvalidInput
            If an input cannot be used; no row is taken then.
        """
        check_is_fitted(self)
        state = self._state
        if is_empty(proba, y):
            rows, y = np.empty((0, len(state.classes))), None
        else:
            y = None if y is None else label_array(y, hint=FIT_NAMES.order)
            rows = check_proba(proba, classes=state.classes, allow_unscored=True)
        codes = encode_labels(y, state.classes, n_rows=len(rows))
        weight = self._check_weights(sample_weight, len(rows))
        names = None
        if ids is not None:
            names = check_ids(ids, n_rows=len(rows))
            check_new(names, state.pending)
        served = check_fingerprint(fingerprint)
        raised = [] if served is None else state.note(state.model.note(served, state.now))
        raised += state.take_rows(rows, codes, weight, names, self.random_state)
        state.drop_oldest(self.max_pending)
        return raised

    def add_labels(
        self,
        ids: Iterable[RowId],
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        unknown: Literal["raise", "ignore"] = "raise",
    ) -> list[CalibrationAlarm]:
        """Take labels of earlier rows, in the order in which the labels arrived.

        Parameters
        ----------
        ids : iterable of str or int
            Ids given to :meth:`update`.
        y : array-like of shape (n_labels,)
            Their labels.
        sample_weight : array-like of shape (n_labels,), default=None
            Weights, in place of those given to :meth:`update`.
        unknown : {"raise", "ignore"}, default="raise"
            What to do with ids that do not wait for a label.

        Returns
        -------
        raised : list of CalibrationAlarm
            Alarms that these labels raise.

        Raises
        ------
        InvalidInput
            If an id does not wait for a label, or an input cannot be used; no label is taken then.
        """
        check_is_fitted(self)
        check_choice(unknown, "unknown", ("raise", "ignore"))
        state = self._state
        names = check_ids(ids)
        if not names and is_empty(y):
            return []
        labels, weight = check_weighted_labels(y, sample_weight, n_rows=len(names))
        codes = encode(counting_labels(labels, weight), state.classes)
        if sample_weight is not None:
            weight = self._check_weights(sample_weight, len(names))
        if unknown == "raise":
            check_waiting(names, state.pending, self.max_pending)
        return state.take_labels(names, codes, weight)

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
        state = self._state
        answers = check_proba(proba, classes=state.classes)
        return state.note(state.model.compare(answers, state.now))

    def reset(self) -> Self:
        """Acknowledge the alarms and keep monitoring, with the same reference.

        Every detector starts anew, and the latest fingerprint and answers to the probes become the
        expected ones. Row numbers continue, and waiting rows keep waiting for their labels. After a
        recalibration use :meth:`fit` instead, because the probabilities have changed.

        Returns
        -------
        self : object
            The monitor.
        """
        check_is_fitted(self)
        self._state.model.accept(self._state.now)
        self._state.restart()
        return self

    @property
    def status(self) -> str:
        """``"alarm"`` if there was an alarm since the last reset, ``"calm"`` otherwise."""
        check_is_fitted(self)
        return "alarm" if self.alarms_ else "calm"

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, sorted."""
        return self._state.classes

    @property
    def n_rows_(self) -> int:
        """Rows seen since `fit`, which is the number of the next row."""
        return self._state.n_rows

    @property
    def n_labels_(self) -> int:
        """Labels seen since `fit`."""
        return self._state.n_labels

    @property
    def alarms_(self) -> list[CalibrationAlarm]:
        """Alarms since the last reset."""
        return self._state.alarms

    @property
    def max_weight_(self) -> float:
        """Largest weight that a labelled row may have."""
        return self._state.max_weight

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    def summary(self) -> dict[str, Any]:
        """Return the state for a dashboard, as plain JSON values; ``print`` shows it as tables.

        Returns
        -------
        summary : dict
            ``status``, counts of rows and labels, ``mean_confidence`` of all rows,
            ``labelled_confidence`` and ``labelled_accuracy``, ``predicted_labels`` (all since the
            last reset, None where nothing is known), ``reference``, ``detectors`` (statistic,
            threshold, alarmed, n_alarms) and ``alarms``.
        """
        check_is_fitted(self)
        return self._state.summary()

    def to_prometheus(self, labels: Mapping[str, str] | None = None) -> str:
        """Return the state in the text format that Prometheus scrapes.

        Parameters
        ----------
        labels : mapping of str to str, default=None
            Labels for every sample, such as ``{"model": "customs"}``.

        Returns
        -------
        text : str
            Metrics named ``skllm_calib_monitor_...``, each with its HELP and TYPE line. Unknown
            values are left out.
        """
        return prometheus_text(self.summary(), labels or {})

    def to_json(self) -> str:
        """Return the whole state as JSON, from which :meth:`from_json` continues exactly.

        Returns
        -------
        text : str
            Parameters and state, with the ids of waiting rows; it holds no texts.
        """
        check_is_fitted(self)
        return write_json(self.get_params(), self._state)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the monitor that :meth:`to_json` wrote.

        Parameters
        ----------
        text : str
            JSON of :meth:`to_json`. No code in it is run.

        Raises
        ------
        ValueError
            If it is not the state of a monitor, or of another version.
        """
        parameters, state = read_json(text)
        monitor = cls(**parameters)
        monitor._state = state
        return monitor

    @classmethod
    @contextlib.contextmanager
    def updating(cls, path: str | os.PathLike[str]) -> Iterator[Self]:
        """Load a monitor, let the block update it, and save it, one process at a time.

        Parameters
        ----------
        path : path-like
            The file. If the block raises, it stays as it is.

        """
        with locked(path):
            monitor = cls.load(path)
            yield monitor
            monitor.save(path)

    def _check_weights(self, sample_weight: ArrayLike | None, n_rows: int) -> Floats:
        weight = check_weights(
            sample_weight, n_rows, self.max_weight_, default=self._state.only_weight
        )
        if "cusum" in self.detectors:
            check_equal_weights(weight, self._state.only_weight)
        return weight
