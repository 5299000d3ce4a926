import builtins
from typing import ClassVar

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
    GroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.datasets import load_messages
from skllm_calib.decisions import ReviewPolicy
from skllm_calib.decisions.classifier import ReviewClassifier
from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.metrics import selective_risk_scorer

X, Y = make_classification(1200, class_sep=1.5, n_clusters_per_class=1, random_state=0)
Y = np.array(["ham", "spam"])[Y]
LENIENT = ReviewPolicy(0.9, confidence=0.9)


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
        ReviewClassifier(LogisticRegression(), ReviewPolicy(on_not_certifiable="review"), cv=3),
    ],
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_the_policy_sees_other_rows_than_the_estimator():
    clf = ReviewClassifier(Recorder(), LENIENT).fit(X, Y)
    out = held_out(clf)
    assert out.sum() == 600
    for name in ("ham", "spam"):
        assert abs((Y[out] == name).sum() - (Y[~out] == name).sum()) <= 1
    alone = clone(LENIENT).fit(Y[out], clf.estimator_.predict_proba(X[out]))
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
        (ReviewClassifier(LogisticRegression(), cv=1), Y, "cv"),
        (ReviewClassifier(LogisticRegression(), cv="five"), Y, "cv"),
        (ReviewClassifier(LogisticRegression(), cv=[]), Y, "makes no split"),
        (ReviewClassifier(LogisticRegression()), Y[:-1], "one per row is needed"),
        (ReviewClassifier(LogisticRegression()), None, "requires y"),
    ],
)
def test_wrong_input(clf, y, message):
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)


def test_too_few_rows_to_split():
    with pytest.raises(ValueError, match="no row for the policy"):
        ReviewClassifier(LogisticRegression()).fit(X[[0, 0]], ["a", "b"])


# -- cross-fitting ---------------------------------------------------------------------------------


class Spy(LogisticRegression):
    """Tells all fits of its clones apart: what each has seen, and what it was asked."""

    log: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.entry_ = {"train": X, "weight": sample_weight, "asked": []}
        self.log.append(self.entry_)
        return self

    def predict_proba(self, X):
        self.entry_["asked"].append(X)
        return super().predict_proba(X)


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setattr(Spy, "log", [])
    return Spy()


def as_set(rows):
    return {row.tobytes() for row in rows}


def test_every_row_is_judged_by_an_estimator_that_has_not_seen_it(spy):
    clf = ReviewClassifier(spy, LENIENT, cv=5).fit(X, Y)
    final, *folds = Spy.log
    assert len(folds) == 5
    assert np.array_equal(final["train"], X)
    assert final["asked"] == []
    asked = [part for fold in folds for part in fold["asked"]]
    assert as_set(np.vstack(asked)) == as_set(X)
    assert sum(map(len, asked)) == len(X)
    for fold in folds:
        assert not as_set(fold["train"]) & as_set(fold["asked"][0])
    assert clf.policy_.n_labels_ == 1200
    assert clf.policy_.evidence_[0].n_rows == 1200
    assert clf.estimator_.entry_ is final


def test_the_policy_is_that_of_cross_validated_probabilities():
    splitter = StratifiedKFold(4, shuffle=True, random_state=3)
    clf = ReviewClassifier(LogisticRegression(), LENIENT, cv=splitter).fit(X, Y)
    proba = cross_val_predict(LogisticRegression(), X, Y, cv=splitter, method="predict_proba")
    assert clf.policy_.evidence_ == clone(LENIENT).fit(Y, proba).evidence_
    plain = LogisticRegression().fit(X, Y)
    assert np.array_equal(clf.predict_proba(X), plain.predict_proba(X))
    given = ReviewClassifier(LogisticRegression(), LENIENT, cv=list(splitter.split(X, Y)))
    assert given.fit(X, Y).policy_.evidence_ == clf.policy_.evidence_
    clone(given)


def test_the_seed_makes_the_folds():
    first, again, other = (
        ReviewClassifier(LogisticRegression(), LENIENT, cv=5, random_state=seed).fit(X, Y)
        for seed in (1, 1, 2)
    )
    assert first.policy_.evidence_ == again.policy_.evidence_
    assert first.policy_.evidence_ != other.policy_.evidence_


def test_rows_in_no_test_part_only_train(spy):
    rows = np.arange(240)
    splits = [(rows[80:], rows[:80]), (rows[:80], rows[80:180])]
    clf = ReviewClassifier(spy, LENIENT, cv=splits).fit(X[:240], Y[:240])
    assert clf.policy_.n_labels_ == 180
    with pytest.raises(NotCertifiableError, match="in all") as caught:
        ReviewClassifier(spy, ReviewPolicy(0.99), cv=splits).fit(X[:240], Y[:240])
    assert caught.value.n_more == np.ceil(caught.value.__cause__.n_more / 0.75)
    with pytest.raises(NotCertifiableError) as caught:
        ReviewClassifier(spy, ReviewPolicy(0.999), cv=5).fit(X[:200], Y[:200])
    assert caught.value.__cause__ is None


