"""What scikit-learn's own tools expect, and that they work on texts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, ResponseCache, ece_scorer
from skllm_calib.backends import TestingBackend

TEXTS = [f"message number {i}" for i in range(40)]
# Some of scikit-learn's tools number the labels before the classifier sees them.
LABELS = np.array([0, 1] * 20)
NAMES = {0: "ham", 1: "spam"}


@parametrize_with_checks(
    [
        LLMClassifier(TestingBackend(), cache=None),
        LLMClassifier(TestingBackend(), n_shots=2, cache=None),
        CalibratedLLMClassifier(LLMClassifier(TestingBackend(), cache=None), method="temperature"),
        CalibratedLLMClassifier(
            LLMClassifier(TestingBackend(), n_shots=2, cache=None), method="temperature"
        ),
    ]
)
def test_all_checks_pass(estimator, check):
    check(estimator)


def test_classifiers():
    assert is_classifier(LLMClassifier())
    assert is_classifier(CalibratedLLMClassifier(LLMClassifier()))


@pytest.fixture
def asked_once(counted, tmp_path):
    """Make an estimator, and check in the end that nothing was asked twice."""
    backend = counted()
    cache = ResponseCache(tmp_path / "replies.sqlite")

    def make(**options):
        return LLMClassifier(backend, label_texts=NAMES, cache=cache, **options)

    make.backend = backend
    yield make
    assert set(backend.asked.values()) == {1}


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibrated_classifier_cv(asked_once, method, ensemble):
    clf = CalibratedClassifierCV(asked_once(), method=method, ensemble=ensemble, cv=3)
    proba = clf.fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    raw = asked_once().fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert log_loss(LABELS, proba) < log_loss(LABELS, raw)
    assert len(asked_once.backend.asked) == 40


def test_frozen_without_fit(asked_once):
    frozen = FrozenEstimator(asked_once(classes=[0, 1]))
    clf = CalibratedClassifierCV(frozen, method="sigmoid").fit(TEXTS, LABELS)
    assert clf.predict_proba(TEXTS).shape == (40, 2)


def test_pipeline_and_cross_val_predict(asked_once):
    pipeline = make_pipeline(asked_once())
    proba = cross_val_predict(pipeline, TEXTS, LABELS, cv=4, method="predict_proba")
    np.testing.assert_allclose(proba, pipeline.fit(TEXTS, LABELS).predict_proba(TEXTS))
    labels = cross_val_predict(pipeline, TEXTS, LABELS, cv=4)
    assert labels.tolist() == pipeline.classes_[proba.argmax(axis=1)].tolist()
    assert len(asked_once.backend.asked) == 40


def test_log_probabilities_as_features(asked_once):
    clf = asked_once().set_output(transform="pandas").fit(TEXTS, LABELS)
    frame = clf.transform(TEXTS)
    assert frame.columns.tolist() == ["logprob_0", "logprob_1"]
    np.testing.assert_allclose(frame.to_numpy(), clf.predict_log_proba(TEXTS))


def test_grid_search_over_prompts(asked_once):
    prompts = ["Spam? {hint} {text}", "{text} -- which is it? {hint}"]
    search = GridSearchCV(asked_once(), {"prompt": prompts}, scoring=ece_scorer, cv=4)
    search.fit(TEXTS, LABELS)
    assert search.best_params_["prompt"] in prompts
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(TEXTS).shape == (40,)
    assert len(asked_once.backend.asked) == 80
