"""A damped Newton search, for smooth losses of few parameters with exact derivatives.

Quasi-Newton searches need hundreds of steps on these losses, whose curvature differs a
thousandfold between a temperature and the bias of a rare class. Newton's method needs about ten,
and stops where the gradient vanishes to rounding error, so that two copies of a row and one row
of weight two give the same answer to many digits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from skllm_calib.log_proba.numerics import Floats

__all__ = ["minimise"]

_MAX_STEPS = 200
_MAX_HALVINGS = 40
_LONGEST_STEP = 4.0


def minimise(
    loss: Callable[[Floats], tuple[float, Floats]],
    hessian: Callable[[Floats], Floats],
    start: Floats,
    *,
    lower: Floats,
    upper: Floats,
    tolerance: float,
) -> Floats:
    """Return a local minimum of `loss` within a box.

    Parameters
    ----------
    loss : callable
        From parameters (p,) to the loss and its gradient (p,).
    hessian : callable
        From parameters (p,) to the matrix of second derivatives (p, p).
    start : ndarray of shape (p,)
        Where to begin, inside the box.
    lower, upper : ndarray of shape (p,)
        The box; entries may be infinite.
    tolerance : float
        Stop when a full step promises to lower the loss by less.

    Returns
    -------
    ndarray of shape (p,)
        The parameters found.
    """
    theta = np.clip(start, lower, upper)
    value, gradient = loss(theta)
    for _ in range(_MAX_STEPS):
        # A parameter at its bound that wants to go further stays out of this step.
        stuck = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
        step = _newton_step(np.where(stuck, 0.0, gradient), hessian(theta), stuck)
        step *= min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        if -(gradient @ step) < tolerance:
            break
        fraction = 1.0
        for _ in range(_MAX_HALVINGS):
            proposal = np.clip(theta + fraction * step, lower, upper)
            new_value, new_gradient = loss(proposal)
            if new_value <= value + 1e-4 * (gradient @ (proposal - theta)):
                break
            fraction /= 2
        else:
            break  # nothing lower within rounding error
        theta, value, gradient = proposal, new_value, new_gradient
    return theta


def _newton_step(gradient: Floats, curvature: Floats, stuck: NDArray[np.bool_]) -> Floats:
    """Solve for the step, making the curvature positive first where it is not."""
    if stuck.any():
        curvature = curvature.copy()
        curvature[stuck, :] = 0.0
        curvature[:, stuck] = 0.0
        curvature[stuck, stuck] = 1.0
    try:
        return np.asarray(-cho_solve(cho_factor(curvature), gradient))
    except LinAlgError:
        values, vectors = np.linalg.eigh(curvature)
        # Walking along a negative curvature in its absolute value still goes downhill.
        steepness = np.maximum(np.abs(values), 1e-8 * max(float(np.abs(values).max()), 1e-8))
        return np.asarray(-vectors @ ((vectors.T @ gradient) / steepness))
