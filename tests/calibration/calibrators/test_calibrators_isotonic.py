"""Isotonic calibration: agreement with scikit-learn, clipping, warning."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from skllm_calib.calibrators import IsotonicCalibration


def binary(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    odds = rng.normal(scale=4, size=n_rows)
    return np.stack([np.zeros(n_rows), odds], axis=1), rng.uniform(size=n_rows) < expit(odds / 2)


def test_agrees_with_isotonic_regression_inside_the_clip():
    log_proba, y = binary(3000)
    calibrator = IsotonicCalibration().fit(log_proba, y)
    expected = IsotonicRegression(out_of_bounds="clip").fit(log_proba[:, 1], y)
    np.testing.assert_allclose(
        calibrator.predict_proba(log_proba)[:, 1],
        np.clip(expected.predict(log_proba[:, 1]), 1 / 3002, 1 - 1 / 3002),
        atol=1e-3,
    )


def test_clipping_keeps_the_log_loss_finite():
    codes = np.arange(1500) % 3
    log_proba = np.log(np.full((1500, 3), 0.01) + 0.97 * np.eye(3)[codes])
    proba = IsotonicCalibration().fit(log_proba, codes).predict_proba(log_proba)
    assert proba.max() <= 1 - 1 / 1502 + 1e-12
    assert proba.min() >= 1 / 1502 / 2 * 0.999


def test_absent_class_keeps_a_small_probability():
    log_proba, y = binary(2000)
    wide = np.column_stack([log_proba, np.zeros(2000)])
    proba = IsotonicCalibration().fit(wide, y.astype(int), classes=range(3)).predict_proba(wide)
    assert (proba[:, 2] > 0).all()
    assert proba[:, 2].max() < 0.001


def test_warns_below_a_thousand_rows():
    log_proba, y = binary(999)
    with pytest.warns(UserWarning, match="Isotonic calibration of 999 rows"):
        IsotonicCalibration().fit(log_proba, y)
    weighted = IsotonicCalibration().fit(log_proba, y, np.full(999, 2.0))  # counts as 1998
    assert set(weighted.parameters_) == {"log_odds_0", "value_0"}
