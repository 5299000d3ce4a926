from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.calibration import CalibrationCard
from skllm_calib.calibrators import CALIBRATORS, TemperatureScaling

TEXTS = [f"message number {i}" for i in range(60)]
LABELS = np.array(["ham", "spam"] * 30)


def calibrated(backend, *, method="temperature", cv="auto", **options):
    options = {"cache": None, **options}
    return CalibratedLLMClassifier(LLMClassifier(backend, **options), method=method, cv=cv)


def words():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


def test_zero_shot_scores_are_computed_once(counted):
    backend = counted()
    clf = calibrated(backend).fit(TEXTS, LABELS)
    assert len(backend.asked) == 60
    assert set(backend.asked.values()) == {1}
    assert clf.calibration_card_["scores"] == "computed once"
    raw = LLMClassifier(backend, cache=None).fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert log_loss(LABELS, clf.predict_proba(TEXTS)) < log_loss(LABELS, raw)


def test_few_shot_scores_are_cross_fitted(counted):
    backend = counted()
    clf = calibrated(backend, n_shots=1).fit(TEXTS, LABELS)
    assert clf.calibration_card_["scores"] == "cross-fitted in 5 folds"
    assert sum(backend.asked.values()) == 60
    for prompt in backend.asked:  # no row is asked about with itself as an example
        texts = [t for t in TEXTS if f"{t} " in prompt or f"{t}\n" in prompt]
        assert len(set(texts)) == 3


def test_the_methods_agree(counted):
    clf = calibrated(counted(), classes=["eggs", "ham", "spam"]).fit(TEXTS, LABELS)
    proba, log_proba = clf.predict_proba(TEXTS), clf.predict_log_proba(TEXTS)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-15)
    np.testing.assert_allclose(np.exp(log_proba), proba)
    np.testing.assert_array_equal(clf.decision_function(TEXTS), log_proba)
    assert clf.predict(TEXTS).tolist() == clf.classes_[proba.argmax(axis=1)].tolist()
    # Declared but absent: it keeps a probability.
    assert clf.calibration_card_["absent_classes"] == ["eggs"]
    assert (proba[:, 0] > 0).all()
    binary = calibrated(counted()).fit(TEXTS, LABELS)
    assert binary.decision_function(TEXTS).shape == (60,)


@pytest.mark.filterwarnings("ignore:Isotonic calibration of 60 rows:UserWarning")
@pytest.mark.filterwarnings("ignore:.*edge of its search range")
@pytest.mark.parametrize("method", CALIBRATORS)
def test_methods_by_name(counted, method):
    clf = calibrated(counted(), method=method, classes=["eggs", "ham", "spam"])
    assert clf.fit(TEXTS, LABELS).predict_proba(TEXTS).shape == (60, 3)
    assert clf.calibration_card_["method"] == method


@pytest.mark.parametrize("labels", [[1, 2, 3], [-1, 1], [False, True], [10, 20]])
def test_types_of_labels(counted, labels):
    y = np.resize(labels, 60)
    plain = calibrated(counted()).fit(TEXTS, y)
    assert plain.classes_.tolist() == labels
    series = pd.Series(y, index=np.random.default_rng(0).permutation(60) + 7)
    again = clone(plain).fit(TEXTS, series)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), plain.predict_proba(TEXTS))
    assert plain.calibrator_.parameters_["temperature"] < 1e3


def stack():
    members = [("words", words()), ("svm", make_pipeline(TfidfVectorizer(), LinearSVC()))]
    return StackingClassifier(members, cv=3)


class OnlyProba(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.inner_ = words().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)


@pytest.mark.parametrize(
    "estimator",
    [
        words(),
        make_pipeline(TfidfVectorizer(), LinearSVC()),
        make_pipeline(TfidfVectorizer(), RandomForestClassifier(10, random_state=0)),
        stack(),
        OnlyProba(),
    ],
    ids=["regression", "margins", "forest", "stack", "only probabilities"],
)
def test_foreign_estimators_are_cross_fitted(estimator):
    texts = [f"{'free prize' if i % 2 else 'see you'} number {i}" for i in range(60)]
    clf = CalibratedLLMClassifier(estimator, method="temperature").fit(texts, LABELS)
    assert clf.calibration_card_["scores"] == "cross-fitted in 5 folds"
    assert clf.calibration_card_["model"] is None
    assert clf.score(texts, LABELS) == 1.0
    assert not hasattr(clf, "explain")


@pytest.mark.parametrize("labels", [[1, 2, 3], ["a", "b", "c"], [False, True]])
def test_a_table_of_numbers(labels):
    codes = np.arange(150) % len(labels)
    X = np.random.default_rng(0).normal(size=(150, 2)) + 2 * codes[:, None]
    y = pd.Series(np.array(labels)[codes], index=np.arange(150)[::-1] + 5)
    clf = CalibratedLLMClassifier(LogisticRegression()).fit(X, y)
    assert clf.score(X, y) > 0.8
    assert log_loss(y, clf.predict_proba(X)) < 0.6


