import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from skllm_calib.metrics import (
    calibration_error_interval,
    calibration_noise_floor,
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    reliability_curve,
)
from skllm_calib.metrics._binning import assign_bins
from skllm_calib.metrics._simplex import _split

BINARY = [0, 1]


def calibrated(rng, n_rows, shift=0.0):
    """Binary probabilities with mean confidence 0.85 and outcomes that follow them."""
    p = 0.5 + 0.5 * rng.beta(1.75, 0.75, n_rows)
    return (rng.random(n_rows) < p - shift).astype(int), p


def three_classes(n_rows=300, seed=0):
    rng = np.random.default_rng(seed)
    # Rounding makes many ties, within and across rows.
    proba = np.round(rng.dirichlet([0.8] * 3, n_rows), 1)
    proba[:, 2] = 1 - proba[:, 0] - proba[:, 1]
    proba = np.clip(proba, 0, 1)
    return rng.integers(0, 3, n_rows), proba


def test_by_hand():
    # Confidences 0.9 0.9 0.9 0.9 (3 of 4 right) and 0.6 0.6 (1 of 2 right).
    p = [0.1, 0.9, 0.9, 0.9, 0.6, 0.4]
    y = [0, 1, 1, 0, 1, 1]
    assert expected_calibration_error(y, p, n_bins=5) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert expected_calibration_error(y, p, norm="max") == pytest.approx(0.15)
    assert expected_calibration_error(y, p, norm="l2") == pytest.approx(
        ((4 * 0.15**2 + 2 * 0.1**2) / 6) ** 0.5
    )
    # As the positive class: 0.1 (0 of 1), 0.4 (1 of 1), 0.6 (1 of 1), 0.9 (2 of 3).
    expected = (0.1 + 0.6 + 0.4 + 3 * (0.9 - 2 / 3)) / 6
    assert expected_calibration_error(y, p, kind=1) == pytest.approx(expected)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_one_column_equals_two(strategy, norm):
    y, p = calibrated(np.random.default_rng(0), 200)
    both = np.column_stack([1 - p, p])
    options = {"strategy": strategy, "norm": norm}
    for metric in (expected_calibration_error, classwise_calibration_error):
        assert metric(y, p, **options) == metric(y, both, **options)
        assert metric(y, 1 - p, pos_label=0, **options) == pytest.approx(metric(y, p, **options))


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_order_of_the_rows_does_not_matter(strategy):
    y, proba = three_classes()
    order = np.random.default_rng(1).permutation(len(y))
    weight = np.random.default_rng(2).random(len(y))
    for metric in (
        expected_calibration_error,
        classwise_calibration_error,
        debiased_calibration_error,
        calibration_error_interval,
    ):
        one = metric(y, proba, strategy=strategy, sample_weight=weight)
        two = metric(y[order], proba[order], strategy=strategy, sample_weight=weight[order])
        np.testing.assert_allclose(one, two, atol=1e-12)
    floors = [
        calibration_noise_floor(p, strategy=strategy, n_simulations=20)
        for p in (proba, proba[order])
    ]
    assert floors[0] == pytest.approx(floors[1], abs=1e-12)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("metric", [expected_calibration_error, classwise_calibration_error])
def test_weights_are_repetitions(strategy, metric):
    y, proba = three_classes()
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    repeated = metric(np.repeat(y, weight), np.repeat(proba, weight, axis=0), strategy=strategy)
    assert metric(y, proba, sample_weight=weight, strategy=strategy) == pytest.approx(repeated)


def test_scale_of_weights_does_not_matter_to_noise():
    y, p = calibrated(np.random.default_rng(0), 200)
    for norm in ("l1", "l2", "l2-squared"):
        plain = debiased_calibration_error(y, p, norm=norm)
        scaled = debiased_calibration_error(y, p, norm=norm, sample_weight=np.full(200, 3.5))
        assert scaled == pytest.approx(plain)
    assert calibration_noise_floor(p, sample_weight=np.full(200, 3.5)) == pytest.approx(
        calibration_noise_floor(p)
    )


def test_equal_mass_bins():
    p = np.random.default_rng(0).random(150)
    number = assign_bins(p, np.ones(150), 15, "quantile")
    assert np.bincount(number).tolist() == [10] * 15
    tied = assign_bins(np.repeat([0.2, 0.9], [40, 60]), np.ones(100), 15, "quantile")
    assert len(np.unique(tied)) == 2
    # 1 - 0.45 and 0.55 differ in the last bit at most and belong together.
    assert len(set(assign_bins(np.array([0.55, 1 - 0.45]), np.ones(2), 2, "quantile"))) == 1


