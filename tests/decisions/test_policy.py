import pickle

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.base import clone

from skllm_calib.decisions import accept_threshold
from skllm_calib.decisions.policy.bounds import (
    mean_interval,
    rank_for_count,
    rank_for_share,
    share_upper_bound,
)
from skllm_calib.decisions.policy.policy import PolicyEvidence, ReviewPolicy
from skllm_calib.exceptions import NotCertifiableError

THREE = ["a", "b", "c"]


def flawless(n_rows):
    return np.linspace(0.999, 0.6, n_rows), np.ones(n_rows, dtype=int)


def population(size=100_000, gap=0.0, seed=0):
    """Rows of three predicted classes; the precision above any threshold can be looked up."""
    rng = np.random.default_rng(seed)
    stated = 0.5 + 0.5 * rng.beta(1.75, 0.75, size)
    label = rng.choice(3, size, p=[0.5, 0.3, 0.2])
    right = rng.random(size) < stated - gap
    proba = np.repeat((1 - stated)[:, None] / 2, 3, axis=1)
    proba[np.arange(size), label] = stated
    return proba, np.where(right, label, (label + rng.integers(1, 3, size)) % 3)


# -- precision -------------------------------------------------------------------------------------


def test_a_precision_is_that_of_accept_threshold():
    proba, y = population(500)
    policy = ReviewPolicy(0.9).fit(proba, y)
    alone = accept_threshold(y, proba, target_precision=0.9, confidence=0.9)
    assert policy.thresholds_.tolist() == [alone.threshold] * 3
    found = policy.evidence_[0]
    assert (found.n_accepted, found.n_errors, found.n_rows) == (
        alone.n_accepted,
        alone.n_errors,
        500,
    )
    assert found.precision_lower_bound == alone.precision_lower_bound
    assert policy.coverage_ == policy.shares_["accept"] == alone.coverage
    assert policy.certified_precision_ == 0.9
    accepted = policy.decide(proba) == "accept"
    assert np.array_equal(accepted, proba.max(axis=1) >= alone.threshold)
    assert ((policy.predict(proba) != y) & accepted).sum() == alone.n_errors


def test_the_default_is_95_percent_and_an_error_is_the_same_target():
    p, y = flawless(45)
    for options in ({}, {"target_precision": 0.95}, {"max_error": 0.05}):
        assert ReviewPolicy(**options).fit(p, y, classes=[0, 1]).coverage_ == 1
        with pytest.raises(NotCertifiableError, match="these 44 labels") as caught:
            ReviewPolicy(**options).fit(p[:44], y[:44], classes=[0, 1])
        assert caught.value.n_more == 1


def test_what_is_not_certifiable_may_go_to_review():
    policy = ReviewPolicy(on_not_certifiable="review")
    policy.fit(*flawless(20), classes=[0, 1])
    assert set(policy.decide([0.0, 0.5, 1.0])) == {"review"}
    assert policy.certified_precision_ is None
    assert policy.coverage_ == 0
    assert np.isinf(policy.thresholds_).all()
    assert policy.evidence_[0].n_more == 25
    assert "Accept nothing." in policy.summary()
    assert "about 25 more needed" in policy.summary()
    assert "nothing could be certified" in policy.explain([1.0])[0]


def test_rows_below_the_floor_are_rejected_and_have_no_part_in_the_search():
    p, y = flawless(100)
    y[60:] = 0  # all wrong below 0.757
    policy = ReviewPolicy(reject_below=0.8).fit(p, y)
    assert policy.evidence_[0].n_rows == (p >= 0.8).sum() == policy.evidence_[0].n_accepted
    assert policy.decide([0.79, 0.8, 0.21, 0.2]).tolist() == [
        "reject",
        "review",
        "reject",
        "review",
    ]
    assert policy.shares_ == pytest.approx({"accept": 0.5, "review": 0.0, "reject": 0.5})
    assert "too unsure for a review" in policy.explain([0.5])[0]
    assert "are rejected" in policy.summary()
    with pytest.raises(NotCertifiableError, match="only 40 are in question") as caught:
        ReviewPolicy(reject_below=0.84).fit(p, y)
    assert caught.value.n_more == 13  # 5 more of the sort that 40 in 100 are
    with pytest.raises(NotCertifiableError) as caught:
        ReviewPolicy(reject_below=0.9999).fit(p, y)
    assert caught.value.n_more is None


