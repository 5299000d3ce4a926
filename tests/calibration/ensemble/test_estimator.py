from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from ensemble_members import LABELS, TEXTS, ensemble, knowing, llm, says, words
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from skllm_calib import LLMEnsembleClassifier


def test_parameters_of_members():
    clf = ensemble(llm(prompt="{text} {hint}"), llm())
    assert clf.get_params()["m0__prompt"] == "{text} {hint}"
    clf.set_params(m0__prompt="Which? {text}", m1=says(0.9), pooling="linear")
    assert clf.estimators[0][1].prompt == "Which? {text}"
    clf.set_params(m0="drop").fit(TEXTS, LABELS)
    assert list(clf.named_estimators_) == ["m1"]
    assert len(clf.estimators_) == 1
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.1, 0.9]])


def test_fit_leaves_the_members_given_alone():
    given = words()
    clf = ensemble(given).fit(TEXTS, LABELS)
    assert not hasattr(given[-1], "coef_")
    assert clf.estimators_[0] is not given


def test_grid_search_over_pooling_and_a_prompt_of_a_member():
    clf = ensemble(llm(classes=["ham", "spam"]), knowing(0.9, 0))
    grid = {
        "pooling": ["log", "linear"],
        "m0__prompt": ["Spam? {hint} {text}", "{text} {hint}"],
        "weights": [None, "fit"],
    }
    search = GridSearchCV(clf, grid, scoring="neg_log_loss", cv=3).fit(TEXTS, LABELS)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    equal = search.cv_results_["param_weights"] == None  # noqa: E711 (an array)
    assert len(set(scores[equal].round(8))) == 4  # pools and prompts differ
    assert search.best_params_["weights"] == "fit"  # which leaves the hash out
    assert search.predict_proba(TEXTS).shape == (60, 2)


def test_clone_and_pickle():
    clf = ensemble(llm(), words(), weights="fit").fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert not hasattr(clone(clf), "weights_")
    assert not hasattr(clone(clf), "n_features_in_")
    assert "TestingBackend" in repr(clf) + clf._repr_html_()


def test_contradicting_members_can_still_be_shown():
    clf = ensemble(says(0.5), llm(classes=["eggs", "ham"]))
    assert "eggs" in repr(clf)
    assert clf._repr_html_()


def test_tags():
    tags = get_tags(ensemble(llm(classes=["ham", "spam"]), llm(on_error="nan")))
    assert tags.input_tags.string
    assert not tags.input_tags.allow_nan
    assert tags.classifier_tags.poor_score
    assert tags.requires_fit
    assert tags.target_tags.required
    tags = get_tags(ensemble(says(0.5), says(0.6)))
    assert not tags.requires_fit
    assert not tags.target_tags.required
    assert get_tags(ensemble(says(0.5), weights="fit")).target_tags.required
    assert not get_tags(ensemble(LogisticRegression())).classifier_tags.poor_score
    assert not get_tags(ensemble(LogisticRegression(), llm())).input_tags.string
    assert get_tags(LLMEnsembleClassifier(3)).input_tags.two_d_array


def test_frames():
    frame = pd.DataFrame({"title": TEXTS, "n": range(60)}, index=range(60, 120))
    clf = ensemble(llm(prompt="{title} {n}"), llm(prompt="{n} {title}", n_shots=1), weights="fit")
    clf.fit(frame, pd.Series(LABELS, index=frame.index))
    assert clf.n_features_in_ == 2
    assert clf.feature_names_in_.tolist() == ["title", "n"]
    assert clf.predict_proba(frame).shape == (60, 2)
    assert not hasattr(ensemble(llm()).fit(TEXTS, LABELS), "n_features_in_")


@pytest.mark.parametrize("container", [tuple, np.array, pd.Series])
def test_types_of_input(container):
    clf = ensemble(llm(), llm(n_shots=1), weights="fit").fit(TEXTS, LABELS)
    again = clone(clf).fit(container(TEXTS), pd.Series(LABELS, index=range(7, 67)))
    np.testing.assert_array_equal(again.weights_, clf.weights_)
    np.testing.assert_array_equal(again.predict_proba(container(TEXTS)), clf.predict_proba(TEXTS))


@pytest.mark.parametrize("labels", [[1, 2, 3], [False, True], ["a", "b"]])
def test_types_of_labels(labels):
    y = np.resize(labels, 60)
    clf = ensemble(llm(), words(), weights="fit").fit(TEXTS, y)
    assert clf.classes_.tolist() == labels
    assert set(clf.predict(TEXTS)) <= set(labels)


def test_negative_sample_weights():
    with pytest.raises(ValueError, match="must be finite and not negative, but row 0 has -1"):
        ensemble(says(0.1)).fit(TEXTS, LABELS, sample_weight=-np.ones(60))


def test_sample_weights_reach_the_members_that_take_them():
    X, y = np.arange(40.0).reshape(-1, 1), np.repeat([0, 1], 20)
    counts = np.resize([3, 1], 40)
    clf = ensemble(LogisticRegression(), make_pipeline(LogisticRegression()))
    clf.fit(X, y, sample_weight=counts)
    alone = LogisticRegression().fit(X, y, sample_weight=counts)
    np.testing.assert_array_equal(clf.estimators_[0].coef_, alone.coef_)


def test_needs_cross_fitting():
    assert not ensemble(says(0.1), FrozenEstimator(words())).needs_cross_fitting()
    assert ensemble(says(0.1), words()).needs_cross_fitting()
    assert ensemble(says(0.1), says(0.2, n_shots=1)).needs_cross_fitting()
    assert ensemble(says(0.1), says(0.2), weights="fit").needs_cross_fitting()
    assert not ensemble(ensemble(says(0.1)), says(0.2)).needs_cross_fitting()
    # What counts is what would be fitted next.
    fitted = ensemble(says(0.1)).fit(TEXTS, LABELS)
    assert fitted.set_params(m0__n_shots=1).needs_cross_fitting()
