import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics import (
    binning,
    calibration_error_interval,
    calibration_noise_floor,
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    reliability_curve,
)
from skllm_calib.metrics.binning import assign_bins, bins_of, judge, place, summarise
from skllm_calib.metrics.simplex import _split

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


def swept_by_hand(confidence, hit):
    """Bin numbers of sorted rows without ties, tried one number of bins after the other."""
    n_rows = len(hit)
    best = np.zeros(n_rows, dtype=int)
    for n_bins in range(2, n_rows + 1):
        number = np.floor((np.arange(n_rows) + 0.5) / n_rows * n_bins + 1e-9).astype(int)
        accuracy = [hit[number == one].mean() for one in range(n_bins)]
        if (np.diff(accuracy) < 0).any():
            break
        best = number
    return best


@pytest.mark.parametrize("seed", range(6))
def test_sweep_takes_the_largest_number_of_bins_that_stay_monotone(seed):
    y, p = calibrated(np.random.default_rng(seed), 60 + 40 * seed)
    order = np.argsort(p)
    number = swept_by_hand(p[order], y[order])
    judged = judge(check_input(y[order], p[order]))
    assert place(judged, "sweep", "uniform").tolist() == number.tolist()
    assert 2 <= number.max() + 1 < len(y) / 3
    gaps = [abs((y - p)[order][number == one].sum()) for one in range(number.max() + 1)]
    for strategy in ("uniform", "quantile"):
        error = expected_calibration_error(y, p, n_bins="sweep", strategy=strategy)
        assert error == pytest.approx(sum(gaps) / len(y), abs=1e-12)
    curve = reliability_curve(y, p, n_bins="sweep")
    assert curve.mass @ abs(curve.accuracy - curve.mean_confidence) == pytest.approx(error)
    assert (np.diff(curve.accuracy) >= 0).all()
    assert (curve.edges[1:, 0] == curve.edges[:-1, 1]).all()
    fixed = {"n_bins": number.max() + 1, "strategy": "quantile"}
    for norm in ("l1", "l2", "l2-squared"):
        swept = debiased_calibration_error(y, p, n_bins="sweep", norm=norm)
        assert swept == debiased_calibration_error(y, p, norm=norm, **fixed)


def test_sweep_of_few_values_and_of_rows_that_are_all_right():
    # Three values whose accuracies 0.5, 0.6, 1 rise: a bin for each, however unequal their masses.
    p = np.repeat([0.6, 0.8, 0.9], [50, 10, 2])
    y = np.r_[np.tile([0, 1], 25), [1] * 6, [0] * 4, [1, 1]]
    expected = (50 * 0.1 + 10 * 0.2 + 2 * 0.1) / 62
    assert expected_calibration_error(y, p, n_bins="sweep") == pytest.approx(expected)
    # A fall from the first value to the second leaves one bin.
    fallen = np.r_[np.tile([0, 1], 25), [0] * 6, [1] * 4, [1, 1]]
    fell = expected_calibration_error(fallen, p, n_bins="sweep")
    assert fell == pytest.approx(abs(fallen.mean() - p.mean()))
    q = np.linspace(0.6, 0.9, 40)
    sure = expected_calibration_error(np.ones(40), q, n_bins="sweep", labels=[0.0, 1.0])
    assert sure == pytest.approx(1 - q.mean())


def test_sweep_has_an_end(monkeypatch):
    # All right but for the second row: two thirds as many bins as rows are monotone.
    monkeypatch.setattr(binning, "_MOST_SWEPT", 50)
    y = np.r_[1, 0, np.ones(998)].astype(int)
    judged = judge(check_input(y, np.linspace(0.6, 0.9, 1000)))
    assert place(judged, "sweep", "quantile").max() + 1 == 50
    monkeypatch.setattr(binning, "_MOST_SWEPT", 1000)
    assert place(judged, "sweep", "quantile").max() + 1 == 666


def test_sweep_keeps_order_and_copies():
    y, p = calibrated(np.random.default_rng(0), 200)
    p = np.round(p, 2)
    weight = np.random.default_rng(1).integers(0, 4, 200)
    rows = np.random.default_rng(2).permutation(np.repeat(np.arange(200), weight))
    assert expected_calibration_error(y[rows], p[rows], n_bins="sweep") == pytest.approx(
        expected_calibration_error(y, p, n_bins="sweep", sample_weight=weight), abs=1e-12
    )


def test_sweep_has_less_bias_than_fifteen_bins_when_calibrated():
    swept, fixed = [], []
    for seed in range(100):
        y, p = calibrated(np.random.default_rng(seed), 500)
        swept.append(expected_calibration_error(y, p, n_bins="sweep", labels=BINARY))
        fixed.append(expected_calibration_error(y, p, strategy="quantile", labels=BINARY))
    gain = np.subtract(fixed, swept)
    assert gain.mean() > 5 * gain.std() / 100**0.5
    assert gain.mean() > 0.01


def test_sweep_where_it_means_nothing():
    with pytest.raises(ValueError, match="needs a number of bins, got n_bins='sweep'"):
        expected_calibration_error(
            *many_classes(), n_bins="sweep", kind="canonical", strategy="quantile"
        )
    with pytest.raises(ValueError, match="n_bins must be an integer of at least 1, got 'sweep'"):
        calibration_noise_floor([0.2, 0.7], n_bins="sweep")
    with pytest.raises(ValueError, match="n_bins must be an integer of at least 1, got 'swep'"):
        expected_calibration_error([0, 1], [0.2, 0.7], n_bins="swep")


