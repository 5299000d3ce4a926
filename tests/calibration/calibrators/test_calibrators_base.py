"""Checks of the input that all calibrators share, and the small tools below them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skllm_calib.calibration.calibrators._newton import minimise
from skllm_calib.calibrators import TemperatureScaling
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.numerics import one_vs_rest_log_odds, warn_at_bound

LOG_PROBA = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.4, 0.1]])
Y = ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("y", "weight", "classes", "problem"),
    [
        (
            ["a", "b", "b", "a"],
            None,
            None,
            "y holds 2 class.*describes 3: pass all.*classes=",
        ),
        (Y, None, ["a", "b"], "classes lists 2 classes.*but log_proba describes 3"),
        (Y, None, ["c", "b", "a"], "must be sorted"),
        (Y, None, ["a", "a", "b"], "must not repeat a class"),
        (Y, None, [["a", "b", "c"]], r"classes must hold.* got shape \(1, 3\)"),
        (
            ["a", "b", "d", "a"],
            None,
            ["a", "b", "c"],
            "y holds 'd' in row 2, which is not one",
        ),
        (["a", 1, 2.5, "a"], None, None, "y mixes labels of several types"),
        (["a", np.nan, "c", "a"], None, ["a", "b", "c"], "no label in row 1"),
        (pd.Series(["a", 1, (), "a"], dtype=object), None, None, "y must hold one label per row"),
        (["a", "b", "c"], None, None, "y has 3 rows and log_proba has 4"),
        ([["a", "b"]] * 4, None, None, r"order of arguments is \(log_proba, y\)"),
        (pd.Series(["a", None, "c", "a"]), None, ["a", "b", "c"], "no label in row 1"),
        (pd.array(["a", "b", pd.NA, "a"]), None, ["a", "b", "c"], "no label in row 2"),
        ([0.0, 1.0, 2.0, np.nan], None, None, "no label in row 3"),
        (Y, [1, 1, 1], None, r"sample_weight must have shape \(4,\)"),
        (Y, [1, 1, 1, -1], None, "not negative"),
        (Y, [1, 1, 1, np.nan], None, "finite"),
        (Y, [0, 0, 0, 0], None, "sample_weight is zero everywhere"),
    ],
)
def test_clear_errors(y, weight, classes, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        TemperatureScaling().fit(LOG_PROBA, y, weight, classes=classes)
    assert caught.value.parameter in {"y", "classes", "sample_weight"}


def test_no_rows():
    with pytest.raises(ValueError, match="at least one row"):
        TemperatureScaling().fit(np.empty((0, 2)), [], classes=["a", "b"])


def test_a_column_of_labels_and_stringdtype_classes():
    expected = TemperatureScaling().fit(LOG_PROBA, Y)
    column = np.array(Y, dtype=object)[:, None]
    classes = np.array(["a", "b", "c"], dtype=np.dtypes.StringDType())
    with pytest.warns(DataConversionWarning):
        calibrator = TemperatureScaling().fit(LOG_PROBA, column, classes=classes)
    assert calibrator.temperature_ == expected.temperature_


def test_probabilities_in_place_of_their_logarithms():
    with pytest.warns(UserWarning, match="looks like probabilities"):
        TemperatureScaling().fit(np.exp(LOG_PROBA), Y)


def test_bad_parameter():
    with pytest.raises(ValueError, match="prior_scale"):
        TemperatureScaling(prior_scale=-1).fit(LOG_PROBA, Y)


def test_score_and_pipeline():
    pipeline = make_pipeline(FunctionTransformer(np.log), TemperatureScaling())
    assert pipeline.fit(np.exp(LOG_PROBA), Y).score(np.exp(LOG_PROBA), Y) == 1.0


def test_one_vs_rest_log_odds():
    log_proba = np.array([[-1e-11, -25.5, -27.0], [-1.0, -0.7, -2.0]])
    log_proba -= np.logaddexp.reduce(log_proba, axis=1, keepdims=True)
    odds = one_vs_rest_log_odds(log_proba)
    np.testing.assert_allclose(odds[0, 0], -np.logaddexp(-25.5, -27.0), rtol=1e-9)
    others = np.log(-np.expm1(log_proba[1]))
    np.testing.assert_allclose(odds[1], log_proba[1] - others, rtol=1e-9)
    np.testing.assert_allclose(one_vs_rest_log_odds(np.zeros((1, 1))), 50.0)


def test_warn_at_bound():
    warn_at_bound("x", 5.0, (1.0, 10.0))
    for value in (1.0, 10.0):
        with pytest.warns(ConvergenceWarning, match="x ended at the edge"):
            warn_at_bound("x", value, (1.0, 10.0))
    with pytest.warns(ConvergenceWarning, match="-100"):
        warn_at_bound("x", -100.0, (-100.0, 100.0))


class TestNewton:
    @staticmethod
    def valley(theta):
        x, y = theta
        value = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        return value, np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])

    @staticmethod
    def curvature(theta):
        x, y = theta
        return np.array([[2 - 400 * (y - 3 * x**2), -400 * x], [-400 * x, 200.0]])

    def search(self, start, **box):
        bounds = {"lower": np.full(2, -np.inf), "upper": np.full(2, np.inf)} | box
        return minimise(self.valley, self.curvature, np.array(start), tolerance=1e-20, **bounds)

    @pytest.mark.parametrize("start", [[-1.2, 1.0], [0.0, 5.0], [3.0, -3.0]])
    def test_from_anywhere(self, start):
        np.testing.assert_allclose(self.search(start), [1.0, 1.0], rtol=1e-8)

    def test_stops_at_the_box(self):
        found = self.search([0.0, 0.0], upper=np.array([0.5, np.inf]))
        np.testing.assert_allclose(found, [0.5, 0.25], rtol=1e-8)

    def test_gives_up_where_nothing_is_lower(self):
        # A gradient that promises what the loss does not keep.
        found = minimise(
            lambda theta: (float(abs(theta[0])), np.array([1.0])),
            lambda theta: np.eye(1),
            np.zeros(1),
            lower=np.array([-1.0]),
            upper=np.array([1.0]),
            tolerance=1e-12,
        )
        assert found[0] == 0.0


def test_columns_named_by_the_classes_are_taken_by_name():
    frame = pd.DataFrame(LOG_PROBA, columns=["a", "b", "c"])
    expected = TemperatureScaling().fit(LOG_PROBA, Y).predict_proba(LOG_PROBA)
    calibrator = TemperatureScaling().fit(frame[["c", "a", "b"]], Y)
    for rows in (frame, frame[["b", "c", "a"]], LOG_PROBA):
        np.testing.assert_array_equal(calibrator.predict_proba(rows), expected)
    assert not hasattr(calibrator, "feature_names_in_")


def test_other_names_of_columns_are_compared_by_scikit_learn():
    frame = pd.DataFrame(LOG_PROBA, columns=["p1", "p2", "p3"])
    calibrator = TemperatureScaling().fit(frame, Y)
    assert calibrator.feature_names_in_.tolist() == ["p1", "p2", "p3"]
    with pytest.raises(ValueError, match="feature names should match"):
        calibrator.predict_proba(frame[["p2", "p1", "p3"]])
