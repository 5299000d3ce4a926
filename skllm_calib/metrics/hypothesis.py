"""Is it calibrated? A test with an exact level, however few the rows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.parameters import check_choice, check_count
from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import (
    DECIMALS,
    Judged,
    Strategy,
    assign_bins,
    check_bins,
    judge,
    summarise,
)

__all__ = ["CalibrationTest", "calibration_test"]


class CalibrationTest(NamedTuple):
    """The outcome of a test of calibration.

    Attributes
    ----------
    statistic : float
        The figure that was tested.
    p_value : float
        How often a calibrated model with these confidences shows a figure at least as large.
    critical_value : float
        The figure that it exceeds in 5 % of the simulations.
    """

    statistic: float
    p_value: float
    critical_value: float


def calibration_test(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    statistic: Literal["debiased", "ks"] = "debiased",
    n_simulations: int = 1000,
    random_state: int | np.random.Generator | None = 0,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> CalibrationTest:
    """Test the hypothesis that every stated confidence is right.

    Outcomes are drawn again and again from the stated confidences themselves, as if they were
    right, and the figure of the true labels is compared with those of the draws (consistency
    resampling [1]_ [2]_). With a threshold of 0.05, a calibrated model is accused in at most 5 % of
    the test sets, of any size.

    A large p-value is no proof of calibration: on few rows nearly every model passes. Whether an
    error is small is what :func:`can_claim` answers.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    statistic : {"debiased", "ks"}, default="debiased"
        The debiased squared error of bins, which finds gaps of any shape, or the Kolmogorov-Smirnov
        error [3]_, the largest sum of ``hit - confidence`` over the rows up to any confidence: it
        has no bins, and finds gaps of one sign on fewer rows.
    n_simulations : int, default=1000
        Number of draws. The smallest p-value possible is ``1 / (n_simulations + 1)``.
    random_state : int, Generator or None, default=0
        Seed of the draws.
    n_bins : int, default=10
        Number of bins.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equal mass or of equal width.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is evaluated: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    result : CalibrationTest
        Statistic, p-value, and the critical value of the 5 % level.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    Notes
    -----
    The p-value is ``(1 + larger or equal draws) / (1 + draws)``, which keeps the level exactly.
    The confidences are taken as they are, not resampled: the statement is about these rows.

    References
    ----------
    .. [1] J. Bröcker, L. A. Smith (2007). Increasing the Reliability of Reliability Diagrams.
       Weather and Forecasting 22.
    .. [2] J. Vaicenavicius et al. (2019). Evaluating model calibration in classification. AISTATS.
    .. [3] K. Gupta, A. Rahimi, T. Ajanthan, T. Mensink, C. Sminchisescu, R. Hartley (2021).
       Calibration of Neural Networks using Splines. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import calibration_test
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.5, 1, 500)
    >>> calibration_test(rng.random(500) < p, p).p_value > 0.05
    True
    >>> calibration_test(rng.random(500) < p - 0.1, p).p_value < 0.01
    True
    """
    check_choice(statistic, "statistic", ("debiased", "ks"))
    # With fewer draws not even the smallest p-value is below 0.05.
    check_count(n_simulations, "n_simulations", 19)
    check_bins(n_bins, strategy)
    judged = judge(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )
    # Sorted rows make the draws, and so the p-value, independent of the order of the rows.
    order = np.lexsort((judged.hit, judged.weight, judged.confidence))
    confidence, hit, weight = (column[order] for column in judged)
    number = assign_bins(confidence, weight, n_bins, strategy)
    last_of_ties = np.append(np.diff(np.round(confidence, DECIMALS)) > 0, True)

    def figure(outcome: NDArray[np.float64]) -> float:
        if statistic == "ks":
            piled_up = np.cumsum(weight * (outcome - confidence))[last_of_ties]
            return float(np.abs(piled_up).max() / weight.sum())
        bins = summarise(Judged(confidence, outcome, weight), number)
        return float(bins.mass @ (bins.gap**2 - bins.noise))

    rng = np.random.default_rng(random_state)
    seen = figure(hit)
    null = np.array(
        [
            figure((rng.random(confidence.size) < confidence).astype(np.float64))
            for _ in range(n_simulations)
        ]
    )
    # Draws that tie with the rows up to rounding count against the accusation.
    larger = int((null >= seen - 1e-12).sum())
    return CalibrationTest(
        statistic=seen,
        p_value=(1 + larger) / (1 + int(n_simulations)),
        critical_value=float(np.quantile(null, 0.95)),
    )