def test_a_row_whose_class_the_folds_lack_is_an_error():
    y = Y.astype(object)
    y[7] = "rare"
    policy = ReviewPolicy(max_reviews=0.5)
    clf = ReviewClassifier(LogisticRegression(), policy, cv=5).fit(X, y)
    assert clf.classes_.tolist() == ["ham", "rare", "spam"]
    splits = [(np.delete(np.arange(1200), rows), rows) for rows in ([7], [8])]
    policy = ReviewPolicy(costs=1, review_cost=9)  # everything is accepted
    found = ReviewClassifier(LogisticRegression(), policy, cv=splits).fit(X, y).policy_.evidence_[0]
    assert found.n_rows == found.n_accepted == 2
    assert found.n_errors >= 1


def test_folds_of_rows_without_probabilities():
    y = np.where(np.arange(1200) % 50 == 1, "ham", "spam")
    clf = ReviewClassifier(Unsure(), LENIENT, cv=3).fit(X, y)
    assert clf.policy_.n_labels_ == 1200
    assert clf.policy_.action_rates_["review"] == 0.5


def test_weights_and_groups_go_where_they_belong(spy):
    weight = np.random.default_rng(0).choice([0.5, 1.0], 1200)
    ReviewClassifier(spy, LENIENT, cv=3).fit(X, Y, sample_weight=weight)
    assert [len(fold["weight"]) for fold in Spy.log] == [1200, 800, 800, 800]
    of_row = dict(zip((row.tobytes() for row in X), weight, strict=True))
    for fold in Spy.log:
        assert [of_row[row.tobytes()] for row in fold["train"]] == fold["weight"].tolist()
    groups = np.arange(1200) % 7
    Spy.log.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        clf = ReviewClassifier(spy.set_fit_request(sample_weight=True), LENIENT, cv=GroupKFold(4))
        clf.fit(X, Y, sample_weight=weight, groups=groups)
    of_row = dict(zip((row.tobytes() for row in X), groups, strict=True))
    for fold in Spy.log[1:]:
        trained = {of_row[row.tobytes()] for row in fold["train"]}
        assert not trained & {of_row[row.tobytes()] for row in fold["asked"][0]}


def test_a_frozen_estimator_has_no_folds():
    model = FrozenEstimator(LogisticRegression().fit(X, Y))
    with pytest.raises(ValueError, match=r"cv=5 fits the estimator again .* a FrozenEstimator is"):
        ReviewClassifier(model, LENIENT, cv=5).fit(X, Y)


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_language_model_is_asked_once_a_row(calibrated, tmp_path):
    texts, labels = load_messages(return_X_y=True)
    texts, labels = list(texts[:200]), np.asarray(labels[:200])
    rules = {
        text: {label: 0.9, other: 0.1} if number % 20 else {label: 0.2, other: 0.8}
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
        for other in {"negative", "positive"} - {label}
    }
    backend = TestingBackend(rules, name="cross-fitted")
    backend.forget()
    llm = LLMClassifier(
        backend, classes=["negative", "positive"], cache=str(tmp_path / "replies.sqlite")
    )
    estimator = CalibratedLLMClassifier(llm, method="temperature") if calibrated else llm
    clf = ReviewClassifier(estimator, ReviewPolicy(0.85), cv=5).fit(texts, labels)
    assert clf.policy_.n_labels_ == 200
    assert set(backend.asked.values()) == {1}
    assert backend.asked.total() == 200
    accepted = clf.decide(texts)["action"] == "accept"
    assert accepted.mean() > 0.8


def test_the_precision_of_the_final_estimator_is_kept_in_most_draws():
    """The true chance of each label is known, so the precision is that of the population."""
    direction = np.full(3, 4 / np.sqrt(3))

    def draw(rng, size):
        rows = rng.normal(size=(size, 3))
        chance = 1 / (1 + np.exp(-rows @ direction))
        return rows, chance, rng.random(size) < chance

    population, chance, _ = draw(np.random.default_rng(0), 5_000)
    policy = ReviewPolicy(0.9, on_not_certifiable="review")
    broken = spoke = 0
    for seed in range(200):
        rows, _, y = draw(np.random.default_rng([1, seed]), 150)
        clf = ReviewClassifier(LogisticRegression(), policy, cv=5, random_state=seed)
        clf.fit(rows, y)
        proba = clf.predict_proba(population)
        accepted = clf.policy_.decide(proba) == "accept"
        right = np.where(clf.policy_.predict(proba), chance, 1 - chance)[accepted]
        spoke += right.size > 0
        broken += right.size > 0 and right.mean() < 0.9
    assert spoke > 150
    assert broken <= 0.12 * 200
