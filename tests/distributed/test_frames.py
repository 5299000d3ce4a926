"""What becomes of the rows of one partition, and of those that joblib hands out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.distributed import predict_frame, predict_joblib
from skllm_calib.exceptions import InvalidInput

pd = pytest.importorskip("pandas")

OWN = ["label", "probability", "proba_ham", "proba_spam", "failure"]


def classifier(**params):
    backend = TestingBackend(fail_on=("broken",))
    return LLMClassifier(backend, **({"classes": ["ham", "spam"], "cache": None} | params))


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_failed_rows_are_rows(on_error):
    clf = classifier(on_error=on_error)
    rows = pd.DataFrame({"id": [7, 8, 9, 10], "text": ["one", "broken", None, "four"]})
    rows.index = [3, 1, 2, 0]
    found = predict_frame(rows, clf)
    assert list(found.columns) == ["id", "text", *OWN]
    pd.testing.assert_frame_equal(found[["id", "text"]], rows)
    expected = clf.predict_proba(["one", "four"])
    np.testing.assert_array_equal(found[OWN[2:4]].to_numpy()[[0, 3]], expected)
    np.testing.assert_array_equal(found["probability"].to_numpy()[[0, 3]], expected.max(axis=1))
    assert found["label"].tolist()[::3] == clf.predict(["one", "four"]).tolist()
    assert found["failure"].isna().tolist() == [True, False, False, True]
    assert found[OWN[:4]].isna().all(axis=1).tolist() == [False, True, True, False]
    assert "row 2 is missing" in found["failure"].iloc[2]
    assert list(rows.columns) == ["id", "text"]


def test_an_empty_partition_has_the_same_columns():
    rows = pd.DataFrame({"text": ["one", "broken"]})
    found = predict_frame(rows, classifier())
    empty = predict_frame(rows[:0], classifier())
    assert len(empty) == 0
    assert empty.dtypes.tolist() == found.dtypes.tolist()


@pytest.mark.parametrize("classes", [[0, 1], [False, True], ["a", "b"]])
def test_labels_keep_their_type(classes):
    rows = pd.DataFrame({"text": ["one", "broken", "three", "four", "five"]})
    found = predict_frame(rows, classifier(classes=classes))["label"]
    assert set(found.dropna()) <= set(classes)
    assert found.isna().sum() == 1
    assert type(found.iloc[0]) in (type(classes[0]), np.bool_, np.int64)


def test_names_that_are_taken():
    rows = pd.DataFrame({"text": ["one"], "label": ["spam"], "failure": [None]})
    found = predict_frame(rows, classifier())
    assert list(found.columns)[3:] == ["predicted_label", *OWN[1:4], "predicted_failure"]


def test_calibrated_and_in_a_pipeline():
    texts = [f"message {i}" for i in range(60)]
    y = ["ham", "spam"] * 30
    calibrated = CalibratedLLMClassifier(classifier(), method="temperature").fit(texts, y)
    rows = pd.DataFrame({"body": texts[:5]})
    for clf in (calibrated, make_pipeline(calibrated)):
        found = predict_frame(rows, clf, column="body")
        np.testing.assert_allclose(found[OWN[2:4]], clf.predict_proba(texts[:5]), rtol=1e-12)


def test_a_table_of_columns():
    clf = classifier(prompt="{title}: {price}?")
    rows = pd.DataFrame({"id": [1, 2], "price": [3, 4], "title": ["a", "b"]})
    clf.fit(rows[["title", "price"]])
    found = predict_frame(rows, clf, column=["title", "price"])
    np.testing.assert_array_equal(found[OWN[2:4]], clf.predict_proba(rows[["title", "price"]]))
    rows.loc[1, "title"] = None
    failures = predict_frame(rows, clf, column=["title", "price"])["failure"]
    assert failures.isna().tolist() == [True, False]
    assert "no value in column 'title'" in failures[1]


def test_a_column_that_is_not_there():
    with pytest.raises(InvalidInput, match="no column 'body'; the columns are 'text'") as error:
        predict_frame(pd.DataFrame({"text": ["a"]}), classifier(), column="body")
    assert error.value.parameter == "column"


@pytest.mark.parametrize("n", [0, 1, 5])
def test_joblib(n):
    rows = pd.DataFrame({"text": [f"message {i}" for i in range(n)]})
    found = predict_joblib(rows, classifier(), batch_size=2)
    pd.testing.assert_frame_equal(found, predict_frame(rows, classifier()))
