import numpy as np
import pandas as pd
import polars as pl
import pytest

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import distinct
from skllm_calib.log_proba.validation import check_input, check_proba
from skllm_calib.metrics import (
    brier_score,
    calibration_noise_floor,
    expected_calibration_error,
    top_label_accuracy,
)

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])


@pytest.mark.parametrize(
    "y_true",
    [
        ["a", "b", "c"],
        np.array(["a", "b", "c"], dtype=object),
        pd.Series(["a", "b", "c"], index=[7, 8, 9]),
        pd.Series(["a", "b", "c"], dtype="category"),
        pl.Series(["a", "b", "c"]),
        [1, 5, 9],
    ],
)
def test_labels_in_every_form(y_true):
    checked = check_input(y_true, P)
    assert checked.codes.tolist() == [0, 1, 2]
    assert checked.proba.dtype == np.float64
    assert top_label_accuracy(y_true, P) == 1.0


def test_booleans_and_absent_labels():
    assert brier_score([True, False], [0.8, 0.2]) == pytest.approx(0.08)
    assert check_input([True, True], [0.8, 0.2], labels=[False, True]).codes.tolist() == [1, 1]
    assert check_input(["c", "c", "a"], P, labels=["a", "b", "c"]).codes.tolist() == [2, 2, 0]


def test_one_dimensional_probabilities_are_those_of_the_positive_class():
    y, p = ["a", "b", "a"], np.array([0.2, 0.9, 0.4])
    both = np.column_stack([1 - p, p])
    np.testing.assert_array_equal(check_input(y, p).proba, both)
    np.testing.assert_array_equal(check_input(y, p, pos_label="b").proba, both)
    np.testing.assert_array_equal(check_input(y, p, pos_label="a").proba, both[:, ::-1])
    np.testing.assert_array_equal(check_input(y, both, pos_label="a").proba, both)


