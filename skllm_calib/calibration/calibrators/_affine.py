"""The softmax of an affine map under normal priors: what matrix-like calibrators share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.optimize import minimize

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.log_proba.numerics import Codes, Floats, log_normalise

__all__ = ["AffinePosterior", "Fit"]

Fit = tuple[Floats, float]
"""Most probable coefficients, and their log evidence."""

# For how many coefficients the matrix of second derivatives is written down: in every step of a
# search (16 classes), and once for the evidence (31 classes).
_MAX_SEARCHED = 300
_MAX_DENSE = 1000
_MAX_STEPS = 200
_GRADIENT = 1e-7


class AffinePosterior:
    """Log posterior of coefficients (K, p) of ``softmax(design @ coefficients.T + offset)``.

    Every coefficient has a normal prior of its own, so the negative logarithm is strictly convex.

    Parameters
    ----------
    design : ndarray of shape (n, p)
        What the coefficients are multiplied with; the last column is ones for the bias.
    codes : ndarray of shape (n,)
        Class numbers.
    weight : ndarray of shape (n,)
        Weights of the rows.
    offset : ndarray of shape (K,)
        Logits of a row of zeros.
    """

    def __init__(self, design: Floats, codes: Codes, weight: Floats, *, offset: Floats) -> None:
        self.design = design
        self.offset = offset
        self.weight = weight
        self.label = (np.arange(len(codes)), codes)

    def climb(self, centre: Floats, precisions: Iterable[Floats], start: Floats) -> list[Fit]:
        """Fit under one prior after the other, and stop after the first with less evidence.

        The priors are to go from narrow to wide, as the mode under one is then a good start for
        the next, and as those not tried any more are those that take longest.
        """
        fits: list[Fit] = []
        for precision in precisions:
            start = self.mode(centre, precision, start)
            fits.append((start, self.log_evidence(start, centre, precision)))
            if len(fits) > 1 and fits[-1][1] < fits[-2][1]:
                break
        return fits

    def mode(self, centre: Floats, precision: Floats, start: Floats) -> Floats:
        """Return the most probable coefficients under priors with this centre and precision."""

        def loss(theta: Floats) -> tuple[float, Floats]:
            value, gradient = self.loss(theta.reshape(centre.shape), centre, precision)
            return value, gradient.ravel()

        if centre.size > _MAX_SEARCHED:
            return self._mode_of_many(centre, precision, start)
        found = minimise(
            loss,
            lambda theta: self._hessian(self._log_proba(theta.reshape(centre.shape)), precision),
            start.ravel(),
            lower=np.full(centre.size, -np.inf),
            upper=np.full(centre.size, np.inf),
            tolerance=1e-12,
        )
        return found.reshape(centre.shape)

    def _mode_of_many(self, centre: Floats, precision: Floats, start: Floats) -> Floats:
        """Find the mode from products with the matrix of second derivatives alone."""
        shape = centre.shape
        # In units of its own standard deviation every coefficient is about as easy to find.
        unit = self._curvature(self._log_proba(start), precision) ** -0.5
        at = [np.full(centre.size, np.nan), np.empty(0)]  # where q was last needed, and q

        def loss(steps: Floats) -> tuple[float, Floats]:
            value, gradient = self.loss(start + unit * steps.reshape(shape), centre, precision)
            return value, (unit * gradient).ravel()

        def times_hessian(steps: Floats, direction: Floats) -> Floats:
            if not np.array_equal(at[0], steps):
                at[:] = steps.copy(), np.exp(self._log_proba(start + unit * steps.reshape(shape)))
            along = unit * direction.reshape(shape)
            moved = at[1] * (self.design @ along.T)
            moved -= at[1] * moved.sum(axis=1, keepdims=True)
            product = (moved * self.weight[:, None]).T @ self.design + precision * along
            return np.asarray((unit * product).ravel())

        found = minimize(
            loss,
            np.zeros(centre.size),
            jac=True,
            hessp=times_hessian,
            method="trust-ncg",
            options={"gtol": _GRADIENT, "maxiter": _MAX_STEPS, "initial_trust_radius": 10.0},
        )
        return np.asarray(start + unit * found.x.reshape(shape))

    def loss(self, coefficients: Floats, centre: Floats, precision: Floats) -> tuple[float, Floats]:
        """Return the negative log posterior and its gradient (K, p)."""
        log_q = self._log_proba(coefficients)
        off = coefficients - centre
        value = -self.weight @ log_q[self.label] + np.vdot(precision, off**2) / 2
        residual = np.exp(log_q)
        residual[self.label] -= 1.0
        residual *= self.weight[:, None]
        return float(value), residual.T @ self.design + precision * off

    def log_evidence(self, mode: Floats, centre: Floats, precision: Floats) -> float:
        """Return Laplace's approximation of the log evidence, up to a common constant.

        Beyond a thousand coefficients the curvature is taken class by class. That overstates it,
        and so leans towards the narrower of two priors.
        """
        n_classes = len(mode)
        log_q = self._log_proba(mode)
        if mode.size <= _MAX_DENSE:
            log_volume = np.linalg.slogdet(self._hessian(log_q, precision))[1]
        else:
            blocks = (
                self._block(log_q[:, number], precision[number]) for number in range(n_classes)
            )
            log_volume = sum(np.linalg.slogdet(block)[1] for block in blocks)
        value, _ = self.loss(mode, centre, precision)
        return float(-value + np.log(precision).sum() / 2 - log_volume / 2)

    def _log_proba(self, coefficients: Floats) -> Floats:
        return log_normalise(self.design @ coefficients.T + self.offset)

    def _curvature(self, log_q: Floats, precision: Floats) -> Floats:
        """Return the second derivative by each coefficient (K, p)."""
        q = np.exp(log_q)
        return np.asarray((q * (1 - q) * self.weight[:, None]).T @ self.design**2 + precision)

    def _block(self, log_q: Floats, precision: Floats) -> Floats:
        """Return the second derivatives (p, p) by the coefficients of one class."""
        q = np.exp(log_q)
        inner = (self.weight * q * (1 - q))[:, None]
        return np.asarray((self.design * inner).T @ self.design + np.diag(precision))

    def _hessian(self, log_q: Floats, precision: Floats) -> Floats:
        """Return all second derivatives (K p, K p)."""
        n_rows, size = self.design.shape
        n_classes = log_q.shape[1]
        q = np.exp(log_q)
        pull = (q[:, :, None] * self.design[:, None, :]).reshape(n_rows, -1)
        out = -(pull * self.weight[:, None]).T @ pull
        for number in range(n_classes):
            part = slice(number * size, (number + 1) * size)
            inner = (self.weight * q[:, number])[:, None]
            out[part, part] += (self.design * inner).T @ self.design
        return np.asarray(out + np.diag(precision.ravel()))
