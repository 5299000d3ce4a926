import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skllm_calib.calibration import calibration_learning_curve
from skllm_calib.display import CalibrationLearningCurveDisplay
from skllm_calib.exceptions import MissingDependency

QUICK = {"calibrator": "temperature", "n_draws": 2}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    evidence = rng.normal(2 * y - 1, 1.0)
    names = np.array(["ham", "spam"])
    return names[y], np.column_stack([np.zeros(300), 4 * evidence])


@pytest.mark.parametrize("metric", ["log_loss", "brier", "ece"])
def test_from_predictions(data, metric):
    y, scores = data
    display = CalibrationLearningCurveDisplay.from_predictions(
        y, scores, metric=metric, name="model", **QUICK
    )
    curve = calibration_learning_curve(scores, y, **QUICK)
    mean, spread = getattr(curve, metric), getattr(curve, f"{metric}_sd")
    np.testing.assert_array_equal(display.line_.get_xdata(), [25, 50, 100, 200])
    np.testing.assert_allclose(display.line_.get_ydata(), mean[1:-1])
    np.testing.assert_allclose(display.all_rows_.get_ydata(), mean[-1:])
    np.testing.assert_allclose(display.baseline_.get_ydata(), mean[[0, 0]])
    heights = display.band_.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx((mean + spread)[1:-1].max())
    assert heights.min() == pytest.approx((mean - spread)[1:-1].min())
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0] == "model\n2 draws, 100 held-out rows"
    assert "no calibration" in texts
    assert "all rows, cross-validated" in texts
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["25", "50", "100", "200", "300"]
    assert display.ax_.get_ylabel().startswith("Held-out")
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


def test_two_curves_share_the_axes(data):
    y, scores = data
    first = CalibrationLearningCurveDisplay.from_predictions(y, scores, name="one", **QUICK)
    second = CalibrationLearningCurveDisplay(first.curve)
    second.plot(first.ax_, name="two", band=False, baseline=False, lw=3)
    assert second.ax_ is first.ax_
    assert second.band_ is second.baseline_ is None
    assert second.line_.get_linewidth() == 3
    assert second.line_.get_marker() != first.line_.get_marker()
    assert second.line_.get_linestyle() != first.line_.get_linestyle()
    texts = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert texts.count("all rows, cross-validated") == 1
    first.figure_.canvas.draw()


def test_without_a_name_and_with_another_metric(data):
    y, scores = data
    curve = calibration_learning_curve(scores, y, **QUICK)
    display = CalibrationLearningCurveDisplay(curve).plot(metric="brier")
    assert display.ax_.get_ylabel() == "Held-out Brier score"
    assert display.ax_.get_legend().get_texts()[0].get_text() == "2 draws, 100 held-out rows"


def test_from_estimator(data):
    y, scores = data
    model = LogisticRegression().fit(scores, y)
    display = CalibrationLearningCurveDisplay.from_estimator(model, scores, y, **QUICK)
    assert display.name == "LogisticRegression"
    expected = calibration_learning_curve(model.predict_log_proba(scores), y, **QUICK)
    np.testing.assert_allclose(display.curve.log_loss, expected.log_loss)


def test_wrong_metric(data):
    y, scores = data
    with pytest.raises(ValueError, match="metric must be"):
        CalibrationLearningCurveDisplay.from_predictions(y, scores, metric="mce")
    with pytest.raises(ValueError, match="metric must be"):
        CalibrationLearningCurveDisplay.from_estimator(None, None, None, metric="mce")


def test_without_matplotlib(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependency, match=r"skllm-calib\[plot\]"):
        CalibrationLearningCurveDisplay.from_predictions(*data)
    with pytest.raises(MissingDependency, match="from_estimator"):
        CalibrationLearningCurveDisplay.from_estimator(None, None, None)  # the model is not asked
