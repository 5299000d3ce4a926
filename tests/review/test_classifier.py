import builtins

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.datasets import load_messages
from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.metrics import selective_risk_scorer
from skllm_calib.review.classifier import ReviewClassifier
from skllm_calib.review.policy import ReviewPolicy

X, Y = make_classification(1200, class_sep=1.5, n_clusters_per_class=1, random_state=0)
Y = np.array(["ham", "spam"])[Y]
LENIENT = ReviewPolicy(0.9)


class Recorder(LogisticRegression):
    """Remembers the rows and the weights that it was fitted on."""

    def fit(self, X, y, sample_weight=None):
        self.rows_, self.weight_ = X, sample_weight
        return super().fit(X, y, sample_weight)


class Unsure(DummyClassifier):
    """Could not score every second row."""

    def predict_proba(self, X):
        proba = np.tile([0.05, 0.95], (len(X), 1))
        proba[::2] = np.nan
        return proba


def held_out(clf):
    seen = {row.tobytes() for row in clf.estimator_.rows_}
    return np.array([row.tobytes() not in seen for row in X])


@parametrize_with_checks(
    [
        ReviewClassifier(LogisticRegression(), ReviewPolicy(on_not_certifiable="review")),
    ],
    expected_failed_checks=lambda _: {
        # A weight of zero or two is not a row less or more: the rows are split by chance.
        "check_sample_weight_equivalence_on_dense_data": "rows are split at random",
        "check_sample_weight_equivalence_on_sparse_data": "rows are split at random",
    },
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_the_policy_sees_other_rows_than_the_estimator():
    clf = ReviewClassifier(Recorder(), LENIENT).fit(X, Y)
    out = held_out(clf)
    assert out.sum() == 600
    for name in ("ham", "spam"):
        assert abs((Y[out] == name).sum() - (Y[~out] == name).sum()) <= 1
    alone = clone(LENIENT).fit(clf.estimator_.predict_proba(X[out]), Y[out])
    assert clf.policy_.evidence_ == alone.evidence_
    assert np.array_equal(clf.predict_proba(X), clf.estimator_.predict_proba(X))
    assert clf.policy is LENIENT
    assert not hasattr(LENIENT, "classes_")
    assert ReviewClassifier(Recorder(), LENIENT, holdout=0.25).fit(X, Y).policy_.n_labels_ == 300


def test_a_frozen_estimator_leaves_all_rows_to_the_policy():
    model = LogisticRegression().fit(X[:200], Y[:200])
    clf = ReviewClassifier(FrozenEstimator(model), LENIENT).fit(X[200:], Y[200:])
    assert clf.policy_.n_labels_ == 1000
    assert clf.estimator_.estimator is model


def test_decisions():
    clf = ReviewClassifier(LogisticRegression(), ReviewPolicy(max_reviews=0.3)).fit(X, Y)
    frame = pd.DataFrame(X[:50], index=np.arange(50) + 100)
    decisions = clf.decide(frame)
    assert isinstance(decisions, pd.DataFrame)
    assert list(decisions) == ["label", "probability", "action", "reason"]
    assert decisions.index.equals(frame.index)
    proba = clf.predict_proba(X[:50])
    assert decisions["label"].tolist() == clf.predict(X[:50]).tolist()
    assert np.allclose(decisions["probability"], proba.max(axis=1), rtol=1e-12)
    assert decisions["action"].tolist() == clf.policy_.decide(proba).tolist()
    assert set(decisions["action"]) == {"accept", "review"}
    assert decisions["reason"].tolist() == clf.policy_.explain(proba)  # of three digits


def test_decisions_without_pandas(monkeypatch):
    clf = ReviewClassifier(LogisticRegression(), LENIENT).fit(X, Y)
    expected = clf.decide(X)
    load = builtins.__import__

    def no_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pandas)
    decisions = clf.decide(X)
    assert type(decisions) is dict
    for name, column in decisions.items():
        assert column.tolist() == expected[name].tolist()


def test_by_cost_the_label_is_the_one_of_lowest_cost():
    policy = ReviewPolicy(costs=[[0, 1], [50, 0]], review_cost=100)
    clf = ReviewClassifier(LogisticRegression(), policy).fit(X, Y)
    decisions, p = clf.decide(X), clf.predict_proba(X)
    doubtful = (p[:, 1] > 0.03) & (p[:, 1] < 0.45)
    assert doubtful.any()
    assert set(decisions["label"][doubtful]) == {"spam"}
    assert np.array_equal(decisions["probability"][doubtful], p[doubtful, 1])
    assert np.array_equal(clf.predict(X), decisions["label"])


def test_rows_without_probabilities_go_to_review():
    y = np.where(np.arange(1200) % 50 == 1, "ham", "spam")
    clf = ReviewClassifier(Unsure(), LENIENT).fit(X, y)
    decisions = clf.decide(X[:4])
    assert decisions["action"].tolist() == ["review", "accept"] * 2
    assert [value == "spam" for value in decisions["label"]] == [False, True] * 2
    assert np.isnan(decisions["probability"][0])