def test_each_class_has_a_threshold_and_a_share_of_the_risk():
    proba, y = population(3000)
    policy = ReviewPolicy(0.9, per_class=True).fit(proba, y)
    label = proba.argmax(axis=1)
    for code, found in enumerate(policy.evidence_):
        mine = label == code
        alone = accept_threshold(
            y[mine], proba[mine], target_precision=0.9, confidence=1 - 0.1 / 3, labels=[0, 1, 2]
        )
        assert found.predicted == code
        assert found.threshold == policy.thresholds_[code] == alone.threshold
        assert (found.n_accepted, found.n_errors) == (alone.n_accepted, alone.n_errors)
    assert policy.uncertified_ == {}
    assert "of every class are right at least 90%" in policy.summary()


def test_a_class_that_cannot_be_certified_goes_to_review_and_takes_no_risk():
    p, _ = flawless(60)
    rows = np.column_stack([p, 1 - p, 0 * p])
    proba = np.concatenate([rows, rows[:5][:, [1, 0, 2]]])
    y = np.array(["a"] * 60 + ["b"] * 5)
    policy = ReviewPolicy(per_class=True).fit(proba, y, classes=THREE)
    assert policy.thresholds_[0] == 0.6
    assert np.isinf(policy.thresholds_[1:]).all()
    # "a" alone shares the risk: 60 rows would do for two classes, 45 have to for one.
    assert ReviewPolicy(per_class=True).fit(proba[15:], y[15:], classes=THREE).coverage_ == 0.9
    # With "b" in play there would be two, at 95 % each: 59 rows, 54 more of one row in 13.
    assert policy.uncertified_ == {"b": 54 * 13, "c": None}
    assert policy.decide(proba).tolist() == ["accept"] * 60 + ["review"] * 5
    assert "its precision could not be certified" in policy.explain(proba[-1:])[0]
    assert "Never accept 'b'" in policy.summary()
    with pytest.raises(NotCertifiableError, match="nearest is 'a'") as caught:
        ReviewPolicy(per_class=True).fit(proba[30:], y[30:], classes=THREE)
    assert caught.value.n_more == 18  # 15 more, of 30 in 35


def test_a_hopeless_class_does_not_hide_one_that_labels_help():
    p, _ = flawless(50)
    proba = np.concatenate([np.column_stack([p, 1 - p]), np.column_stack([1 - p, p])])
    y = np.array(["a"] * 50 + ["a", "b"] * 25)
    with pytest.raises(NotCertifiableError, match="nearest is 'a'") as caught:
        ReviewPolicy(per_class=True).fit(proba, y)
    assert caught.value.n_more == 18  # 59 rows at 95 %, and every second row is one


# -- budget ----------------------------------------------------------------------------------------


def test_a_share_of_reviews_keeps_within_the_budget():
    proba, y = population(1000)
    policy = ReviewPolicy(max_reviews=0.2).fit(proba, y)
    n_reviews = (policy.decide(proba) == "review").sum()
    bound = beta.ppf(0.9, n_reviews + 1, 1000 - n_reviews)
    assert policy.certified_review_share_ == pytest.approx(bound)
    assert bound <= 0.2 < beta.ppf(0.9, n_reviews + 2, 999 - n_reviews)
    found = policy.evidence_[0]
    lower = beta.ppf(0.1, found.n_accepted - found.n_errors, found.n_errors + 1)
    assert policy.certified_precision_ == pytest.approx(lower)
    assert "of new rows go to review" in policy.summary()
    # Labels only report.
    without = ReviewPolicy(max_reviews=0.2).fit(proba)
    assert np.array_equal(without.thresholds_, policy.thresholds_)
    assert without.certified_precision_ is without.evidence_[0].n_errors is None
    assert without.n_labels_ == 0
    assert "of the time" not in without.summary()


def test_a_budget_too_small_for_the_rows_reviews_none():
    policy = ReviewPolicy(max_reviews=0.01).fit(*flawless(100), classes=[0, 1])
    assert policy.shares_["review"] == policy.certified_review_share_ == 0
    assert policy.decide([0.5])[0] == "accept"


def test_rejected_rows_leave_the_budget_to_others():
    proba, y = population(1000)
    plain = ReviewPolicy(max_reviews=(20, 100)).fit(proba, y)
    floored = ReviewPolicy(max_reviews=(20, 100), reject_below=0.6).fit(proba, y)
    assert floored.shares_["review"] == plain.shares_["review"]
    assert floored.shares_["reject"] > 0.02
    assert floored.thresholds_[0] > plain.thresholds_[0]
    assert "20 reviews among 100 new rows, in 90% of the days" in plain.summary()