def test_rows_are_not_changed_and_rounding_is_forgiven():
    single = (np.ones((3, 7)) / 7).astype(np.float32)
    np.testing.assert_array_equal(check_proba(single), single.astype(np.float64))
    assert check_proba([[1, 0], [0, 1]]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rows_of_weight_zero_are_dropped():
    checked = check_input(["a", "b", "c"], P, sample_weight=[1, 0, 2])
    assert checked.codes.tolist() == [0, 2]
    assert checked.weight.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("y_true", "y_proba", "options", "message"),
    [
        ([0, 1], [[0.5, 0.5], [0.5, 0.49]], {}, "row 1 sums to 0.99"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], {}, "NaN or a missing value in 1 row.*row 1"),
        ([0, 1], [0.5, 1.5], {}, r"\[0, 1\], but row 1 is \[1.5\]"),
        ([0, 1], ["x", "y"], {}, "must hold numbers"),
        ([0, 1], 0.5, {}, "shape"),
        ([], [], {}, "at least one row"),
        ([0, 1], [[1.0], [1.0]], {}, "two columns"),
        ([0, 1, 1], [0.5, 0.5], {}, "y_true has 3 rows and y_proba has 2"),
        ([[0, 1], [1, 0]], [0.5, 0.5], {}, r"order of arguments is \(y_true, y_proba\)"),
        (["a", None], [0.5, 0.5], {}, "no label in row 1"),
        ([0.0, np.nan], [0.5, 0.5], {}, "no label in row 1"),
        (pd.Series(["a", pd.NA]), [0.5, 0.5], {}, "no label in row 1"),
        (["a", "x"], [0.5, 0.5], {"labels": ["a", "b"]}, "'x' in row 1"),
        (["a", "b"], [0.5, 0.5], {"labels": ["b", "a"]}, "sorted"),
        (["a", "b"], [0.5, 0.5], {"labels": ["a", "a"]}, "repeat"),
        (["a", "b"], [0.5, 0.5], {"labels": "ab"}, "labels='ab': must be a list"),
        (["a", "a"], [0.5, 0.5], {}, r"1 class\(es\).*labels=, as estimator.classes_"),
        (["a", "b"], [0.5, 0.5], {"labels": ["a", "b", "c"]}, "lists 3 classes.*stratify"),
        (["a", "b"], [0.5, 0.5], {"pos_label": "z"}, "pos_label='z'"),
        ([0, 1], [0.5, 0.5], {"sample_weight": [1]}, r"shape \(2,\)"),
        ([0, 1], [0.5, 0.5], {"sample_weight": [1, -1]}, "row 1 has -1"),
        ([0, 1], [0.5, 0.5], {"sample_weight": [0, 0]}, "zero everywhere"),
        ([0, 1], [0.5, 0.5], {"n_bins": 0}, "n_bins"),
        ([0, 1], [0.5, 0.5], {"n_bins": True}, "n_bins"),
        ([0, 1], [0.5, 0.5], {"strategy": "kmeans"}, "strategy"),
        ([0, 1], [0.5, 0.5], {"norm": "l3"}, "norm"),
        ([0, 1], [0.5, 0.5], {"kind": "z"}, "kind"),
    ],
)
def test_errors_name_the_value(y_true, y_proba, options, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        expected_calibration_error(y_true, y_proba, **options)
    assert caught.value.parameter in {"y_true", "y_proba", *options}
    if " row 1" in message:
        assert caught.value.row == 1


@pytest.mark.parametrize(
    ("y_true", "labels", "codes"),
    [
        (np.array([2, 0, 1], dtype=np.int8), [0, 1, 2], [2, 0, 1]),
        (np.array([2.0, 0.0, 1.0]), [0, 1, 2], [2, 0, 1]),
        (np.array([True, False, True]), [0, 1, 2], [1, 0, 1]),
        (np.array([7, 5, 6], dtype=np.int8), [5, 6, 7], [2, 0, 1]),
        (np.array([7, 5, 6], dtype=np.uint8), [5, 6, 7], [2, 0, 1]),
        (np.array([9, -5, 2]), [-5, 2, 9], [2, 0, 1]),
        (np.array(["ccc", "a", "bb"]), ["a", "bb", "ccc"], [2, 0, 1]),
        (np.array(["bb", "a", "a"], dtype=object), ["a", "bb", "ccc"], [1, 0, 0]),
        (np.array(["bb", "a", "a"]), np.array(["a", "bb", "ccc"], dtype=object), [1, 0, 0]),
        (np.array([2, 0, 1], dtype=object), [0.0, 1.0, 2.0], [2, 0, 1]),
        (np.array(["bb", "a"] * 2, dtype=np.dtypes.StringDType())[:3], ["a", "bb", "c"], [1, 0, 1]),
    ],
)
def test_labels_of_every_type_find_their_columns(y_true, labels, codes):
    assert check_input(y_true, P, labels=labels).codes.tolist() == codes


@pytest.mark.parametrize(
    ("y_true", "labels", "shown"),
    [
        ([1, 2, 5], [1, 2, 3], "5"),
        ([1, 2, 0], [1, 2, 3], "0"),
        ([1, 2, 3], [1, 2, 9], "3"),
        ([-(2**63), 2**63 - 2, 2**63 - 1], [2**63 - 3, 2**63 - 2, 2**63 - 1], str(-(2**63))),
        (["1", "2", "3"], [1, 2, 3], "'1'"),
        ([1, 2, 3], ["1", "2", "3"], "1"),
        (["a", "b", "bb"], ["a", "b", "c"], "'bb'"),
    ],
)
def test_labels_that_are_none_of_the_classes(y_true, labels, shown):
    with pytest.raises(ValueError, match=f"y_true holds {shown} in row"):
        check_input(y_true, P, labels=labels)


@pytest.mark.parametrize(
    "y",
    [
        [3, 5, 3],
        [-4, 4, -4],
        [0, 10**6, 0],
        [True, False, True],
        np.array([9, 8, 9], dtype=np.int8),
    ],
)
def test_distinct_labels_keep_their_type_and_order(y):
    found = distinct(np.asarray(y))
    assert found.tolist() == sorted(set(np.asarray(y).tolist()))
    assert found.dtype == np.asarray(y).dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_simulations": -1}, "n_simulations"),
        ({"quantile": 0.95}, "need a simulation"),
        ({"quantile": 2, "n_simulations": 9}, r"in \(0, 1\), got 2"),
        ({"norm": "max"}, "need a simulation"),
        ({"kind": 1}, "needs labels"),
        ({"labels": [0, 1, 2]}, "3 classes"),
    ],
)
def test_noise_floor_errors(options, message):
    with pytest.raises(ValueError, match=message):
        calibration_noise_floor([0.5, 0.6], **options)
