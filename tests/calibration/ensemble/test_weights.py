from __future__ import annotations

import numpy as np
import pytest
from ensemble_members import LABELS, TEXTS, ensemble, knowing, llm, says
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from skllm_calib import CalibratedLLMClassifier
from skllm_calib.backends import TestingBackend


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_fitted_weights_go_to_the_good_member(pooling):
    good, useless, misleading = knowing(0.95, 0), knowing(0.5, 1), knowing(0.2, 2)
    clf = ensemble(useless, good, misleading, weights="fit", pooling=pooling).fit(TEXTS, LABELS)
    assert clf.weights_.shape == (3,)
    assert (clf.weights_ >= 0).all()
    assert clf.weights_.sum() == pytest.approx(1)
    assert clf.weights_[1] > 0.8
    assert clf.weights_[2] == 0
    equal = clone(clf).set_params(weights=None).fit(TEXTS, LABELS)
    np.testing.assert_allclose(equal.weights_, 1 / 3)
    fitted_loss = log_loss(LABELS, clf.predict_proba(TEXTS))
    assert fitted_loss < log_loss(LABELS, equal.predict_proba(TEXTS)) - 0.1
    again = clone(clf).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.weights_, clf.weights_)


def test_fitted_weights_are_those_of_the_pool_once_calibrated():
    # "sure" is right about 85 of 100 texts and always says 0.999; "unsure" knows next to nothing.
    rng = np.random.default_rng(0)
    texts = [f"message number {i}" for i in range(400)]
    labels = np.array(["ham", "spam"] * 200)

    def member(share_right, confidence):
        rules = {}
        for text, label in zip(texts, labels, strict=True):
            right = rng.random() < share_right
            spam = confidence if (label == "spam") == right else 1 - confidence
            rules[f"{text}\n"] = {"ham": 1 - spam, "spam": spam}
        return llm(TestingBackend(rules), classes=["ham", "spam"], prompt="{text}\n{hint}")

    sure, unsure = member(0.85, 0.999), member(0.55, 0.55)
    clf = ensemble(sure, unsure, weights="fit").fit(texts[:200], labels[:200])
    # The odds of both are right with these weights, up to their scale.
    true = np.log([0.85 / 0.15, 0.55 / 0.45]) / np.log([0.999 / 0.001, 0.55 / 0.45])
    np.testing.assert_allclose(clf.weights_, true / true.sum(), atol=0.1)

    def held_out(weights):
        pooled = ensemble(sure, unsure, weights=weights)
        calibrated = CalibratedLLMClassifier(pooled, method="temperature")
        calibrated.fit(texts[:200], labels[:200])
        return log_loss(labels[200:], calibrated.predict_proba(texts[200:]))

    assert held_out(clf.weights_) < held_out([0, 1]) - 0.15


def test_fitted_weights_of_equal_members_are_equal():
    clf = ensemble(says(0.7), says(0.7), weights="fit").fit(TEXTS, LABELS)
    np.testing.assert_allclose(clf.weights_, 0.5)


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_fitted_weights_respect_sample_weights(pooling):
    members = [knowing(share, seed) for seed, share in enumerate([0.85, 0.8, 0.8])]
    clf = ensemble(*members, weights="fit", pooling=pooling)
    counts = np.resize([1, 1, 0, 5, 1, 3, 1], 60)
    weighted = clone(clf).fit(TEXTS, LABELS, sample_weight=counts).weights_
    repeated = clone(clf).fit(np.repeat(TEXTS, counts), np.repeat(LABELS, counts)).weights_
    plain = clone(clf).fit(TEXTS, LABELS).weights_
    np.testing.assert_allclose(weighted, repeated, rtol=1e-4)
    assert abs(weighted - plain).max() > 0.05
    only = clone(clf).fit(TEXTS, LABELS, sample_weight=np.minimum(counts, 1)).weights_
    assert abs(weighted - only).max() > 0.05


def test_rows_of_weight_zero_are_as_good_as_absent():
    clf = ensemble(llm(), llm(n_shots=1), weights="fit", pooling="linear")
    counts = np.resize([1, 1, 1, 0, 0], 60)
    used = np.flatnonzero(counts)
    zeros = clone(clf).fit(TEXTS, LABELS, sample_weight=counts)
    absent = clone(clf).fit([TEXTS[i] for i in used], LABELS[used])
    np.testing.assert_array_equal(zeros.weights_, absent.weights_)
    assert 0.01 < zeros.weights_[0] < 0.99


def test_rows_seen_in_fit_do_not_flatter_a_member():
    # A forest knows the rows it has seen by heart, and nothing of the others.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 5)), np.array(["ham", "spam"] * 100)
    forest = RandomForestClassifier(30, random_state=0)
    half = llm(TestingBackend({"": {"ham": 0.5, "spam": 0.5}}), classes=["ham", "spam"])
    clf = ensemble(half, forest, weights="fit", pooling="linear").fit(X, y)
    assert log_loss(y, clf.estimators_[1].predict_proba(X)) < 0.3
    assert clf.weights_[0] > 0.9
    # The same forest, declared to have seen other rows, is believed.
    frozen = FrozenEstimator(clf.estimators_[1])
    flattered = ensemble(half, frozen, weights="fit", pooling="linear").fit(X, y)
    assert flattered.weights_[1] > 0.9


def test_zero_shot_members_are_scored_once_and_few_shot_ones_cross_fitted(counted):
    zero, few = counted(), counted()
    clf = ensemble(llm(zero), llm(few, n_shots=1), weights="fit").fit(TEXTS, LABELS)
    assert sum(zero.asked.values()) == sum(few.asked.values()) == 60
    assert len(zero.asked) == 60
    for prompt in few.asked:  # no row is asked about with itself as an example
        assert len({t for t in TEXTS if f"{t} " in prompt or f"{t}\n" in prompt}) == 3
    assert clf.weights_.sum() == pytest.approx(1)


def test_a_class_that_a_fold_lacks_does_not_count_against_the_member():
    X = np.vstack([np.repeat([[0.0], [9.0]], 30, axis=0), [[20.0]]])
    y = np.array(["a"] * 30 + ["b"] * 30 + ["c"])
    guess = llm(TestingBackend({"": {"a": 1, "b": 1, "c": 1, "d": 1}}), classes=list("abcd"))
    # The trained member is right wherever it knows the class, so it deserves all of the weight.
    clf = ensemble(guess, LogisticRegression(), weights="fit", pooling="linear").fit(X, y)
    assert clf.weights_.tolist() == [0, 1]
    assert clf.classes_.tolist() == ["a", "b", "c", "d"]
    assert (clf.predict_proba(X)[:, 3] > 0).all()


def test_given_weights_count_for_all_and_drop_with_their_member():
    clf = ensemble(says(0.1), says(0.5), says(0.9), pooling="linear", weights=[1, 5, 1])
    clf.set_params(m1="drop").fit(TEXTS, LABELS)
    np.testing.assert_array_equal(clf.weights_, [0.5, 0.5])
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.5, 0.5]])
