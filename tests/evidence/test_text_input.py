from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator

from skllm_calib import LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.evidence.text_input import read_texts
from skllm_calib.exceptions import FailedRowsWarning

TEXTS = ["first", "second", "third"]


def read(X, *, reset=True, allow_missing=False, estimator=None):
    return read_texts(X, estimator or BaseEstimator(), reset=reset, allow_missing=allow_missing)


def string_array(values, **options):
    return np.array(values, dtype=np.dtypes.StringDType(**options))


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array of <U": np.array,
    "array of objects": lambda v: np.array(v, dtype=object),
    "array of StringDType": string_array,
    "column of <U": lambda v: np.array(v).reshape(-1, 1),
    "column of objects": lambda v: np.array(v, dtype=object).reshape(-1, 1),
    "column of StringDType": lambda v: string_array(v).reshape(-1, 1),
    "pandas": pd.Series,
    "pandas objects": lambda v: pd.Series(v, dtype=object),
    "pandas arrow": lambda v: pd.Series(v, dtype="string[pyarrow]"),
    "pandas shuffled index": lambda v: pd.Series(v, index=[7, 3, 5]),
    "pandas categorical": lambda v: pd.Series(v, dtype="category"),
    "polars": pl.Series,
    "pyarrow": pa.array,
    "pyarrow chunked": lambda v: pa.chunked_array([v[:1], v[1:]]),
    "list of lists": lambda v: [[x] for x in v],
    "list of str_": lambda v: [np.str_(x) for x in v],
    "list of dict": lambda v: [{"note": x} for x in v],
    "pandas frame": lambda v: pd.DataFrame({"note": v}),
    "polars frame": lambda v: pl.DataFrame({"note": v}),
    "pyarrow table": lambda v: pa.table({"note": v}),
    "pyarrow batch": lambda v: pa.RecordBatch.from_pydict({"note": v}),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_of_texts(container):
    rows = read(CONTAINERS[container](TEXTS))
    assert rows.texts == TEXTS
    assert rows.problems == {}
    assert len(rows) == 3


TABLES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "dicts": lambda d: [dict(zip(d, row, strict=True)) for row in zip(*d.values(), strict=True)],
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_a_field_a_column(table):
    rows = read(TABLES[table]({"title": ["a", "b"], "price": [3, 4]}))
    assert rows.columns == ("title", "price")
    assert rows.fields[0] == {"title": "a", "price": "3", "text": "title: a\nprice: 3"}


@pytest.mark.parametrize("table", TABLES)
def test_templates_name_the_columns(table, counted):
    X = TABLES[table]({"title": ["a", "b"], "body": ["c", "d"]})
    clf = LLMClassifier(counted(), classes=["x", "y"], prompt="{title}|{body}", cache=None)
    assert [turns[0]["content"] for turns in clf.render(X)] == ["a|c", "b|d"]
    assert clf.explain(X)[0]["failure"] is None
    clf.fit(X, ["x", "y"])
    assert [turns[0]["content"] for turns in clf.render(X)] == ["a|c", "b|d"]
    assert clf.predict(X).shape == (2,)


def test_a_column_named_text_is_the_text():
    assert read(pd.DataFrame({"text": ["a"], "id": [1]})).texts == ["a"]


def test_rows_of_numbers_are_rendered():
    rows = read(np.array([[1.5, 2.0], [3.0, 4.0]]))
    assert rows.texts[0] == "x0: 1.5\nx1: 2.0"
    assert read(pd.DataFrame([[1.5, 2.0]])).texts == rows.texts[:1]


@pytest.mark.parametrize("names", [("title", "price"), ("price", "title")])
def test_dicts_keep_the_columns_of_fit(names):
    estimator = BaseEstimator()
    read([{"title": "a", "price": 3}], estimator=estimator)
    row = {name: {"title": "b", "price": 4}[name] for name in names}
    again = read([row], estimator=estimator, reset=False)
    assert again.texts == ["title: b\nprice: 4"]


def test_dicts_without_a_column_are_problems():
    rows = read([{"a": "1", "b": "2"}, {"a": "3"}])
    assert rows.problems == {1: "row 1 has no value in column 'b'"}


# ------------------------------------------------------------------------------- missing and empty

