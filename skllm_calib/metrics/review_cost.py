"""What errors and reviews cost together, for every price of a review."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.parameters import check_count
from skllm_calib.metrics.binning import DECIMALS
from skllm_calib.metrics.selective import risk_coverage_curve

__all__ = ["ReviewCostCurve", "review_cost_curve"]


class ReviewCostCurve(NamedTuple):
    """Mean cost of a row at each price of a review, in units of the cost of an error.

    Attributes
    ----------
    price : ndarray of shape (n_prices,)
        Price of a review, from 0 to 1 error.
    cost : ndarray of shape (n_prices,)
        Cost of Chow's rule: accept where the confidence is at least ``1 - price``.
    hindsight : ndarray of shape (n_prices,)
        Cost of the threshold that is best on these very rows. What `cost` lies above it is due to
        confidences that are not calibrated, and to chance.
    review_share : ndarray of shape (n_prices,)
        Share of the rows that Chow's rule sends to review.
    error_rate : float
        Cost of accepting everything.
    """

    price: NDArray[np.float64]
    cost: NDArray[np.float64]
    hindsight: NDArray[np.float64]
    review_share: NDArray[np.float64]
    error_rate: float


def review_cost_curve(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_prices: int = 101,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> ReviewCostCurve:
    """Mean cost per row of accepting the sure rows and reviewing the others, for every price.

    With calibrated confidences, the cheapest rule is known beforehand: accept a row where the
    expected cost of its error, ``1 - confidence``, is at most the price of a review [1]_. Its cost
    then never exceeds that of accepting everything (the error rate) or of reviewing everything
    (the price), beyond chance. Confidences that are not calibrated may cost more than either.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    n_prices : int, default=101
        Number of prices, evenly spaced from 0 to 1; at least 2.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    curve : ReviewCostCurve
        Prices and costs, with one error as the unit.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    See Also
    --------
    skllm_calib.decisions.ReviewPolicy : Decides by costs, of any kind of error.

    Notes
    -----
    Every error costs the same here, and a reviewed row is right afterwards.

    References
    ----------
    .. [1] C. K. Chow (1970). On Optimum Recognition Error and Reject Tradeoff. IEEE Transactions on
       Information Theory 16.

    Examples
    --------
    >>> from skllm_calib.metrics import review_cost_curve
    >>> y_true, p_spam = ["ham", "spam", "spam", "ham"], [0.1, 0.9, 0.8, 0.6]
    >>> curve = review_cost_curve(y_true, p_spam, n_prices=5)
    >>> curve.price.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> curve.cost.tolist()  # at a price of 0.5 the error passes, as do the others
    [0.0, 0.0625, 0.25, 0.25, 0.25]
    >>> curve.hindsight.tolist()
    [0.0, 0.0625, 0.125, 0.1875, 0.25]
    """
    check_count(n_prices, "n_prices", 2)
    curve = risk_coverage_curve(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    # Before the first threshold nothing is accepted.
    coverage = np.concatenate([[0.0], curve.coverage])
    errors = np.concatenate([[0.0], curve.coverage * curve.risk])
    price = np.linspace(0, 1, int(n_prices))
    # Confidences are rounded, and so is 1 - price: 1 - 0.9 must not lie below 0.1.
    least = np.round(1 - price, DECIMALS)
    accepted = np.searchsorted(-curve.threshold, -least, side="right")
    return ReviewCostCurve(
        price,
        errors[accepted] + (1 - coverage[accepted]) * price,
        np.array([float((errors + (1 - coverage) * one).min()) for one in price]),
        1 - coverage[accepted],
        float(errors[-1]),
    )