def test_rows_without_probabilities_are_reviewed_and_use_up_the_budget():
    proba, y = population(1000)
    proba[:50] = np.nan
    policy = ReviewPolicy(max_reviews=0.2).fit(proba, y)
    assert policy.shares_["review"] > 0.15
    assert set(policy.decide(proba[:50])) == {"review"}
    assert policy.predict(proba[:51])[:50].tolist() == [None] * 50
    assert "was not scored" in policy.explain(proba[:1])[0]
    with pytest.raises(NotCertifiableError, match="50 of 1000 rows could not be scored"):
        ReviewPolicy(max_reviews=0.05).fit(proba, y)
    broken = ReviewPolicy(max_reviews=0.05, on_not_certifiable="review").fit(proba, y)
    assert broken.certified_review_share_ is broken.certified_precision_ is None
    assert "Promise" not in broken.summary()
    assert "No promise: 50 of 1000" in broken.summary()
    certified = ReviewPolicy(0.9).fit(proba, y)
    assert certified.evidence_[0].n_rows == 950
    assert set(certified.decide(proba[:50])) == {"review"}
    assert ReviewPolicy(0.9).fit(np.where(np.arange(900) < 10, np.nan, 0.9), np.arange(900) > 5)


def test_ranks_by_simulation():
    n_rows, draws, rng = 80, 20_000, np.random.default_rng(0)
    below = np.sort(rng.random((draws, n_rows)), axis=1)  # shares of a uniform population
    rank = rank_for_share(n_rows, 0.2, 0.9)
    kept = [(below[:, k - 1] <= 0.2).mean() for k in (rank, rank + 3)]
    assert kept[0] >= 0.9 - 4 * 0.3 / draws**0.5 > kept[1]
    rank = rank_for_count(n_rows, 10, 50, 0.9)
    kept = [(rng.binomial(50, below[:, k - 1]) <= 10).mean() for k in (rank, rank + 3)]
    assert kept[0] >= 0.9 - 4 * 0.3 / draws**0.5 > kept[1]
    assert share_upper_bound(80, 80, 0.9) == 1


# -- cost ------------------------------------------------------------------------------------------


def test_an_error_of_ten_reviews_is_accepted_from_90_percent():
    policy = ReviewPolicy(costs=10, review_cost=1).fit([0.5, 0.9], classes=["ham", "spam"])
    assert policy.decide([0.89, 0.91, 0.11, 0.09]).tolist() == ["review", "accept"] * 2
    assert policy.thresholds_ is None
    assert policy.expected_cost_ == pytest.approx(1.0)
    assert policy.expected_cost_interval_ is None
    assert "no labels to check it" in policy.summary()
    assert policy.explain([0.95]) == ["expected cost: accept 0.5, review 1"]


def test_unequal_costs_choose_label_and_action():
    costs = [[0, 1], [100, 0]]  # to take "yes" for "no" is dear
    policy = ReviewPolicy(costs=costs, review_cost=0.5, reject_cost=0.4)
    policy.fit([[0.5, 0.5]], classes=["no", "yes"])
    proba = [[0.98, 0.02], [0.999, 0.001], [0.3, 0.7], [0.8, 0.2]]
    assert policy.predict(proba).tolist() == ["yes", "no", "yes", "yes"]
    assert policy.decide(proba).tolist() == ["reject", "accept", "accept", "reject"]
    assert "reject 0.4" in policy.explain(proba)[0]
    assert policy.decide([[np.nan, np.nan]])[0] == "review"
    assert policy.predict([[np.nan, np.nan]])[0] is None


def test_the_cost_of_labelled_rows():
    p = np.repeat([0.95, 0.7], [80, 20])
    y = np.r_[np.ones(78), 0, 0, np.ones(20)].astype(int)
    policy = ReviewPolicy(costs=10, review_cost=1).fit(p, y)
    assert policy.expected_cost_ == pytest.approx((2 * 10 + 20) / 100)
    low, high = policy.expected_cost_interval_
    assert 0 < low < policy.expected_cost_ < high < 10
    assert policy.evidence_[0].n_errors == 2
    assert policy.certified_precision_ == pytest.approx(beta.ppf(0.1, 78, 3))
    assert "between" in policy.summary()


