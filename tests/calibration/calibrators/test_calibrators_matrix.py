"""Matrix scaling: known answers, shrinkage to vector scaling, many classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning

from skllm_calib.calibrators import MatrixScaling, VectorScaling


def simulate(n_rows, n_classes=4, mixing=0.0, temperature=2.0, bias=None, seed=0):
    """Scores of which each is partly that of the class before."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    shift = np.zeros(n_classes) if bias is None else np.asarray(bias)
    mixed = (1 - mixing) * logits + mixing * np.roll(logits, 1, axis=1)
    return log_softmax((mixed - shift) * temperature, axis=1), codes


def held_out_loss(calibrator, n_fit, **options):
    log_proba, codes = simulate(n_fit + 4000, **options)
    calibrator.fit(log_proba[:n_fit], codes[:n_fit], classes=range(log_proba.shape[1]))
    rows = np.arange(4000), codes[n_fit:]
    return -calibrator.predict_log_proba(log_proba[n_fit:])[rows].mean()


def test_recovers_the_matrix():
    log_proba, codes = simulate(20_000, mixing=0.3)
    calibrator = MatrixScaling().fit(log_proba, codes)
    forward = 2.0 * (0.7 * np.eye(4) + 0.3 * np.roll(np.eye(4), 1, axis=0))
    # The softmax does not see what all rows of a matrix share.
    expected = np.linalg.inv(forward)
    found = calibrator.matrix_ - calibrator.matrix_.mean(axis=0)
    np.testing.assert_allclose(found, expected - expected.mean(axis=0), atol=0.06)
    best = max(calibrator.log_evidence_, key=calibrator.log_evidence_.__getitem__)
    assert best >= 0.1
    assert calibrator.matrix_scale_ == pytest.approx(best, rel=0.2)


def test_a_narrow_prior_is_vector_scaling():
    log_proba, codes = simulate(200, bias=[1.0, 0.0, -1.0, 0.0])
    log_proba = log_proba - log_proba.mean(axis=0)  # which changes nothing but the priors
    vector = VectorScaling(bias_scale=0.5, uniform_mix=False).fit(log_proba, codes)
    matrix = MatrixScaling(matrix_scale=1e-6, bias_scale=0.5).fit(log_proba, codes)
    assert matrix.temperature_ == vector.temperature_
    assert matrix.bias_scale_ == vector.bias_scale_
    np.testing.assert_allclose(
        matrix.predict_proba(log_proba), vector.predict_proba(log_proba), atol=1e-4
    )


def test_falls_back_to_vector_scaling():
    log_proba, codes = simulate(200)
    calibrator = MatrixScaling().fit(log_proba, codes)
    assert max(calibrator.log_evidence_, key=calibrator.log_evidence_.__getitem__) == 0.01
    assert 0.01 <= calibrator.matrix_scale_ < 0.02
    off = calibrator.matrix_ - np.eye(4) / calibrator.temperature_
    assert np.abs(off).max() < 0.02


@pytest.mark.parametrize("n_rows", [20, 50, 200])
def test_hardly_worse_where_there_is_nothing_to_mix(n_rows):
    extra = [
        held_out_loss(MatrixScaling(), n_rows, seed=seed)
        - held_out_loss(VectorScaling(uniform_mix=False), n_rows, seed=seed)
        for seed in range(6)
    ]
    assert np.mean(extra) < 0.01


@pytest.mark.parametrize("n_rows", [50, 200])
def test_beats_vector_scaling_where_scores_lean_and_classes_are_equally_frequent(n_rows):
    """What a prior of biases around the average score is for."""
    leaning = {"bias": [2.0, 0.0, -2.0, 0.0]}
    gain = [
        held_out_loss(VectorScaling(uniform_mix=False), n_rows, seed=seed, **leaning)
        - held_out_loss(MatrixScaling(), n_rows, seed=seed, **leaning)
        for seed in range(4)
    ]
    assert np.mean(gain) > 0.001


def test_beats_vector_scaling_where_scores_are_mixed():
    vector = held_out_loss(VectorScaling(), 1000, mixing=0.4)
    assert held_out_loss(MatrixScaling(), 1000, mixing=0.4) < vector - 0.02


def test_many_classes():
    log_proba, codes = simulate(150, n_classes=40)
    calibrator = MatrixScaling().fit(log_proba, codes, classes=range(40))
    vector = VectorScaling(uniform_mix=False).fit(log_proba, codes, classes=range(40))
    assert calibrator.matrix_.shape == (40, 40)
    np.testing.assert_allclose(
        calibrator.predict_proba(log_proba), vector.predict_proba(log_proba), atol=0.1
    )


def test_parameters_are_flat():
    log_proba, codes = simulate(100)
    calibrator = MatrixScaling(matrix_scale=0.2, bias_scale=0.5).fit(log_proba, codes)
    assert calibrator.matrix_scale_ == 0.2
    assert calibrator.bias_scale_ == 0.5
    assert calibrator.parameters_["matrix_3"] == calibrator.matrix_[3].tolist()


def test_warns_at_a_bound():
    log_proba, codes = simulate(1000, n_classes=2)
    with pytest.warns(ConvergenceWarning, match="temperature_ ended at the edge"):
        MatrixScaling(prior_scale=10).fit(log_proba, 1 - codes)


@pytest.mark.parametrize("name", ["matrix_scale", "bias_scale"])
@pytest.mark.parametrize("scale", [0, -1.0, "large"])
def test_bad_scale(name, scale):
    with pytest.raises(ValueError, match=name):
        MatrixScaling(**{name: scale}).fit(np.zeros((2, 2)), [0, 1])