def test_frozen_estimators_are_taken_as_they_are(counted):
    frozen = FrozenEstimator(words().fit(TEXTS[:30], LABELS[:30]))
    clf = CalibratedLLMClassifier(frozen).fit(TEXTS[30:], LABELS[30:])
    assert clf.estimator_ is frozen
    assert clf.calibration_card_["scores"] == "computed once"
    unfitted = FrozenEstimator(LLMClassifier(counted(), classes=["ham", "spam"], cache=None))
    assert CalibratedLLMClassifier(unfitted).fit(TEXTS, LABELS).predict(TEXTS).shape == (60,)


def test_no_score_to_calibrate():
    from sklearn.neighbors import NearestCentroid

    class Mute(NearestCentroid):
        predict_proba = predict_log_proba = decision_function = property(
            lambda self: (_ for _ in ()).throw(AttributeError)
        )

    with pytest.raises(TypeError, match="neither predict_proba nor decision_function"):
        CalibratedLLMClassifier(Mute()).fit(np.arange(20.0).reshape(-1, 1), LABELS[:20])


@pytest.mark.parametrize("cv", [3, KFold(4), [(np.arange(30), np.arange(30, 60))]])
def test_own_folds(counted, cv):
    clf = calibrated(counted(), n_shots=1, cv=cv).fit(TEXTS, LABELS)
    assert clf.calibration_card_["scores"].startswith("cross-fitted")


def test_rows_in_no_test_fold_are_left_out(counted):
    cv = ShuffleSplit(1, test_size=20, random_state=0)
    card = calibrated(counted(), n_shots=1, cv=cv).fit(TEXTS, LABELS).calibration_card_
    assert (card["n"], card["n_failed_rows"]) == (20, 40)


def test_rare_classes(counted):
    y = np.array(["a"] * 30 + ["b"] * 28 + ["c", "d"])
    clf = calibrated(counted(), n_shots=1, classes=["a", "b", "c", "d", "e"]).fit(TEXTS, y)
    assert (clf.predict_proba(TEXTS) > 0).all()
    # Without classes=, a fold that lacks "c" says nothing of its rows.
    clf = CalibratedLLMClassifier(words(), method="temperature").fit(TEXTS, y)
    assert clf.classes_.tolist() == ["a", "b", "c", "d"]
    assert clf.calibration_card_["n"] == 58
    with (
        pytest.warns(UserWarning, match="calibrated on 2 rows, which is very few"),
        pytest.warns(UserWarning, match="every row .2 in all. has the label 'a'"),
    ):
        few = calibrated(counted(), n_shots=1).fit(TEXTS[:4], list("abca"))
    assert few.calibration_card_["held_out"] is None


def test_one_class(counted):
    clf = calibrated(counted()).fit(TEXTS, ["ham"] * 60)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), np.ones((60, 1)))
    assert set(clf.predict(TEXTS)) == {"ham"}


def test_sample_weights(counted):
    clf = calibrated(counted())
    weight = np.array([2.0] * 20 + [1.0] * 20 + [0.0] * 20)
    weighted = clone(clf).fit(TEXTS, LABELS, sample_weight=weight)
    repeated = clone(clf).fit(TEXTS[:20] * 2 + TEXTS[20:40], np.resize(LABELS, 60))
    np.testing.assert_allclose(
        weighted.predict_proba(TEXTS), repeated.predict_proba(TEXTS), rtol=1e-5
    )
    unknown = np.where(weight > 0, LABELS, "eggs")  # of rows that do not count
    other = clone(clf).fit(TEXTS, unknown, sample_weight=weight)
    np.testing.assert_array_equal(other.predict_proba(TEXTS), weighted.predict_proba(TEXTS))
    assert (other.calibration_card_["n"], other.calibration_card_["n_failed_rows"]) == (40, 0)
    foreign = CalibratedLLMClassifier(words(), method="temperature")
    foreign.fit(TEXTS, LABELS, sample_weight=np.ones(60))
    few = calibrated(counted(), n_shots=1).fit(TEXTS, LABELS, sample_weight=weight + 1)
    assert few.predict(TEXTS).shape == (60,)


