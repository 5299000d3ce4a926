"""Which predictions may pass without a human: thresholds with a promise."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from skllm_calib.decisions.rows import top_label
from skllm_calib.decisions.rules.fixed_sequence import N_THRESHOLDS, PrecisionTest
from skllm_calib.decisions.rules.precision import search
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE, check_count, check_fraction
from skllm_calib.log_proba.validation import check_input

__all__ = ["AcceptThreshold", "accept_threshold"]


@dataclass(frozen=True, repr=False)
class AcceptThreshold:
    """A threshold on the top-label confidence, and what the labels say about it.

    Attributes
    ----------
    threshold : float
        Accept a row when its largest probability is at least this.
    coverage : float
        Fraction of the labelled rows that are accepted, in [0, 1].
    n_accepted, n_errors, n_labels : int
        Accepted rows, wrong ones among them, and all labelled rows.
    precision_lower_bound : float
        Clopper-Pearson lower bound of the precision of accepted rows at this threshold, in [0, 1].
        The search protects the promise of `target_precision` only: where the bound happens to lie
        higher, that surplus is not covered by it.
    target_precision, confidence : float
        The promise: accepted rows are right at least this often, with this confidence.
    """

    threshold: float
    coverage: float
    n_accepted: int
    n_errors: int
    n_labels: int
    precision_lower_bound: float
    target_precision: float
    confidence: float

    def __repr__(self) -> str:
        return (
            f"<AcceptThreshold: confidence >= {self.threshold:.4g} accepts {self.n_accepted} of "
            f"{self.n_labels} rows ({self.coverage:.1%}), {self.n_errors} wrong; precision >= "
            f"{self.target_precision:.4g} with {self.confidence:.4g} confidence>"
        )


def accept_threshold(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    target_precision: float = 0.99,
    confidence: float = DEFAULT_CONFIDENCE,
    n_thresholds: int = N_THRESHOLDS,
    labels: ArrayLike | None = None,
    pos_label: object = None,
) -> AcceptThreshold:
    """Find the loosest confidence threshold whose accepted rows keep a promised precision.

    Thresholds are tested from strict to loose with exact binomial tests, and the search stops at
    the first one that fails (fixed-sequence testing [1]_ [2]_). So all the tests together break
    the promise in at most ``1 - confidence`` of the draws of labelled rows, although the threshold
    is picked on the same rows. The thresholds are quantiles of the confidences and do not depend
    on the labels.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels of rows drawn like the future ones, and not used to train the model. Rows that
        were also used to fit a calibrator of many parameters make the promise optimistic; keep some
        apart.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them in any
        order; 1-D holds the probability of `pos_label`.
    target_precision : float in (0, 1), default=0.99
        Wanted fraction of right labels among accepted rows.
    confidence : float in (0, 1), default=0.95
        Confidence of the promise.
    n_thresholds : int, default=20
        Largest number of thresholds tested.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.

    Returns
    -------
    result : AcceptThreshold
        The threshold, its coverage and its evidence. All rows with a confidence of at least the
        threshold are accepted, ties included.

    Raises
    ------
    NotCertifiableError
        If even the strictest threshold cannot be certified. Its ``n_more`` is about how many
        further labels are needed if they look like the present ones, or None when the model is not
        good enough for the target, so that more labels would not help.
    ValueError
        If an input does not fit; the message names the row or the value.

    Notes
    -----
    A precision of 99 % with 95 % confidence needs 299 accepted rows without an error, 473 with one
    and 628 with two; 95 % needs 59, 93 and 124.

    References
    ----------
    .. [1] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan, L. Lei (2021). Learn then
       Test: Calibrating Predictive Algorithms to Achieve Risk Control. arXiv:2110.01052.
    .. [2] C. J. Clopper, E. S. Pearson (1934). The use of confidence or fiducial limits
       illustrated in the case of the binomial. Biometrika 26.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.decisions import accept_threshold
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(0.4, 0.4, size=2000)
    >>> y = rng.random(2000) < p
    >>> accept_threshold(y, p, target_precision=0.95)
    <AcceptThreshold: confidence >= ... accepts ... of 2000 rows (...%), ... wrong;
    precision >= 0.95 with 0.95 confidence>
    """
    check_fraction(target_precision, "target_precision")
    check_fraction(confidence, "confidence")
    check_count(n_thresholds, "n_thresholds")
    checked = check_input(y_true, y_proba, labels=labels, pos_label=pos_label)
    stated, label = top_label(checked.proba)
    test = PrecisionTest(target_precision, confidence)
    found, error = search(None, stated, label != checked.codes, test, n_thresholds=n_thresholds)
    if error is not None:
        raise error
    return AcceptThreshold(
        threshold=found.threshold,
        coverage=found.n_accepted / found.n_rows,
        n_accepted=found.n_accepted,
        n_errors=found.n_errors or 0,
        n_labels=found.n_rows,
        precision_lower_bound=found.precision_lower_bound or 0.0,
        target_precision=float(target_precision),
        confidence=float(confidence),
    )
