from __future__ import annotations

import numpy as np
import pytest
from ensemble_members import LABELS, TEXTS, ensemble, llm, says, words
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression

from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import FailedRowsWarning


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_a_row_that_a_member_could_not_score_is_nan(pooling):
    failing = llm(TestingBackend(fail_on=("number 7",)), classes=["ham", "spam"], on_error="nan")
    clf = ensemble(failing, says(0.3), pooling=pooling)
    with pytest.warns(FailedRowsWarning):
        proba = clf.predict_proba(TEXTS)
    assert np.isnan(proba).any(axis=1).nonzero()[0].tolist() == [7]
    with pytest.warns(FailedRowsWarning):
        assert clf.predict(TEXTS)[7] is None
    with pytest.warns(FailedRowsWarning):
        assert np.isnan([v[7] for v in clf.uncertainty(TEXTS).values()]).all()
    record = clf.explain(TEXTS)[7]
    assert record["label"] is record["probability"] is record["log_proba"] is None
    assert record["uncertainty"] is None
    assert record["failure"].startswith("m0: the test backend was told to fail")
    assert record["members"]["m1"]["label"] == "ham"
    # A member of weight zero cannot spoil a row.
    clf.set_params(weights=[0, 1])
    np.testing.assert_allclose(clf.predict_proba(TEXTS)[7], [0.7, 0.3])
    assert clf.explain(TEXTS)[7]["probability"] == pytest.approx(0.7)


@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.FailedRowsWarning")
def test_failed_rows_do_not_count_for_the_weights():
    failing = llm(TestingBackend(fail_on=("number 7",)), classes=["ham", "spam"], on_error="nan")
    clf = ensemble(failing, says(0.5), weights="fit").fit(TEXTS, LABELS)
    others = np.delete(np.arange(60), 7)
    without = clone(clf).fit([TEXTS[i] for i in others], LABELS[others])
    np.testing.assert_allclose(clf.weights_, without.weights_)
    broken = llm(TestingBackend(fail_on=("number",)), classes=["ham", "spam"], on_error="nan")
    with pytest.raises(ValueError, match="rows that all members score, and there is none"):
        ensemble(broken, says(0.5), weights="fit").fit(TEXTS, LABELS)


def test_members_of_other_classes():
    clf = ensemble(says(0.5), llm(classes=["eggs", "ham"]))
    with pytest.raises(ValueError, match=r"'m1' has \['eggs'\], 'm0' has only \['ham', 'spam'\]"):
        clf.fit(TEXTS, ["ham"] * 60)
    with pytest.raises(ValueError, match="'eggs'"):
        clf.predict(TEXTS)
    with pytest.raises(ValueError, match="'eggs'"):
        clf.explain(TEXTS)
    assert not hasattr(clf, "classes_")


def test_a_member_that_knows_less_gives_the_rest_no_probability():
    wide = llm(classes=["eggs", "ham", "spam"])
    clf = ensemble(words(), wide, pooling="linear").fit(TEXTS, LABELS)
    assert clf.classes_.tolist() == ["eggs", "ham", "spam"]
    np.testing.assert_allclose(
        clf.predict_proba(TEXTS)[:, 0], wide.predict_proba(TEXTS)[:, 0] / 2, rtol=1e-6
    )
    assert np.isfinite(clf.set_params(pooling="log").decision_function(TEXTS)).all()


def test_labels_that_no_member_knows():
    frozen = FrozenEstimator(words().fit(TEXTS, LABELS))
    with pytest.raises(ValueError, match="y holds 'eggs' in row 1, which is not one of the labels"):
        ensemble(frozen).fit(TEXTS, ["ham", "eggs"] * 30)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pooling": "median"}, "pooling must be 'log' or 'linear', got 'median'"),
        ({"weights": [1]}, r"weights=\[1\]: must be None, 'fit', or one number for each of the 2"),
        ({"weights": [1, -1]}, "none of them negative"),
        ({"weights": [0, 0]}, "not all zero"),
        ({"weights": [1, np.nan]}, "weights="),
        ({"weights": "best"}, "weights='best'"),
        ({"weights": [1, [2, 3]]}, "weights="),
        ({"estimators": []}, r"estimators=\[\]: must be a list of \(name, classifier\)"),
        ({"estimators": None}, "estimators=None: must be"),
        ({"estimators": [says(0.1)]}, "must be a list of"),
        ({"m0": "drop", "m1": "drop"}, "at least one that is not 'drop'"),
        ({"m0": LinearRegression()}, "LinearRegression should be a classifier"),
        ({"estimators": [("a", says(0.1)), ("a", says(0.2))]}, "not unique"),
    ],
)
def test_bad_parameters(options, problem):
    clf = ensemble(says(0.1), says(0.2)).set_params(**options)
    with pytest.raises(ValueError, match=problem):
        clf.fit(TEXTS, LABELS)


def test_bad_parameters_are_seen_without_fit():
    with pytest.raises(ValueError, match="pooling must be"):
        ensemble(says(0.1), pooling="median").predict(TEXTS)
    with pytest.raises(ValueError, match="weights="):
        ensemble(says(0.1), weights=[1, 2]).predict(TEXTS)


def test_labels_are_needed_where_they_are_used():
    with pytest.raises(ValueError, match="weights='fit' requires y"):
        ensemble(says(0.1), weights="fit").fit(TEXTS)
    with pytest.raises(ValueError, match="requires y"):
        ensemble(says(0.1), words()).fit(TEXTS)
    assert ensemble(says(0.1)).fit(TEXTS).predict(["a"]).tolist() == ["ham"]


def test_without_fit():
    assert ensemble(says(0.1)).classes_.tolist() == ["ham", "spam"]
    ready = words().fit(TEXTS, LABELS)
    assert ensemble(says(0.1), ready).predict(["a"]).tolist() == ["ham"]
    for clf in (ensemble(says(0.1), words()), ensemble(says(0.1), weights="fit")):
        assert not hasattr(clf, "classes_")
        with pytest.raises(NotFittedError):
            clf.predict(TEXTS)
        with pytest.raises(NotFittedError):
            clf.member_log_proba(TEXTS)