def test_curve_agrees_with_scikit_learn_and_with_the_error():
    y, p = calibrated(np.random.default_rng(0), 400)
    curve = reliability_curve(y, p, kind=1, n_bins=10)
    prob_true, prob_pred = calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose(curve.accuracy, prob_true)
    np.testing.assert_allclose(curve.mean_confidence, prob_pred)
    assert curve.counts.sum() == 400
    np.testing.assert_allclose(curve.effective_count, curve.counts)
    for strategy in ("uniform", "quantile"):
        curve = reliability_curve(y, p, strategy=strategy)
        error = curve.mass @ np.abs(curve.accuracy - curve.mean_confidence)
        assert error == pytest.approx(expected_calibration_error(y, p, strategy=strategy))
        assert np.all(curve.edges[:, 0] <= curve.mean_confidence)
        assert np.all(curve.mean_confidence <= curve.edges[:, 1])
        np.testing.assert_array_less(curve.edges[:-1, 1], curve.edges[1:, 0] + 1e-12)


def test_classwise_is_the_mean_over_classes():
    y, proba = three_classes()
    errors = [expected_calibration_error(y, proba, kind=k) for k in range(3)]
    assert classwise_calibration_error(y, proba) == pytest.approx(np.mean(errors))
    largest = [expected_calibration_error(y, proba, kind=k, norm="max") for k in range(3)]
    assert classwise_calibration_error(y, proba, norm="max") == pytest.approx(max(largest))


def test_a_calibrated_model_falls_to_the_floor():
    rng = np.random.default_rng(0)
    for n_rows in (200, 1000, 5000):
        errors, floors = [], []
        for _ in range(40):
            y, p = calibrated(rng, n_rows)
            errors.append(expected_calibration_error(y, p, strategy="quantile"))
            floors.append(calibration_noise_floor(p, strategy="quantile"))
        assert np.mean(errors) == pytest.approx(np.mean(floors), rel=0.1)
    assert np.mean(floors) < 0.015


def test_floor_by_hand_and_by_simulation():
    assert calibration_noise_floor(np.full(200, 0.85)) == pytest.approx(
        (2 / np.pi * 0.85 * 0.15 / 200) ** 0.5
    )
    _, p = calibrated(np.random.default_rng(0), 500)
    for norm in ("l1", "l2"):
        simulated = calibration_noise_floor(p, norm=norm, n_simulations=400)
        assert calibration_noise_floor(p, norm=norm) == pytest.approx(simulated, rel=0.08)
    mean = calibration_noise_floor(p, n_simulations=200)
    assert calibration_noise_floor(p, n_simulations=200, quantile=0.95) > mean
    assert calibration_noise_floor(p, n_simulations=200, norm="max") > mean
    by_class = calibration_noise_floor(p, kind=0, labels=BINARY)
    assert by_class == pytest.approx(calibration_noise_floor(1 - p, kind=1, labels=BINARY), rel=0.2)


def test_debiased_by_hand():
    y = np.repeat([1, 0], [8, 2])
    # Gap 0.1, variance of the accuracy 0.8 * 0.2 / 9 (Kumar et al. 2019).
    square = 0.1**2 - 0.16 / 9
    p = np.full(10, 0.7)
    assert debiased_calibration_error(y, p, norm="l2-squared") == pytest.approx(square)
    assert debiased_calibration_error(y, p) == pytest.approx(-(abs(square) ** 0.5))
    draws = np.abs(np.random.default_rng(0).normal(0.1, (0.16 / 9) ** 0.5, 400_000))
    assert debiased_calibration_error(y, p, norm="l1") == pytest.approx(
        2 * 0.1 - draws.mean(), abs=1e-3
    )
    # One row alone borrows the variance that its confidence claims.
    alone = debiased_calibration_error([1], [0.7], norm="l2-squared", labels=BINARY)
    assert alone == pytest.approx(0.09 - 0.21)
    sure = debiased_calibration_error([1, 1], [0.7, 0.7], norm="l1", labels=BINARY)
    assert sure == pytest.approx(0.3)
    with pytest.raises(ValueError, match="l2-squared"):
        debiased_calibration_error([0, 1], [0.5, 0.5], norm="max")


def test_debiased_has_mean_zero_when_calibrated():
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(300):
        y, p = calibrated(rng, 300)
        draws.append(debiased_calibration_error(y, p, norm="l2-squared", labels=BINARY))
    standard_error = np.std(draws) / len(draws) ** 0.5
    assert abs(np.mean(draws)) < 3.5 * standard_error


@pytest.mark.parametrize(("shift", "true_error"), [(0.0, 0.0), (0.08, 0.08)])
def test_interval_covers_the_true_error(shift, true_error):
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(100):
        y, p = calibrated(rng, 300, shift)
        interval = calibration_error_interval(
            y, p, n_resamples=60, strategy="quantile", labels=BINARY
        )
        assert interval.low <= interval.estimate <= interval.high
        missed += not interval.low <= true_error <= interval.high
    assert missed <= 8  # 5 expected at most, up to chance