MISSING = {
    "None in a list": ["x", None],
    "NaN in a list": ["x", float("nan")],
    "NA in a list": ["x", pd.NA],
    "pandas": pd.Series(["x", pd.NA], dtype="string"),
    "pandas objects": pd.Series(["x", np.nan], dtype=object),
    "NaT": pd.Series(["x", pd.NaT], dtype=object),
    "polars": pl.Series(["x", None]),
    "pyarrow": pa.array(["x", None]),
    "StringDType": string_array(["x", None], na_object=None),
    "empty": ["x", ""],
    "blank": ["x", " \n\t"],
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_texts_are_problems_of_their_row(case):
    rows = read(MISSING[case])
    assert list(rows.problems) == [1]
    assert rows.problems[1].startswith("row 1 is ")
    assert rows.texts == ["x", ""]


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"t": ["x", None], "n": [1, 2]}),
        pd.DataFrame({"t": pd.Series(["x", pd.NA], dtype="string"), "n": [1, 2]}),
        pl.DataFrame({"t": ["x", None], "n": [1, 2]}),
        pa.table({"t": ["x", None], "n": [1, 2]}),
        [{"t": "x", "n": 1}, {"t": None, "n": 2}],
    ],
)
def test_missing_cells(X):
    rows = read(X, allow_missing=True)
    assert rows.problems == {1: "row 1 has no value in column 't'"}
    assert rows.fields[1] == {}


def test_missing_numbers_are_refused_unless_allowed():
    X = np.array([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(ValueError, match="NaN"):
        read(X)
    assert list(read(X, allow_missing=True).problems) == [0]


def test_rows_empty_in_every_column():
    rows = read(pd.DataFrame({"a": ["x", ""], "b": ["", " "]}))
    assert rows.problems == {1: "row 1 is empty in every column"}


@pytest.mark.parametrize("X", [[None, None], pd.Series([pd.NA], dtype="string"), pl.Series([None])])
def test_nothing_but_missing_texts(X):
    assert list(read(X).problems) == list(range(len(X)))


@pytest.mark.parametrize(
    "X",
    [
        [],
        (),
        np.array([], dtype="<U3"),
        np.empty((0, 2)),
        pd.Series([], dtype=object),
        pl.Series([], dtype=pl.String),
        pa.array([], type=pa.string()),
        pd.DataFrame({"a": []}),
    ],
)
def test_no_rows(X):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        read(X)


@pytest.mark.parametrize("X", ["a text", b"a text"])
def test_a_bare_text(X):
    with pytest.raises(ValueError, match=r"raw text documents.*\[text\]"):
        read(X)


@pytest.mark.parametrize("X", [[b"a"], np.array([b"a"]), ["a", b"b"]])
def test_bytes_are_no_text(X):
    with pytest.raises(TypeError, match="decode"):
        read(X)


@pytest.mark.parametrize("X", [[1, 2], np.array([1.0, 2.0]), None, {"a": 1}, np.array("x")])
def test_what_is_no_list_of_rows(X):
    with pytest.raises(ValueError, match=r"2D|2-dim"):
        read(X)


def test_a_dict_in_a_cell():
    with pytest.raises(TypeError, match="string or a number"):
        read(np.array([[{"a": 1}]], dtype=object))


def test_features_are_known_for_tables_only():
    estimator = BaseEstimator()
    read(pd.DataFrame({"a": ["x"], "b": ["y"]}), estimator=estimator)
    assert estimator.n_features_in_ == 2
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        read(pd.DataFrame({"b": ["x"], "a": ["y"]}), estimator=estimator, reset=False)
    plain = BaseEstimator()
    read(["a"], estimator=plain)
    assert not hasattr(plain, "n_features_in_")


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame([["a", "b"]], columns=["x", "x"]),
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["x", "x"]),
    ],
)
def test_two_columns_of_one_name(table):
    with pytest.raises(ValueError, match="two columns of X are named 'x'"):
        read(table)


@pytest.mark.parametrize("half", [0xD83D, 0xDC00], ids=["high", "low"])
@pytest.mark.parametrize("form", ["list", "array", "frame", "dicts"])
def test_half_a_surrogate_pair_is_one_failed_row(form, half):
    texts = ["fine", f"cut {chr(half)}", "bad"]
    X = {
        "list": texts,
        "array": np.array(texts, dtype=object),
        "frame": pd.DataFrame({"title": texts, "n": [1, 2, 3]}, dtype=object),
        "dicts": [{"title": text, "n": 1} for text in texts],
    }[form]
    clf = LLMClassifier(TestingBackend(), classes=["a", "b"], cache=None, on_error="nan")
    with pytest.warns(FailedRowsWarning, match=r"row 1.*unpaired surrogate"):
        found = clf.predict_proba(X)
    assert np.isnan(found).any(axis=1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"row 1.*unpaired surrogate"):
        clf.set_params(on_error="raise").predict(X)


def test_no_label_and_no_prompt_with_half_a_surrogate_pair():
    for options in ({"label_texts": {"a": "x\ud83d"}}, {"prompt": "\ud83d {text} {hint}"}):
        clf = LLMClassifier(TestingBackend(), classes=["a", "b"], cache=None, **options)
        with pytest.raises(ValueError, match="unpaired surrogate"):
            clf.predict(["fine"])
