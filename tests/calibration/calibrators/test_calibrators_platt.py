"""Platt scaling against logistic regressions of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn.calibration import _SigmoidCalibration
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from skllm_calib.calibrators import PlattScaling
from skllm_calib.log_proba.numerics import one_vs_rest_log_odds


def simulate(n_rows, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return log_softmax(2 * logits + np.arange(n_classes), axis=1), codes


def logistic(x, positive):
    """Regress smoothed targets, as two weighted rows each, with no penalty worth the name."""
    n_positive = positive.sum()
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (len(x) - n_positive + 2))
    model = LogisticRegression(C=1e12, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    twice = np.repeat([True, False], len(x))
    model.fit(np.tile(x, 2)[:, None], twice, np.concatenate([target, 1 - target]))
    return model.coef_[0, 0], model.intercept_[0]


def test_two_classes_agree_with_logistic_regression():
    log_proba, codes = simulate(200, 2)
    calibrator = PlattScaling().fit(log_proba, codes)
    odds = log_proba[:, 1] - log_proba[:, 0]
    slope, intercept = logistic(odds, codes == 1)
    assert calibrator.slope_ == pytest.approx([slope], abs=1e-6)
    assert calibrator.intercept_ == pytest.approx([intercept], abs=1e-6)
    expected = expit(slope * odds + intercept)
    np.testing.assert_allclose(calibrator.predict_proba(log_proba)[:, 1], expected, atol=1e-6)
    sigmoid = _SigmoidCalibration().fit(odds, codes)
    np.testing.assert_allclose(sigmoid.predict(odds), expected, atol=1e-3)


def test_many_classes_are_set_against_the_rest():
    log_proba, codes = simulate(400, 4)
    calibrator = PlattScaling().fit(log_proba, codes)
    odds = one_vs_rest_log_odds(log_proba)
    lines = [logistic(odds[:, k], codes == k) for k in range(4)]
    np.testing.assert_allclose(calibrator.slope_, [a for a, _ in lines], atol=1e-6)
    np.testing.assert_allclose(calibrator.intercept_, [b for _, b in lines], atol=1e-6)
    expected = np.stack([expit(a * odds[:, k] + b) for k, (a, b) in enumerate(lines)], axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrator.predict_proba(log_proba), expected, atol=1e-6)


def test_confident_answers_stay_confident():
    log_proba, codes = simulate(500, 2)
    log_proba = log_softmax(4 * log_proba, axis=1)
    assert PlattScaling().fit(log_proba, codes).predict_proba(log_proba).max() > 0.95


def test_warns_at_a_bound():
    log_proba = log_softmax([[0.0, 1e-5], [1e-5, 0.0]] * 100, axis=1)
    with pytest.warns(ConvergenceWarning, match="slope_ ended at the edge"):
        calibrator = PlattScaling().fit(log_proba, [1, 0] * 100)
    assert calibrator.parameters_["slope"] == [100.0]