def test_the_interval_of_two_costs_is_that_of_clopper_and_pearson():
    low, high = mean_interval(np.repeat([0.0, 1.0], [97, 3]), 0.0, 1.0, 0.9, 0)
    assert low == pytest.approx(beta.ppf(0.05, 3, 98), rel=0.05)
    assert high == pytest.approx(beta.ppf(0.95, 4, 97), rel=0.05)
    low, high = mean_interval(np.zeros(50), 0.0, 5.0, 0.9, 0)
    assert low == 0
    assert high == pytest.approx(5 * beta.ppf(0.95, 1, 50), rel=0.05)


# -- promises --------------------------------------------------------------------------------------

N_DRAWS, N_ROWS = 200, 300
MOST_BROKEN = binom.ppf(0.999, N_DRAWS, 0.1)


def fitted(options, chance=None):
    """Yield policies fitted on draws of a population that is two points too sure of itself."""
    proba, y = population(2000, gap=0.02)
    share = None if chance is None else chance(proba.max(axis=1))
    rng = np.random.default_rng(1)
    for seed in range(N_DRAWS):
        rows = rng.choice(y.size, N_ROWS, p=None if share is None else share / share.sum())
        policy = ReviewPolicy(**options, random_state=seed, on_not_certifiable="review")
        weight = None if share is None else 1 / share[rows]
        policy.fit(proba[rows], y[rows], weight, classes=[0, 1, 2])
        yield policy, policy.decide(proba), proba, y, rows


def breaks(accepted, right, target):
    return accepted.any() and right[accepted].mean() < target


@pytest.mark.parametrize("chance", [None, lambda stated: np.where(stated < 0.9, 1, 0.25)])
def test_the_precision_is_kept(chance):
    broken = naive_broken = spoke = 0
    for policy, action, proba, y, rows in fitted({"target_precision": 0.9}, chance):
        stated, right = proba.max(axis=1), policy.predict(proba) == y
        spoke += policy.coverage_ > 0
        broken += breaks(action == "accept", right, 0.9)
        order = rows[np.argsort(-stated[rows])]
        good = np.flatnonzero(np.cumsum(right[order]) >= 0.9 * np.arange(1, N_ROWS + 1))
        lowest = stated[order[good[-1]]] if good.size else np.inf
        naive_broken += breaks(stated >= lowest, right, 0.9)
    assert spoke > N_DRAWS / 3
    assert broken <= MOST_BROKEN
    if chance is None:
        assert naive_broken > 0.4 * N_DRAWS  # which is what all this is for


def test_the_precision_of_every_class_is_kept():
    broken = spoke = 0
    for policy, action, proba, y, _ in fitted({"max_error": 0.12, "per_class": True}):
        label, right = policy.predict(proba), policy.predict(proba) == y
        spoke += policy.coverage_ > 0
        broken += any(breaks((action == "accept") & (label == c), right, 0.88) for c in range(3))
    assert spoke > N_DRAWS / 3
    assert broken <= MOST_BROKEN


def test_the_budget_is_kept():
    broken = naive_broken = overstated = 0
    for policy, action, proba, y, rows in fitted({"max_reviews": 0.2}):
        stated, right = proba.max(axis=1), policy.predict(proba) == y
        broken += (action == "review").mean() > 0.2
        overstated += breaks(action == "accept", right, policy.certified_precision_)
        naive_broken += (stated < np.quantile(stated[rows], 0.2)).mean() > 0.2
    assert broken <= MOST_BROKEN
    assert overstated <= MOST_BROKEN
    assert naive_broken > 0.4 * N_DRAWS


def test_the_budget_of_a_day_is_kept():
    rng = np.random.default_rng(2)
    broken = naive_broken = 0
    for _, action, proba, _, rows in fitted({"max_reviews": (20, 100)}):
        today = rng.integers(0, len(proba), 100)
        stated = proba.max(axis=1)
        broken += (action[today] == "review").sum() > 20
        naive_broken += (stated[today] < np.quantile(stated[rows], 0.2)).sum() > 20
    assert broken <= MOST_BROKEN
    assert naive_broken > 0.3 * N_DRAWS


def test_the_interval_of_the_cost_is_wide_enough():
    missed = 0
    for policy, action, proba, y, _ in fitted({"costs": 10, "review_cost": 1}):
        cost = np.where(action == "accept", 10 * (policy.predict(proba) != y), 1).mean()
        low, high = policy.expected_cost_interval_
        missed += not low <= cost <= high
    assert missed <= MOST_BROKEN


