"""Several opinions into one: pools of log-probabilities, their weights, their disagreement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import entr

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.log_proba.numerics import Floats, log_normalise

__all__ = ["fit_weights", "pool", "split_uncertainty"]

# A fitted weight below it changes nothing that can be seen, and would cost one question per row.
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
    """Split the entropy of the linear pool into that within and that between members.

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
    """Return the weights of the best pool.

    Logarithmic pools are judged as they are after calibration: ``softmax(w @ scores + bias)`` is
    fitted with non-negative weights free in scale, and only their proportions are returned. Judged
    as it is, a pool would be cooled by whichever member is the least sure, however little that
    one knows. Priors keep few rows from saying too much: weights are normal with mean and variance
    1 / n_members, so that their sum is 1 give or take 1 whatever their number, and biases standard
    normal.

    Linear pools are judged as they are, for with a temperature after them they may have several
    best weights.

    Both losses are convex.

    Parameters
    ----------
    scores : ndarray of shape (n_members, n_samples, n_classes)
        Normalised log-probabilities, all finite.
    codes : ndarray of shape (n_samples,)
        Column of the true class of each row.
    counts : ndarray of shape (n_samples,)
        Weights of the rows; one of two is as good as two rows.
    pooling : {"log", "linear"}
        The pool.

    Returns
    -------
    ndarray of shape (n_members,)
        They sum to one; those too small to matter are zero. Equal weights if no member is of use.
    """
    fit = _fit_linear if pooling == "linear" else _fit_logarithmic
    found = fit(scores, codes, counts)
    found = np.where(found > _NEGLIGIBLE * found.sum(), found, 0.0)
    return found / found.sum() if found.any() else np.full(len(found), 1 / len(found))


def _fit_logarithmic(scores: Floats, codes: NDArray[np.intp], counts: Floats) -> Floats:
    """Return the weights of a logistic regression on log-probabilities, not scaled."""
    n_members, n_rows, n_classes = scores.shape
    rows = np.arange(n_rows)
    hits = counts @ scores[:, rows, codes].T, np.bincount(codes, counts, n_classes)
    mean = np.r_[np.full(n_members, 1 / n_members), np.zeros(n_classes)]
    precision = np.r_[np.full(n_members, float(n_members)), np.ones(n_classes)]

    def fitted(theta: Floats) -> tuple[Floats, Floats]:
        logits = np.tensordot(theta[:n_members], scores, axes=1) + theta[n_members:]
        log_proba = log_normalise(logits)
        return log_proba, np.exp(log_proba) * counts[:, None]

    def loss(theta: Floats) -> tuple[float, Floats]:
        log_proba, expected = fitted(theta)
        off = theta - mean
        value = -counts @ log_proba[rows, codes] + precision @ off**2 / 2
        gradient = np.r_[
            np.tensordot(scores, expected, axes=2) - hits[0], expected.sum(axis=0) - hits[1]
        ]
        return float(value), gradient + precision * off

    def hessian(theta: Floats) -> Floats:
        log_proba, expected = fitted(theta)
        proba = np.exp(log_proba)
        centred = scores - np.einsum("jnk,nk->jn", scores, proba)[:, :, None]
        pulled = centred * expected
        by_member = pulled.reshape(n_members, -1) @ centred.reshape(n_members, -1).T
        by_class = np.diag(expected.sum(axis=0)) - expected.T @ proba
        across = pulled.sum(axis=1)
        both = np.block([[by_member, across], [across.T, by_class]])
        return np.asarray(both + np.diag(precision))

    free = np.full(n_classes, np.inf)
    theta = minimise(
        loss,
        hessian,
        mean,
        lower=np.r_[np.zeros(n_members), -free],
        upper=np.r_[np.full(n_members, np.inf), free],
        tolerance=1e-10,
    )
    return theta[:n_members]


def _fit_linear(scores: Floats, codes: NDArray[np.intp], counts: Floats) -> Floats:
    """Return the weights on the simplex with which the mixture has the least log-loss."""
    weight = counts / counts.sum()
    true = scores[:, np.arange(len(codes)), codes]

    def loss(weights: Floats) -> tuple[float, Floats]:
        pooled = np.log(weights @ np.exp(true))
        return float(-weight @ pooled), -np.exp(true - pooled) @ weight

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
    found = np.maximum(found, 0.0) / np.maximum(found, 0.0).sum()
    return found if loss(found)[0] <= loss(equal)[0] else equal
