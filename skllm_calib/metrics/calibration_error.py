"""Binned calibration errors: the plug-in, class by class, and with its noise taken out."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import check_choice
from skllm_calib.log_proba.validation import Checked, check_input
from skllm_calib.metrics.binning import (
    Bins,
    Norm,
    NumberOfBins,
    Strategy,
    bins_of,
    combine,
)
from skllm_calib.metrics.simplex import canonical_bins, is_canonical

__all__ = [
    "classwise_calibration_error",
    "debiased_calibration_error",
    "expected_calibration_error",
]


def expected_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: NumberOfBins = 15,
    strategy: Strategy = "uniform",
    norm: Norm = "l1",
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Expected calibration error (ECE): by how much confidence and accuracy differ.

    Rows of similar confidence share a bin; the error is the mean over the rows of the absolute
    difference between the accuracy and the mean confidence of their bin.

    By default the confidence of the *most probable class* is evaluated (top-label calibration).
    This holds for two classes too: 1-D probabilities `p` mean ``(1 - p, p)``, so they and the
    two-column matrix give the same figure, which lives on confidences of at least 1/2. The
    reliability of the positive class, as in :class:`sklearn.calibration.CalibrationDisplay` and in
    Naeini et al. [1]_, is ``kind=pos_label``.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1]. A matrix has its columns in sorted order of the classes and rows
        that sum to 1; 1-D holds the probability of `pos_label` in a problem of two classes.
    n_bins : int or "sweep", default=15
        Number of bins. "sweep" uses as many bins as the rows support: bins of equal mass,
        whatever the `strategy`, and the largest number up to which accuracy never falls from one
        bin to the next [4]_.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, each open on the left, or of equal mass. Equal confidences are never
        put into different bins.
    norm : {"l1", "l2", "max"}, default="l1"
        Mean absolute, root mean square or largest gap of a bin ("max" is the MCE).
    kind : "top-label", "class-wise", "canonical" or a class label, default="top-label"
        Which confidence is evaluated: that of the most probable class, that of every class in turn
        (:func:`classwise_calibration_error`), that of one class, or the whole row at once.
        Canonical bins hold rows that are alike in all their probabilities, and a gap is half the
        distance (total variation for "l1") between mean row and class shares, so that two classes
        have the figure of ``kind=pos_label``. It needs ``strategy="quantile"`` and a fixed number
        of bins.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights; a weight of 2 acts as the same row twice.

    Returns
    -------
    error : float
        Calibration error in [0, 1], as a fraction: 0.02 is two percentage points.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    See Also
    --------
    calibration_noise_floor : What a perfectly calibrated model would show on as few rows.
    calibration_error_interval : The same error with its uncertainty.
    debiased_calibration_error : The error without its noise.

    Notes
    -----
    The plug-in is biased upwards on small test sets, and constant predictions of the class shares
    have an error of zero. Report it with the noise floor, the number of rows and a proper score.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht (2015). Obtaining Well Calibrated
       Probabilities Using Bayesian Binning. AAAI.
    .. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger (2017). On Calibration of Modern Neural
       Networks. ICML.
    .. [3] J. Vaicenavicius et al. (2019). Evaluating model calibration in classification. AISTATS.
       Canonical calibration, with bins that follow the data.
    .. [4] R. Roelofs, N. Cain, J. Shlens, M. C. Mozer (2022). Mitigating Bias in Calibration
       Error Estimation. AISTATS.

    Examples
    --------
    >>> from skllm_calib.metrics import expected_calibration_error
    >>> y_true = ["ham", "spam", "spam", "ham"]
    >>> p_spam = [0.1, 0.9, 0.9, 0.9]
    >>> expected_calibration_error(y_true, p_spam)  # 3 of 4 right at confidence 0.9
    0.15
    """
    checked = check_input(
        y_true,
        y_proba,
        labels=labels,
        pos_label=pos_label,
        sample_weight=sample_weight,
        flat=not is_canonical(kind),
    )
    if is_canonical(kind):
        mass, gaps, _ = canonical_bins(checked, n_bins, strategy)
        if norm == "l2":
            return _tidy(float(np.sqrt(mass @ (gaps**2).sum(axis=1) / 2)))
        return _tidy(combine(mass, np.abs(gaps).sum(axis=1) / 2, norm))
    if _is_classwise(kind):
        return _classwise(checked, n_bins, strategy, norm)
    bins = bins_of(checked, kind, n_bins, strategy)
    return _tidy(combine(bins.mass, bins.gap, norm))


