"""The spline error against a least-squares fit with another basis of the same splines."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import expected_calibration_error, spline_calibration_error

BINARY = [0, 1]


def draw(n, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    p = 0.5 + 0.5 * rng.beta(1.75, 0.75, n)
    return (rng.random(n) < p - shift).astype(int), p


def by_truncated_powers(hit, confidence, n_knots=6):
    """Natural cubic splines in the basis of Hastie, Tibshirani and Friedman (5.4, 5.5)."""
    order = np.argsort(confidence)
    gap = (hit - confidence)[order] / len(hit)
    t = (np.arange(len(hit)) + 0.5) / len(hit)
    knots = np.linspace(0, 1, n_knots)

    def d(k, x, power):
        ends = [np.maximum(x - knots[j], 0) ** power for j in (k, n_knots - 1)]
        return (ends[0] - ends[1]) / (knots[-1] - knots[k])

    def columns(x, power, factor):
        bends = [factor * (d(k, x, power) - d(n_knots - 2, x, power)) for k in range(n_knots - 2)]
        straight = [np.ones_like(x), x] if power == 3 else [np.zeros_like(x), np.ones_like(x)]
        return np.column_stack(straight + bends)

    heights, *_ = np.linalg.lstsq(columns(t, 3, 1.0), np.cumsum(gap) - gap / 2, rcond=None)
    return np.abs(columns(t, 2, 3.0) @ heights).mean()


@pytest.mark.parametrize(("shift", "n_knots"), [(0.0, 6), (0.1, 6), (0.05, 4)])
def test_it_is_the_mean_absolute_slope(shift, n_knots):
    y, p = draw(300, shift)
    assert spline_calibration_error(y, p, n_knots=n_knots) == pytest.approx(
        by_truncated_powers(y, p, n_knots), abs=1e-8
    )


def test_it_finds_the_true_error():
    for shift in (0.0, 0.1):
        y, p = draw(50_000, shift)
        assert spline_calibration_error(y, p) == pytest.approx(shift, abs=0.006)


def test_one_confidence_has_one_gap():
    y = np.repeat([1, 0], [70, 30])
    p = np.full(100, 0.9)
    assert spline_calibration_error(y, p) == pytest.approx(0.2, abs=1e-10)
    assert spline_calibration_error(y, p) == pytest.approx(expected_calibration_error(y, p))


def test_neither_order_nor_scale_of_weights_matters():
    y, p = draw(400, 0.05)
    p = p.round(1)  # many ties
    weight = np.random.default_rng(1).random(400) + 0.1
    order = np.random.default_rng(2).permutation(400)
    whole = spline_calibration_error(y, p, sample_weight=weight)
    assert spline_calibration_error(
        y[order], p[order], sample_weight=9 * weight[order]
    ) == pytest.approx(whole, abs=1e-10)
    assert whole != pytest.approx(spline_calibration_error(y, p), abs=1e-4)


@pytest.mark.parametrize("n_knots", [1, 2.5, True])
def test_a_number_of_knots_that_means_nothing(n_knots):
    with pytest.raises(ValueError, match="n_knots"):
        spline_calibration_error([0, 1], [0.4, 0.6], n_knots=n_knots)