def test_equal_weights_change_nothing_and_others_thin_the_rows():
    proba, y = population(500)
    plain = ReviewPolicy(0.9).fit(proba, y)
    assert ReviewPolicy(0.9).fit(proba, y, np.full(500, 3.0)).evidence_ == plain.evidence_
    weight = np.repeat([1.0, 0.0], [400, 100])
    first = ReviewPolicy(0.9).fit(proba[:400], y[:400])
    assert ReviewPolicy(0.9).fit(proba, y, weight).evidence_ == first.evidence_
    weight = np.repeat([1.0, 0.5], 250)
    assert 300 < ReviewPolicy(0.9).fit(proba, y, weight).n_labels_ < 450


# -- use -------------------------------------------------------------------------------------------


def test_text_labels_one_column_and_pickles():
    p, y = flawless(100)
    names = np.array(["ham", "spam"])[y]
    policy = ReviewPolicy(0.9).fit(p, names, classes=["ham", "spam"])
    both = ReviewPolicy(0.9).fit(np.column_stack([1 - p, p]), names, classes=["ham", "spam"])
    assert both.evidence_ == policy.evidence_
    assert policy.predict([0.1, 0.9]).tolist() == ["ham", "spam"]
    again = pickle.loads(pickle.dumps(policy))
    assert again.summary() == policy.summary()
    assert isinstance(again.evidence_[0], PolicyEvidence)
    assert clone(policy).get_params() == policy.get_params()


def test_reasons_tell_close_probabilities_apart():
    p, y = flawless(100)
    policy = ReviewPolicy(0.9).fit(p, y, classes=[0, 1])
    at = policy.thresholds_[0]
    assert policy.explain([at, at - 1e-6]) == [
        "probability 0.6 >= 0.6",
        "probability 0.599999 < 0.6",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_precision": 1.0}, "target_precision"),
        ({"confidence": 0}, "confidence"),
        ({"target_precision": 0.9, "max_error": 0.1}, "two targets"),
        ({"max_error": 0.1, "costs": 1, "review_cost": 1}, "two targets"),
        ({"costs": 1}, "needs review_cost"),
        ({"review_cost": 1}, "means nothing together with target_precision"),
        ({"max_reviews": 0.1, "per_class": True}, "per_class=True means nothing"),
        ({"costs": 1, "review_cost": 1, "reject_below": 0.2}, "reject_below=0.2 means nothing"),
        ({"max_reviews": (5, 5)}, "max_reviews"),
        ({"max_reviews": (0.5, 5)}, "max_reviews"),
        ({"max_reviews": (5,)}, "max_reviews"),
        ({"max_reviews": 1.5}, "max_reviews"),
        ({"costs": [[0, 1]], "review_cost": 1}, "true x predicted"),
        ({"costs": [[0, np.nan], [1, 0]], "review_cost": 1}, "true x predicted"),
        ({"on_not_certifiable": "ignore"}, "on_not_certifiable"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        ReviewPolicy(**options).fit([0.2, 0.9], [0, 1])


@pytest.mark.parametrize(
    ("proba", "y", "options", "message"),
    [
        ([0.2, 0.9], None, {}, "needs labels"),
        ([0.2, 1.9], [0, 1], {}, "proba must lie in"),
        ([[0.2, 0.9]], [0], {"classes": [0, 1]}, "row of proba must sum to 1"),
        ([0.2, 0.9], [0, 0], {}, "say which with classes="),
        ([0.2, 0.9], [0, 2], {"classes": [0, 1]}, "y holds 2 in row 1"),
        ([0.2, 0.9], [0, 1], {"sample_weight": [1, -1]}, "sample_weight"),
        ([[0.1, 0.2, 0.7]], [0], {"classes": [0, 1]}, "classes lists 2"),
        ([0.2, 0.9], [0], {}, "y has 1 rows and proba has 2"),
    ],
)
def test_wrong_input(proba, y, options, message):
    with pytest.raises(ValueError, match=message):
        ReviewPolicy(0.5, confidence=0.5).fit(proba, y, **options)


def test_other_columns_than_in_fit():
    policy = ReviewPolicy().fit(*flawless(100), classes=[0, 1])
    with pytest.raises(ValueError, match="fitted with 2"):
        policy.decide([[0.2, 0.3, 0.5]])
    with pytest.raises(ValueError, match="classes lists 3"):
        ReviewPolicy(max_reviews=0.5).fit([0.2, 0.9], classes=[0, 1, 2])
