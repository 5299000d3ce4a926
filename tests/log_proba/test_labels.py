from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.exceptions import DataConversionWarning

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import (
    check_classes,
    check_known,
    check_labels,
    counting_labels,
    distinct,
    encode,
    encode_labels,
    label_wording,
)


class Missing:
    """Compares like the missing value of pandas: neither true nor false."""

    def __eq__(self, other):
        return self

    __ne__ = __eq__
    __hash__ = None

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


Missing.__name__ = "NAType"


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "b"],
        ("b", "a", "b"),
        np.array(["b", "a", "b"]),
        np.array(["b", "a", "b"], dtype=object),
        np.array(["b", "a", "b"], dtype=np.dtypes.StringDType()),
        pd.Series(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], dtype="category"),
        pd.Categorical(["b", "a", "b"]),
        pd.Index(["b", "a", "b"]),
        pl.Series(["b", "a", "b"]),
        pa.array(["b", "a", "b"]),
        pa.chunked_array([["b"], ["a", "b"]]),
    ],
)
def test_containers(labels):
    found = check_labels(labels)
    assert found.tolist() == ["b", "a", "b"]
    assert found.dtype.kind == "U"
    assert check_classes(labels, sort=True).tolist() == ["a", "b"]
    assert distinct(found).tolist() == ["a", "b"]
    assert encode_labels(labels, np.array(["a", "b"])).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([3, 1], "i"),
        ([True, False], "b"),
        (pd.Series([True, False], dtype="boolean"), "b"),
        (pd.Series([3, 1], dtype="Int64"), "i"),
        (np.array([True, False], dtype=object), "b"),
        ([1.0, 2.0], "f"),
    ],
)
def test_types_are_kept(labels, kind):
    assert check_labels(labels, "y").dtype.kind == kind


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None],
        ["a", float("nan")],
        [1.0, float("nan")],
        ("a", pd.NaT),
        np.array(["a", np.nan], dtype=object),
        np.array(["a", pd.NA], dtype=object),
        np.array(["a", Missing()], dtype=object),
        np.ma.array(["a", "b"], mask=[False, True]),
        pd.Series(["a", pd.NA], dtype="string"),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([True, None], dtype="boolean"),
        pd.Series(["a", None], dtype="category"),
        pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
        pl.Series(["a", None]),
        pa.array([1, None]),
    ],
)
def test_missing_labels(labels):
    with pytest.raises(InvalidInput, match="y has no label in row 1 \\(1 such row\\)") as caught:
        check_labels(labels, "y")
    assert (caught.value.parameter, caught.value.row) == ("y", 1)
    first = check_labels(labels[:1])
    assert encode_labels(labels, first).tolist() == [0, -1]


def test_labels_that_are_to_come():
    classes = np.array(["a", "b"])
    assert encode_labels(None, classes, n_rows=2).tolist() == [-1, -1]
    assert encode_labels([None, float("nan")], classes).tolist() == [-1, -1]
    with pytest.raises(InvalidInput, match="y holds 'c' in row 2") as caught:
        encode_labels([None, "a", "c"], classes)
    assert (caught.value.row, caught.value.value) == (2, "c")


@pytest.mark.parametrize(
    "labels", [["a", 1], ["a", True], [0, True], np.array(["a", 1], dtype=object), [1, "nan"]]
)
def test_mixed_types(labels):
    with pytest.raises(InvalidInput, match="y mixes labels") as caught:
        check_labels(labels, "y")
    assert (caught.value.row, caught.value.value) == (1, list(labels)[1])


@pytest.mark.parametrize("labels", [[b"a", b"b"], [object()], [(1, 2)], [1j]])
def test_what_is_no_label(labels):
    with pytest.raises(InvalidInput, match="y must"):
        check_labels(labels, "y")


@pytest.mark.parametrize("labels", [[1, 2**64], [0.5, 10**400], [-1, 2**64 - 1]])
def test_integers_that_are_too_large(labels):
    with pytest.raises(InvalidInput, match="y holds an integer of more than 64 bits in row 1"):
        check_labels(labels)


@pytest.mark.parametrize("labels", [{"a": "b" * 999}, (one for one in "ab"), {"a"}, "ab"])
def test_what_is_no_container(labels):
    with pytest.raises(InvalidInput, match="must be a list or array of labels, not a") as caught:
        check_labels(labels)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    "labels", [np.array([[1], [0]]), [["b"], ["a"]], pd.DataFrame({"y": [1, 0]}, index=[7, 9])]
)
def test_column_vectors(labels):
    with pytest.warns(DataConversionWarning):
        found = check_labels(labels)
    assert distinct(found)[encode(found, distinct(found))].tolist() == found.tolist()
    assert found.shape == (2,)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([], "classes is empty"),
        ("ab", "classes='ab': must be a list"),
        ({"a", "b"}, "must be a list"),
        (3, "classes=3"),
        ([["a", "b"], ["c", "d"]], "1d"),
        ([["a", "b"], ["c"]], "different lengths"),
        (["b", "a"], "must be sorted.*expected \\['a', 'b'\\]"),
        (["a", "a", "b"], "must not repeat"),
        (["a"], "at least two"),
    ],
)
def test_what_is_no_list_of_classes(labels, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        check_classes(labels)
    assert caught.value.parameter == "classes"


def test_wording():
    assert label_wording([0, 1], None) == ["0", "1"]
    assert label_wording([0, 1], {1: " yes "}) == ["0", "yes"]
    assert label_wording([False, True], {False: "no", True: "yes"}) == ["no", "yes"]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({7: "x"}, "label_texts has 7, which is not in classes"),
        ({0: " "}, "text of label 0 is empty"),
        ({0: "same", 1: "same "}, "labels 0 and 1 have the same text 'same'"),
        ({0: "1"}, "labels 0 and 1 have the same text"),
    ],
)
def test_wording_errors(texts, problem):
    with pytest.raises(ValueError, match=problem):
        label_wording([0, 1], texts)


def test_check_known():
    check_known({}, [0], "label_descriptions")
    with pytest.raises(ValueError, match="label_descriptions has 'x'"):
        check_known({"x": ""}, ["y"], "label_descriptions")


def test_rows_of_weight_zero_keep_their_number_and_lose_their_label():
    labels = np.array(["x", "ham", "spam"])
    counting = counting_labels(labels, np.array([0.0, 1.0, 2.0]))
    assert counting.tolist() == ["spam", "ham", "spam"]
    assert counting_labels(labels, None) is labels
