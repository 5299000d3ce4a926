import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skllm_calib.display import ScoreHistogramDisplay


def heights(bars):
    return np.array([bar.get_height() for bar in bars])


def test_right_rows_stand_on_wrong_rows(data):
    y, proba = data
    display = ScoreHistogramDisplay.from_predictions(y, proba, name="model")
    right = np.array(["a", "b", "c"])[proba.argmax(1)] == y
    assert heights(display.right_bars_).sum() == right.sum()
    assert heights(display.wrong_bars_).sum() == (~right).sum()
    feet = [bar.get_y() for bar in display.right_bars_]
    np.testing.assert_array_equal(feet, heights(display.wrong_bars_))
    expected, _ = np.histogram(proba.max(1), np.linspace(0, 1, 21))
    np.testing.assert_array_equal(
        heights(display.right_bars_) + heights(display.wrong_bars_), expected
    )
    legend = display.ax_.get_legend()
    assert legend.get_title().get_text() == "model"
    mean = proba.max(1)[~right].mean()
    texts = [text.get_text() for text in legend.get_texts()]
    assert f"wrong: {(~right).sum()} rows, mean {mean:.2f}" in texts
    assert display.figure_ is display.ax_.figure
    assert display.wrong_bars_[0].get_hatch() != display.right_bars_[0].get_hatch()
    display.figure_.canvas.draw()


def test_few_values_get_a_bar_each():
    stated = np.tile([0.8, 0.9, 0.95, 1.0], 5)
    right = np.tile([True, True, False, True, True], 4)
    display = ScoreHistogramDisplay.from_predictions(right, stated, kind=True)
    middles = [bar.get_x() + bar.get_width() / 2 for bar in display.right_bars_]
    np.testing.assert_allclose(middles, [0.8, 0.9, 0.95, 1.0])
    assert max(bar.get_width() for bar in display.right_bars_) <= 0.05
    np.testing.assert_array_equal(
        heights(display.right_bars_) + heights(display.wrong_bars_), [5, 5, 5, 5]
    )
    assert display.ax_.get_xlabel() == "Probability of True"
    assert display.ax_.get_xlim()[1] > 1  # the bar at 1 is seen whole
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert any(text.startswith("False: ") for text in texts)
    binned = ScoreHistogramDisplay.from_predictions(right, stated, kind=True, bins=2)
    np.testing.assert_array_equal(heights(binned.wrong_bars_), [0, 4])


def test_one_value_only():
    display = ScoreHistogramDisplay.from_predictions([1, 1, 1], [0.9] * 3, labels=[0, 1])
    assert heights(display.right_bars_).tolist() == [3]
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "wrong: 0 rows" in texts


def test_shares_are_drawn_back_to_back(data):
    y, proba = data
    display = ScoreHistogramDisplay.from_predictions(y, proba, kind="b", stat="proportion")
    assert heights(display.right_bars_).sum() == pytest.approx(1)
    assert heights(display.wrong_bars_).sum() == pytest.approx(-1)
    assert display.ax_.yaxis.get_major_formatter()(-0.1, None) == "10%"
    assert display.ax_.get_legend().get_texts()[0].get_text().startswith("b: ")
    display.figure_.canvas.draw()


def test_weights_act_as_rows(data):
    y, proba = data
    weight = np.arange(300) % 3
    weighted = ScoreHistogramDisplay.from_predictions(y, proba, sample_weight=weight)
    rows = np.repeat(np.arange(300), weight)
    repeated = ScoreHistogramDisplay.from_predictions(y[rows], proba[rows], bins=20)
    np.testing.assert_allclose(heights(weighted.right_bars_), heights(repeated.right_bars_))


def test_from_estimator_on_given_axes(data):
    y, proba = data
    model = LogisticRegression().fit(proba, y)
    _, axes = plt.subplots(1, 2)
    axes[1].set_title("kept")
    display = ScoreHistogramDisplay.from_estimator(model, proba, y, ax=axes[1], bins=10)
    assert display.name == "LogisticRegression"
    assert display.ax_ is axes[1]
    assert axes[1].get_title() == "kept"
    np.testing.assert_array_equal(display.confidence, model.predict_proba(proba).max(1))


@pytest.mark.parametrize("options", [{"bins": 0}, {"bins": "many"}, {"bins": True}, {"stat": "n"}])
def test_wrong_options(data, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        ScoreHistogramDisplay.from_predictions(*data, **options)
