import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skllm_calib.display import CalibrationComparisonDisplay, ReliabilityDisplay
from skllm_calib.exceptions import MissingDependency
from skllm_calib.metrics import calibration_error_interval, calibration_noise_floor


def sharpened(proba):
    return proba**3 / (proba**3).sum(axis=1, keepdims=True)


class Calibrated:
    """Has what a fitted CalibratedLLMClassifier has."""

    def __init__(self, model):
        self.estimator_, self.classes_ = model, model.classes_

    def predict_proba(self, X):
        return 0.5 * self.estimator_.predict_proba(X) + 0.5 / len(self.classes_)


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("smooth", [False, True])
def test_from_predictions(data, smooth):
    y, proba = data
    raw = sharpened(proba)
    display = CalibrationComparisonDisplay.from_predictions(
        y, raw, proba, names=("raw", "tuned"), smooth=smooth
    )
    bins = {"n_bins": 10, "strategy": "quantile"}
    for column, (given, name) in enumerate([(raw, "raw"), (proba, "tuned")]):
        found = calibration_error_interval(y, given, **bins)
        floor = calibration_noise_floor(given, **bins)
        assert texts(display.ax_[0, column])[0] == (
            f"{name}\nECE {found.estimate:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]\n"
            f"noise floor {floor:.1%}, n = 300"
        )
        right = (np.array(["a", "b", "c"])[given.argmax(1)] == y).sum()
        assert texts(display.ax_[1, column])[0].startswith(f"right: {right} rows")
    assert texts(display.ax_[0, 1])[1:] == ["raw"]  # the curve of before, repeated
    assert display.ax_[1, 0].get_ylim() == display.ax_[1, 1].get_ylim()
    assert not any(ax.get_title() for ax in display.ax_.ravel())
    display.figure_.canvas.draw()


def test_from_a_calibrated_estimator(data):
    y, proba = data
    model = LogisticRegression().fit(proba, y)
    display = CalibrationComparisonDisplay.from_estimator(Calibrated(model), proba, y)
    before, after = display.reliability
    expected = ReliabilityDisplay.from_estimator(
        model, proba, y, n_bins=10, strategy="quantile"
    ).curve
    np.testing.assert_array_equal(before.curve.accuracy, expected.accuracy)
    np.testing.assert_allclose(
        after.curve.mean_confidence.max(), before.curve.mean_confidence.max() / 2 + 1 / 6
    )
    other = CalibrationComparisonDisplay.from_estimator(
        model, proba, y, before=Calibrated(model), kind="b"
    )
    assert other.ax_[1, 0].get_xlabel() == "Probability of b"


def test_two_estimators_that_cannot_be_compared(data):
    y, proba = data
    model = LogisticRegression().fit(proba, y)
    with pytest.raises(ValueError, match="before="):
        CalibrationComparisonDisplay.from_estimator(model, proba, y)
    fewer = LogisticRegression().fit(proba[y != "a"], y[y != "a"])
    with pytest.raises(ValueError, match="same classes"):
        CalibrationComparisonDisplay.from_estimator(model, proba, y, before=fewer)


def test_in_a_grid(data):
    y, proba = data
    figure, axes = plt.subplots(2, 2, figsize=(9, 9), layout="constrained")
    axes[0, 0].set_title("kept")
    one = CalibrationComparisonDisplay.from_predictions(y, sharpened(proba), proba, ax=axes[0, 0])
    pair = CalibrationComparisonDisplay.from_predictions(y, sharpened(proba), proba, ax=axes[1])
    assert axes[0, 0].get_title() == "kept"
    assert list(pair.ax_[0]) == list(axes[1])
    figure.canvas.draw()  # warns, as an error, if legends squeeze the axes away
    outer = axes[0, 0].get_position(original=True)
    assert all(outer.x0 - 0.05 < ax.get_position().x0 < outer.x1 + 0.05 for ax in one.ax_.ravel())


def test_wrong_axes_and_names(data):
    y, proba = data
    figure, axes = plt.subplots(1, 3)
    with pytest.raises(ValueError, match="two, got 3"):
        CalibrationComparisonDisplay.from_predictions(y, proba, proba, ax=axes)
    with pytest.raises(ValueError, match="grid"):
        CalibrationComparisonDisplay.from_predictions(
            y, proba, proba, ax=figure.add_axes((0, 0, 1, 1))
        )
    for names in ("ab", ["one"]):
        with pytest.raises(ValueError, match="names must be two"):
            CalibrationComparisonDisplay.from_predictions(y, proba, proba, names=names)


def test_other_names_when_drawn_again(data):
    y, proba = data
    display = CalibrationComparisonDisplay.from_predictions(y, proba, proba)
    display.plot(names=("one", "two"), band=None)
    assert texts(display.ax_[0, 0])[0].startswith("one\n")
    assert texts(display.ax_[0, 1])[1] == "one"
    assert display.reliability[0].band_ is None


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependency, match="from_estimator"):
        CalibrationComparisonDisplay.from_estimator(None, None, None)  # the model is not asked
