"""Cox's line against scikit-learn's, and its intervals against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from skllm_calib.metrics import cox_calibration_error

BINARY = [0, 1]


def draw(n, slope=0.6, intercept=-0.3, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 2, n)
    return (rng.random(n) < expit(intercept + slope * logit(p))).astype(int), p


def test_the_line_is_the_one_of_scikit_learn():
    y, p = draw(500)
    weight = np.random.default_rng(1).random(500)
    line = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    line.fit(logit(p)[:, None], y, sample_weight=weight)
    found = cox_calibration_error(y, p, kind=1, sample_weight=weight)
    assert found.slope == pytest.approx(line.coef_[0, 0], abs=1e-8)
    assert found.intercept == pytest.approx(line.intercept_[0], abs=1e-8)
    recalibrated = line.predict_proba(logit(p)[:, None])[:, 1]
    expected = np.average(np.abs(recalibrated - p), weights=weight)
    assert found.error == pytest.approx(expected, abs=1e-8)


def test_intervals_by_the_sandwich_written_out():
    y, p = draw(300)
    found = cox_calibration_error(y, p, kind=1, confidence=0.9)
    q = expit(found.intercept + found.slope * logit(p))
    bread, filling = np.zeros((2, 2)), np.zeros((2, 2))
    for x, hit, one in zip(logit(p), y, q, strict=True):
        row = np.array([1.0, x])
        bread += one * (1 - one) * np.outer(row, row)
        filling += (hit - one) ** 2 * np.outer(row, row)
    covariance = np.linalg.inv(bread) @ filling @ np.linalg.inv(bread)
    reach = norm.ppf(0.95) * np.sqrt(np.diag(covariance))
    assert found.intercept_interval == pytest.approx(
        (found.intercept - reach[0], found.intercept + reach[0]), abs=1e-8
    )
    assert found.slope_interval == pytest.approx(
        (found.slope - reach[1], found.slope + reach[1]), abs=1e-8
    )


def test_intervals_cover_and_the_test_keeps_its_level():
    covered = rejected = 0
    for seed in range(200):
        y, p = draw(300, slope=1.0, intercept=0.0, seed=seed)
        found = cox_calibration_error(y, p, kind=1)
        covered += found.slope_interval[0] < 1 < found.slope_interval[1]
        rejected += found.p_value < 0.05
    assert covered >= 180
    assert rejected <= 20


def test_scale_of_weights_and_order_do_not_matter():
    y, p = draw(200)
    weight = np.random.default_rng(1).random(200)
    order = np.random.default_rng(2).permutation(200)
    one = cox_calibration_error(y, p, sample_weight=weight)
    two = cox_calibration_error(y[order], p[order], sample_weight=7 * weight[order])
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-8)


def test_certain_confidences_have_finite_log_odds():
    y, p = draw(200)
    p[:2], y[:2] = [0.0, 1.0], [0, 1]
    found = cox_calibration_error(y, p, kind=1)
    level = cox_calibration_error([1, 0, 1, 0, 1, 0], [1.0, 1.0, 0.0, 0.0, 0.5, 0.5], kind=1)
    assert (level.slope, level.intercept) == pytest.approx((0, 0), abs=1e-8)
    assert np.isfinite([found.slope, found.intercept, *found.slope_interval]).all()


def test_confidences_far_too_extreme_by_hand():
    # Two points, so the line goes through the log-odds of their shares of hits: 60 and 70 %.
    p = np.repeat([expit(-12.0), expit(12.0)], 100)
    y = np.concatenate([np.repeat([1, 0], [60, 40]), np.repeat([1, 0], [70, 30])])
    found = cox_calibration_error(y, p, kind=1)
    assert found.slope == pytest.approx((logit(0.7) - logit(0.6)) / 24, abs=1e-8)
    assert found.intercept == pytest.approx((logit(0.7) + logit(0.6)) / 2, abs=1e-8)
    assert found.error == pytest.approx((0.6 + 0.3) / 2, abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_hard_data_reach_the_top_of_the_likelihood(seed):
    # One miss among the surest and few rows: steep lines, at which full Newton steps may overshoot.
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(0, 8, 30))
    y = (p > 0.5).astype(int)
    y[p.argmax()], y[p.argmin()] = 0, 1
    found = cox_calibration_error(y, p, kind=1)
    residual = y - expit(found.intercept + found.slope * logit(p).clip(-25, 25))
    assert residual.sum() == pytest.approx(0, abs=1e-7)
    assert residual @ logit(p).clip(-25, 25) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([1, 1, 1], [0.6, 0.7, 0.8], "3 of the 3 rows are hits"),
        ([0, 0, 0], [0.6, 0.7, 0.8], "0 of the 3 rows are hits"),
        ([1, 0, 1], [0.7, 0.7, 0.7], "confidence 0.7"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7], "separates the 2 hits from the 2 misses"),
        ([1, 1, 0, 0], [0.1, 0.2, 0.6, 0.7], "separates"),
    ],
)
def test_rows_without_a_finite_line_are_refused(y, p, message):
    with pytest.raises(ValueError, match=message):
        cox_calibration_error(y, p, kind=1, labels=BINARY)


def test_a_confidence_that_means_nothing():
    with pytest.raises(ValueError, match="confidence"):
        cox_calibration_error([0, 1], [0.4, 0.6], confidence=1.0)
