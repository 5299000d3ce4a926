"""The yardstick: shares of classes."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.calibrators import ConstantCalibration


def test_smoothed_shares_whatever_the_scores():
    log_proba = np.random.default_rng(0).normal(size=(6, 3))
    y = ["a", "b", "a", "a", "a", "b"]
    calibrator = ConstantCalibration(pseudo_count=1.0).fit(log_proba, y, classes=["a", "b", "c"])
    np.testing.assert_allclose(calibrator.class_prior_, [5 / 9, 3 / 9, 1 / 9])
    np.testing.assert_allclose(calibrator.predict_proba(log_proba), [[5 / 9, 3 / 9, 1 / 9]] * 6)
    assert set(calibrator.predict(log_proba)) == {"a"}
    assert calibrator.parameters_ == {"class prior": calibrator.class_prior_.tolist()}


def test_weights_are_rows():
    calibrator = ConstantCalibration(pseudo_count=0.5).fit(np.zeros((2, 2)), [0, 1], [3.0, 1.0])
    np.testing.assert_allclose(calibrator.class_prior_, [3.5 / 5, 1.5 / 5])


def test_bad_parameter():
    with pytest.raises(ValueError, match="pseudo_count"):
        ConstantCalibration(pseudo_count=0).fit(np.zeros((2, 2)), [0, 1])
