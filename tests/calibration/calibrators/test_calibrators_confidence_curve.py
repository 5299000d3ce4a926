"""The second stage: bends what is bent, leaves the rest alone, keeps the top class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_expit

from skllm_calib.calibration.calibrators.confidence_curve import ConfidenceCurve
from skllm_calib.calibrators import AutoCalibrator


def simulate(n_rows, bend=0.0, seed=0):
    """Binary scores; above log-odds of 0.5 they say more than they should by `bend`."""
    rng = np.random.default_rng(seed)
    truth = np.abs(rng.normal(scale=2.5, size=n_rows))
    shown = truth + bend * np.maximum(truth - 0.5, 0)
    right = rng.random(n_rows) < expit(truth)
    return np.column_stack([log_expit(-shown), log_expit(shown)]), right.astype(int), truth


def test_undoes_a_bend():
    log_proba, codes, truth = simulate(20_000, bend=2.0)
    curve = ConfidenceCurve(log_proba, codes, np.ones(len(codes)))
    adjusted = curve.apply(log_proba)
    np.testing.assert_allclose(np.exp(adjusted).sum(axis=1), 1.0)
    before = np.abs(np.exp(log_proba[:, 1]) - expit(truth)).mean()
    after = np.abs(np.exp(adjusted[:, 1]) - expit(truth)).mean()
    assert after < before / 3


def test_leaves_what_is_right_alone():
    log_proba, codes, _ = simulate(500)
    curve = ConfidenceCurve(log_proba, codes, np.ones(500))
    change = np.exp(curve.apply(log_proba)) - np.exp(log_proba)
    assert np.abs(change).mean() < 0.02


def test_weights_are_copies():
    log_proba, codes, _ = simulate(300, bend=1.0)
    twice = np.concatenate([log_proba, log_proba]), np.concatenate([codes, codes])
    weighted = ConfidenceCurve(log_proba, codes, np.full(300, 2.0))
    copied = ConfidenceCurve(*twice, np.ones(600))
    np.testing.assert_allclose(weighted.coefficients, copied.coefficients, rtol=0.02, atol=1e-3)


def test_equal_confidences_and_many_classes():
    log_proba = np.log(np.tile([0.2, 0.5, 0.3], (400, 1)))
    codes = np.where(np.arange(400) < 340, 1, 0)
    adjusted = np.exp(ConfidenceCurve(log_proba, codes, np.ones(400)).apply(log_proba))
    assert 0.5 < adjusted[0, 1] < 0.85
    assert adjusted[0, 0] / adjusted[0, 2] == pytest.approx(2 / 3)


def test_auto_takes_it_from_500_rows_on():
    log_proba, codes, truth = simulate(3000, bend=2.0)
    small = AutoCalibrator().fit(log_proba[:499], codes[:499], classes=[0, 1])
    assert small.confidence_curve_ is None
    assert "confidence curve" not in small.parameters_
    large = AutoCalibrator().fit(log_proba, codes, classes=[0, 1])
    assert len(large.parameters_["confidence curve"]) == 6
    truth, shown = expit(truth), np.exp(log_proba[:, 1])
    error = np.abs(large.predict_proba(log_proba)[:, 1] - truth).mean()
    assert error < np.abs(shown - truth).mean() / 2
