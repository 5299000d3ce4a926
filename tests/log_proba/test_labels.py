from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skllm_calib.log_proba.labels import check_known, check_labels, label_wording


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
    found = check_labels(labels, "y")
    assert found.tolist() == ["a", "b"]
    assert found.dtype.kind == "U"
    assert check_labels(labels, "y", keep_all=True).tolist() == ["b", "a", "b"]


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
        np.array(["a", np.nan], dtype=object),
        np.array(["a", pd.NA], dtype=object),
        pd.Series(["a", pd.NA], dtype="string"),
        pd.Series([1, None], dtype="Int64"),
        pl.Series(["a", None]),
    ],
)
def test_missing_labels(labels):
    with pytest.raises(ValueError, match="Input y contains NaN"):
        check_labels(labels, "y")


@pytest.mark.parametrize("labels", [["a", 1], ["a", True], np.array(["a", 1], dtype=object)])
def test_mixed_types(labels):
    with pytest.raises(ValueError, match="y mixes labels"):
        check_labels(labels, "y")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([], "classes is empty"),
        ("ab", "classes='ab': must be a list"),
        ({"a", "b"}, "must be a list"),
        (3, "classes=3"),
        ([["a", "b"], ["c", "d"]], "1d"),
    ],
)
def test_what_is_no_list_of_labels(labels, problem):
    with pytest.raises(ValueError, match=problem):
        check_labels(labels, "classes")


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