def test_searches_and_cross_validation():
    clf = ReviewClassifier(LogisticRegression(), LENIENT)
    assert cross_val_predict(clf, X, Y, cv=3).shape == (1200,)
    proba = cross_val_predict(clf, X, Y, cv=3, method="predict_proba")
    assert proba.shape == (1200, 2)
    scores = cross_val_score(clf, X, Y, cv=3, scoring=selective_risk_scorer)
    assert ((scores <= 0) & (scores > -0.1)).all()

    def coverage(fitted, X, y):
        return fitted.policy_.coverage_

    policies = ReviewPolicy(on_not_certifiable="review")
    grid = {"policy__target_precision": [0.9, 0.9999], "estimator__C": [0.1, 1.0]}
    search = GridSearchCV(
        ReviewClassifier(LogisticRegression(), policies), grid, scoring=coverage, cv=3
    )
    search.fit(X, Y)
    assert search.best_params_["policy__target_precision"] == 0.9
    assert np.sort(search.cv_results_["mean_test_score"])[:2].tolist() == [0, 0]
    assert len(search.best_estimator_.decide(X)) == 1200


def test_what_cannot_be_certified_counts_all_labels():
    failed = ReviewClassifier(LogisticRegression(), ReviewPolicy(0.99))
    with pytest.raises(NotCertifiableError, match="in all") as caught:
        failed.fit(X[:200], Y[:200])
    assert not hasattr(failed, "classes_")
    own = caught.value.__cause__.n_more
    assert caught.value.n_more == 2 * own
    model = FrozenEstimator(LogisticRegression().fit(X, Y))
    with pytest.raises(NotCertifiableError) as caught:
        ReviewClassifier(model, ReviewPolicy(0.99)).fit(X[:200], Y[:200])
    assert caught.value.__cause__ is None


def test_a_class_of_one_row_is_for_training():
    y = Y.astype(object)
    for seed in range(3):
        y[seed] = "rare"
        policy = ReviewPolicy(max_reviews=0.5)
        clf = ReviewClassifier(LogisticRegression(), policy, random_state=seed).fit(X, y)
        assert "rare" in clf.classes_
        y[seed] = "ham"


def test_weights_go_to_both_parts():
    weight = np.random.default_rng(0).choice([0.5, 1.0], 1200)
    clf = ReviewClassifier(Recorder(), LENIENT).fit(X, Y, sample_weight=weight)
    out = held_out(clf)
    assert np.array_equal(clf.estimator_.weight_, weight[~out])
    assert abs(clf.policy_.n_labels_ - weight[out].sum()) < 60
    without = ReviewClassifier(DummyClassifierWithoutWeights(), ReviewPolicy(max_reviews=0.5))
    assert without.fit(X, Y, sample_weight=weight).policy_.n_labels_ < 600
    with sklearn.config_context(enable_metadata_routing=True):
        routed = ReviewClassifier(Recorder().set_fit_request(sample_weight=True), LENIENT)
        assert np.array_equal(
            routed.fit(X, Y, sample_weight=weight).estimator_.weight_, weight[~out]
        )


class DummyClassifierWithoutWeights(DummyClassifier):
    def fit(self, X, y):
        return super().fit(X, y)


def test_texts_from_end_to_end():
    texts, labels = load_messages(return_X_y=True)
    rules = {
        text: {label: 0.9, other: 0.1} if number % 20 else {label: 0.2, other: 0.8}
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
        for other in {"negative", "positive"} - {label}
    }
    llm = LLMClassifier(TestingBackend(rules), classes=["negative", "positive"], cache=None)
    inner = CalibratedLLMClassifier(llm, method="temperature")
    clf = ReviewClassifier(inner, ReviewPolicy(0.9)).fit(texts[:300], labels[:300])
    decisions = clf.decide(texts[300:])
    accepted = (decisions["action"] == "accept").to_numpy()
    assert accepted.any()
    assert (decisions["label"].to_numpy() == labels[300:])[accepted].mean() > 0.9


@pytest.mark.parametrize(
    ("clf", "y", "message"),
    [
        (ReviewClassifier(LogisticRegression(), holdout=1.0), Y, "holdout"),
        (ReviewClassifier(LogisticRegression(), policy="strict"), Y, "policy"),
        (ReviewClassifier(LogisticRegression()), Y[:-1], "one label a row"),
        (ReviewClassifier(LogisticRegression()), None, "requires y"),
    ],
)
def test_wrong_input(clf, y, message):
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)


def test_too_few_rows_to_split():
    with pytest.raises(ValueError, match="no row for the policy"):
        ReviewClassifier(LogisticRegression()).fit(X[[0, 0]], ["a", "b"])
