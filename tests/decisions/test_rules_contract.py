"""What every decision rule keeps, those of the documentation included."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from skllm_calib.decisions import RULES, DecisionRule, ReviewClassifier, ReviewPolicy
from skllm_calib.metrics import selective_risk_scorer

PAGE = Path(__file__).parents[2] / "docs/extending/decision_rule.rst"
CLASSES = ["a", "b", "c"]


def rule_of_the_page():
    """Run the code of the walk-through, and return the rule that it adds."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", text, re.M)
    names = {"__name__": "page"}
    for block in blocks:
        exec(textwrap.dedent(block), names)
    return names["FixedThreshold"], names["policy"]


FixedThreshold, POLICY_OF_THE_PAGE = rule_of_the_page()


def population(size, seed=0):
    rng = np.random.default_rng(seed)
    stated = 0.5 + 0.5 * rng.beta(3, 0.75, size)
    label = rng.choice(3, size, p=[0.5, 0.3, 0.2])
    proba = np.repeat((1 - stated)[:, None] / 2, 3, axis=1)
    proba[np.arange(size), label] = stated
    right = rng.random(size) < stated
    return np.array(CLASSES)[np.where(right, label, (label + 1) % 3)], proba


Y, PROBA = population(1500)


@pytest.fixture(params=list(RULES))
def rule(request):
    return RULES[request.param]()


@pytest.fixture
def policy(rule):
    return ReviewPolicy(rule=rule, confidence=0.9).fit(Y, PROBA)


def test_it_has_parameters_of_an_estimator(rule):
    assert isinstance(rule, DecisionRule)
    assert clone(rule).get_params() == rule.get_params()
    assert (type(rule).__doc__ or "").strip()
    rule.check()


def test_it_promises_with_the_confidence_of_the_policy(policy):
    assert policy.evidence_
    assert policy.promises_
    for promise in policy.promises_:
        assert promise.confidence == 0.9
        assert np.isfinite(promise.bound)
        assert f"Promise: {promise.text}." in policy.summary()
        assert "90%" in promise.text


def test_a_fit_leaves_rule_and_rows_alone(rule):
    before, given = rule.get_params(), PROBA.copy()
    ReviewPolicy(rule=rule).fit(Y, PROBA)
    assert rule.get_params() == before
    assert vars(rule).keys() == vars(type(rule)()).keys()  # nothing fitted in it
    assert np.array_equal(PROBA, given)


def test_the_evidence_counts_what_is_accepted(policy):
    actions, labels = policy.decide(PROBA), policy.predict(PROBA)
    accepted = actions == "accept"
    assert sum(found.n_accepted for found in policy.evidence_) == accepted.sum() > 0
    assert sum(found.n_errors for found in policy.evidence_) == (labels != Y)[accepted].sum()
    assert policy.action_rates_ == {
        name: (actions == name).mean() for name in ("accept", "review", "reject")
    }
    assert len(policy.explain(PROBA)) == 1500


def test_rows_without_probabilities_are_reviewed(rule):
    proba = PROBA.copy()
    proba[::50] = np.nan
    policy = ReviewPolicy(rule=rule, confidence=0.9).fit(Y, proba)
    assert set(policy.decide(proba)[::50]) == {"review"}
    assert policy.predict(proba)[0] is None


def test_labels_are_asked_for_where_they_are_needed(rule):
    policy = ReviewPolicy(rule=rule)
    if rule.needs_labels:
        with pytest.raises(ValueError, match="needs labels"):
            policy.fit(None, PROBA)
    else:
        without = policy.fit(None, PROBA, classes=CLASSES)
        assert without.n_labels_ == 0
        assert np.array_equal(without.decide(PROBA), policy.fit(Y, PROBA).decide(PROBA))


def test_it_comes_back_from_json(policy):
    again = ReviewPolicy.from_json(policy.to_json())
    assert again.to_json() == policy.to_json()
    assert again.promises_ == policy.promises_
    probes = np.vstack([population(300, seed=1)[1], np.full((1, 3), np.nan)])
    assert again.decide(probes).tolist() == policy.decide(probes).tolist()
    assert again.explain(probes) == policy.explain(probes)


def test_the_precision_that_it_states_is_kept(rule):
    y, proba = population(20_000, seed=2)
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(100):
        rows = rng.integers(0, y.size, 300)
        policy = ReviewPolicy(rule=rule, confidence=0.9, on_not_certifiable="review")
        policy.fit(y[rows], proba[rows], classes=CLASSES)
        if policy.certified_precision_ is not None:
            accepted = policy.decide(proba) == "accept"
            right = policy.predict(proba)[accepted] == y[accepted]
            broken += right.mean() < policy.certified_precision_
    assert broken <= binom.ppf(0.999, 100, 0.1)


def test_the_walk_through_says_what_its_rule_finds():
    quantities = [promise.quantity for promise in POLICY_OF_THE_PAGE.promises_]
    assert quantities == ["review_rate", "precision"]
    assert POLICY_OF_THE_PAGE.thresholds_.tolist() == [0.9, 0.9]
    assert "at least 0.9." in POLICY_OF_THE_PAGE.summary()
    with pytest.raises(ValueError, match="'threshold' parameter of FixedThreshold"):
        ReviewPolicy(rule=FixedThreshold(1.5)).fit(Y, PROBA)


def test_a_search_over_a_parameter_of_a_rule():
    clf = ReviewClassifier(LogisticRegression(), ReviewPolicy(rule=FixedThreshold()))
    grid = {"policy__rule__threshold": [0.5, 0.99]}
    search = GridSearchCV(clf, grid, cv=2, scoring=selective_risk_scorer).fit(PROBA, Y)
    assert search.best_estimator_.policy_.rule.threshold in (0.5, 0.99)


def test_two_targets_are_refused():
    with pytest.raises(ValueError, match="max_error and rule are two targets"):
        ReviewPolicy(max_error=0.1, rule=FixedThreshold()).fit(Y, PROBA)
    with pytest.raises(ValueError, match=r"reject_below=0\.2 means nothing together with rule"):
        ReviewPolicy(reject_below=0.2, rule=FixedThreshold()).fit(Y, PROBA)
