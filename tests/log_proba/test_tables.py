from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_classes
from skllm_calib.log_proba.tables import column_order
from skllm_calib.log_proba.validation import check_input, check_log_proba, check_proba, check_weight

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
ROWS = {
    "list": P.tolist(),
    "tuples": tuple(map(tuple, P.tolist())),
    "object": P.astype(object),
    "fortran": np.asfortranarray(P),
    "pandas": pd.DataFrame(P, index=[9, 8, 7]),
    "nullable": pd.DataFrame(P).astype("Float64"),
    "Arrow-backed": pd.DataFrame(P).astype(pd.ArrowDtype(pa.float64())),
    "object frame": pd.DataFrame(P).astype(object),
    "polars": pl.DataFrame(P),
    "pyarrow": pa.table({f"p{k}": P[:, k] for k in range(3)}),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_every_container(rows):
    np.testing.assert_array_equal(check_proba(rows), P)
    np.testing.assert_array_equal(check_input([0, 1, 2], rows).proba, P)


MISSING = {
    "nan": [[0.5, 0.5], [np.nan, 1.0]],
    "None": [[0.5, 0.5], [None, 1.0]],
    "NA": np.array([[0.5, 0.5], [pd.NA, 1.0]], dtype=object),
    "nullable": pd.DataFrame({"a": [0.5, None], "b": [0.5, 1.0]}, dtype="Float64"),
    "Arrow-backed": pd.DataFrame({"a": [0.5, None], "b": [0.5, 1]}).astype(
        pd.ArrowDtype(pa.float64())
    ),
    "polars": pl.DataFrame({"a": [0.5, None], "b": [0.5, 1.0]}),
    "pyarrow": pa.table({"a": [0.5, None], "b": [0.5, 1.0]}),
    "masked": np.ma.array([[0.5, 0.5], [0.0, 1.0]], mask=[[0, 0], [1, 0]]),
}


@pytest.mark.parametrize("rows", MISSING.values(), ids=MISSING)
def test_missing_probabilities(rows):
    with pytest.raises(InvalidInput, match="missing value in 1 row") as caught:
        check_proba(rows)
    assert (caught.value.parameter, caught.value.row) == ("proba", 1)
    kept = check_proba(rows, allow_unscored=True)
    np.testing.assert_array_equal(kept, [[0.5, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize(
    "one",
    [
        [0.2, None],
        pd.Series([0.2, None], dtype="Float64"),
        pl.Series([0.2, None]),
        pa.array([0.2, None]),
    ],
)
def test_missing_probabilities_of_one_class(one):
    with pytest.raises(InvalidInput, match="row 1"):
        check_proba(one)
    np.testing.assert_allclose(check_proba(one, allow_unscored=True)[0], [0.8, 0.2])
    with pytest.raises(InvalidInput, match=r"sample_weight must be finite.*row 1"):
        check_weight(one, 2)


@pytest.mark.parametrize("dtype", ["float32", "Float32", "float[pyarrow]", "polars"])
def test_rows_of_float32_may_miss_one_by_their_rounding(dtype):
    single = pd.DataFrame(np.tile(np.float32(1 / 7) * np.float32(1 + 2e-5), (3, 7)))
    rows = pl.DataFrame(single.to_numpy()) if dtype == "polars" else single.astype(dtype)
    assert check_proba(rows).shape == (3, 7)
    with pytest.raises(InvalidInput, match="must sum to 1"):
        check_proba(single.astype(float))


def test_texts_are_no_numbers():
    for rows in ([["0.5", "0.5"]], pd.DataFrame({"a": ["0.5"], "b": [0.5]}), ["ham", "spam"]):
        with pytest.raises(InvalidInput, match="proba must hold numbers, but row 0 holds '"):
            check_proba(rows)


@pytest.mark.parametrize(
    ("names", "classes", "order"),
    [
        (["no", "yes"], ["no", "yes"], [0, 1]),
        (["yes", "no"], ["no", "yes"], [1, 0]),
        (["proba_yes", "predicted_proba_no"], ["no", "yes"], [1, 0]),
        ([3, 1, 2], [1, 2, 3], [1, 2, 0]),
        (["3", "1", "2"], [1, 2, 3], [1, 2, 0]),
        (["proba_2", "1.0"], [1.0, 2.0], [1, 0]),
        (["True", "False"], [False, True], [1, 0]),
        (["proba_a", "b"], ["b", "proba_a"], [1, 0]),
        ([0, 1, 2], [1, 2, 3], None),
        (["0", "1"], [1, 2], None),
        (["column_0", "column_1"], ["a", "b"], None),
        (["p1", "p2"], ["no", "yes"], None),
        ([("a", 1), ("a", 2)], ["no", "yes"], None),
        (None, ["no", "yes"], None),
    ],
)
def test_columns_by_name(names, classes, order):
    assert column_order(names, classes, "proba") == order


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["yes", "p2"], "column 'p2', which is not a label"),
        (["yes", "no", "id"], "column 'id'"),
        (["yes", "proba_yes"], "more than one column for a label"),
    ],
)
def test_names_that_are_labels_in_part(names, problem):
    table = pd.DataFrame(np.full((2, len(names)), 1 / len(names)), columns=names)
    with pytest.raises(InvalidInput, match=problem) as caught:
        check_proba(table, "y_proba", classes=check_classes(["no", "yes"]))
    assert caught.value.parameter == "y_proba"


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_named_columns_are_put_in_order(frame):
    table = frame({"proba_b": P[:, 1], "proba_c": P[:, 2], "proba_a": P[:, 0]})
    np.testing.assert_array_equal(check_input(["a", "b", "c"], table).proba, P)
    # The names also tell which classes there are, where y lacks one or is not known.
    lacking = check_input(["a", "b", "b"], table)
    assert lacking.classes.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(lacking.proba, P)
    alone = check_input(None, table, allow_unlabelled=True)
    assert alone.classes.tolist() == ["a", "b", "c"]
    assert alone.codes.tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(alone.proba, P)
    logs = frame({"b": np.log(P[:, 1]), "c": np.log(P[:, 2]), "a": np.log(P[:, 0])})
    np.testing.assert_allclose(check_log_proba(logs, classes=lacking.classes), np.log(P))


def test_whole_numbers_as_names():
    table = pd.DataFrame(P, columns=["2", "3", "1"])
    np.testing.assert_array_equal(check_input([1, 2, 2], table).proba, P[:, [2, 0, 1]])
    assert check_input([1, 2, 2], table).classes.tolist() == [1, 2, 3]


@pytest.mark.parametrize("series", [pd.Series, lambda p, name: pl.Series(name, p)])
def test_series_named_by_a_class(series):
    p = series([0.9, 0.2], name="proba_no")
    both = [[0.9, 0.1], [0.2, 0.8]]
    np.testing.assert_allclose(check_input(["no", "yes"], p).proba, both)
    np.testing.assert_allclose(check_input(["no", "yes"], p, pos_label="no").proba, both)
    with pytest.raises(InvalidInput, match="named 'proba_no'") as caught:
        check_input(["no", "yes"], p, pos_label="yes")
    assert caught.value.parameter == "pos_label"
    unnamed = series([0.9, 0.2], name="p")
    np.testing.assert_allclose(check_input(["no", "yes"], unnamed).proba[:, 1], [0.9, 0.2])


@pytest.mark.parametrize(
    ("y", "proba"),
    [
        (P, [0, 1, 2]),
        ([0.9, 0.2, 0.7], [1, 0, 1]),
        ([0.9, 0.2], ["yes", "no"]),
        (pd.DataFrame(P), np.array(["a", "b", "c"])),
    ],
)
def test_swapped_arguments(y, proba):
    with pytest.raises(InvalidInput, match=r"order of arguments is \(y_true, y_proba\)"):
        check_input(y, proba)


def test_one_dimension_is_enough_for_two_classes_only():
    with pytest.raises(InvalidInput, match=r"a single row as \(1, 3\)"):
        check_proba([0.2, 0.3, 0.5], classes=check_classes(["a", "b", "c"]))


def test_nothing_is_copied_that_need_not_be():
    assert np.shares_memory(check_proba(P), P)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([[np.nan, 0.0]], "row 0 contains NaN"),
        ([[0.0, -1.0], [-np.inf, -np.inf]], "row 1 has no finite entry"),
        ([[0.0, np.inf]], "plus infinity"),
        ([0.0, 1.0], "must have shape"),
    ],
)
def test_log_probabilities_that_cannot_be_used(rows, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        check_log_proba(rows)
    assert caught.value.parameter == "log_proba"
