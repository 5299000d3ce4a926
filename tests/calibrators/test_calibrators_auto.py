"""The automatic choice: its rule, its folds, its results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from skllm_calib.calibrators import AutoCalibrator, TemperatureScaling
from skllm_calib.calibrators.auto import _one_standard_error, _spread_over_folds


def simulate(n_rows, n_classes=4, bias=None, temperature=3.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    shift = np.zeros(n_classes) if bias is None else np.asarray(bias)
    return log_softmax((logits - shift) * temperature, axis=1), codes


def test_few_rows_are_not_compared():
    calibrator = AutoCalibrator().fit(*simulate(29))
    assert calibrator.chosen_ == "prior"
    assert calibrator.scores_ == {}
    assert calibrator.classes_.tolist() == calibrator.calibrator_.classes_.tolist()


def test_copies_of_one_row_are_not_compared():
    calibrator = AutoCalibrator().fit([[-0.1, -2.4]] * 50, [0] * 50, classes=[0, 1])
    assert calibrator.chosen_ == "prior"


def test_chooses_temperature_without_bias():
    calibrator = AutoCalibrator().fit(*simulate(100, temperature=0.1))
    assert calibrator.chosen_ == "temperature"
    assert list(calibrator.scores_) == ["prior", "temperature", "vector"]
    assert set(calibrator.scores_["vector"]) == {"log_loss", "standard_error", "gap_error"}


def test_chooses_vector_with_bias():
    calibrator = AutoCalibrator().fit(*simulate(200, bias=[1.5, -1.5, 0, 0]))
    assert calibrator.chosen_ == "vector"
    assert calibrator.parameters_ == calibrator.calibrator_.parameters_


def test_chooses_isotonic_for_a_curve_that_is_no_line():
    rng = np.random.default_rng(0)
    odds = rng.normal(scale=3, size=6000)
    y = rng.uniform(size=6000) < np.where(odds < 0, 0.1, np.where(odds < 2, 0.4, 0.95))
    calibrator = AutoCalibrator().fit(np.stack([np.zeros(6000), odds], axis=1), y)
    assert calibrator.chosen_ == "isotonic"


@pytest.mark.parametrize("bias", [None, [1.0, -0.5, 0.0, -0.5]])
@pytest.mark.parametrize("n_rows", [50, 200])
def test_never_much_worse_than_temperature(n_rows, bias):
    test, test_codes = simulate(4000, bias=bias, seed=99)
    rows = np.arange(4000), test_codes
    loss = {AutoCalibrator: [], TemperatureScaling: []}
    for seed in range(5):
        data = simulate(n_rows, bias=bias, seed=seed)
        for kind, losses in loss.items():
            calibrator = kind().fit(*data, classes=range(4))
            losses.append(-calibrator.predict_log_proba(test)[rows].mean())
    assert np.mean(loss[AutoCalibrator]) < np.mean(loss[TemperatureScaling]) + 0.01


def test_folds_are_stratified_and_seeded():
    codes = np.repeat([0, 1, 2, 3], [50, 20, 5, 2])
    part, fold = _spread_over_folds(codes, np.ones(77), 5, 0)
    codes = codes[part]
    counts = np.array([np.bincount(fold[codes == k], minlength=5) for k in range(4)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1
    again, _ = _spread_over_folds(np.sort(codes), np.ones(77), 5, 0)
    np.testing.assert_array_equal(part, again)
    other, _ = _spread_over_folds(np.sort(codes), np.ones(77), 5, 1)
    assert (part != other).any()


def test_one_standard_error_rule():
    noise = np.random.default_rng(0).normal(scale=0.5, size=400)
    base = np.full(400, 0.5)
    tie = {"simple": base + noise, "rich": base}
    tie["simple"] += 0.01 - noise.mean()  # worse by less than 0.5 / sqrt(400)
    assert _one_standard_error(tie, np.ones(400))[0] == "simple"
    clear = {"simple": tie["simple"] + 0.05, "rich": base}
    chosen, scores = _one_standard_error(clear, np.ones(400))
    assert chosen == "rich"
    assert scores["simple"]["log_loss"] == pytest.approx(0.56)
    assert scores["simple"]["gap_error"] == pytest.approx(0.025, rel=0.2)
    assert scores["rich"]["gap_error"] == 0.0


@pytest.mark.parametrize("parameters", [{"cv": 1}, {"random_state": None}])
def test_bad_parameters(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        AutoCalibrator(**parameters).fit([[0.0, -1.0]], [0], classes=[0, 1])


def test_discrete_scores_are_compared_as_well_as_others():
    """Votes of five draws that say nothing, about classes of which one is rare."""
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 6, size=200)
    proba = (votes + 0.5) / 6
    log_proba = np.log(np.stack([1 - proba, proba], axis=1))
    y = np.where(rng.random(200) < 0.13, 1, 0)
    auto = AutoCalibrator().fit(log_proba, y)
    assert auto.chosen_ == "vector"
    share = y.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert auto.scores_["vector"]["log_loss"] == pytest.approx(entropy, abs=0.05)
    assert auto.scores_["temperature"]["log_loss"] > 0.6


def test_copies_of_a_row_are_in_different_folds():
    codes = np.array([0, 0, 1, 1])
    part, fold = _spread_over_folds(codes, np.array([1.0, 3.0, 2.0, 9.0]), 5, seed=0)
    assert np.bincount(part).tolist() == [1, 3, 2, 5]
    for row in range(4):
        assert len(set(fold[part == row])) == (part == row).sum()
    alone, _ = _spread_over_folds(codes, np.ones(4), 2, seed=0)
    assert sorted(alone.tolist()) == [0, 1, 2, 3]