def test_interval_details():
    y, p = calibrated(np.random.default_rng(0), 300, 0.15)
    wide, narrow = (calibration_error_interval(y, p, confidence=c) for c in (0.99, 0.8))
    assert wide.low < narrow.low <= narrow.high < wide.high
    assert narrow.low > 0.05
    assert narrow.estimate == pytest.approx(expected_calibration_error(y, p))
    # Without a single mistake the bootstrap sees no spread, the interval still has some.
    flawless = calibration_error_interval([1] * 20, [0.95] * 20, labels=BINARY)
    assert flawless.high > flawless.estimate + 0.01
    assert calibration_error_interval([1, 0], [0.0, 1.0]).high == 1.0
    for options in ({"confidence": 1}, {"n_resamples": 1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            calibration_error_interval(y, p, **options)


def many_classes(n_rows=600, seed=0, power=1.0):
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet([0.8] * 4, n_rows)
    y = (rng.random((n_rows, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    proba = honest**power
    return y, proba / proba.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_canonical_error_of_two_classes_is_the_one_of_the_positive_class(norm, strategy):
    y, p = calibrated(np.random.default_rng(0), 300, 0.1)
    options = {"norm": norm, "strategy": strategy}
    assert expected_calibration_error(y, p, kind="canonical", **options) == pytest.approx(
        expected_calibration_error(y, p, kind=1, **options), abs=1e-12
    )
    if norm == "l2":
        assert debiased_calibration_error(y, p, kind="canonical", **options) == pytest.approx(
            debiased_calibration_error(y, p, kind=1, **options), abs=1e-12
        )


def test_canonical_error_by_hand():
    # Two bins of equal rows: total variation 0.5 * (0.5 + 0.25 + 0.25) and 0.5 * (0.2 + 0.1 + 0.1).
    proba = np.repeat([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [2, 5], axis=0)
    y = [0, 0, 1, 1, 1, 1, 1]
    options = {"kind": "canonical", "strategy": "quantile", "labels": [0, 1, 2]}
    assert expected_calibration_error(y, proba, **options) == pytest.approx((2 * 0.5 + 5 * 0.2) / 7)
    assert expected_calibration_error(y, proba, norm="max", **options) == pytest.approx(0.5)
    assert expected_calibration_error(y, proba, norm="l2", **options) == pytest.approx(
        ((2 * (0.25 + 0.0625 * 2) + 5 * (0.04 + 0.01 * 2)) / 14) ** 0.5
    )


def test_canonical_bins_hold_equal_masses_and_whole_ties():
    _, proba = many_classes(600)
    weight = np.ones(600)
    for n_bins in (1, 7, 12):
        number = _split(proba, weight, n_bins)
        assert np.bincount(number, minlength=n_bins).tolist() == pytest.approx(
            [600 / n_bins] * n_bins, abs=4
        )
    tied = _split(np.repeat(proba[:3], 50, axis=0), np.ones(150), 10)
    assert [len(set(tied[i : i + 50])) for i in (0, 50, 100)] == [1, 1, 1]
    assert len(set(tied)) == 3


def test_canonical_error_sees_what_the_top_label_hides():
    rng = np.random.default_rng(0)
    proba = np.tile([0.6, 0.3, 0.1], (4000, 1))
    y = rng.choice(3, 4000, p=[0.6, 0.1, 0.3])
    options = {"strategy": "quantile", "labels": [0, 1, 2]}
    assert expected_calibration_error(y, proba, **options) < 0.02
    assert expected_calibration_error(y, proba, kind="canonical", **options) > 0.18


def test_debiased_canonical_error_has_mean_zero_when_calibrated():
    draws = [
        debiased_calibration_error(
            *many_classes(300, seed), kind="canonical", strategy="quantile", norm="l2-squared"
        )
        for seed in range(200)
    ]
    assert abs(np.mean(draws)) < 3.5 * np.std(draws) / 200**0.5
    boastful = debiased_calibration_error(
        *many_classes(2000, power=3.0), kind="canonical", strategy="quantile"
    )
    assert boastful > 0.1


def test_canonical_error_keeps_order_and_copies():
    y, proba = many_classes()
    weight = np.random.default_rng(1).integers(0, 3, 600)
    rows = np.random.default_rng(2).permutation(np.repeat(np.arange(600), weight))
    options = {"kind": "canonical", "strategy": "quantile"}
    assert expected_calibration_error(y[rows], proba[rows], **options) == pytest.approx(
        expected_calibration_error(y, proba, sample_weight=weight, **options)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "uniform"}, "4 classes needs strategy='quantile'"),
        ({"strategy": "quantile", "n_bins": 0}, "n_bins"),
        ({"strategy": "quantile", "norm": "l1"}, "norm='l1' has no closed form"),
    ],
)
def test_canonical_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        debiased_calibration_error(*many_classes(), kind="canonical", **options)
