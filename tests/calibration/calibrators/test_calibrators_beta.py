"""Beta calibration against logistic regressions of scikit-learn and a constrained search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from skllm_calib.calibrators import BetaCalibration
from skllm_calib.log_proba.numerics import one_vs_rest_log_odds


def beta_scores(n_rows, positive, negative, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n_rows)
    s = np.where(y, rng.beta(*positive, size=n_rows), rng.beta(*negative, size=n_rows))
    return np.log(np.stack([1 - s, s], axis=1)), y


def test_recovers_the_curve_of_beta_scores():
    log_proba, y = beta_scores(20_000, (4, 1), (1, 3))
    calibrator = BetaCalibration().fit(log_proba, y)
    assert calibrator.a_ == pytest.approx([3.0], abs=0.2)
    assert calibrator.b_ == pytest.approx([2.0], abs=0.2)


def test_without_a_prior_it_is_a_logistic_regression():
    log_proba, y = beta_scores(400, (3, 1), (1, 3))
    calibrator = BetaCalibration(prior_scale=1e6).fit(log_proba, y)
    features = np.stack([log_proba[:, 1], -log_proba[:, 0]], axis=1)
    model = LogisticRegression(C=1e12, solver="newton-cholesky", tol=1e-12).fit(features, y)
    np.testing.assert_allclose([*calibrator.a_, *calibrator.b_], model.coef_[0], rtol=1e-5)
    np.testing.assert_allclose(calibrator.c_, model.intercept_, rtol=1e-5)
    np.testing.assert_allclose(
        calibrator.predict_proba(log_proba), model.predict_proba(features), rtol=1e-5
    )


def test_slopes_are_not_negative_and_the_others_best_for_that():
    log_proba, y = beta_scores(400, (0.6, 1), (1, 3))  # the likelihood asks for a = -0.4
    calibrator = BetaCalibration(prior_scale=1e6).fit(log_proba, y)
    assert calibrator.a_ == [0.0]

    def loss(theta):
        line = theta[0] * log_proba[:, 1] - theta[1] * log_proba[:, 0] + theta[2]
        return (np.logaddexp(0.0, line) - y * line).sum()

    box = [(0, None), (0, None), (None, None)]
    best = minimize(loss, [0.5, 0.5, 0.0], bounds=box, options={"ftol": 1e-14, "gtol": 1e-10})
    np.testing.assert_allclose([calibrator.b_[0], calibrator.c_[0]], best.x[1:], rtol=1e-3)
    assert loss([0.0, calibrator.b_[0], calibrator.c_[0]]) <= best.fun + 1e-6


def test_many_classes_are_set_against_the_rest():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=1.5, size=(300, 3))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    log_proba = log_softmax(2 * logits, axis=1)
    calibrator = BetaCalibration().fit(log_proba, codes)
    odds = one_vs_rest_log_odds(log_proba)
    alone = []
    for column in range(3):
        pair = np.stack([np.zeros(300), odds[:, column]], axis=1)
        alone.append(BetaCalibration().fit(pair, codes == column).predict_proba(pair)[:, 1])
    expected = np.stack(alone, axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrator.predict_proba(log_proba), expected, rtol=1e-6)


def test_few_separable_rows_stay_modest():
    log_proba = log_softmax([[9.0, 0.0], [0.0, 9.0]] * 5, axis=1)
    calibrator = BetaCalibration().fit(log_proba, [0, 1] * 5)
    assert 0.9 < calibrator.predict_proba(log_proba)[0, 0] < 1 - 1e-5


def test_warns_at_a_bound():
    log_proba = np.log([[0.51, 0.49], [0.49, 0.51]] * 50)
    with pytest.warns(ConvergenceWarning, match="A slope of a_ and b_ ended at the edge"):
        BetaCalibration(prior_scale=1e6).fit(log_proba, [0, 1] * 50)  # separable
    with pytest.warns(ConvergenceWarning, match="A slope of a_ and b_ ended at the edge"):
        calibrator = BetaCalibration().fit(log_proba, [1, 0] * 50)  # wrong every time
    assert calibrator.parameters_["a"] == calibrator.parameters_["b"] == [0.0]


@pytest.mark.parametrize("parameters", [{"prior_scale": 0}, {"prior_slope": -1.0}])
def test_bad_parameters(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        BetaCalibration(**parameters).fit(np.zeros((2, 2)), [0, 1])