def classwise_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: NumberOfBins = 15,
    strategy: Strategy = "uniform",
    norm: Norm = "l1",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Calibration error of every class's probability, averaged over the classes.

    It judges the whole row, not only its largest entry: a model can be right about its top label
    and wrong about what else a text might be.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    n_bins : int or "sweep", default=15
        Number of bins of every class. "sweep" uses as many bins as the rows support: bins of equal
        mass, whatever the `strategy`, and the largest number up to which accuracy never falls from
        one bin to the next [2]_.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.
    norm : {"l1", "l2", "max"}, default="l1"
        How gaps are pooled, over bins and classes alike: mean absolute, root mean square, largest.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights; a weight of 2 acts as the same row twice.

    Returns
    -------
    error : float
        Class-wise calibration error in [0, 1], as a fraction.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    Notes
    -----
    With many classes most probabilities are near 0 and so is the mean; compare only figures with
    the same number of classes.

    References
    ----------
    .. [1] M. Kull et al. (2019). Beyond temperature scaling: Obtaining well-calibrated multi-class
       probabilities with Dirichlet calibration. NeurIPS.
    .. [2] R. Roelofs, N. Cain, J. Shlens, M. C. Mozer (2022). Mitigating Bias in Calibration
       Error Estimation. AISTATS.

    Examples
    --------
    >>> from skllm_calib.metrics import classwise_calibration_error
    >>> y_proba = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]]
    >>> classwise_calibration_error([0, 1, 2, 2], y_proba)
    0.15
    """
    checked = check_input(
        y_true,
        y_proba,
        labels=labels,
        pos_label=pos_label,
        sample_weight=sample_weight,
        flat=True,
    )
    return _classwise(checked, n_bins, strategy, norm)


def debiased_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: NumberOfBins = 15,
    strategy: Strategy = "uniform",
    norm: Literal["l1", "l2", "l2-squared"] = "l2",
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Calibration error with the sampling noise of the bins taken out.

    The squared gap of a bin contains the variance of its accuracy; ``"l2-squared"`` subtracts an
    unbiased estimate of it [1]_ [2]_ [3]_, which is the mean product of the residuals
    ``correct - confidence`` over pairs of different rows. It has mean zero for a calibrated model
    and is therefore *negative* about half of the time there. Figures of several test sets may be
    averaged in this form, and only in this one. ``"l2"`` is its signed root.

    ``"l1"`` subtracts what noise of the observed size would add to the observed gaps,
    :math:`2\sum_b m_b|g_b| - \sum_b m_b E|N(g_b, s_b^2)|`, the closed form of the correction of
    Kumar et al. [3]_. It removes about half of the bias near zero and nearly all of it for gaps
    beyond their noise.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    n_bins : int or "sweep", default=15
        Number of bins. "sweep" uses as many bins as the rows support: bins of equal mass,
        whatever the `strategy`, and the largest number up to which accuracy never falls from one
        bin to the next [4]_; they were chosen with a look at the labels, so that a
        little bias comes back.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.
    norm : {"l1", "l2", "l2-squared"}, default="l2"
        Which error; see above.
    kind : "top-label", "class-wise", "canonical" or a class label, default="top-label"
        Which confidence is evaluated. "class-wise" is the mean over the classes, of the squares for
        the "l2" norms. "canonical" judges the whole row, has no "l1", and needs
        ``strategy="quantile"`` and a fixed number of bins.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights. They tell how much a row counts, not how often it was seen: their scale does not
        matter, for a copied row would bring no new evidence about the noise.

    Returns
    -------
    error : float
        Calibration error as a fraction (of its square for ``"l2-squared"``); may be negative.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    References
    ----------
    .. [1] J. Bröcker (2012). Estimating reliability and resolution of probability forecasts
       through decomposition of the empirical score. Climate Dynamics 39.
    .. [2] C. A. T. Ferro, T. E. Fricker (2012). A bias-corrected decomposition of the Brier score.
       Quarterly Journal of the Royal Meteorological Society 138.
    .. [3] A. Kumar, P. Liang, T. Ma (2019). Verified Uncertainty Calibration. NeurIPS.
    .. [4] R. Roelofs, N. Cain, J. Shlens, M. C. Mozer (2022). Mitigating Bias in Calibration
       Error Estimation. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import debiased_calibration_error
    >>> y_true = np.repeat([1, 0], [8, 2])  # 8 of 10 right, all stated with 0.8
    >>> round(debiased_calibration_error(y_true, np.full(10, 0.8), norm="l2-squared"), 5)
    -0.01778
    """
    check_choice(norm, "norm", ("l1", "l2", "l2-squared"))
    checked = check_input(
        y_true,
        y_proba,
        labels=labels,
        pos_label=pos_label,
        sample_weight=sample_weight,
        flat=not is_canonical(kind),
    )
    if is_canonical(kind):
        if norm == "l1":
            raise InvalidInput(
                "norm='l1' has no closed form for kind='canonical': take norm='l2'.",
                "norm",
                value=norm,
            )
        mass, gaps, noise = canonical_bins(checked, n_bins, strategy)
        square = float(mass @ (gaps**2 - noise).sum(axis=1) / 2)
    else:
        kinds = checked.classes.tolist() if _is_classwise(kind) else [kind]
        bins = [bins_of(checked, one, n_bins, strategy) for one in kinds]
        if norm == "l1":
            return _tidy(float(np.mean([_debiased_mean(one) for one in bins])))
        square = float(np.mean([one.mass @ (one.gap**2 - one.noise) for one in bins]))
    return _tidy(square if norm == "l2-squared" else float(np.sign(square) * abs(square) ** 0.5))


def _is_classwise(kind: object) -> bool:
    return isinstance(kind, str) and kind == "class-wise"


def _classwise(checked: Checked, n_bins: NumberOfBins, strategy: Strategy, norm: Norm) -> float:
    """Pool the errors of the classes as those of the bins of a class."""
    bins = [bins_of(checked, one, n_bins, strategy) for one in checked.classes.tolist()]
    errors = np.array([combine(one.mass, one.gap, norm) for one in bins])
    return _tidy(combine(np.full(errors.size, 1 / errors.size), errors, norm))


def _debiased_mean(bins: Bins) -> float:
    """Return the mean absolute gap without what noise adds to it."""
    noisy = float(bins.mass @ folded_normal_mean(bins.gap, np.sqrt(bins.noise)))
    return 2 * combine(bins.mass, bins.gap, "l1") - noisy


def folded_normal_mean(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of ``|N(mean, deviation ** 2)|``, entry by entry."""
    ratio = np.abs(mean) / np.where(deviation > 0, deviation, 1.0)
    noisy = deviation * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
    drift = np.abs(mean) * (1 - 2 * ndtr(-ratio))
    folded: NDArray[np.float64] = np.where(deviation > 0, noisy + drift, np.abs(mean))
    return folded


def _tidy(value: float) -> float:
    # Sums of decimals leave dust in the last bits, which would differ with the order of the rows.
    return round(value, 14) + 0.0
