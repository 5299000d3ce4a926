"""Columns and tables of pandas, polars and pyarrow, from the question asked to the labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    expected_calibration_error,
    log_loss_scorer,
)
from skllm_calib.backends import TestingBackend
from skllm_calib.calibrators import TemperatureScaling
from skllm_calib.metrics import brier_score, calibration_error_interval, reliability_curve

N = 30
TITLES = [f"offer {i:02d}" for i in range(N)]
COUNTS = [i % 7 for i in range(N)]
PRICES = [i + 0.5 for i in range(N)]
LABELS = ["eggs", "ham", "spam"] * (N // 3)
COLUMNS = {"title": TITLES, "count": COUNTS, "price": PRICES}
# As a train_test_split leaves it: no row is where its label says.
INDEX = np.random.default_rng(0).permutation(N) + 7


def arrow_backed(columns):
    return pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow")


TABLES = {
    "pandas": lambda c: pd.DataFrame(c, index=INDEX[: len(next(iter(c.values())))]),
    "pandas nullable": lambda c: pd.DataFrame(c).convert_dtypes(),
    "pandas arrow": arrow_backed,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}
TEXTS = {
    "pandas": lambda v: pd.Series(v, index=INDEX),
    "pandas string": lambda v: pd.Series(v, index=INDEX, dtype="string"),
    "pandas arrow": lambda v: pd.Series(v, index=INDEX, dtype=pd.ArrowDtype(pa.string())),
    "pandas categorical": lambda v: pd.Series(v, index=INDEX, dtype="category"),
    "polars": pl.Series,
    "polars categorical": lambda v: pl.Series(v, dtype=pl.Categorical),
    "pyarrow": pa.array,
    "pyarrow chunked": lambda v: pa.chunked_array([v[:7], v[7:]]),
    "pyarrow dictionary": lambda v: pa.array(v).dictionary_encode(),
    "pyarrow large": lambda v: pa.array(v, type=pa.large_string()),
}
LABEL_COLUMNS = {
    **TEXTS,
    "pandas objects": lambda v: pd.Series(v, index=INDEX, dtype=object),
    "pandas Categorical": pd.Categorical,
    "pandas ordered": lambda v: pd.Series(
        pd.Categorical(v, categories=["spam", "ham", "eggs"], ordered=True)
    ),
    "pandas unused category": lambda v: pd.Series(
        pd.Categorical(v, categories=["spam", "ham", "eggs", "bacon"])
    ),
    "pandas Index": pd.Index,
    "pandas index of texts": lambda v: pd.Series(v, index=[f"row {i}" for i in INDEX]),
    "pandas index of dates": lambda v: pd.Series(v, index=pd.date_range("2024", periods=N)),
    "pandas repeated index": lambda v: pd.Series(v, index=[0] * N),
    "pandas two levels": lambda v: pd.Series(
        v, index=pd.MultiIndex.from_product([range(3), range(N // 3)])
    ),
    "polars enum": lambda v: pl.Series(v, dtype=pl.Enum(["spam", "ham", "eggs"])),
}


# ------------------------------------------------------------------------------------------ texts


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_of_any_column_type(counted, kind):
    X = TEXTS[kind](TITLES)
    clf = LLMClassifier(counted(), n_shots=1, prompt="{text} -- {hint}", cache=None)
    expected = clone(clf).fit(TITLES, LABELS)
    clf.fit(X, LABELS)
    assert clf.render(X) == expected.render(TITLES)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(TITLES))


# ----------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("prompt", [None, "{count} times «{title}» at {price}: {hint}"])
@pytest.mark.parametrize("kind", TABLES)
def test_every_table_asks_the_same(counted, kind, prompt):
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
    X = TABLES[kind](COLUMNS)
    clf = LLMClassifier(counted(), n_shots=1, prompt=prompt, cache=None)
    expected = clone(clf).fit(rows, LABELS)
    clf.fit(X, LABELS)
    assert clf.render(X) == expected.render(rows)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(rows))
    assert clf.examples_ == expected.examples_
    if prompt:
        assert "4 times «offer 11» at 11.5: " in clf.render(X)[11][-1]["content"]


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_one_column_is_that_column(counted, kind):
    X = TABLES[kind]({"note": TITLES})
    clf = LLMClassifier(counted(), prompt="{text}", classes=["ham", "spam"], cache=None)
    np.testing.assert_array_equal(clf.predict_proba(X), clf.predict_proba(TITLES))
    assert clf.render(X) == clone(clf).set_params(prompt="{note}").render(X)


def cells(table, columns):
    """Return how the cells of the first row read."""
    clf = LLMClassifier("testing:any", classes=["a", "b"], on_error="nan", cache=None)
    clf.set_params(prompt="|".join(f"{{{name}}}" for name in columns))
    return clf.render(table(columns))[0][-1]["content"].split("|")


@pytest.mark.parametrize("kind", TABLES)
def test_numbers_read_as_they_are(kind):
    columns = {"whole": [3, 4], "part": [2.5, 1.0], "yes": [True, False], "word": ["x", "y"]}
    assert cells(TABLES[kind], columns) == ["3", "2.5", "True", "x"]


@pytest.mark.parametrize("kind", TABLES)
def test_whole_numbers_stay_whole_without_a_column_of_texts(kind):
    assert cells(TABLES[kind], {"whole": [3, 4], "part": [2.5, 1.0]}) == ["3", "2.5"]


# Plain pandas has no whole numbers beside missing ones: it makes floats of them itself.
@pytest.mark.parametrize("kind", list(TABLES)[1:])
def test_what_a_row_says_does_not_depend_on_a_missing_cell_elsewhere(kind):
    assert cells(TABLES[kind], {"word": ["x", "y"], "whole": [3, None]}) == ["x", "3"]


@pytest.mark.parametrize("kind", TABLES)
def test_rows_with_missing_cells_fail_alone(counted, kind):
    titles = [None if i in (2, 5) else title for i, title in enumerate(TITLES)]
    prices = [None if i == 8 else price for i, price in enumerate(PRICES)]
    X = TABLES[kind]({"title": titles, "price": prices})
    whole = TABLES[kind]({"title": TITLES, "price": PRICES})
    clf = LLMClassifier(counted(), classes=["ham", "spam"], on_error="nan", cache=None)
    with pytest.warns(UserWarning, match="3 of 30 rows failed; the first is row 2"):
        proba = clf.predict_proba(X)
    assert np.flatnonzero(np.isnan(proba).any(axis=1)).tolist() == [2, 5, 8]
    answered = np.isfinite(proba).all(axis=1)
    np.testing.assert_array_equal(proba[answered], clf.predict_proba(whole)[answered])
    with pytest.raises(ValueError, match=r"row 2 has no value in column 'title' \(3 such|NaN"):
        clf.set_params(on_error="raise").predict(X)


@pytest.mark.parametrize("kind", TABLES)
def test_columns_in_another_order_are_an_error(counted, kind):
    table = TABLES[kind]
    clf = LLMClassifier(counted(), cache=None).fit(table(COLUMNS), LABELS)
    assert clf.feature_names_in_.tolist() == list(COLUMNS)
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(table(dict(reversed(COLUMNS.items()))))


# ----------------------------------------------------------------------------------------- labels


@pytest.fixture(scope="module")
def from_a_list():
    backend = TestingBackend(name="labels from a list")
    clf = CalibratedLLMClassifier(LLMClassifier(backend, n_shots=1, cache=None), method="vector")
    return clf.fit(TITLES, LABELS)


@pytest.mark.parametrize("kind", LABEL_COLUMNS)
def test_labels_of_any_column_type(from_a_list, kind):
    y = LABEL_COLUMNS[kind](LABELS)
    clf = clone(from_a_list).fit(TITLES, y)
    assert clf.classes_.tolist() == ["eggs", "ham", "spam"]
    np.testing.assert_array_equal(clf.predict_proba(TITLES), from_a_list.predict_proba(TITLES))
    assert clf.predict(TITLES).dtype == from_a_list.predict(TITLES).dtype
    assert clf.score(TITLES, y) == from_a_list.score(TITLES, LABELS)


OTHER_LABELS = {
    "pandas Int64": (lambda v: pd.Series(v, INDEX, dtype="Int64"), [0, 1]),
    "pandas int8": (lambda v: pd.Series(v, INDEX, dtype="int8"), [-1, 1]),
    "pandas arrow": (lambda v: pd.Series(v, INDEX, dtype="int64[pyarrow]"), [1, 2]),
    "pandas categorical": (lambda v: pd.Series(v, INDEX, dtype="category"), [0, 1]),
    "polars": (pl.Series, [3, 7]),
    "pyarrow": (pa.array, [0, 1]),
    "pandas boolean": (lambda v: pd.Series(v, INDEX, dtype="boolean"), [False, True]),
    "pandas arrow bool": (lambda v: pd.Series(v, INDEX, dtype="bool[pyarrow]"), [False, True]),
    "polars bool": (pl.Series, [False, True]),
    "pyarrow bool": (pa.array, [False, True]),
}


@pytest.mark.parametrize("kind", OTHER_LABELS)
def test_labels_that_are_no_texts(counted, kind):
    column, labels = OTHER_LABELS[kind]
    names = dict(zip(labels, ["no", "yes"], strict=True))
    clf = LLMClassifier(counted(), label_texts=names, cache=None)
    clf.fit(TITLES, column(labels * (N // 2)))
    assert clf.classes_.dtype.kind == np.array(labels).dtype.kind
    assert clf.classes_.tolist() == labels
    assert set(clf.predict(TITLES).tolist()) == set(labels)


MISSING = [*LABELS[:-1], None]


@pytest.mark.parametrize(
    "kind", [k for k in LABEL_COLUMNS if k not in ("pandas two levels", "pandas Index")]
)
def test_missing_labels_are_an_error(counted, kind):
    with pytest.raises(ValueError, match=rf"y has no label in row {N - 1} \(1 such row\)"):
        LLMClassifier(counted(), cache=None).fit(TITLES, LABEL_COLUMNS[kind](MISSING))


@pytest.mark.parametrize("kind", LABEL_COLUMNS)
def test_metrics_take_labels_of_any_column_type(kind):
    y = LABEL_COLUMNS[kind](LABELS)
    proba = np.random.default_rng(1).dirichlet(np.ones(3), N)
    for metric in (expected_calibration_error, brier_score):
        assert metric(y, proba) == metric(LABELS, proba)
    assert str(reliability_curve(y, proba)) == str(reliability_curve(LABELS, proba))
    few = {"n_resamples": 20}
    assert calibration_error_interval(y, proba, **few) == calibration_error_interval(
        LABELS, proba, **few
    )
    scaled = TemperatureScaling().fit(np.log(proba), y)
    assert scaled.temperature_ == TemperatureScaling().fit(np.log(proba), LABELS).temperature_


@pytest.mark.parametrize("column", [pd.Series, pl.Series, pa.array, lambda v: pd.Series(v, INDEX)])
def test_weights_of_any_column_type(counted, column):
    clf = CalibratedLLMClassifier(LLMClassifier(counted(), cache=None), method="vector")
    weights = [1.0, 2.0, 0.5] * (N // 3)
    expected = clone(clf).fit(TITLES, LABELS, sample_weight=weights)
    clf.fit(TITLES, LABELS, sample_weight=column(weights))
    np.testing.assert_array_equal(clf.predict_proba(TITLES), expected.predict_proba(TITLES))


# ----------------------------------------------------------------- with the tools of scikit-learn


@pytest.mark.parametrize("kind", TABLES)
def test_folds_of_tables(counted, kind):
    X = TABLES[kind]({"title": TITLES, "price": PRICES})
    y = LABEL_COLUMNS[kind if kind in LABEL_COLUMNS else "pandas string"](LABELS)
    try:
        _safe_indexing(X, [0])
    except TypeError:
        pytest.skip("older versions of scikit-learn cannot take rows from a pyarrow table")
    clf = LLMClassifier(counted(), prompt="{title}: {price}", n_shots=1, cache=None)
    rows = [{"title": t, "price": p} for t, p in zip(TITLES, PRICES, strict=True)]
    options = {"cv": 3, "scoring": log_loss_scorer}
    np.testing.assert_array_equal(
        cross_val_score(clf, X, y, **options), cross_val_score(clf, rows, LABELS, **options)
    )
    assert set(cross_val_predict(clf, X, y, cv=3)) <= set(LABELS)
    calibrated = CalibratedLLMClassifier(clf, method="temperature").fit(X, y)
    again = clone(calibrated).fit(rows, LABELS)
    np.testing.assert_array_equal(calibrated.predict_proba(X), again.predict_proba(rows))


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_split_tables(counted, kind):
    X, y = TABLES[kind](COLUMNS), LABEL_COLUMNS[kind](LABELS)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    clf = CalibratedLLMClassifier(LLMClassifier(counted(), n_shots=1, cache=None))
    clf.fit(X_train, y_train)
    assert clf.feature_names_in_.tolist() == list(COLUMNS)
    assert 0 <= clf.score(X_test, y_test) <= 1


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_features_in_the_container_of_choice(counted, container):
    frame = TABLES[container]({"title": TITLES})
    clf = LLMClassifier(counted(), cache=None).set_output(transform=container).fit(frame, LABELS)
    out = clf.transform(frame)
    assert type(out).__module__.startswith(container)
    assert list(out.columns) == ["logprob_eggs", "logprob_ham", "logprob_spam"]
    np.testing.assert_array_equal(out.to_numpy(), clf.predict_log_proba(frame))
    if container == "pandas":
        assert out.index.tolist() == INDEX.tolist()


def test_features_beside_other_columns(counted):
    """What the model says of a text, as features of an ordinary classifier."""
    frame = TABLES["pandas"](COLUMNS)
    # Frozen, because it is asked for something else than the labels of the other classifier.
    llm = FrozenEstimator(LLMClassifier(counted(), classes=["ham", "spam"], cache=None))
    columns = make_column_transformer((llm, "title"), ("passthrough", ["count", "price"]))
    features = columns.fit_transform(frame, LABELS)
    assert columns.get_feature_names_out().tolist() == [
        "frozenestimator__logprob_ham",
        "frozenestimator__logprob_spam",
        "passthrough__count",
        "passthrough__price",
    ]
    np.testing.assert_array_equal(features[:, :2], llm.predict_log_proba(frame["title"]))
    both = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame, LABELS)
    assert both.predict(frame).shape == (N,)
