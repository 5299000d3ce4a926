"""Ensemble temperature scaling: derivatives by brute force, known answers, the prior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning

from skllm_calib.calibrators import EnsembleTemperatureScaling, TemperatureScaling


def simulate(n_rows, noise=0.0, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    wrong = rng.uniform(size=n_rows) < noise
    codes[wrong] = rng.integers(n_classes, size=wrong.sum())
    return log_softmax(2.5 * logits, axis=1), codes


def test_temperature_is_that_of_temperature_scaling():
    log_proba, codes = simulate(300)
    for options in ({}, {"prior_scale": None}, {"prior_temperature": 5.0, "prior_scale": 0.1}):
        ours = EnsembleTemperatureScaling(**options).fit(log_proba, codes)
        assert ours.temperature_ == TemperatureScaling(**options).fit(log_proba, codes).temperature_


def test_weights_agree_with_brute_force():
    log_proba, codes = simulate(400, noise=0.1)
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=400)
    calibrator = EnsembleTemperatureScaling().fit(log_proba, codes, weight)
    rows = np.arange(400), codes
    scaled = softmax(log_proba / calibrator.temperature_, axis=1)[rows]
    members = np.stack([scaled, np.exp(log_proba)[rows], np.full(400, 0.25)])

    def loss(free):
        shares = softmax([0.0, *free])
        return -weight @ np.log(shares @ members) - np.array([38, 1, 1]) @ np.log(shares)

    best = minimize(loss, [-3.0, -3.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 0})
    np.testing.assert_allclose(calibrator.weights_, softmax([0.0, *best.x]), atol=1e-6)
    expected = calibrator.weights_ @ np.stack(
        [
            softmax(log_proba / calibrator.temperature_, axis=1)[0],
            np.exp(log_proba[0]),
            np.full(4, 0.25),
        ]
    )
    np.testing.assert_allclose(calibrator.predict_proba(log_proba[:1])[0], expected)


def test_wrong_labels_are_answered_by_mixing():
    log_proba, codes = simulate(10_000, noise=0.3)
    rows = np.arange(5000, 10_000), codes[5000:]
    loss = {}
    for kind in (EnsembleTemperatureScaling, TemperatureScaling):
        calibrator = kind().fit(log_proba[:5000], codes[:5000])
        loss[kind] = -calibrator.predict_log_proba(log_proba)[rows].mean()
    assert loss[EnsembleTemperatureScaling] < loss[TemperatureScaling] - 0.01


def test_a_handful_of_rows_leaves_the_temperature_alone():
    log_proba, codes = simulate(5)
    calibrator = EnsembleTemperatureScaling().fit(log_proba, codes, classes=range(4))
    assert calibrator.weights_[0] > 0.9
    assert (calibrator.weights_ > 0).all()
    assert calibrator.parameters_["weights"] == calibrator.weights_.tolist()


def test_order_within_rows_stays():
    log_proba, codes = simulate(200, noise=0.1)
    proba = EnsembleTemperatureScaling().fit(log_proba, codes).predict_proba(log_proba)
    np.testing.assert_array_equal(proba.argsort(axis=1), log_proba.argsort(axis=1))


def test_warns_at_a_bound():
    log_proba = np.log([[0.9, 0.1], [0.1, 0.9]] * 20)
    with pytest.warns(ConvergenceWarning, match="temperature_ ended at the edge"):
        EnsembleTemperatureScaling(prior_scale=None).fit(log_proba, [0, 1] * 20)
