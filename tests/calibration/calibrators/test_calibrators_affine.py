"""The posterior that matrix-like calibrators share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from skllm_calib.calibration.calibrators import _affine
from skllm_calib.calibration.calibrators._affine import AffinePosterior


def make(n_rows=40, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    design = np.column_stack([rng.normal(size=(n_rows, n_classes)), np.ones(n_rows)])
    codes = rng.integers(n_classes, size=n_rows)
    weight = rng.uniform(0.5, 2.0, size=n_rows)
    offset = rng.normal(size=n_classes)
    centre = rng.normal(size=(n_classes, n_classes + 1))
    precision = rng.uniform(0.5, 4.0, size=centre.shape)
    return AffinePosterior(design, codes, weight, offset=offset), centre, precision


def test_derivatives():
    posterior, centre, precision = make()
    at = np.random.default_rng(1).normal(size=centre.shape)

    def loss(theta):
        return posterior.loss(theta.reshape(at.shape), centre, precision)

    gradient = approx_fprime(at.ravel(), lambda theta: loss(theta)[0], 1e-7)
    np.testing.assert_allclose(loss(at)[1].ravel(), gradient, atol=1e-4)
    hessian = approx_fprime(at.ravel(), lambda theta: loss(theta)[1].ravel(), 1e-7)
    log_q = posterior._log_proba(at)
    np.testing.assert_allclose(posterior._hessian(log_q, precision), hessian, atol=1e-4)
    diagonal = posterior._curvature(log_q, precision)
    np.testing.assert_allclose(diagonal.ravel(), np.diag(hessian), atol=1e-4)
    block = posterior._block(log_q[:, 1], precision[1])
    np.testing.assert_allclose(block, hessian[4:8, 4:8], atol=1e-4)


def test_both_searches_find_the_same_mode():
    posterior, centre, precision = make(n_rows=100, n_classes=5)
    dense = posterior.mode(centre, precision, centre)
    products = posterior._mode_of_many(centre, precision, centre)
    np.testing.assert_allclose(dense, products, atol=1e-7)
    assert np.abs(posterior.loss(dense, centre, precision)[1]).max() < 1e-5


def test_evidence_against_an_integral():
    # Two coefficients that count (one row a class would do), summed over the prior by brute force.
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=30), np.arange(30) % 2
    posterior = AffinePosterior(x[:, None], codes, np.ones(30), offset=np.zeros(2))
    centre = np.zeros((2, 1))
    logs = []
    for precision in (np.full((2, 1), 4.0), np.full((2, 1), 0.25)):
        draws = multivariate_normal(np.zeros(2), np.diag(1 / precision[:, 0])).rvs(
            100_000, random_state=0
        )
        line = (2 * codes - 1) * x * (draws[:, 1:] - draws[:, :1])
        likelihood = np.exp(-np.logaddexp(0.0, -line).sum(axis=1))
        mode = posterior.mode(centre, precision, centre)
        logs.append((posterior.log_evidence(mode, centre, precision), np.log(likelihood.mean())))
    (narrow, narrow_sum), (wide, wide_sum) = logs
    assert wide - narrow == pytest.approx(wide_sum - narrow_sum, abs=0.1)


def test_evidence_class_by_class_leans_to_the_narrow_prior(monkeypatch):
    posterior, centre, precision = make(n_rows=100, n_classes=5)
    evidence = {}
    for limit in (1000, 1):
        monkeypatch.setattr(_affine, "_MAX_DENSE", limit)
        for width in (1.0, 0.01):
            mode = posterior.mode(centre, precision * width, centre)
            evidence[limit, width] = posterior.log_evidence(mode, centre, precision * width)
    exact = evidence[1000, 0.01] - evidence[1000, 1.0]
    assert evidence[1, 0.01] - evidence[1, 1.0] < exact


def test_climb_stops_where_the_evidence_falls(monkeypatch):
    posterior, centre, precision = make()
    monkeypatch.setattr(posterior, "log_evidence", lambda *_: next(values))
    for given, n_fits in (([1, 3, 2, 9], 3), ([1, 2, 3, 4], 4), ([2, 1, 5, 5], 2), ([1], 1)):
        values = iter(given)
        fits = posterior.climb(centre, [precision] * len(given), centre)
        assert [evidence for _, evidence in fits] == given[:n_fits]
