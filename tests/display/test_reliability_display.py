import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllm_calib.display import ReliabilityDisplay
from skllm_calib.exceptions import MissingDependency
from skllm_calib.metrics import calibration_noise_floor, expected_calibration_error


def test_from_predictions(data):
    y, proba = data
    display = ReliabilityDisplay.from_predictions(y, proba, name="model")
    assert isinstance(display, ReliabilityDisplay)
    np.testing.assert_array_equal(display.line_.get_xdata(), display.curve.mean_confidence)
    np.testing.assert_array_equal(display.line_.get_ydata(), display.curve.accuracy)
    assert display.calibration_error == pytest.approx(expected_calibration_error(y, proba))
    assert display.noise_floor == pytest.approx(calibration_noise_floor(proba))
    text = display.ax_.get_legend().get_texts()[0].get_text()
    assert text.startswith("model\nECE ")
    assert "noise floor" in text
    assert "n = 300" in text
    assert display.ax_.get_xlabel() == display.counts_ax_.get_xlabel() == "Confidence"
    assert display.ax_.get_ylabel() == "Accuracy"
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("error_bars", ["wilson", "clopper-pearson"])
def test_one_class_with_error_bars(data, strategy, error_bars):
    y, proba = data
    display = ReliabilityDisplay.from_predictions(
        y, proba, kind="b", strategy=strategy, error_bars=error_bars, sample_weight=np.ones(300)
    )
    assert display.ax_.get_xlabel() == "Probability of b"
    assert display.error_bars_ is not None
    display.figure_.canvas.draw()


def test_two_curves_share_the_axes(data):
    y, proba = data
    first = ReliabilityDisplay.from_predictions(y, proba, name="before")
    second = ReliabilityDisplay.from_predictions(y, proba**2 / (proba**2).sum(1)[:, None])
    second.plot(first.ax_, name="after", color="black")
    third = ReliabilityDisplay.from_predictions(y, proba, ax=first.ax_)
    assert second.ax_ is third.ax_ is first.ax_
    assert second.counts_ax_ is third.counts_ax_ is first.counts_ax_
    assert second.line_.get_color() == "black"
    assert second.line_.get_marker() != first.line_.get_marker() != third.line_.get_marker()
    assert len(first.ax_.lines) == 4  # three curves and one diagonal


def test_side_by_side(data):
    y, proba = data
    figure, axes = plt.subplots(1, 2, sharey=True)
    left, right = (ReliabilityDisplay.from_predictions(y, proba, ax=ax) for ax in axes)
    assert left.counts_ax_ is not right.counts_ax_
    figure.canvas.draw()


def test_parts_can_be_left_out(data):
    y, proba = data
    figure, ax = plt.subplots()
    display = ReliabilityDisplay.from_predictions(
        y, proba, ax=ax, band=None, show_counts=False, ref_line=False
    )
    assert display.band_ is display.counts_ax_ is display.error_bars_ is None
    assert len(ax.lines) == 1
    assert figure.axes == [ax]
    bare = ReliabilityDisplay(display.curve, display.confidence).plot()
    assert bare.ax_.get_legend().get_texts()[0].get_text() == "n = 300"


def test_from_estimator(data):
    y, proba = data
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(proba, y)
    present = y != "a"  # a class may be absent from the rows
    display = ReliabilityDisplay.from_estimator(model, proba[present], y[present])
    assert display.name == "Pipeline"
    assert ReliabilityDisplay.from_estimator(model, proba, y, name="mine").name == "mine"


def test_the_band_holds_most_points_of_a_calibrated_model():
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    display = ReliabilityDisplay.from_predictions(rng.random(5000) < p, p, kind=True)
    vertices = np.vstack([path.vertices for path in display.band_.get_paths()])
    assert vertices[:, 1].min() >= 0
    inside = 0
    for (left, right), accuracy in zip(display.curve.edges, display.curve.accuracy, strict=True):
        x, height = vertices.T
        at = height[np.isclose(x, left) | np.isclose(x, right)]
        inside += at.min() <= accuracy <= at.max()
    assert inside >= 13


def test_wrong_parameters(data):
    for options in ({"band": 2}, {"error_bars": "wald"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ReliabilityDisplay.from_predictions(*data, **options)


def test_without_matplotlib(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependency, match=r"skllm-calib\[plot\]"):
        ReliabilityDisplay.from_predictions(*data)
    with pytest.raises(MissingDependency, match="from_estimator"):
        ReliabilityDisplay.from_estimator(None, None, None)  # the model is not asked