@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.FailedRowsWarning")
def test_failed_rows_are_left_out(counted):
    backend = counted(fail_on=("number 7",))
    clf = calibrated(backend, on_error="nan").fit(TEXTS, LABELS)
    assert clf.calibration_card_["n_failed_rows"] == 1
    assert clf.calibration_card_["n"] == 59
    assert np.isnan(clf.predict_proba(TEXTS)[7]).all()
    assert clf.predict(TEXTS)[7] is None
    records = clf.explain(TEXTS)
    assert "calibrated" not in records[7]
    assert records[8]["calibrated"] == pytest.approx(
        dict(zip(["ham", "spam"], clf.predict_proba(TEXTS)[8], strict=True))
    )
    nothing = calibrated(counted(fail_on=("number",)), on_error="nan")
    with pytest.raises(ValueError, match="scored none"):
        nothing.fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("y", "options", "problem"),
    [
        (None, {}, "requires y"),
        (LABELS[:5], {}, "inconsistent"),
        (["x"] * 60, {"classes": ["ham", "spam"]}, "'x'"),
        (LABELS, {"cv": "prefit"}, "FrozenEstimator"),
        (LABELS, {"method": "magic"}, "magic"),
    ],
)
def test_bad_input(counted, y, options, problem):
    with pytest.raises(ValueError, match=problem):
        calibrated(counted(), **options).fit(TEXTS, y)


def test_labels_that_a_frozen_estimator_does_not_know():
    frozen = FrozenEstimator(words().fit(TEXTS, LABELS))
    with pytest.raises(ValueError, match="y holds 'eggs' in row 1, which is not one of the labels"):
        CalibratedLLMClassifier(frozen).fit(TEXTS, ["ham", "eggs"] * 30)
    with pytest.raises(ValueError, match="60 rows and 5 labels"):
        CalibratedLLMClassifier(frozen).fit(TEXTS, LABELS[:5])


def test_one_row_cannot_be_cross_fitted(counted):
    with pytest.raises(ValueError, match="n_samples = 1"):
        calibrated(counted(), n_shots=1, classes=["ham", "spam"]).fit(["a"], ["ham"])


def test_the_card(counted, tmp_path):
    clf = calibrated(counted(), cache=str(tmp_path / "c.sqlite")).fit(TEXTS, LABELS)
    card = clf.calibration_card_
    assert card["n"] == 60
    assert card["n_by_class"] == {"ham": 30, "spam": 30}
    assert card["model_as_served"].startswith("testing-")
    assert card["prompt_hash"] == clf.estimator_.fingerprint_["prompt"]
    assert card["calibrator"] == "TemperatureScaling"
    assert set(card["versions"]) == {"skllm-calib", "scikit-learn", "numpy", "scipy", "python"}
    held_out = card["held_out"]
    assert set(held_out["before"]) == set(held_out["after"])
    # Held out, not the rows that the calibrator was fitted on.
    resubstituted = log_loss(LABELS, clf.predict_proba(TEXTS))
    assert held_out["after"]["log_loss"] > resubstituted
    low, high = held_out["after"]["ece_interval"]
    assert low <= high
    assert "held out" in str(card)
    assert json.loads(card.to_json()) == dict(card)


def test_save_and_load(counted, tmp_path):
    clf = calibrated(counted()).fit(TEXTS, LABELS)
    clf.save(tmp_path / "deep" / "model")
    again = CalibratedLLMClassifier.load(tmp_path / "deep" / "model")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    card = CalibrationCard.load(tmp_path / "deep" / "model" / "card.json")
    assert dict(card) == dict(clf.calibration_card_)
    with pytest.raises(FileNotFoundError, match="no calibrated classifier in"):
        CalibratedLLMClassifier.load(tmp_path)
    with pytest.raises(NotFittedError):
        clone(clf).save(tmp_path)
    import joblib

    joblib.dump(TestingBackend(), tmp_path / "model.joblib")
    with pytest.raises(ValueError, match="is a pickle, which runs whatever code it holds"):
        CalibratedLLMClassifier.load(tmp_path)
    with pytest.raises(TypeError, match="holds a TestingBackend"):
        CalibratedLLMClassifier.load(tmp_path, allow_pickle=True)


def test_clone_and_pickle(counted):
    clf = calibrated(counted(), method=TemperatureScaling()).fit(TEXTS, LABELS)
    assert clf.calibration_card_["method"] == "TemperatureScaling"
    stored = pickle.dumps(clf)
    assert len(stored) < 10_000
    np.testing.assert_array_equal(
        pickle.loads(stored).predict_proba(TEXTS), clf.predict_proba(TEXTS)
    )
    assert not hasattr(clone(clf), "classes_")
    assert not hasattr(clone(clf), "n_features_in_")
    assert not hasattr(clf, "n_features_in_")
    assert "TestingBackend" in clf._repr_html_()


def test_frames(counted):
    frame = pd.DataFrame({"title": TEXTS, "n": range(60)}, index=range(60, 120))
    clf = calibrated(counted(), prompt="{title} {n}", n_shots=1).fit(frame, LABELS)
    assert clf.n_features_in_ == 2
    assert clf.feature_names_in_.tolist() == ["title", "n"]
