"""Calibrations that nobody should trust say so; scores of any size keep their order."""

import json
import warnings

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.calibrators import AutoCalibrator, TemperatureScaling
from skllm_calib.log_proba.numerics import spread_of
from skllm_calib.log_proba.scores import log_proba_of


def rows(n_classes=2, scale=1.0):
    X, y = make_classification(
        600, 8, n_informative=5, n_classes=n_classes, class_sep=0.8, random_state=0
    )
    return scale * X[:300], y[:300], scale * X[300:], y[300:]


def auc(y, proba):
    return roc_auc_score(y, proba[:, 1] if proba.shape[1] == 2 else proba, multi_class="ovr")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        SGDClassifier(random_state=0),
        LinearSVC(random_state=0),
        Perceptron(random_state=0),
        RidgeClassifier(),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("factor", [30.0, 1e6])
def test_margins_of_any_unit_give_the_same_probabilities(estimator, n_classes, factor):
    X, y, new, truth = rows(n_classes)
    fitted = estimator.fit(X, y)

    class Louder(type(estimator)):
        def decision_function(self, X):
            return factor * super().decision_function(X)

    loud = Louder.__new__(Louder)
    loud.__dict__ = dict(fitted.__dict__)
    clf = CalibratedLLMClassifier(FrozenEstimator(loud), method="temperature").fit(X, y)
    plain = CalibratedLLMClassifier(FrozenEstimator(fitted), method="temperature").fit(X, y)
    found, expected = clf.predict_proba(new), plain.predict_proba(new)
    raw = fitted.decision_function(new)
    if n_classes == 2:
        order = np.argsort(raw)
        assert (np.diff(found[order, 1]) >= 0).all()
        assert roc_auc_score(truth, found[:, 1]) == pytest.approx(roc_auc_score(truth, raw))
    assert auc(truth, found) == pytest.approx(auc(truth, expected), abs=0.005)
    assert log_loss(truth, found) == pytest.approx(log_loss(truth, expected), abs=0.03)


def test_naive_bayes_and_saturated_probabilities_keep_their_order():
    X, y, new, truth = rows()
    for estimator in (GaussianNB(), LogisticRegression(C=1e6)):
        fitted = estimator.fit(X, y)
        if isinstance(fitted, LogisticRegression):
            fitted.coef_, fitted.intercept_ = 1e5 * fitted.coef_, 1e5 * fitted.intercept_
            assert np.isneginf(log_proba_of(fitted, new, np.arange(2))).sum() == 0
            raw = fitted.decision_function(new)
        else:
            fitted.theta_, fitted.var_, new_X = 1e3 * fitted.theta_, 1e2 * fitted.var_, 1e3 * new
            raw = np.diff(fitted.predict_joint_log_proba(new_X), axis=1)[:, 0]
            assert np.abs(raw).max() > 1e4
            X, new = 1e3 * X, new_X
        clf = CalibratedLLMClassifier(FrozenEstimator(fitted), method="temperature").fit(X, y)
        calibrated = clf.decision_function(new)
        assert roc_auc_score(truth, calibrated) == pytest.approx(roc_auc_score(truth, raw))
        X, y, new, truth = rows()


def test_scores_of_a_language_model_are_not_divided():
    rng = np.random.default_rng(0)
    scores = -rng.gamma(2.0, 4.0, size=(400, 3))
    scores[::7, 1] = -np.inf
    scores[::50, 2] -= 300.0  # a few rows, far below: they do not change the unit
    assert spread_of(scores, np.ones(400)) == 1.0
    assert spread_of(1e4 * scores, np.ones(400)) > 1.0


def test_the_unit_counts_weights_as_copies():
    rng = np.random.default_rng(0)
    scores, weight = rng.normal(scale=1e3, size=(60, 2)), rng.integers(1, 4, size=60)
    copies = np.repeat(scores, weight, axis=0)
    assert spread_of(scores, 1.0 * weight) == spread_of(copies, np.ones(len(copies)))


@pytest.mark.parametrize(
    ("classes", "label"), [(["a", "b"], "a"), ([0, 1, 2], 2), ([True, False], True)]
)
@pytest.mark.parametrize("n", [5, 30])
def test_one_class_warns_and_claims_nothing(classes, label, n):
    llm = LLMClassifier(TestingBackend(), classes=classes, cache=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = CalibratedLLMClassifier(llm).fit([f"text {i}" for i in range(n)], [label] * n)
    said = " ".join(str(w.message) for w in caught)
    assert "Add rows of every class" in said
    assert ("very few" in said) == (n < 20)
    assert np.isnan(clf.calibrator_.expected_ece_)
    assert clf.calibration_card_["expected_ece"] is None
    json.loads(clf.calibration_card_.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize("n", [2, 30, 300])
def test_all_right_is_no_error_of_zero(n):
    y = np.arange(n) % 2
    calibrator = AutoCalibrator().fit(np.log(np.where(np.eye(2)[y] > 0, 0.98, 0.02)), y)
    assert 0 < calibrator.expected_ece_ < 1 / np.sqrt(n)


def test_two_classes_and_enough_rows_do_not_warn():
    y = np.arange(40) % 2
    TemperatureScaling().fit(np.log(np.where(np.eye(2)[y] > 0, 0.8, 0.2)), y)


@pytest.mark.parametrize("names", [["legit", "fraud"], ["yes", "no"], ["a", "b"]])
@pytest.mark.parametrize("rare", [2, 10])
def test_swapped_labels_are_noticed(names, rare):
    first, second = names
    X = [f"{'odd' if i % rare == 0 else 'usual'} case {i}" for i in range(80)]
    backend = TestingBackend(
        {"odd case": {first: 0.1, second: 0.9}, "usual case": {first: 0.9, second: 0.1}}
    )
    llm = LLMClassifier(backend, classes=sorted(names), cache=None)
    right = [second if x.startswith("odd") else first for x in X]
    swapped = [first if x.startswith("odd") else second for x in X]
    CalibratedLLMClassifier(llm, method="temperature").fit(X, right)
    with pytest.warns(UserWarning, match="right in 0 of 80 rows.*are labels swapped"):
        CalibratedLLMClassifier(llm, method="vector").fit(X, swapped)


def test_a_classifier_that_always_answers_the_same_is_not_suspected():
    llm = LLMClassifier(TestingBackend({"x": {"a": 0.9, "b": 0.1}}), classes=["a", "b"], cache=None)
    y = ["b"] * 90 + ["a"] * 10
    CalibratedLLMClassifier(llm, method="vector").fit([f"x {i}" for i in range(100)], y)
