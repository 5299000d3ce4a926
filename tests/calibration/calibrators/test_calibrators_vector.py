"""Vector scaling: derivatives, known answers, shrinkage, speed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning

from skllm_calib.calibration.calibrators.vector import _Posterior
from skllm_calib.calibrators import TemperatureScaling, VectorScaling


def simulate(n_rows, n_classes=4, temperature=2.5, bias=None, noise=0.0, seed=0):
    """Scores which temperature and bias set right but for a share of random labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    wrong = rng.uniform(size=n_rows) < noise
    codes[wrong] = rng.integers(n_classes, size=wrong.sum())
    shift = np.zeros(n_classes) if bias is None else np.asarray(bias)
    return log_softmax((logits - shift) * temperature, axis=1), codes


@pytest.mark.parametrize("mixed", [True, False])
def test_derivatives(mixed):
    log_proba, codes = simulate(50)
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=50)
    posterior = _Posterior(log_proba, codes, weight, centre=-0.7, precision=2.0, mixed=mixed)
    for seed in range(3):
        theta = np.random.default_rng(seed).normal(scale=0.7, size=5 + mixed)
        gradient = approx_fprime(theta, lambda t: posterior.loss(t, 0.6)[0], 1e-7)
        np.testing.assert_allclose(posterior.loss(theta, 0.6)[1], gradient, atol=1e-3)
        hessian = approx_fprime(theta, lambda t: posterior.loss(t, 0.6)[1], 1e-7)
        np.testing.assert_allclose(posterior.hessian(theta, 0.6), hessian, atol=1e-3)


def test_recovers_temperature_bias_and_noise():
    bias = np.array([1.0, -0.5, 0.0, -0.5])
    log_proba, codes = simulate(20_000, bias=bias, noise=0.04)
    calibrator = VectorScaling().fit(log_proba, codes)
    assert calibrator.temperature_ == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(calibrator.bias_, bias, atol=0.1)
    assert calibrator.bias_.sum() == pytest.approx(0.0, abs=1e-8)
    assert calibrator.uniform_mix_ == pytest.approx(0.04, abs=0.01)


def test_bias_shrinks_without_evidence():
    log_proba, codes = simulate(200)
    calibrator = VectorScaling().fit(log_proba, codes)
    assert calibrator.bias_scale_ < 0.2
    assert np.abs(calibrator.bias_).max() < 0.15
    assert max(calibrator.log_evidence_, key=calibrator.log_evidence_.get) == 0.1
    biased = VectorScaling().fit(*simulate(200, bias=[2.0, -1.0, 0.0, -1.0]))
    assert biased.bias_scale_ > 0.9
    assert max(biased.log_evidence_, key=biased.log_evidence_.get) >= 1.0


def test_averages_the_modes_by_their_evidence():
    log_proba, codes = simulate(100, bias=[0.4, -0.2, 0.0, -0.2])
    average = VectorScaling(uniform_mix=False).fit(log_proba, codes)
    weights = softmax(list(average.log_evidence_.values()))
    fits = [
        VectorScaling(bias_scale=scale, uniform_mix=False).fit(log_proba, codes)
        for scale in average.log_evidence_
    ]
    assert weights.max() < 0.9  # else this would show nothing
    bias = weights @ [fit.bias_ for fit in fits]
    np.testing.assert_allclose(average.bias_, bias, atol=1e-6)
    temperature = np.exp(weights @ np.log([fit.temperature_ for fit in fits]))
    assert average.temperature_ == pytest.approx(temperature, rel=1e-6)


def test_evidence_decides_about_the_mixture():
    """Many random labels among confident scores call for it, none at all do not."""
    clean = simulate(2000, seed=1)
    mixed = VectorScaling(uniform_mix=True).fit(*clean).uniform_mix_
    assert VectorScaling().fit(*clean).uniform_mix_ < mixed / 3
    noisy = simulate(2000, noise=0.1)
    assert VectorScaling().fit(*noisy).uniform_mix_ == pytest.approx(
        VectorScaling(uniform_mix=True).fit(*noisy).uniform_mix_, rel=0.01
    )


@pytest.mark.parametrize("mixed", [True, False])
def test_evidence_of_a_scale_agrees_with_an_integral(mixed):
    """One class: the labels say nothing, so the evidence of the mixture's prior is one."""
    posterior = _Posterior(
        np.zeros((5, 1)), np.zeros(5, int), np.ones(5), centre=-0.7, precision=2.0, mixed=mixed
    )
    mode = posterior.mode(posterior.start(), 1.0)
    plain = _Posterior(
        np.zeros((5, 1)), np.zeros(5, int), np.ones(5), centre=-0.7, precision=2.0, mixed=False
    )
    without = plain.log_evidence(plain.mode(plain.start(), 1.0), 1.0)
    # Laplace's approximation of a Beta(1.2, 20) in its logit is good to a few per cent.
    assert posterior.log_evidence(mode, 1.0) == pytest.approx(without, abs=0.1)


def test_beats_temperature_where_classes_are_biased():
    log_proba, codes = simulate(4000, bias=[1.0, -0.5, 0.0, -0.5])
    rows = np.arange(200, 4000), codes[200:]
    vector = VectorScaling().fit(log_proba[:200], codes[:200])
    temperature = TemperatureScaling().fit(log_proba[:200], codes[:200])
    gain = (
        vector.predict_log_proba(log_proba)[rows] - temperature.predict_log_proba(log_proba)[rows]
    )
    assert gain.mean() > 0.05


def test_fixed_scale_without_mixture():
    log_proba, codes = simulate(300)
    calibrator = VectorScaling(bias_scale=1e-4, uniform_mix=False).fit(log_proba, codes)
    temperature = TemperatureScaling().fit(log_proba, codes).temperature_
    assert calibrator.uniform_mix_ == 0.0
    assert calibrator.bias_scale_ == pytest.approx(1e-4)
    assert calibrator.temperature_ == pytest.approx(temperature, rel=1e-4)
    assert calibrator.parameters_["bias"] == calibrator.bias_.tolist()


def test_absent_class_becomes_less_likely():
    log_proba, codes = simulate(500)
    rows = codes < 3
    calibrator = VectorScaling().fit(log_proba[rows], codes[rows], classes=range(4))
    assert calibrator.bias_.argmin() == 3


def test_warns_at_a_bound():
    log_proba, codes = simulate(2000, n_classes=2)
    with pytest.warns(ConvergenceWarning, match="temperature_ ended at the edge"):
        VectorScaling(prior_scale=10, uniform_mix=False).fit(log_proba, 1 - codes)


@pytest.mark.parametrize("scale", [0, -1.0, "large"])
def test_bad_scale(scale):
    with pytest.raises(ValueError, match="bias_scale"):
        VectorScaling(bias_scale=scale).fit(np.zeros((2, 2)), [0, 1])
