import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skllm_calib.display import ReviewCostDisplay
from skllm_calib.metrics import review_cost_curve


def test_the_lines_are_the_costs(data):
    y, proba = data
    display = ReviewCostDisplay.from_predictions(y, proba, name="model", price=0.2)
    curve = review_cost_curve(y, proba)
    x, height = display.line_.get_data()
    np.testing.assert_allclose(x, curve.price)
    np.testing.assert_allclose(height, curve.cost)
    assert display.accept_line_.get_ydata()[0] == curve.error_rate
    assert display.price_line_.get_xdata()[0] == 0.2
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    rate = f"accept every row, {curve.error_rate:.3g}"
    assert texts == ["model", rate, "review every row", "0.2"]
    display.figure_.canvas.draw()


def test_two_curves_share_the_axes(data):
    y, proba = data
    first = ReviewCostDisplay.from_predictions(y, proba, name="one")
    flat = np.full_like(proba, 1 / proba.shape[1])
    second = ReviewCostDisplay.from_predictions(y, flat, name="two", ax=first.ax_, lw=3)
    assert second.ax_ is first.ax_
    assert second.review_line_ is None  # it is there already
    assert second.line_.get_linestyle() != first.line_.get_linestyle()
    assert second.line_.get_linewidth() == 3
    third = ReviewCostDisplay(review_cost_curve(y, proba)).plot(first.ax_, ref_lines=False)
    assert third.accept_line_ is third.price_line_ is None


def test_from_estimator(data):
    y, proba = data
    model = LogisticRegression().fit(proba, y)
    display = ReviewCostDisplay.from_estimator(model, proba, y)
    assert display.name == "LogisticRegression"


@pytest.mark.parametrize("price", [-0.1, 5])
def test_a_price_in_euros_is_refused(data, price):
    with pytest.raises(ValueError, match="divided by the cost of an error"):
        ReviewCostDisplay.from_predictions(*data, price=price)
