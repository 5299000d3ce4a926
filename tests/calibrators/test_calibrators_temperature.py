"""Temperature scaling against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning

from skllm_calib.calibrators import TemperatureScaling


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
