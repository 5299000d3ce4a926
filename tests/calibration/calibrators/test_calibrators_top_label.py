"""Taking the log-odds of the top class out of a row and putting others in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from skllm_calib.calibration.calibrators._distinct import distinct_values, sum_by
from skllm_calib.calibration.calibrators._top_label import (
    replace_top_log_odds,
    split_problem,
    top_log_odds,
)

LOG_PROBA = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])


def test_out_and_in_again():
    rng = np.random.default_rng(0)
    log_proba = log_softmax(rng.normal(scale=8, size=(50, 4)), axis=1)
    top, odds = top_log_odds(log_proba)
    np.testing.assert_array_equal(top, log_proba.argmax(axis=1))
    np.testing.assert_allclose(replace_top_log_odds(log_proba, odds), log_proba, atol=1e-12)


def test_others_share_the_rest():
    out = np.exp(replace_top_log_odds(LOG_PROBA, np.log([4.0, 1.0])))
    np.testing.assert_allclose(out, [[0.8, 0.4 / 3, 0.2 / 3], [0.125, 0.375, 0.5]])


def test_top_stops_above_the_second():
    out = np.exp(replace_top_log_odds(LOG_PROBA, np.array([-50.0, -50.0])))
    np.testing.assert_allclose(out, [[0.4, 0.4, 0.2], [1 / 7, 3 / 7, 3 / 7]], atol=1e-8)
    np.testing.assert_array_equal(out.argmax(axis=1), [0, 2])
    np.testing.assert_allclose(out.sum(axis=1), 1.0)


def test_extremes_are_finite():
    log_proba = np.array([[0.0, -600.0, -650.0]])
    for odds in (800.0, -800.0):
        assert np.isfinite(replace_top_log_odds(log_proba, np.array([odds]))).all()
    np.testing.assert_array_equal(replace_top_log_odds(np.zeros((2, 1)), np.zeros(2)), 0.0)


def test_split_problem():
    score, positive = split_problem(LOG_PROBA, np.array([0, 1]))
    np.testing.assert_allclose(score, np.log([7 / 3, 1.5]))
    np.testing.assert_array_equal(positive, [1.0, 0.0])
    score, positive = split_problem(np.log([[0.7, 0.3]]), np.array([1]))
    assert score == pytest.approx([np.log(3 / 7)])
    np.testing.assert_array_equal(positive, [1.0])


def test_distinct_values():
    values, which = distinct_values(np.array([0.3, -1.0, 0.1 + 0.2, 5.0]))
    np.testing.assert_allclose(values, [-1.0, 0.3, 5.0])
    np.testing.assert_array_equal(which, [1, 0, 1, 2])
    np.testing.assert_array_equal(sum_by(which, np.array([1.0, 2.0, 3.0, 4.0])), [2.0, 4.0, 4.0])
