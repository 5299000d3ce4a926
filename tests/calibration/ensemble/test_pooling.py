from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.metrics import log_loss

from skllm_calib.calibration.ensemble.pooling import fit_weights, pool, split_uncertainty
from skllm_calib.calibrators import TemperatureScaling
from skllm_calib.log_proba.numerics import floor_and_normalise


def world(quality, heat, n_rows=400, n_classes=4, seed=0):
    """Members of a quality each that are over-confident by a factor each."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n_rows)
    scores = []
    for q, t in zip(quality, heat, strict=True):
        evidence = rng.normal(size=(n_rows, n_classes))
        evidence[np.arange(n_rows), y] += q
        scores.append(floor_and_normalise(q * t * evidence))  # t = 1 is calibrated
    return np.stack(scores), y


def ones(y):
    return np.ones(len(y))


# -- weights of logarithmic pools ----------------------------------------------------------------


def posterior(theta, scores, y, counts):
    """The loss as the docstring has it, written down once more."""
    n_members = len(scores)
    weights, bias = theta[:n_members], theta[n_members:]
    logits = np.tensordot(weights, scores, axes=1) + bias
    true = logits[np.arange(len(y)), y]
    loss = counts @ (logsumexp(logits, axis=1) - true)
    return loss + ((weights - 1 / n_members) ** 2).sum() * n_members / 2 + (bias**2).sum() / 2


@pytest.mark.parametrize("n_rows", [5, 60, 400])
@pytest.mark.parametrize("heat", [(1, 1, 1), (4, 1, 0.5), (0.2, 3, 20)])
def test_weights_are_those_of_the_least_loss(n_rows, heat):
    scores, y = world((1.5, 1.0, 0.0), heat, n_rows)
    counts = np.random.default_rng(1).uniform(0.5, 3, size=n_rows)
    found = minimize(
        posterior,
        np.r_[np.full(3, 1 / 3), np.zeros(4)],
        args=(scores, y, counts),
        bounds=[(0, None)] * 3 + [(None, None)] * 4,
        options={"ftol": 1e-13, "gtol": 1e-7},
    ).x[:3]
    weights = fit_weights(scores, y, counts, "log")
    np.testing.assert_allclose(weights, found / found.sum(), atol=2e-4)


def test_an_over_confident_member_counts_for_what_it_knows():
    cool, y = world((1.5, 1.0, 0.7), (1, 1, 1), n_rows=20_000)
    np.testing.assert_allclose(fit_weights(cool, y, ones(y), "log"), 1 / 3, atol=0.03)
    hot, y = world((1.5, 1.0, 0.7), (5, 1, 0.5), n_rows=20_000)
    expected = np.array([1 / 5, 1, 2])
    np.testing.assert_allclose(
        fit_weights(hot, y, ones(y), "log"), expected / expected.sum(), atol=0.03
    )


def test_the_calibrated_pool_is_better_than_members_and_equal_weights():
    scores, y = world((2.0, 1.2, 0.6), (5, 1, 0.7), n_rows=4200)
    fit, test = slice(0, 200), slice(200, None)

    def calibrated(weights):
        pooled = pool(scores, np.asarray(weights, dtype=float), "log")
        calibrator = TemperatureScaling().fit(pooled[fit], y[fit])
        return log_loss(y[test], calibrator.predict_proba(pooled[test]))

    fused = calibrated(fit_weights(scores[:, fit], y[fit], ones(y[fit]), "log"))
    assert fused < min(map(calibrated, [*np.eye(3), np.full(3, 1 / 3)])) - 0.05
    around = np.random.default_rng(0).dirichlet(np.ones(3), size=200)
    assert fused < min(map(calibrated, around)) + 0.02  # the best there is, chosen on the test


def test_bias_of_the_pool_is_none_of_the_weights_business():
    scores, y = world((1.5, 1.0), (1, 1), n_rows=5000)
    tilted = floor_and_normalise(scores[0] + [1.5, 0, 0, -1.5])
    straight = fit_weights(scores, y, ones(y), "log")
    np.testing.assert_allclose(
        fit_weights(np.stack([tilted, scores[1]]), y, ones(y), "log"), straight, atol=0.02
    )


def test_few_rows_leave_the_weights_near_equal():
    scores, y = world((2.0, 0.1), (1, 10))
    share = [fit_weights(scores, y, n / 400 * ones(y), "log")[0] for n in (1e-9, 1, 20, 400)]
    assert share == sorted(share)
    assert share[0] == pytest.approx(0.5, abs=1e-6)
    assert share[1] < 0.6
    assert share[3] > 0.75


def test_members_that_mislead_get_nothing_and_all_of_them_equal_weights():
    scores, y = world((2.0, 1.0), (1, 1))
    against = floor_and_normalise(-scores[1])
    weights = fit_weights(np.stack([scores[0], against]), y, ones(y), "log")
    assert weights.tolist() == [1, 0]
    worthless = np.stack([floor_and_normalise(-scores[0]), against])
    assert fit_weights(worthless, y, ones(y), "log").tolist() == [0.5, 0.5]


# -- both pools ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_classes_without_a_label(pooling):
    scores, y = world((1.5, 0.1), (1, 10), n_classes=6)
    seen = y < 3
    weights = fit_weights(scores[:, seen], y[seen], ones(y[seen]), pooling)
    assert weights[0] > 0.7
    single = fit_weights(scores[:, y == 0], y[y == 0], ones(y[y == 0]), pooling)
    assert single[0] > 0.5
    assert single.sum() == pytest.approx(1)


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_one_class_or_one_member_leaves_no_choice(pooling):
    certain, y = np.zeros((3, 10, 1)), np.zeros(10, dtype=int)
    np.testing.assert_allclose(fit_weights(certain, y, ones(y), pooling), 1 / 3)
    scores, y = world((1.0,), (1,))
    assert fit_weights(scores, y, ones(y), pooling).tolist() == [1]


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_order_of_members_rows_and_classes_changes_nothing(pooling):
    scores, y = world((1.5, 1.0, 0.5), (2, 1, 1), n_rows=100)
    weights = fit_weights(scores, y, ones(y), pooling)
    assert len(set(weights.round(2))) == 3
    close = {"rtol": 1e-5, "atol": 1e-7} if pooling == "log" else {"atol": 1e-4}
    rng = np.random.default_rng(0)
    members, rows, classes = rng.permutation(3), rng.permutation(100), rng.permutation(4)
    np.testing.assert_allclose(
        fit_weights(scores[members], y, ones(y), pooling), weights[members], **close
    )
    np.testing.assert_allclose(
        fit_weights(scores[:, rows], y[rows], ones(y), pooling), weights, **close
    )
    renumbered = np.argsort(classes)[y]
    np.testing.assert_allclose(
        fit_weights(scores[:, :, classes], renumbered, ones(y), pooling), weights, **close
    )


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_a_count_of_two_is_two_rows(pooling):
    scores, y = world((1.5, 1.0), (3, 1), n_rows=30)
    counts = np.resize([1, 2, 3], 30)
    twice = fit_weights(
        np.repeat(scores, counts, axis=1), np.repeat(y, counts), np.ones(counts.sum()), pooling
    )
    weights = fit_weights(scores, y, counts.astype(float), pooling)
    np.testing.assert_allclose(weights, twice, atol=1e-4)
    assert abs(weights - fit_weights(scores, y, ones(y), pooling)).max() > 1e-3


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_many_members_and_classes(pooling):
    scores, y = world([1.0] * 5 + [0.0] * 15, [1] * 20, n_rows=300, n_classes=77)
    weights = fit_weights(scores, y, ones(y), pooling)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[:5].sum() > 0.7


def test_linear_weights_are_the_best_of_the_simplex():
    scores, y = world((1.5, 1.0, 0.5), (2, 1, 1), n_rows=100)
    weights = fit_weights(scores, y, ones(y), "linear")

    def loss(given):
        return -pool(scores, given, "linear")[np.arange(100), y].mean()

    others = np.random.default_rng(0).dirichlet(np.ones(3), size=500)
    near = [0.999 * weights + 0.001 * other for other in others[:100]]
    assert loss(weights) <= min(map(loss, [*others, *near, *np.eye(3)])) + 1e-12
    assert weights.max() < 0.95


# -- pools and their disagreement ----------------------------------------------------------------


def test_rows_that_failed_stay_so():
    scores, _ = world((1.0, 1.0), (1, 1), n_rows=5)
    scores[1, 2] = np.nan
    for pooling in ("log", "linear"):
        pooled = pool(scores, np.array([0.5, 0.5]), pooling)
        assert np.isnan(pooled).any(axis=1).tolist() == [False, False, True, False, False]
        np.testing.assert_allclose(np.exp(pooled[[0, 1, 3, 4]]).sum(axis=1), 1)
    assert np.isnan(split_uncertainty(scores, np.array([0.5, 0.5]))["total"][2])
