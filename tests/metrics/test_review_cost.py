import numpy as np
import pytest

from skllm_calib.metrics import review_cost_curve


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    p = rng.beta(4, 1, size=4000)
    y = np.where(rng.random(4000) < p, "yes", "no")
    return y, np.column_stack([1 - p, p])


def test_it_is_the_cost_of_accepting_and_reviewing_row_by_row(rows):
    y, proba = rows
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    curve = review_cost_curve(y, proba, n_prices=21, sample_weight=weight)
    confidence = proba.max(axis=1)
    wrong = np.array(["no", "yes"])[proba.argmax(axis=1)] != y
    for k, price in enumerate(curve.price):
        accepted = confidence >= 1 - price - 1e-12
        each = np.where(accepted, wrong, price)
        assert curve.cost[k] == pytest.approx(np.average(each, weights=weight))
        assert curve.review_share[k] == pytest.approx(np.average(~accepted, weights=weight))
    assert curve.error_rate == pytest.approx(np.average(wrong, weights=weight))


def test_calibrated_rows_cost_hardly_more_than_the_best_threshold_and_others_do(rows):
    y, proba = rows
    calibrated = review_cost_curve(y, proba)
    assert (calibrated.cost >= calibrated.hindsight - 1e-12).all()
    assert (calibrated.cost - calibrated.hindsight).max() < 0.005
    either = np.minimum(calibrated.error_rate, calibrated.price)
    assert (calibrated.cost <= either + 0.005).all()
    sure = proba**4 / (proba**4).sum(axis=1, keepdims=True)
    too_sure = review_cost_curve(y, sure)
    assert (too_sure.cost > np.minimum(too_sure.error_rate, too_sure.price) + 0.02).any()
    # The order of the rows is the same, and with it the best that a threshold can do.
    np.testing.assert_allclose(too_sure.hindsight, calibrated.hindsight)


def test_a_confidence_on_the_border_is_accepted():
    curve = review_cost_curve([1, 0], [0.9, 0.9], n_prices=11)
    assert curve.review_share[:3].tolist() == [1, 0, 0]  # 1 - 0.9 is below 0.1 in floats


@pytest.mark.parametrize("n_prices", [1, True, 2.0, "many"])
def test_numbers_of_prices_that_mean_nothing(n_prices):
    with pytest.raises(ValueError, match="n_prices must be an integer of at least 2, got"):
        review_cost_curve([0, 1], [0.2, 0.8], n_prices=n_prices)
