"""Venn-Abers against two isotonic regressions a row, as it is defined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn.isotonic import IsotonicRegression

from skllm_calib.calibrators import VennAbersCalibration
from skllm_calib.log_proba.numerics import one_vs_rest_log_odds


def binary(n_rows, decimals=9, seed=0):
    rng = np.random.default_rng(seed)
    odds = rng.normal(scale=3, size=n_rows).round(decimals)
    return odds, (rng.uniform(size=n_rows) < expit(odds / 2)).astype(int)


def pair(odds):
    return np.stack([np.zeros(len(odds)), odds], axis=1)


def by_definition(odds, y, weight, asked):
    """Fit twice for every row asked, with the row added under either label."""
    out = []
    for value in asked:
        for label in (0, 1):
            curve = IsotonicRegression().fit(
                np.append(odds, value), np.append(y, label), np.append(weight, 1.0)
            )
            out.append(curve.predict([value])[0])
    return np.array(out).reshape(-1, 2).T


@pytest.mark.parametrize("decimals", [9, 0])
@pytest.mark.parametrize("seed", range(4))
def test_exact(seed, decimals):
    odds, y = binary(50, decimals, seed)
    weight = np.random.default_rng(seed).choice([0.5, 1.0, 2.0], size=50)
    asked = np.concatenate([odds, np.linspace(-12, 12, 25)])
    calibrator = VennAbersCalibration().fit(pair(odds), y, weight)
    found = calibrator.predict_interval(pair(asked))
    expected = by_definition(odds, y, weight, asked)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    p0, p1 = expected
    np.testing.assert_allclose(
        calibrator.predict_proba(pair(asked))[:, 1], p1 / (1 - p0 + p1), atol=1e-12
    )


@pytest.mark.parametrize("label", [0, 1])
def test_exact_when_all_labels_are_equal(label):
    odds, _ = binary(30)
    with pytest.warns(UserWarning, match="Add rows of every class"):
        calibrator = VennAbersCalibration().fit(pair(odds), np.full(30, label), classes=[0, 1])
    expected = by_definition(odds, np.full(30, label), np.ones(30), odds)
    np.testing.assert_allclose(calibrator.predict_interval(pair(odds)), expected, atol=1e-12)


def test_interval_holds_the_probability_and_closes_with_rows():
    widths = []
    for n_rows in (100, 10_000):
        odds, y = binary(n_rows)
        calibrator = VennAbersCalibration().fit(pair(odds), y)
        asked = pair(np.linspace(-5, 5, 101))
        p0, p1 = calibrator.predict_interval(asked)
        proba = calibrator.predict_proba(asked)[:, 1]
        assert (p0 < proba).all()
        assert (proba < p1).all()
        widths.append((p1 - p0).mean())
    assert widths[1] < widths[0] / 5


def test_one_of_the_two_is_calibrated_on_average():
    gaps = []
    for seed in range(200):
        odds, y = binary(60, seed=seed)
        calibrator = VennAbersCalibration().fit(pair(odds[:50]), y[:50], classes=[0, 1])
        chosen = np.where(y[50:], *calibrator.predict_interval(pair(odds[50:]))[::-1])
        gaps.append((y[50:] - chosen).mean())
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(len(gaps))


def test_many_classes_are_set_against_the_rest():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=1.5, size=(200, 4))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1) // 2 * 2  # 1 and 3 are absent
    log_proba = log_softmax(2 * logits, axis=1)
    calibrator = VennAbersCalibration().fit(log_proba, codes, classes=range(4))
    odds = one_vs_rest_log_odds(log_proba)
    merged = []
    for column in range(4):
        p0, p1 = by_definition(odds[:, column], codes == column, np.ones(200), odds[:9, column])
        merged.append(p1 / (1 - p0 + p1))
    expected = np.stack(merged, axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrator.predict_proba(log_proba[:9]), expected, rtol=1e-9)


def test_rounding_does_not_move_a_score_off_its_step():
    odds, y = binary(100, decimals=0)
    calibrator = VennAbersCalibration().fit(pair(odds), y)
    expected = calibrator.predict_interval(pair(odds))
    for error in (-1e-13, 1e-13):
        np.testing.assert_array_equal(calibrator.predict_interval(pair(odds + error)), expected)


def test_interval_asks_for_two_classes_and_clean_rows():
    calibrator = VennAbersCalibration().fit(np.zeros((3, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="is for two classes, there are 3"):
        calibrator.predict_interval(np.zeros((1, 3)))
    calibrator.fit(np.zeros((2, 2)), [0, 1])
    with pytest.raises(ValueError, match="row 0 contains NaN"):
        calibrator.predict_interval([[0.0, np.nan]])
    with pytest.raises(ValueError, match="log_proba has 3 columns for the 2 classes"):
        calibrator.predict_interval(np.zeros((1, 3)))
    assert calibrator.parameters_["p1_0"] == calibrator.p1_[0].tolist()