@pytest.mark.parametrize("n_bins", [15, "sweep"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_class_wise_pools_the_classes(norm, n_bins):
    y, proba = many_classes(power=2.0)
    options = {"norm": norm, "n_bins": n_bins}
    each = [expected_calibration_error(y, proba, kind=k, **options) for k in range(4)]
    pooled = {"l1": np.mean(each), "l2": np.mean(np.square(each)) ** 0.5, "max": max(each)}[norm]
    found = expected_calibration_error(y, proba, kind="class-wise", **options)
    assert found == pytest.approx(pooled, abs=1e-12)
    assert found == classwise_calibration_error(y, proba, **options)


def test_debiased_class_wise_error():
    for seed, power in ((0, 1.0), (1, 3.0)):
        y, proba = many_classes(seed=seed, power=power)
        for norm in ("l1", "l2-squared"):
            each = [debiased_calibration_error(y, proba, kind=k, norm=norm) for k in range(4)]
            found = debiased_calibration_error(y, proba, kind="class-wise", norm=norm)
            assert found == pytest.approx(np.mean(each), abs=1e-12)
        root = debiased_calibration_error(y, proba, kind="class-wise")
        assert root == pytest.approx(np.sign(found) * abs(found) ** 0.5)
    draws = [
        debiased_calibration_error(*many_classes(300, seed), kind="class-wise", norm="l2-squared")
        for seed in range(200)
    ]
    assert abs(np.mean(draws)) < 3.5 * np.std(draws) / 200**0.5


def test_debiased_agrees_with_uncertainty_calibration():
    # get_binning_ce of uncertainty-calibration 0.1.4 (p=2), modes "marginal" and "top-label". It
    # estimates the variance from the labels, which is the same where a bin has one confidence.
    rng = np.random.default_rng(5)
    rows = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.1, 0.6]])
    proba = rows[rng.integers(0, 3, 400)]
    honest = proba**0.5 / (proba**0.5).sum(axis=1, keepdims=True)
    y = (rng.random((400, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    class_wise = debiased_calibration_error(y, proba, kind="class-wise")
    assert class_wise == pytest.approx(0.1117809299252747, abs=1e-10)
    top = debiased_calibration_error(y, proba)
    assert top == pytest.approx(0.11062551854380526, abs=1e-10)


def test_errors_agree_with_netcal():
    # ECE and MCE of netcal 1.4.0.
    y, proba = many_classes()
    for n_bins, ece, mce in (
        (10, 0.04709811982727665, 0.28880407879291803),
        (15, 0.04020690025584031, 0.11717992884200723),
    ):
        assert expected_calibration_error(y, proba, n_bins=n_bins) == pytest.approx(ece, abs=1e-10)
        largest = expected_calibration_error(y, proba, n_bins=n_bins, norm="max")
        assert largest == pytest.approx(mce, abs=1e-10)
    by_class = expected_calibration_error(y, proba, n_bins=10, kind=1)
    assert by_class == pytest.approx(0.03193557009431459, abs=1e-10)
    equal_mass = expected_calibration_error(y, proba, n_bins=12, strategy="quantile")
    assert equal_mass == pytest.approx(0.030799244010012012, abs=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["top-label", 0, 1])
def test_rows_in_pieces_and_all_at_once_give_the_same(kind, weighted):
    y, p = calibrated(np.random.default_rng(0), 100_000)
    weight = np.random.default_rng(1).random(len(y)) if weighted else None
    options = {"labels": BINARY, "sample_weight": weight}
    pieces = bins_of(check_input(y, p, flat=True, **options), kind, 15, "uniform")
    judged = judge(check_input(y, p, **options), kind)
    confidence, hit, weight = judged
    number = assign_bins(confidence, weight, 15, "uniform")
    for found, other in zip(pieces, summarise(judged, number), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-10)
    # And as the definitions have it.
    for one, (mass, gap, noise, null_noise) in enumerate(
        zip(pieces.mass, pieces.gap, pieces.noise, pieces.null_noise, strict=True)
    ):
        here = number == pieces.number[one]
        w, residual = weight[here], (hit - confidence)[here]
        assert mass == pytest.approx(w.sum() / weight.sum())
        assert gap == pytest.approx(w @ residual / w.sum(), abs=1e-12)
        pairs = w.sum() ** 2 - w @ w
        assert noise == pytest.approx(
            max((w**2 @ residual**2 - w @ w * gap**2) / pairs, 0.0), rel=1e-8, abs=1e-15
        )
        spread = confidence[here] * (1 - confidence[here])
        assert null_noise == pytest.approx(w**2 @ spread / w.sum() ** 2, rel=1e-8)


def test_nothing_is_written_to_what_the_caller_gave():
    y, p = calibrated(np.random.default_rng(0), 50)
    both = np.column_stack([1 - p, p])
    for array in (y, p, both):
        array.setflags(write=False)
    for proba in (p, both):
        for metric in (
            expected_calibration_error,
            classwise_calibration_error,
            debiased_calibration_error,
            reliability_curve,
            calibration_error_interval,
        ):
            metric(y, proba)


@pytest.mark.parametrize("n_bins", [1, 2, 7, 15, 400])
def test_bins_of_equal_mass_with_and_without_weights_are_the_same(n_bins):
    rng = np.random.default_rng(n_bins)
    for confidence in (rng.random(300), rng.integers(0, 9, 300) / 8, np.full(5, 0.3)):
        plain = assign_bins(confidence, np.ones(confidence.size), n_bins, "quantile")
        weighted = assign_bins(confidence, np.full(confidence.size, 2.0), n_bins, "quantile")
        assert plain.tolist() == weighted.tolist()
