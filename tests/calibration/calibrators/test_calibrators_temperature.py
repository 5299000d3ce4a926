"""Temperature scaling against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning

from skllm_calib.calibration.calibrators.temperature import _likelihood
from skllm_calib.calibrators import TemperatureScaling
from skllm_calib.log_proba.numerics import floor_and_normalise, log_normalise


def simulate(n_rows, temperature, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return log_softmax(logits * temperature, axis=1), codes


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_recovers_the_temperature(temperature):
    log_proba, codes = simulate(20_000, temperature)
    assert TemperatureScaling().fit(log_proba, codes).temperature_ == pytest.approx(
        temperature, rel=0.05
    )


@pytest.mark.parametrize("prior_scale", [None, 0.7, 0.1])
@pytest.mark.parametrize("n_rows", [10, 200])
def test_agrees_with_brute_force(n_rows, prior_scale):
    log_proba, codes = simulate(n_rows, 2.5, seed=n_rows)
    log_proba = np.maximum(log_proba, log_proba.max(axis=1, keepdims=True) - 25)

    def loss(log_temperature):
        out = log_softmax(log_proba / np.exp(log_temperature), axis=1)
        value = -out[np.arange(n_rows), codes].sum()
        if prior_scale is not None:
            value += ((log_temperature - np.log(2.0)) / prior_scale) ** 2 / 2
        return value

    grid = np.linspace(np.log(0.01), np.log(100), 4001)
    coarse = grid[np.argmin([loss(point) for point in grid])]
    best = minimize_scalar(
        loss, bounds=(coarse - 0.01, coarse + 0.01), method="bounded", options={"xatol": 1e-10}
    )
    calibrator = TemperatureScaling(prior_scale=prior_scale).fit(log_proba, codes, classes=range(4))
    assert np.log(calibrator.temperature_) == pytest.approx(best.x, abs=1e-6)


@pytest.mark.parametrize(("odds", "expected"), [(0.02, 1.792), (0.05, 0.02355)])
def test_finds_the_deeper_of_two_valleys(odds, expected):
    # Forty rows, all right by a hair: the prior pulls to 2, the likelihood to 0.
    codes = np.arange(40) % 2
    calibrator = TemperatureScaling().fit(odds * np.eye(2)[codes], codes)
    assert calibrator.temperature_ == pytest.approx(expected, rel=0.01)


def test_warns_at_a_bound():
    log_proba = np.log([[0.9, 0.1], [0.1, 0.9]] * 20)
    calibrator = TemperatureScaling(prior_scale=None)
    with pytest.warns(ConvergenceWarning, match="temperature_ ended at the edge"):
        calibrator.fit(log_proba, [0, 1] * 20)
    assert calibrator.temperature_ == pytest.approx(0.01)
    with pytest.warns(ConvergenceWarning, match="temperature_ ended at the edge"):
        calibrator.fit(log_proba, [1, 0] * 20)  # wrong every time
    assert calibrator.temperature_ == pytest.approx(100.0)


def test_the_prior_decides_without_information():
    calibrator = TemperatureScaling(prior_temperature=3.0).fit(np.zeros((50, 2)), [0, 1] * 25)
    assert calibrator.temperature_ == pytest.approx(3.0)
    assert calibrator.parameters_ == {"temperature": calibrator.temperature_}


@pytest.mark.parametrize("n_rows", [9000, 30_000])
def test_many_rows_reach_the_same_place_as_an_equation_solver(n_rows):
    log_proba, codes = simulate(n_rows, 2.5)
    weight = np.random.default_rng(0).random(n_rows)
    scores = floor_and_normalise(log_proba)

    def slope(theta):
        scaled = np.exp(theta) * scores
        q = np.exp(log_softmax(scaled, axis=1))
        missed = (q * scaled).sum(axis=1) - scaled[np.arange(n_rows), codes]
        return weight @ missed + (theta + np.log(2.0)) / 0.7**2

    expected = np.exp(-brentq(slope, -2.0, 0.0, xtol=1e-14))
    calibrator = TemperatureScaling().fit(log_proba, codes, sample_weight=weight)
    assert calibrator.temperature_ == pytest.approx(expected, rel=1e-11)


def test_the_sample_of_sorted_rows_is_a_fair_one():
    log_proba, codes = simulate(20_000, 2.5)
    expected = TemperatureScaling().fit(log_proba, codes).temperature_
    order = np.lexsort((log_proba[:, 0], codes))
    found = TemperatureScaling().fit(log_proba[order], codes[order]).temperature_
    assert found == pytest.approx(expected, rel=1e-11)
    # A sample that says nothing does no harm: every fourth row is flat, and only those are in it.
    log_proba[::4] = 0.0
    known = np.arange(20_000) % 4 > 0
    found = TemperatureScaling().fit(log_proba, codes).temperature_
    assert found == pytest.approx(
        TemperatureScaling().fit(log_proba[known], codes[known]).temperature_, rel=1e-9
    )


def test_derivatives_of_the_likelihood():
    log_proba, codes = simulate(300, 2.0)
    columns = (log_proba - log_proba.max(axis=1, keepdims=True)).T
    own = columns[codes, np.arange(300)]
    weight = np.random.default_rng(0).random(300)
    low, here, high = (_likelihood(columns, own, weight, slope) for slope in (0.6999, 0.7, 0.7001))
    assert here[0] == pytest.approx(
        -weight @ log_softmax(0.7 * log_proba, axis=1)[np.arange(300), codes]
    )
    assert (high[0] - low[0]) / 2e-4 == pytest.approx(here[1], rel=1e-5)
    assert (high[1] - low[1]) / 2e-4 == pytest.approx(here[2], rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (70_000, 2), (500, 700), (3, 40_000)])
def test_normalising_in_pieces(shape):
    scores = np.random.default_rng(0).normal(scale=20.0, size=shape)
    before = scores.copy()
    np.testing.assert_allclose(log_normalise(scores), log_softmax(scores, axis=1), atol=1e-13)
    floored = np.maximum(scores, scores.max(axis=1, keepdims=True) - 25)
    found = floor_and_normalise(scores)
    deep = scores < scores.max(axis=1, keepdims=True) - 24.99
    np.testing.assert_allclose(
        np.where(deep, 0, found), np.where(deep, 0, log_softmax(floored, axis=1)), atol=1e-8
    )
    np.testing.assert_allclose(found, log_softmax(floored, axis=1), atol=0.01)
    for row, raw in list(zip(found, scores, strict=True))[:500]:
        assert np.array_equal(np.argsort(row), np.argsort(raw))  # nothing is tied, or swapped
    np.testing.assert_array_equal(scores, before)
    scores[:, 1:] = -np.inf
    assert (log_normalise(scores)[:, 0] == 0).all()
