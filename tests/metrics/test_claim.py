"""Who may claim: false claims are rare, true ones come with rows, and the sentence says so."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import (
    calibration_error_interval,
    calibration_noise_floor,
    can_claim,
    expected_calibration_error,
)

BINARY = [0, 1]
MASS = {"n_bins": 10, "strategy": "quantile"}


def draw(rng, n_rows, shift=0.0, shape=(1.75, 0.75)):
    p = 0.5 + 0.5 * rng.beta(*shape, n_rows)
    return (rng.random(n_rows) < p - shift).astype(int), p


def claims(n_draws, n_rows, shift, shape=(1.75, 0.75)):
    rng = np.random.default_rng(0)
    return [
        can_claim(*draw(rng, n_rows, shift, shape), n_resamples=60, labels=BINARY)
        for _ in range(n_draws)
    ]


@pytest.mark.parametrize(("n_rows", "shape"), [(5000, (1.75, 0.75)), (1000, (2.7, 0.3))])
def test_false_claims_are_rare(n_rows, shape):
    said = [bool(claim) for claim in claims(100, n_rows, 0.02, shape)]
    assert sum(said) <= 12  # 5 expected at most, up to chance


def test_calibrated_models_pass_when_there_are_rows():
    many = claims(40, 5000, 0.0)
    assert sum(map(bool, many)) >= 24  # four of five
    few = claims(40, 500, 0.0)
    assert not any(few)
    assert {claim.verdict for claim in few} == {"not enough rows"}
    more = [claim.n_more for claim in few if claim.n_more is not None]
    assert len(more) >= 20
    assert 2000 < np.median(more) < 10_000


def test_a_wrong_model_is_told_so():
    found = claims(20, 3000, 0.06)
    assert sum(claim.verdict == "no" for claim in found) >= 18
    assert all(claim.n_more is None for claim in found)


def test_the_rows_that_it_asks_for_do():
    rng = np.random.default_rng(1)
    claim = can_claim(*draw(rng, 1500), labels=BINARY)
    assert not claim
    n_rows = claim.n + claim.n_more
    passed = [bool(can_claim(*draw(rng, n_rows), n_resamples=60)) for _ in range(20)]
    assert sum(passed) >= 10


def test_the_figures_are_those_of_the_other_metrics():
    y, p = draw(np.random.default_rng(0), 800, 0.05)
    claim = can_claim(y, p)
    interval = calibration_error_interval(y, p, confidence=0.9, **MASS)
    assert (claim.lower_bound, claim.estimate, claim.upper_bound) == pytest.approx(
        (interval.low, interval.estimate, interval.high), abs=1e-12
    )
    assert claim.estimate == pytest.approx(expected_calibration_error(y, p, **MASS))
    assert claim.noise_floor == pytest.approx(calibration_noise_floor(p, **MASS))
    assert claim.n == 800


def test_one_bin_by_hand():
    # 100 rows of one confidence: gap 0.05, standard error of a mean of 85 hits in 100.
    y, p = np.repeat([1, 0], [85, 15]), np.full(100, 0.9)
    claim = can_claim(y, p, 0.2, n_resamples=20_000)
    assert claim.estimate == pytest.approx(0.05)
    assert claim.upper_bound == pytest.approx(0.05 + 1.645 * (0.85 * 0.15 / 100) ** 0.5, rel=0.06)
    assert claim
    assert not can_claim(y, p, 0.1)


def test_order_scale_of_weights_and_classes():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.3] * 4, 400)
    y = (rng.random((400, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    weight = rng.random(400) + 0.5
    order = rng.permutation(400)
    one = can_claim(y, proba, sample_weight=weight)
    two = can_claim(y[order], proba[order], sample_weight=3 * weight[order])
    assert two.upper_bound == pytest.approx(one.upper_bound, abs=1e-12)
    assert two.n_more == one.n_more
    assert can_claim(y, proba, kind=2).estimate == pytest.approx(
        expected_calibration_error(y, proba, kind=2, **MASS)
    )


def test_it_is_true_only_for_yes_and_says_why():
    rng = np.random.default_rng(0)
    yes = can_claim(*draw(rng, 10_000))
    no = can_claim(*draw(rng, 3000, 0.1))
    unsure = can_claim(*draw(np.random.default_rng(4), 300))
    helpless = can_claim(*draw(np.random.default_rng(1), 100, 0.08), 0.03)
    assert bool(yes) is True
    assert bool(no) is bool(unsure) is bool(helpless) is False
    assert str(yes).startswith("Yes: with 95% confidence the error is below 2.0% (at most 1.")
    assert yes.n_more == 0
    assert str(no).startswith("No: with 95% confidence the error is not below 2.0%")
    assert f"About {unsure.n_more:,} more labelled rows" in str(unsure)
    assert "300 rows show a calibration error of" in str(unsure)
    assert helpless.verdict == "not enough rows"
    assert helpless.n_more is None
    assert "would not help" in str(helpless)


def test_a_flawless_handful_is_not_enough():
    for y, p in (([1] * 20, [0.99] * 20), ([1, 0], [0.5, 0.5])):
        claim = can_claim(y, p, labels=BINARY)
        assert claim.verdict == "not enough rows"
        assert claim.n_more > 100


def test_a_calibrated_model_that_just_missed_is_asked_for_rows():
    rng = np.random.default_rng(3)
    close = [can_claim(*draw(rng, 5000), n_resamples=60) for _ in range(40)]
    assert all(claim.n_more > 0 for claim in close if claim.verdict == "not enough rows")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 2}, "2 % is 0.02"),
        ({"target": 0}, "target"),
        ({"confidence": 0.4}, "confidence"),
        ({"n_resamples": 1}, "n_resamples"),
        ({"n_bins": 0}, "n_bins"),
        ({"kind": "z"}, "kind"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        can_claim(*draw(np.random.default_rng(0), 50), **options)
