"""Discrete calibration: the table by hand, rising values, what was never seen, real answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from skllm_calib.calibrators import (
    DiscreteCalibration,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
)


def stated(confidence, n_classes=2, top=None):
    """Log-probabilities of rows that only say how sure they are; the rest is shared equally."""
    confidence = np.asarray(confidence, dtype=float)
    top = np.zeros(len(confidence), dtype=int) if top is None else top
    rest = ((1 - confidence) / (n_classes - 1))[:, None]
    proba = np.repeat(rest, n_classes, axis=1)
    proba[np.arange(len(top)), top] = confidence
    with np.errstate(divide="ignore"):
        return np.log(proba)


def answers(n_rows, n_classes=2, seed=0):
    """Stated values that are all too high, and one that means less than the one before."""
    rng = np.random.default_rng(seed)
    values, truth = np.array([0.6, 0.8, 0.9, 0.95, 1.0]), np.array([0.55, 0.6, 0.75, 0.7, 0.9])
    which = rng.choice(5, p=[0.05, 0.2, 0.4, 0.15, 0.2], size=n_rows)
    top = rng.integers(n_classes, size=n_rows)
    right = rng.uniform(size=n_rows) < truth[which]
    codes = np.where(right, top, (top + rng.integers(1, n_classes, size=n_rows)) % n_classes)
    return stated(values[which], n_classes, top), codes, truth[which]


def test_table_by_hand():
    log_proba, codes, _ = answers(300)
    calibrator = DiscreteCalibration(pseudo_count=20).fit(log_proba, codes)
    np.testing.assert_allclose(calibrator.confidence_, [0.6, 0.8, 0.9, 0.95, 1.0], atol=1e-9)
    confidence, right = np.exp(log_proba).max(axis=1), log_proba.argmax(axis=1) == codes
    table, total = [], []
    for value in calibrator.confidence_:
        rows = np.isclose(confidence, value)
        x = np.log((value + 0.005) / (1 - value + 0.005))
        prior = expit(calibrator.slope_ * x + calibrator.intercept_)
        total.append(rows.sum() + 20)
        table.append((right[rows].sum() + 20 * prior) / total[-1])
    expected = IsotonicRegression().fit_transform(np.arange(5), table, sample_weight=total)
    np.testing.assert_allclose(calibrator.calibrated_, expected)
    np.testing.assert_array_equal(calibrator.n_rows_ + 20, total)
    top = calibrator.predict_proba(stated([0.6, 0.8, 0.9, 0.95, 1.0])).max(axis=1)
    np.testing.assert_allclose(top, np.maximum(expected, 0.5), atol=1e-8)


@pytest.mark.parametrize("pseudo_count", [1e-6, 1e9])
def test_between_isotonic_regression_and_the_sigmoid(pseudo_count):
    log_proba, codes, _ = answers(2000)
    calibrator = DiscreteCalibration(pseudo_count=pseudo_count).fit(log_proba, codes)
    if pseudo_count > 1:
        x = np.log((calibrator.confidence_ + 0.005) / (1.005 - calibrator.confidence_))
        expected = expit(calibrator.slope_ * x + calibrator.intercept_)
    else:
        confidence, right = log_proba.max(axis=1), log_proba.argmax(axis=1) == codes
        curve = IsotonicRegression().fit(confidence, right)
        expected = curve.predict(np.log(calibrator.confidence_))
    np.testing.assert_allclose(calibrator.calibrated_, expected, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_finds_the_truth_and_keeps_the_prediction(n_classes):
    log_proba, codes, truth = answers(20_000, n_classes)
    calibrator = DiscreteCalibration().fit(log_proba, codes)
    proba = calibrator.predict_proba(log_proba)
    np.testing.assert_array_equal(proba.argmax(axis=1), log_proba.argmax(axis=1))
    top = proba.max(axis=1)
    # .90 and .95 mean about the same, in the wrong order, and are answered with one number.
    np.testing.assert_allclose(
        top, np.where((truth > 0.65) & (truth < 0.8), 0.736, truth), atol=0.03
    )
    assert (np.diff(calibrator.calibrated_) >= 0).all()


def test_values_never_seen():
    log_proba, codes, _ = answers(3000)
    calibrator = DiscreteCalibration().fit(log_proba, codes)
    asked = np.array([0.5, 0.55, 0.6, 0.7, 0.8, 0.99, 1.0])
    top = calibrator.predict_proba(stated(asked)).max(axis=1)
    assert (np.diff(top) >= -1e-12).all()
    assert top[0] == top[1] == top[2]  # as the last one seen
    assert top[2] < top[3] < top[4]  # between two seen
    assert top[4] < top[5] < top[6]


def test_never_below_the_second_class():
    log_proba = stated([0.9] * 200)
    calibrator = DiscreteCalibration().fit(log_proba, [1] * 180 + [0] * 20)  # mostly wrong
    assert calibrator.calibrated_[0] < 0.2
    np.testing.assert_allclose(calibrator.predict_proba(log_proba[:1]), 0.5, atol=1e-8)
    assert calibrator.predict(log_proba[:1])[0] == 0


def test_ties_go_to_the_same_class_as_before():
    log_proba, codes, _ = answers(200, n_classes=3)
    calibrator = DiscreteCalibration().fit(log_proba, codes)
    tied = np.log([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1 / 3] * 3])
    np.testing.assert_array_equal(calibrator.predict(tied), tied.argmax(axis=1))


@pytest.mark.filterwarnings("ignore:Isotonic calibration of:UserWarning")
def test_two_hundred_rows_against_others():
    test, test_codes, _ = answers(5000, seed=999)
    rows = np.arange(5000), test_codes
    kinds = (DiscreteCalibration, PlattScaling, IsotonicCalibration, TemperatureScaling)
    loss = {kind: [] for kind in kinds}
    for seed in range(20):
        log_proba, codes, _ = answers(200, seed=seed)
        for kind, losses in loss.items():
            calibrator = kind().fit(log_proba, codes, classes=[0, 1])
            losses.append(-calibrator.predict_log_proba(test)[rows].mean())
    mean = {kind: np.mean(losses) for kind, losses in loss.items()}
    assert min(mean, key=mean.__getitem__) is DiscreteCalibration


def test_bad_parameter():
    with pytest.raises(ValueError, match="pseudo_count"):
        DiscreteCalibration(pseudo_count=0).fit(np.zeros((2, 2)), [0, 1])
