"""How many labels a calibration is worth, from the labelled rows at hand; and which to label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.calibration.calibrators import BaseCalibrator, resolve_calibrator
from skllm_calib.calibration.recalibration import cross_fitted, fit_and_apply
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.numerics import log_normalise
from skllm_calib.log_proba.parameters import check_count
from skllm_calib.log_proba.validation import Names, check_log_input
from skllm_calib.metrics.calibration_error import debiased_calibration_error

__all__ = ["CalibrationLearningCurve", "calibration_learning_curve"]

Floats = NDArray[np.float64]
_SIZES = (25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_N_FOLDS = 10
_FEWEST_TEST_ROWS = 50
_TEST_SHARE = 1 / 3
_FLOOR = 1e-15
_NAMES = Names("y", "log_proba", "labels", labels_first=False)


class CalibrationLearningCurve(NamedTuple):
    """Expected held-out figures against the number of labels; arrays of shape (n_sizes,).

    Attributes
    ----------
    n_labels : ndarray
        Numbers of labels the calibrator was fitted on. 0 stands for no calibration; the last is the
        number of all rows.
    log_loss, log_loss_sd : ndarray
        Mean and standard deviation, over the draws of labelled rows, of the held-out log-loss in
        nats.
    brier, brier_sd : ndarray
        The same for the Brier score, in [0, 2].
    ece, ece_sd : ndarray
        Debiased calibration error of the top label, as a fraction: signed root of the mean of the
        debiased squares, and standard deviation of their signed roots. May be negative.
    n_test : int
        Number of held-out rows of every draw.
    n_draws : int
        Number of draws.
    """

    n_labels: NDArray[np.int64]
    log_loss: Floats
    log_loss_sd: Floats
    brier: Floats
    brier_sd: Floats
    ece: Floats
    ece_sd: Floats
    n_test: int
    n_draws: int


def calibration_learning_curve(
    log_proba: ArrayLike,
    y: ArrayLike,
    *,
    calibrator: str | BaseCalibrator = "auto",
    n_labels: Sequence[int] | None = None,
    n_draws: int = 30,
    n_bins: int = 10,
    labels: ArrayLike | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> CalibrationLearningCurve:
    """Expected quality of a calibration against the number of labels.

    For every draw, the rows are shuffled, some are held out, and the calibrator is fitted on the
    first 50, 100, 200 ... of the others. The held-out rows are the same for every number of labels
    within a draw, are never fitted on, and are equally many in all draws, so that the figures
    differ by the labels only.

    Parameters
    ----------
    log_proba : array-like of shape (n_samples, n_classes)
        Uncalibrated log-probabilities of labelled rows, columns in sorted order of the classes.
    y : array-like of shape (n_samples,)
        True labels.
    calibrator : str or BaseCalibrator, default="auto"
        Calibrator, or its name, one of :data:`skllm_calib.calibrators.CALIBRATORS`.
    n_labels : sequence of int, default=None
        Numbers of labels, each at least 2. With None, those of 25, 50, 100, 200, 500, 1,000 ...
        that leave a third of the rows held out.
    n_draws : int, default=30
        Number of draws, at least 2.
    n_bins : int, default=10
        Number of equal-mass bins of the calibration error.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y` lacks one of them.
    random_state : int, Generator or None, default=0
        Seed of the draws.

    Returns
    -------
    curve : CalibrationLearningCurve
        Means and standard deviations for no label, for each of `n_labels`, and for all rows.

    Raises
    ------
    ValueError
        If an input does not fit, or `n_labels` leaves fewer than 50 rows held out.

    Notes
    -----
    The standard deviations are those of one user with so many labels, evaluated on ``n_test`` rows;
    they hold the noise of the test rows too. Draws share rows, so the more of them a fit takes, the
    more they understate it.

    For all the rows, nothing is left to test on. Their figure comes from ten-fold
    cross-validation, which fits on nine tenths of them: it extrapolates from there to all, on the
    pessimistic side, and is one number, so its standard deviation is NaN.

    Of calibration errors only the debiased *squares* may be averaged
    (see :func:`debiased_calibration_error`). They have no bias and much noise: a negative `ece`
    says that these test rows cannot tell the error from none. Compare calibrators by log-loss.

    The calibrator is fitted ``n_draws`` times for every number of labels, plus ten times: with
    "auto" and thousands of rows this takes minutes, with "temperature" or "vector" seconds.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibration import calibration_learning_curve
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=400)
    >>> overconfident = 4 * rng.normal(2 * y - 1, 1.0)  # twice the true log-odds
    >>> log_proba = np.column_stack([np.zeros(400), overconfident])
    >>> curve = calibration_learning_curve(
    ...     log_proba, y, calibrator="temperature", n_labels=[50, 200], n_draws=5
    ... )
    >>> curve.n_labels.tolist(), curve.n_test
    ([0, 50, 200, 400], 200)
    >>> bool(curve.log_loss[2] < curve.log_loss[0])  # 200 labels beat none
    True
    """
    checked = check_log_input(log_proba, y, classes=labels, names=_NAMES)
    scores, codes = log_normalise(checked.proba), checked.codes
    n_rows = len(scores)
    sizes = _check_sizes(n_labels, n_rows)
    check_count(n_draws, "n_draws", 2)
    method, weight = resolve_calibrator(calibrator), np.ones(n_rows)
    rng = np.random.default_rng(random_state)
    # Sorted rows make the draws, and so the curve, independent of the order of the rows.
    order = np.lexsort((*scores.T, codes))
    scores, codes = scores[order], codes[order]
    n_test = n_rows - max(sizes) if n_labels is not None else _test_rows(n_rows)
    figures = np.empty((int(n_draws), len(sizes) + 1, 3))
    for draw in range(int(n_draws)):
        shuffled = rng.permutation(n_rows)
        test, pool = shuffled[:n_test], shuffled[n_test:]
        figures[draw, 0] = _figures(np.exp(scores[test]), codes[test], n_bins)
        for at, size in enumerate(sizes, 1):
            proba = fit_and_apply(
                resolve_calibrator(method), scores, codes, weight, learn=pool[:size], apply=test
            )
            figures[draw, at] = _figures(proba, codes[test], n_bins)
    every = cross_fitted(method, scores, codes, weight, n_folds=_N_FOLDS, rng=rng)
    means = np.vstack([figures.mean(axis=0), _figures(every, codes, n_bins)])
    spread = np.vstack([figures.std(axis=0, ddof=1), np.full(3, np.nan)])
    roots = _signed_root(figures[:, :, 2]).std(axis=0, ddof=1)
    return CalibrationLearningCurve(
        n_labels=np.array([0, *sizes, n_rows], dtype=np.int64),
        log_loss=means[:, 0],
        log_loss_sd=spread[:, 0],
        brier=means[:, 1],
        brier_sd=spread[:, 1],
        ece=_signed_root(means[:, 2]),
        ece_sd=np.append(roots, np.nan),
        n_test=n_test,
        n_draws=int(n_draws),
    )


def _test_rows(n_rows: int) -> int:
    return max(_FEWEST_TEST_ROWS, round(n_rows * _TEST_SHARE))


def _check_sizes(n_labels: Sequence[int] | None, n_rows: int) -> list[int]:
    if n_labels is None:
        room = n_rows - _test_rows(n_rows)
        sizes = [size for size in _SIZES if size <= room]
        if not sizes:
            raise InvalidInput(
                f"{n_rows} labelled rows are too few for a learning curve: at least "
                f"{_SIZES[0] + _FEWEST_TEST_ROWS} are needed, {_FEWEST_TEST_ROWS} of them held out",
                "y",
                value=n_rows,
            )
        return sizes
    sizes = sorted({int(size) for size in n_labels})
    if not sizes or sizes[0] < 2:
        raise InvalidInput(
            f"n_labels must list numbers of at least 2, got {list(n_labels)!r}",
            "n_labels",
            value=n_labels,
        )
    if n_rows - sizes[-1] < _FEWEST_TEST_ROWS:
        raise InvalidInput(
            f"n_labels={sizes[-1]} of {n_rows} rows leaves {n_rows - sizes[-1]} held out, and at "
            f"least {_FEWEST_TEST_ROWS} are needed to see anything: take at most "
            f"{n_rows - _FEWEST_TEST_ROWS}",
            "n_labels",
            value=sizes[-1],
        )
    return sizes


def _figures(proba: Floats, codes: NDArray[np.int64], n_bins: int) -> tuple[float, float, float]:
    """Log-loss, Brier score and debiased squared calibration error."""
    right = proba[np.arange(codes.size), codes]
    squares = np.einsum("nk,nk->n", proba, proba) - 2 * right + 1
    square = debiased_calibration_error(
        codes,
        proba,
        n_bins=n_bins,
        strategy="quantile",
        norm="l2-squared",
        labels=np.arange(proba.shape[1]),
    )
    return float(-np.log(np.maximum(right, _FLOOR)).mean()), float(squares.mean()), square


def _signed_root(squares: Floats) -> Floats:
    return np.asarray(np.sign(squares) * np.sqrt(np.abs(squares)))
