"""Both kinds of binning: counts by hand, top labels, edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax

from skllm_calib.calibration.calibrators.binning import _equal_mass_bins
from skllm_calib.calibrators import HistogramBinning, ScalingBinning, TemperatureScaling


def binary(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    odds = rng.normal(scale=4, size=n_rows)
    y = (rng.uniform(size=n_rows) < expit(odds / 3)).astype(int)
    return np.stack([np.zeros(n_rows), odds], axis=1), y


def many(n_rows, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return log_softmax(2 * logits, axis=1), codes


class TestEqualMassBins:
    def test_distinct_scores_are_dealt_out_evenly(self):
        score = np.random.default_rng(0).permutation(20.0 + np.arange(60))
        edges, which = _equal_mass_bins(score, np.ones(60), 6)
        np.testing.assert_array_equal(edges, 29.5 + 10 * np.arange(5))
        np.testing.assert_array_equal(which, (score - 20) // 10)

    def test_equal_scores_stay_together(self):
        score = np.repeat([1.0, 2.0, 3.0], [1, 98, 1])
        edges, which = _equal_mass_bins(score, np.ones(100), 10)
        np.testing.assert_array_equal(edges, [1.5, 2.5])
        assert len(set(which[1:99])) == 1

    def test_rounding_does_not_split_a_score(self):
        score = 0.3 + np.array([0.0, 1e-15, 2e-15, 5.0])
        assert len(_equal_mass_bins(score, np.ones(4), 4)[0]) == 1

    def test_weights_are_rows(self):
        score = np.arange(4.0)
        edges, which = _equal_mass_bins(score, np.array([10.0, 1.0, 1.0, 8.0]), 2)
        np.testing.assert_array_equal(edges, [0.5])
        np.testing.assert_array_equal(which, [0, 1, 1, 1])


class TestHistogramBinning:
    def test_counts_by_hand(self):
        odds = np.repeat([-2.0, 1.0, 3.0], [4, 4, 4])
        y = np.array([0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1])
        log_proba = np.stack([np.zeros(12), odds], axis=1)
        calibrator = HistogramBinning(n_bins=3, pseudo_count=2.0).fit(log_proba, y)
        overall = 7 / 14
        expected = (np.array([0, 2, 4]) + 2 * overall) / 6
        np.testing.assert_allclose(calibrator.values_, expected)
        np.testing.assert_array_equal(calibrator.edges_, [-0.5, 2.0])
        np.testing.assert_array_equal(calibrator.n_rows_, [4, 4, 4])
        asked = calibrator.predict_proba([[0, -9], [0, -0.6], [0, -0.4], [0, 1.9], [0, 2.1]])
        np.testing.assert_allclose(asked[:, 1], expected[[0, 0, 1, 1, 2]])

    def test_nothing_is_certain(self):
        codes = np.arange(200) % 2
        log_proba = np.log(np.full((200, 2), 0.01) + 0.98 * np.eye(2)[codes])
        values = HistogramBinning().fit(log_proba, codes).values_
        assert ((values > 0) & (values < 1)).all()
        assert values.max() > 0.98

    def test_top_label_is_calibrated_in_every_bin(self):
        log_proba, codes = many(40_000)
        fit, test = slice(0, 20_000), slice(20_000, None)
        calibrator = HistogramBinning().fit(log_proba[fit], codes[fit])
        proba = calibrator.predict_proba(log_proba[test])
        right = proba.argmax(axis=1) == codes[test]
        confidence = proba.max(axis=1)
        # Below one half some rows are lifted over their second class.
        sure = calibrator.values_[calibrator.values_ > 0.5]
        assert len(sure) >= 4
        for value in sure:
            rows = np.isclose(confidence, value)
            assert right[rows].mean() == pytest.approx(value, abs=0.04)

    def test_other_classes_keep_their_proportions_and_the_top_its_place(self):
        log_proba, codes = many(300)
        proba = HistogramBinning().fit(log_proba, codes).predict_proba(log_proba)
        np.testing.assert_array_equal(proba.argmax(axis=1), log_proba.argmax(axis=1))
        rows = np.arange(300)[:, None]
        others = np.argsort(log_proba, axis=1)[:, :-1]
        before, after = np.exp(log_proba)[rows, others], proba[rows, others]
        np.testing.assert_allclose(
            after / after.sum(axis=1, keepdims=True), before / before.sum(axis=1, keepdims=True)
        )

    @pytest.mark.parametrize("parameters", [{"n_bins": 0}, {"pseudo_count": 0}])
    def test_bad_parameters(self, parameters):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            HistogramBinning(**parameters).fit(np.zeros((2, 2)), [0, 1])


class TestScalingBinning:
    def test_answers_are_mean_outputs_of_the_scaling(self):
        log_proba, y = binary(500)
        calibrator = ScalingBinning(scaling=TemperatureScaling(), n_bins=5).fit(log_proba, y)
        smooth = TemperatureScaling().fit(log_proba, y).predict_proba(log_proba)[:, 1]
        expected = np.sort(smooth).reshape(5, 100).mean(axis=1)
        np.testing.assert_allclose(calibrator.values_, expected, rtol=1e-9)
        binned = calibrator.predict_proba(log_proba)[:, 1]
        np.testing.assert_allclose(np.unique(binned.round(12)), expected, rtol=1e-9)
        np.testing.assert_allclose(binned[smooth.argsort()], np.repeat(expected, 100), rtol=1e-9)

    def test_top_label_of_many_classes(self):
        log_proba, codes = many(500)
        calibrator = ScalingBinning(scaling=TemperatureScaling(), n_bins=5).fit(log_proba, codes)
        smooth = TemperatureScaling().fit(log_proba, codes).predict_proba(log_proba)
        expected = np.sort(smooth.max(axis=1)).reshape(5, 100).mean(axis=1)
        np.testing.assert_allclose(calibrator.values_, expected, rtol=1e-9)
        proba = calibrator.predict_proba(log_proba)
        np.testing.assert_array_equal(proba.argmax(axis=1), smooth.argmax(axis=1))

    def test_varies_less_than_a_histogram(self):
        errors = {HistogramBinning: [], ScalingBinning: []}
        test, _ = binary(2000, seed=99)
        truth = expit(test[:, 1] / 3)
        for seed in range(10):
            data = binary(200, seed=seed)
            for kind, values in errors.items():
                proba = kind().fit(*data).predict_proba(test)[:, 1]
                values.append(((proba - truth) ** 2).mean())
        assert np.mean(errors[ScalingBinning]) < np.mean(errors[HistogramBinning]) / 2

    def test_the_scaling_given_is_not_fitted(self):
        log_proba, y = binary(100)
        mine = TemperatureScaling(prior_temperature=3.0)
        calibrator = ScalingBinning(scaling=mine).fit(log_proba, y)
        assert not hasattr(mine, "temperature_")
        assert calibrator.scaling_.prior_temperature == 3.0
        assert calibrator.parameters_["temperature"] == calibrator.scaling_.temperature_
        assert calibrator.set_params(scaling__prior_temperature=4.0).scaling is mine

    def test_certain_outputs_stay_finite(self):
        log_proba = np.array([[0.0, 25.0], [25.0, 0.0]] * 30)
        scaling = TemperatureScaling(prior_temperature=0.02, prior_scale=0.01)
        calibrator = ScalingBinning(scaling=scaling).fit(log_proba, [1, 0] * 30)
        assert calibrator.scaling_.temperature_ < 0.05  # log-odds of more than 500
        assert np.isfinite(calibrator.predict_log_proba(log_proba)).all()

    def test_bad_scaling(self):
        with pytest.raises(ValueError, match="scaling"):
            ScalingBinning(scaling="platt").fit(np.zeros((2, 2)), [0, 1])
