"""Shares of classes that shift: recovered, with honest errors, or refused with the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from skllm_calib.metrics import adjust_to_prior, estimate_class_prior

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
OLD = np.array([0.5, 0.3, 0.2])
NEW = np.array([0.1, 0.3, 0.6])


def draw(n, prior, seed=0):
    """Classes with Gaussian evidence, and the exact posteriors under the old prior."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=n, p=prior)
    x = rng.normal(MEANS[y], 1.0)
    scores = np.log(OLD) - ((x[:, None, :] - MEANS) ** 2).sum(axis=2) / 2
    return y, scores


def test_em_is_the_maximum_of_the_likelihood():
    _, scores = draw(400, NEW)
    ratio = np.exp(scores - scores.max(axis=1, keepdims=True)) / OLD

    def loss(theta):
        shares = np.exp(np.append(theta, 0.0))
        return -np.log(ratio @ (shares / shares.sum())).sum()

    best = np.exp(np.append(minimize(loss, np.zeros(2), method="BFGS", tol=1e-10).x, 0.0))
    found = estimate_class_prior(scores, OLD)
    np.testing.assert_allclose(found.prior, best / best.sum(), atol=1e-6)
    assert found.prior.sum() == pytest.approx(1)


def test_em_step_is_a_fixed_point_of_saerens():
    _, scores = draw(300, NEW)
    found = estimate_class_prior(scores, OLD).prior
    posterior = np.exp(adjust_to_prior(scores, OLD, found))
    np.testing.assert_allclose(posterior.mean(axis=0), found, atol=1e-8)


def test_bbse_solves_for_the_shares_by_hand():
    # Right for 80 % of a and 60 % of b; half of the new rows are called a: 0.8 s + 0.4 (1 - s).
    y = ["a"] * 50 + ["b"] * 50
    called = np.repeat([0, 1, 0, 1], [40, 10, 20, 30])
    new = np.repeat([0, 1], [50, 50])
    found = estimate_class_prior(
        np.log(np.eye(2) * 0.8 + 0.1)[new],
        method="bbse",
        labelled_log_proba=np.log(np.eye(2) * 0.8 + 0.1)[called],
        y=y,
        max_standard_error=0.3,
    )
    np.testing.assert_allclose(found.prior, [0.25, 0.75], atol=1e-8)
    variance = 0.25 / 100 + 0.25**2 * 0.16 / 50 + 0.75**2 * 0.24 / 50
    np.testing.assert_allclose(found.standard_error, np.sqrt(variance) / 0.4, atol=1e-8)


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_the_shares_are_found_within_their_errors(method):
    z = []
    for seed in range(60):
        _, scores = draw(600, NEW, seed)
        y, known = draw(600, OLD, seed + 1000)
        found = estimate_class_prior(
            scores, OLD, method=method, labelled_log_proba=known, y=y, labels=[0, 1, 2]
        )
        z.append((found.prior - NEW) / found.standard_error)
    z = np.array(z)
    assert np.abs(z.mean(axis=0)).max() < 0.5  # 0.13 expected of unbiased estimates
    assert 0.8 < z.std() < 1.25


def test_adjusted_probabilities_are_the_posteriors_under_the_new_prior():
    y, scores = draw(5000, NEW)
    adjusted = adjust_to_prior(scores, OLD, NEW)
    exact = scores - np.log(OLD) + np.log(NEW)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(adjusted, exact, atol=1e-12)
    rows = np.arange(len(y))
    before = adjust_to_prior(scores, OLD, OLD)
    assert -adjusted[rows, y].mean() < -before[rows, y].mean() - 0.1
    assert np.exp(adjusted).mean(axis=0) == pytest.approx(NEW, abs=0.02)


def test_minus_infinity_stays_impossible():
    adjusted = adjust_to_prior([[0.0, -np.inf]], [0.5, 0.5], [0.1, 0.9])
    assert np.exp(adjusted).tolist() == [[1.0, 0.0]]


def test_a_share_outside_its_range_ends_at_the_nearest_one():
    y = np.repeat([0, 1], 50)
    called = np.repeat([0, 1, 0, 1], [40, 10, 10, 40])
    scores = np.log(np.eye(2) * 0.8 + 0.1)
    found = estimate_class_prior(
        scores[np.zeros(100, int)], method="bbse", labelled_log_proba=scores[called], y=y
    )
    assert found.prior.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"log_proba": draw(40, NEW)[1]},
            "40 rows, too few to estimate the shares of 3 classes.*50",
        ),
        ({"old_prior": None}, "needs old_prior"),
        ({"old_prior": [0.5, 0.5]}, "old_prior must hold 3 shares"),
        ({"old_prior": [1.0, 0.0, 0.0]}, "positive shares"),
        ({"old_prior": [0.5, 0.3, 0.3]}, "sum to 1"),
        ({"method": "mlls"}, "method"),
        ({"max_standard_error": 0}, "max_standard_error"),
        ({"labels": [0, 1]}, "log_proba has 3 columns for the 2 classes"),
        ({"max_standard_error": 0.001}, "standard error of 0.0.* above max_standard_error=0.001"),
        ({"log_proba": np.zeros(9)}, "shape"),
        ({"log_proba": np.full((60, 3), np.nan)}, "row 0"),
        ({"log_proba": np.full((60, 3), -np.inf)}, "has no finite entry"),
        ({"log_proba": np.tile([0.0, 0.0, -np.inf], (60, 1))}, "class 2 is impossible in all 60"),
        ({"log_proba": np.zeros((60, 3))}, "do not tell the shares of the classes apart"),
    ],
)
def test_em_refuses(options, message):
    given = {"log_proba": draw(200, NEW)[1], "old_prior": OLD, **options}
    with pytest.raises(ValueError, match=message):
        estimate_class_prior(**given)


def test_a_sharper_limit_says_how_many_rows_it_takes():
    _, scores = draw(100, NEW)
    error = estimate_class_prior(scores, OLD).standard_error.max()
    with pytest.raises(ValueError, match=r"class 'a'.* about 4\.0 times as many rows are needed"):
        estimate_class_prior(scores, OLD, max_standard_error=error / 2, labels=["a", "b", "c"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y, s: (None, s), "labelled_log_proba and y"),
        (lambda y, s: (y, s[:, :2]), "labelled_log_proba has 2 columns for the 3 classes"),
        (lambda y, s: (y[1:], s), "y has 299 rows and labelled_log_proba has 300"),
        (lambda y, s: (np.minimum(y, 1), s), "y holds 2 of the 3 classes"),
        (lambda y, s: (np.where(np.arange(len(y)) < 5, 2, np.minimum(y, 1)), s), "class 2 has 5"),
        (lambda y, s: (y, np.zeros_like(s)), "condition number of"),
        (lambda y, s: (np.where(y == 0, None, y), s), "no label in row"),
    ],
)
def test_bbse_refuses(change, message):
    y, known = draw(300, OLD)
    y, known = change(y, known)
    with pytest.raises(ValueError, match=message):
        estimate_class_prior(draw(200, NEW)[1], method="bbse", labelled_log_proba=known, y=y)


def test_adjusting_refuses_what_leaves_nothing_to_adjust():
    for old, new, name in (([1, 0], [0.5, 0.5], "old"), ([0.5, 0.5], [1, 0], "new")):
        with pytest.raises(ValueError, match=f"{name}_prior must hold positive"):
            adjust_to_prior([[0.0, 0.0]], old, new)
