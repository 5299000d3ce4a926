"""Risk and coverage against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import aurc, risk_coverage_curve, selective_risk

rng = np.random.default_rng(0)
PROBA = rng.dirichlet([1, 1, 1], 300)
TRUTH = np.array([rng.choice(3, p=p) for p in PROBA])


def by_hand(y, proba):
    order = np.argsort(-proba.max(axis=1))
    wrong = (proba.argmax(axis=1) != y)[order]
    return np.cumsum(wrong) / np.arange(1, len(y) + 1)


def test_the_curve_and_its_area():
    curve = risk_coverage_curve(TRUTH, PROBA)
    np.testing.assert_allclose(curve.risk, by_hand(TRUTH, PROBA))
    np.testing.assert_allclose(curve.coverage, np.arange(1, 301) / 300)
    np.testing.assert_allclose(curve.threshold, np.sort(PROBA.max(axis=1))[::-1])
    assert aurc(TRUTH, PROBA) == pytest.approx(by_hand(TRUTH, PROBA).mean())
    assert selective_risk(TRUTH, PROBA, coverage=0.5) == pytest.approx(curve.risk[149])
    assert selective_risk(TRUTH, PROBA, coverage=1.0) == pytest.approx(curve.risk[-1])


def test_ties_do_not_depend_on_the_order_of_rows():
    proba = PROBA.round(1)
    proba /= proba.sum(axis=1, keepdims=True)
    order = rng.permutation(300)
    assert aurc(TRUTH, proba) == pytest.approx(aurc(TRUTH[order], proba[order]))
    assert selective_risk(TRUTH, proba, coverage=0.3) == pytest.approx(
        selective_risk(TRUTH[order], proba[order], coverage=0.3)
    )


def test_rows_that_share_the_last_confidence_count_in_part():
    y, p = ["b", "b", "a", "b"], [0.9, 0.8, 0.8, 0.6]
    assert selective_risk(y, p, coverage=0.5) == pytest.approx(0.25)  # one sure, one half wrong
    assert aurc(y, p) == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 4) / 4)


def test_a_confidence_that_tells_nothing_has_the_error_rate_as_its_area():
    proba = np.tile([0.2, 0.5, 0.3], (300, 1))
    assert aurc(TRUTH, proba) == pytest.approx((TRUTH != 1).mean())


@pytest.mark.parametrize("measure", [aurc, selective_risk])
def test_a_weight_of_two_is_the_row_twice(measure):
    weight = rng.integers(0, 3, 300)
    twice = np.repeat(np.arange(300), weight)
    assert measure(TRUTH, PROBA, sample_weight=weight) == pytest.approx(
        measure(TRUTH[twice], PROBA[twice])
    )


@pytest.mark.parametrize("coverage", [0, 1.1, -1, "all", None])
def test_a_coverage_that_means_nothing(coverage):
    with pytest.raises(ValueError, match="coverage"):
        selective_risk(TRUTH, PROBA, coverage=coverage)
