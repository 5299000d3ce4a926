"""The level, the power and the arithmetic of the test of calibration."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import (
    calibration_test,
    debiased_calibration_error,
)

BINARY = [0, 1]


def draw(n, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    p = 0.5 + 0.5 * rng.beta(1.75, 0.75, n)
    return (rng.random(n) < p - shift).astype(int), p


@pytest.mark.parametrize("statistic", ["debiased", "ks"])
@pytest.mark.parametrize("n_rows", [40, 300])
def test_a_calibrated_model_is_accused_one_time_in_twenty(statistic, n_rows):
    accused = 0
    for seed in range(200):
        y, p = draw(n_rows, seed=seed)
        found = calibration_test(
            y, p, statistic=statistic, n_simulations=99, random_state=seed, labels=BINARY
        )
        accused += found.p_value <= 0.05
    assert 1 <= accused <= 21  # 10 expected; outside with a chance below 0.1 %


@pytest.mark.parametrize("statistic", ["debiased", "ks"])
def test_a_miscalibrated_model_is_found(statistic):
    found = [
        calibration_test(*draw(500, 0.08, seed), statistic=statistic, n_simulations=99).p_value
        for seed in range(30)
    ]
    assert np.mean(np.array(found) <= 0.05) > 0.8


def kolmogorov_smirnov(confidence, hit, weight):
    order = np.argsort(confidence)
    return np.abs(np.cumsum((weight * (hit - confidence))[order])).max() / weight.sum()


def test_the_statistics_are_the_public_figures():
    y, p = draw(300)
    weight = np.random.default_rng(1).random(300)
    options = {"sample_weight": weight, "n_simulations": 19}
    assert calibration_test(y, p, **options).statistic == pytest.approx(
        debiased_calibration_error(
            y, p, n_bins=10, strategy="quantile", norm="l2-squared", sample_weight=weight
        ),
        abs=1e-12,
    )
    assert calibration_test(y, p, statistic="ks", **options).statistic == pytest.approx(
        kolmogorov_smirnov(np.maximum(p, 1 - p), (p > 0.5) == y, weight), abs=1e-12
    )


def test_the_p_value_counts_draws():
    # One confidence of 0.9 and 10 rows: P(at most 6 hits) = 0.0128, and the debiased square is
    # larger only for still fewer hits.
    y, p = np.repeat([1, 0], [6, 4]), np.full(10, 0.9)
    found = calibration_test(y, p, n_simulations=20_000)
    assert found.p_value == pytest.approx(0.0128, abs=0.003)
    assert found.statistic > found.critical_value
    flawless = calibration_test(np.ones(10), np.full(10, 0.999), labels=BINARY)
    assert flawless.p_value > 0.5


def test_order_does_not_matter_and_the_seed_does():
    y, p = draw(200, 0.05)
    order = np.random.default_rng(1).permutation(200)
    whole = calibration_test(y, p)
    assert calibration_test(y[order], p[order]) == pytest.approx(whole, abs=1e-12)
    assert calibration_test(y, p, random_state=1).critical_value != whole.critical_value


@pytest.mark.parametrize(
    "options", [{"statistic": "chi2"}, {"n_simulations": 10}, {"n_bins": 0}, {"kind": "z"}]
)
def test_wrong_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        calibration_test(*draw(50), **options)
