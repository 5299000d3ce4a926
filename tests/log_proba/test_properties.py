"""What holds for labels and probabilities of every kind, found out by hypothesis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_labels, distinct, encode, encode_labels
from skllm_calib.log_proba.validation import check_input, check_proba

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=60, deadline=None, derandomize=True)

# Without "\0", at which numpy's texts end, and surrogates, which no file can hold.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
INTEGER = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
LABEL = st.one_of(
    st.lists(TEXT, min_size=1, max_size=12),
    st.lists(INTEGER, min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.lists(FLOAT, min_size=1, max_size=12),
)
CONTAINERS = [
    list,
    tuple,
    lambda y: np.array(y, dtype=object),
    lambda y: pd.Series(y, dtype=object),
    lambda y: pd.Series(y).convert_dtypes(),
    lambda y: pd.Series(y, index=np.arange(len(y))[::-1]),
    lambda y: pd.Series(pd.Categorical(y)),
    pl.Series,
    pa.array,
]
CONTAINER = st.sampled_from(CONTAINERS)
MISSING = st.sampled_from([None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # pandas 2.2
@quick
@given(LABEL, CONTAINER)
def test_labels_come_out_as_they_went_in(labels, container):
    found = check_labels(container(labels))
    assert found.tolist() == labels
    assert found.dtype.kind in "biufU"


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # pandas 2.2
@quick
@given(LABEL, CONTAINER)
def test_codes_lead_back_to_the_labels(labels, container):
    array = check_labels(container(labels))
    classes = distinct(array)
    assert classes.tolist() == sorted(set(labels))
    assert classes[encode(array, classes)].tolist() == labels


@quick
@given(LABEL, MISSING, st.data())
def test_a_missing_label_is_found_where_it_is(labels, missing, data):
    row = data.draw(st.integers(0, len(labels)))
    holed = [*labels[:row], missing, *labels[row:]]
    for container in (list, tuple, lambda y: np.array(y, dtype=object), pd.Series):
        with pytest.raises(InvalidInput) as caught:
            check_labels(container(holed), "labels of mine")
        assert (caught.value.parameter, caught.value.row) == ("labels of mine", row)
        classes = distinct(check_labels(labels))
        codes = encode_labels(container(holed), classes)
        assert codes[row] == -1
        assert np.delete(codes, row).tolist() == encode(check_labels(labels), classes).tolist()


@quick
@given(LABEL, LABEL, st.data())
def test_labels_of_two_types_are_no_labels(some, others, data):
    kinds = {
        "U": "text",
        "b": "bool",
        "i": "number",
        "f": "number",
    }
    kind = [kinds[check_labels(one).dtype.kind] for one in (some, others)]
    mixed = data.draw(st.permutations([*some, *others]))
    if kind[0] == kind[1]:
        assert len(check_labels(mixed)) == len(mixed)
    else:
        with pytest.raises(InvalidInput, match="mixes labels of several types"):
            check_labels(mixed)


def rows_of(n_classes):
    weights = st.lists(st.integers(1, 1000), min_size=n_classes, max_size=n_classes)
    return st.lists(weights, min_size=1, max_size=6).map(
        lambda rows: np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    )


@quick
@given(st.data(), st.sampled_from(["", "proba_", "predicted_proba_"]))
def test_named_columns_stand_in_any_order(data, prefix):
    kind = data.draw(st.sampled_from([TEXT.filter(bool), st.integers(-50, 50)]))
    classes = np.unique(data.draw(st.lists(kind, min_size=2, max_size=5, unique_by=str)))
    rows = data.draw(rows_of(len(classes)))
    order = data.draw(st.permutations(range(len(classes))))
    names = [f"{prefix}{classes.tolist()[at]}" for at in order]
    if not prefix and names == [str(k) for k in range(len(names))]:
        return  # default names say nothing
    y = classes[data.draw(st.lists(st.sampled_from(order), min_size=len(rows), max_size=len(rows)))]
    for frame in (
        pd.DataFrame(rows[:, order], columns=names),
        pl.DataFrame(rows[:, order], names, orient="row"),
    ):
        np.testing.assert_array_equal(check_proba(frame, classes=classes), rows)
        np.testing.assert_array_equal(check_input(y, frame, labels=classes).proba, rows)


@quick
@given(rows_of(3), st.sampled_from(["float32", "float16"]))
def test_rounding_to_any_precision_is_forgiven(rows, dtype):
    np.testing.assert_array_equal(check_proba(rows.astype(dtype)), rows.astype(dtype).astype(float))
