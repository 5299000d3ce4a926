"""Several opinions into one: pools of log-probabilities, their weights, their disagreement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import entr, logsumexp

from skllm_calib.calibrators._numerics import Floats, log_normalise

__all__ = ["fit_weights", "pool", "split_uncertainty"]

# A fitted weight below it changes nothing that can be seen, and would cost a question a row.
_NEGLIGIBLE = 1e-6


def pool(scores: Floats, weights: Floats, pooling: str) -> Floats:
    """Pool the members' log-probabilities.

    Parameters
    ----------
    scores : ndarray of shape (n_members, n_samples, n_classes)
        Normalised log-probabilities, all finite or a row of NaN.
    weights : ndarray of shape (n_members,)
        They sum to one.
    pooling : {"log", "linear"}
        Weighted mean of the logarithms, normalised, or of the probabilities.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Normalised log-probabilities; NaN where a member's row is.
    """
    column = weights[:, None, None]
    if pooling == "linear":
        return log_normalise(np.log((column * np.exp(scores)).sum(axis=0)))
    return log_normalise((column * scores).sum(axis=0))


def split_uncertainty(scores: Floats, weights: Floats) -> dict[str, Floats]:
    """Split the entropy of the linear pool into what members share and how they disagree.

    Parameters
    ----------
    scores : ndarray of shape (n_members, n_samples, n_classes)
        Normalised log-probabilities.
    weights : ndarray of shape (n_members,)
        They sum to one.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,)
        ``total``, ``aleatoric`` and ``epistemic``, in nats.
    """
    proba = np.exp(scores)
    total = entr((weights[:, None, None] * proba).sum(axis=0)).sum(axis=1)
    aleatoric = (weights[:, None] * entr(proba).sum(axis=2)).sum(axis=0)
    epistemic = np.maximum(total - aleatoric, 0.0)  # rounding alone could make it negative
    return {"total": total, "aleatoric": aleatoric, "epistemic": epistemic}


def fit_weights(scores: Floats, codes: NDArray[np.intp], counts: Floats, pooling: str) -> Floats:
    """Return the weights on the simplex with which the pool has the least log-loss.

    The loss is convex in the weights for both pools, so there is one least value.

    Parameters
    ----------
    scores : ndarray of shape (n_members, n_samples, n_classes)
        Normalised log-probabilities, all finite.
    codes : ndarray of shape (n_samples,)
        Column of the true class of each row.
    counts : ndarray of shape (n_samples,)
        Weights of the rows.
    pooling : {"log", "linear"}
        The pool.

    Returns
    -------
    ndarray of shape (n_members,)
        They sum to one; what is too small to be seen is zero.
    """
    share = counts / counts.sum()
    true = scores[:, np.arange(len(codes)), codes]

    def loss(weights: Floats) -> tuple[float, Floats]:
        if pooling == "linear":
            pooled = np.log(weights @ np.exp(true))
            return float(-share @ pooled), -np.exp(true - pooled) @ share
        mean = np.tensordot(weights, scores, axes=1)
        log_total = logsumexp(mean, axis=1)
        expected = (scores * np.exp(mean - log_total[:, None])).sum(axis=2)
        return float(share @ (log_total - weights @ true)), (expected - true) @ share

    equal = np.full(len(scores), 1 / len(scores))
    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(scores),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    ).x
    found = np.where(found > _NEGLIGIBLE, found, 0.0)
    found /= found.sum()
    return found if loss(found)[0] <= loss(equal)[0] else equal
