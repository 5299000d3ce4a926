"""Dirichlet calibration: the loss of the paper, known answers, shrinkage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from skllm_calib.calibrators import DirichletCalibration, MatrixScaling


def dirichlet(n_rows, alpha, seed=0):
    """Probability vectors that are Dirichlet within each class, and their classes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(len(alpha), size=n_rows)
    return np.log(np.array([rng.dirichlet(alpha[code]) for code in codes])), codes


def test_recovers_a_dirichlet_map():
    alpha = np.array([[3.0, 1.0, 1.5], [1.0, 2.0, 1.0], [2.0, 1.0, 4.0]])
    log_proba, codes = dirichlet(20_000, alpha)
    calibrator = DirichletCalibration(off_diagonal_penalty=1e-4, bias_penalty=1e-4)
    calibrator.fit(log_proba, codes)
    # The density of class k is proportional to prod_j s_j ** (alpha_kj - 1).
    found = calibrator.matrix_ - calibrator.matrix_.mean(axis=0)
    np.testing.assert_allclose(found, alpha - alpha.mean(axis=0), atol=0.12)


def test_minimises_the_loss_of_the_paper():
    log_proba, codes = dirichlet(60, 1 + 2 * np.eye(3))
    calibrator = DirichletCalibration(off_diagonal_penalty=0.3, bias_penalty=0.05)
    calibrator.fit(log_proba, codes)
    off_diagonal = ~np.eye(3, dtype=bool)

    def loss(theta):
        matrix, bias = theta[:9].reshape(3, 3), theta[9:]
        log_q = log_softmax(log_proba @ matrix.T + bias, axis=1)
        value = -log_q[np.arange(60), codes].mean()
        value += 0.3 * (matrix[off_diagonal] ** 2).mean() + 0.05 * (bias**2).mean()
        return value + ((np.diag(matrix) - 1) ** 2).sum() / 2 / 60  # the ridge of the diagonal

    best = minimize(loss, np.concatenate([np.eye(3).ravel(), np.zeros(3)]), tol=1e-12)
    np.testing.assert_allclose(calibrator.matrix_.ravel(), best.x[:9], atol=1e-4)
    np.testing.assert_allclose(calibrator.bias_, best.x[9:], atol=1e-4)


def test_auto_takes_the_penalties_with_most_evidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(300, 4))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    log_proba = log_softmax(2 * logits, axis=1)
    calibrator = DirichletCalibration().fit(log_proba, codes)
    pair = calibrator.off_diagonal_penalty_, calibrator.bias_penalty_
    assert pair >= (10.0, 1.0)  # nothing is there but a temperature
    for name, penalty in zip(("off_diagonal_penalty", "bias_penalty"), pair, strict=True):
        evidence = calibrator.log_evidence_[name]
        assert evidence[penalty] == max(evidence.values())
    shifted = log_softmax(2 * logits + [4.0, 0.0, 0.0, -4.0], axis=1)
    assert DirichletCalibration().fit(shifted, codes).bias_penalty_ < pair[1]
    mixed = log_softmax(2 * logits + 1.5 * np.roll(logits, 1, axis=1), axis=1)
    assert DirichletCalibration().fit(mixed, codes).off_diagonal_penalty_ < pair[0]


def test_same_form_as_matrix_scaling():
    log_proba, codes = dirichlet(5000, 1 + np.eye(3))
    both = [kind().fit(log_proba, codes) for kind in (DirichletCalibration, MatrixScaling)]
    ours, other = (each.predict_proba(log_proba) for each in both)
    np.testing.assert_allclose(ours, other, atol=0.05)
    assert both[0].parameters_["matrix_1"] == both[0].matrix_[1].tolist()


@pytest.mark.parametrize("name", ["off_diagonal_penalty", "bias_penalty"])
@pytest.mark.parametrize("penalty", [0, -1.0, "ten"])
def test_bad_penalty(name, penalty):
    with pytest.raises(ValueError, match=name):
        DirichletCalibration(**{name: penalty}).fit(np.zeros((2, 2)), [0, 1])
