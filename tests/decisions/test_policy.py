import pickle
from functools import partial

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.base import clone

from skllm_calib.decisions import PolicyEvidence, ReviewPolicy, accept_threshold
from skllm_calib.decisions.rules.bounds import (
    mean_interval,
    rank_for_count,
    rank_for_rate,
    rate_upper_bound,
)
from skllm_calib.exceptions import NotCertifiableError

THREE = ["a", "b", "c"]
# The figures of these tests are for a confidence of 90 %.
at_90 = partial(ReviewPolicy, confidence=0.9)


def flawless(n_rows):
    return np.ones(n_rows, dtype=int), np.linspace(0.999, 0.6, n_rows)


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
    policy = at_90(0.9).fit(y, proba)
    alone = accept_threshold(y, proba, target_precision=0.9, confidence=0.9)
    assert policy.thresholds_.tolist() == [alone.threshold] * 3
    found = policy.evidence_[0]
    assert (found.n_accepted, found.n_errors, found.n_rows) == (
        alone.n_accepted,
        alone.n_errors,
        500,
    )
    assert found.precision_lower_bound == alone.precision_lower_bound
    assert policy.coverage_ == policy.action_rates_["accept"] == alone.coverage
    assert policy.certified_precision_ == 0.9
    accepted = policy.decide(proba) == "accept"
    assert np.array_equal(accepted, proba.max(axis=1) >= alone.threshold)
    assert ((policy.predict(proba) != y) & accepted).sum() == alone.n_errors


def test_the_default_is_95_percent_and_an_error_is_the_same_target():
    y, p = flawless(59)  # 0.95 ** 59 < 0.05 < 0.95 ** 58
    for options in ({}, {"target_precision": 0.95}, {"max_error": 0.05}):
        assert ReviewPolicy(**options).fit(y, p, classes=[0, 1]).coverage_ == 1
        with pytest.raises(NotCertifiableError, match="these 58 labels") as caught:
            ReviewPolicy(**options).fit(y[:58], p[:58], classes=[0, 1])
        assert caught.value.n_more == 1


def test_what_is_not_certifiable_may_go_to_review():
    policy = at_90(on_not_certifiable="review")
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
    y, p = flawless(100)
    y[60:] = 0  # all wrong below 0.757
    policy = at_90(reject_below=0.8).fit(y, p)
    assert policy.evidence_[0].n_rows == (p >= 0.8).sum() == policy.evidence_[0].n_accepted
    assert policy.decide([0.79, 0.8, 0.21, 0.2]).tolist() == [
        "reject",
        "review",
        "reject",
        "review",
    ]
    assert policy.action_rates_ == pytest.approx({"accept": 0.5, "review": 0.0, "reject": 0.5})
    assert "probability 0.5 < 0.8: below the rejection threshold" in policy.explain([0.5])[0]
    assert "are rejected" in policy.summary()
    with pytest.raises(NotCertifiableError, match="only 40 are eligible") as caught:
        at_90(reject_below=0.84).fit(y, p)
    assert caught.value.n_more == 13  # 5 more of the sort that 40 in 100 are
    with pytest.raises(NotCertifiableError) as caught:
        at_90(reject_below=0.9999).fit(y, p)
    assert caught.value.n_more is None


def test_each_class_has_a_threshold_and_a_share_of_the_risk():
    proba, y = population(3000)
    policy = at_90(0.9, per_class=True).fit(y, proba)
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
    _, p = flawless(60)
    rows = np.column_stack([p, 1 - p, 0 * p])
    proba = np.concatenate([rows, rows[:5][:, [1, 0, 2]]])
    y = np.array(["a"] * 60 + ["b"] * 5)
    policy = at_90(per_class=True).fit(y, proba, classes=THREE)
    assert policy.thresholds_[0] == 0.6
    assert np.isinf(policy.thresholds_[1:]).all()
    # "a" alone shares the risk: 60 rows would do for two classes, 45 have to for one.
    assert at_90(per_class=True).fit(y[15:], proba[15:], classes=THREE).coverage_ == 0.9
    # With "b" in play there would be two, at 95 % each: 59 rows, 54 more of one row in 13.
    assert policy.uncertified_ == {"b": 54 * 13, "c": None}
    assert policy.decide(proba).tolist() == ["accept"] * 60 + ["review"] * 5
    assert "its precision could not be certified" in policy.explain(proba[-1:])[0]
    assert "Never accept 'b'" in policy.summary()
    with pytest.raises(NotCertifiableError, match="nearest is 'a'") as caught:
        at_90(per_class=True).fit(y[30:], proba[30:], classes=THREE)
    assert caught.value.n_more == 18  # 15 more, of 30 in 35


def test_a_hopeless_class_does_not_hide_one_that_labels_help():
    _, p = flawless(50)
    proba = np.concatenate([np.column_stack([p, 1 - p]), np.column_stack([1 - p, p])])
    y = np.array(["a"] * 50 + ["a", "b"] * 25)
    with pytest.raises(NotCertifiableError, match="nearest is 'a'") as caught:
        at_90(per_class=True).fit(y, proba)
    assert caught.value.n_more == 18  # 59 rows at 95 %, and every second row is one


# -- budget ----------------------------------------------------------------------------------------


def test_a_share_of_reviews_keeps_within_the_budget():
    proba, y = population(1000)
    policy = at_90(max_reviews=0.2).fit(y, proba)
    n_reviews = (policy.decide(proba) == "review").sum()
    bound = beta.ppf(0.9, n_reviews + 1, 1000 - n_reviews)
    assert policy.certified_review_rate_ == pytest.approx(bound)
    assert bound <= 0.2 < beta.ppf(0.9, n_reviews + 2, 999 - n_reviews)
    found = policy.evidence_[0]
    lower = beta.ppf(0.1, found.n_accepted - found.n_errors, found.n_errors + 1)
    assert policy.certified_precision_ == pytest.approx(lower)
    assert "of new rows go to review" in policy.summary()
    # Labels only report.
    without = at_90(max_reviews=0.2).fit(None, proba)
    assert np.array_equal(without.thresholds_, policy.thresholds_)
    assert without.certified_precision_ is without.evidence_[0].n_errors is None
    assert without.n_labels_ == 0
    assert "of the time" not in without.summary()


def test_a_budget_too_small_for_the_rows_reviews_none():
    policy = at_90(max_reviews=0.01).fit(*flawless(100), classes=[0, 1])
    assert policy.action_rates_["review"] == policy.certified_review_rate_ == 0
    assert policy.decide([0.5])[0] == "accept"


def test_rejected_rows_leave_the_budget_to_others():
    proba, y = population(1000)
    plain = at_90(max_reviews=(20, 100)).fit(y, proba)
    floored = at_90(max_reviews=(20, 100), reject_below=0.6).fit(y, proba)
    assert floored.action_rates_["review"] == plain.action_rates_["review"]
    assert floored.action_rates_["reject"] > 0.02
    assert floored.thresholds_[0] > plain.thresholds_[0]
    assert "20 reviews among 100 new rows, on 90% of days, on average." in plain.summary()


def test_rows_without_probabilities_are_reviewed_and_use_up_the_budget():
    proba, y = population(1000)
    proba[:50] = np.nan
    policy = at_90(max_reviews=0.2).fit(y, proba)
    assert policy.action_rates_["review"] > 0.15
    assert set(policy.decide(proba[:50])) == {"review"}
    assert policy.predict(proba[:51])[:50].tolist() == [None] * 50
    assert "was not scored" in policy.explain(proba[:1])[0]
    with pytest.raises(NotCertifiableError, match="50 of 1000 rows could not be scored"):
        at_90(max_reviews=0.05).fit(y, proba)
    broken = at_90(max_reviews=0.05, on_not_certifiable="review").fit(y, proba)
    assert broken.certified_review_rate_ is broken.certified_precision_ is None
    assert "Promise" not in broken.summary()
    assert "No promise: 50 of 1000" in broken.summary()
    certified = at_90(0.9).fit(y, proba)
    assert certified.evidence_[0].n_rows == 950
    assert set(certified.decide(proba[:50])) == {"review"}
    assert at_90(0.9).fit(np.arange(900) > 5, np.where(np.arange(900) < 10, np.nan, 0.9))


def test_ranks_by_simulation():
    n_rows, draws, rng = 80, 20_000, np.random.default_rng(0)
    below = np.sort(rng.random((draws, n_rows)), axis=1)  # shares of a uniform population
    rank = rank_for_rate(n_rows, 0.2, 0.9)
    kept = [(below[:, k - 1] <= 0.2).mean() for k in (rank, rank + 3)]
    assert kept[0] >= 0.9 - 4 * 0.3 / draws**0.5 > kept[1]
    rank = rank_for_count(n_rows, 10, 50, 0.9)
    kept = [(rng.binomial(50, below[:, k - 1]) <= 10).mean() for k in (rank, rank + 3)]
    assert kept[0] >= 0.9 - 4 * 0.3 / draws**0.5 > kept[1]
    assert rate_upper_bound(80, 80, 0.9) == 1


# -- cost ------------------------------------------------------------------------------------------


def test_an_error_of_ten_reviews_is_accepted_from_90_percent():
    policy = at_90(costs=10, review_cost=1).fit(None, [0.5, 0.9], classes=["ham", "spam"])
    assert policy.decide([0.89, 0.91, 0.11, 0.09]).tolist() == ["review", "accept"] * 2
    assert policy.thresholds_ is None
    assert policy.expected_cost_ == pytest.approx(1.0)
    assert policy.expected_cost_interval_ is None
    assert "no labels to check it" in policy.summary()
    assert policy.explain([0.95]) == ["expected cost: accept 0.5, review 1"]


def test_unequal_costs_choose_label_and_action():
    costs = [[0, 1], [100, 0]]  # to take "yes" for "no" is dear
    policy = at_90(costs=costs, review_cost=0.5, reject_cost=0.4)
    policy.fit(None, [[0.5, 0.5]], classes=["no", "yes"])
    proba = [[0.98, 0.02], [0.999, 0.001], [0.3, 0.7], [0.8, 0.2]]
    assert policy.predict(proba).tolist() == ["yes", "no", "yes", "yes"]
    assert policy.decide(proba).tolist() == ["reject", "accept", "accept", "reject"]
    assert "reject 0.4" in policy.explain(proba)[0]
    assert policy.decide([[np.nan, np.nan]])[0] == "review"
    assert policy.predict([[np.nan, np.nan]])[0] is None


def test_the_cost_of_labelled_rows():
    p = np.repeat([0.95, 0.7], [80, 20])
    y = np.r_[np.ones(78), 0, 0, np.ones(20)].astype(int)
    policy = at_90(costs=10, review_cost=1).fit(y, p)
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
        policy = at_90(**options, random_state=seed, on_not_certifiable="review")
        weight = None if share is None else 1 / share[rows]
        policy.fit(y[rows], proba[rows], weight, classes=[0, 1, 2])
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
    plain = at_90(0.9).fit(y, proba)
    assert at_90(0.9).fit(y, proba, np.full(500, 3.0)).evidence_ == plain.evidence_
    weight = np.repeat([1.0, 0.0], [400, 100])
    first = at_90(0.9).fit(y[:400], proba[:400])
    assert at_90(0.9).fit(y, proba, weight).evidence_ == first.evidence_
    weight = np.repeat([1.0, 0.5], 250)
    assert 300 < at_90(0.9).fit(y, proba, weight).n_labels_ < 450


# -- use -------------------------------------------------------------------------------------------


def test_text_labels_one_column_and_pickles():
    y, p = flawless(100)
    names = np.array(["ham", "spam"])[y]
    policy = at_90(0.9).fit(names, p, classes=["ham", "spam"])
    both = at_90(0.9).fit(names, np.column_stack([1 - p, p]), classes=["ham", "spam"])
    assert both.evidence_ == policy.evidence_
    assert policy.predict([0.1, 0.9]).tolist() == ["ham", "spam"]
    again = pickle.loads(pickle.dumps(policy))
    assert again.summary() == policy.summary()
    assert isinstance(again.evidence_[0], PolicyEvidence)
    assert clone(policy).get_params() == policy.get_params()


def test_reasons_tell_close_probabilities_apart():
    y, p = flawless(100)
    policy = at_90(0.9).fit(y, p, classes=[0, 1])
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
        at_90(**options).fit([0, 1], [0.2, 0.9])


@pytest.mark.parametrize(
    ("proba", "y", "options", "message"),
    [
        ([0.2, 0.9], None, {}, "needs labels"),
        ([0.2, 1.9], [0, 1], {}, "proba must lie in"),
        ([[0.2, 0.9]], [0], {"classes": [0, 1]}, "row of proba must sum to 1"),
        ([0.2, 0.9], [0, 0], {}, "pass all of them as classes="),
        ([0.2, 0.9], [0, 2], {"classes": [0, 1]}, "y holds 2 in row 1"),
        ([0.2, 0.9], [0, 1], {"sample_weight": [1, -1]}, "sample_weight"),
        ([[0.1, 0.2, 0.7]], [0], {"classes": [0, 1]}, "classes lists 2"),
        ([0.2, 0.9], [0], {}, "y has 1 rows and proba has 2"),
    ],
)
def test_wrong_input(proba, y, options, message):
    with pytest.raises(ValueError, match=message):
        at_90(0.5, confidence=0.5).fit(y, proba, **options)


def test_other_columns_than_in_fit():
    policy = at_90().fit(*flawless(100), classes=[0, 1])
    with pytest.raises(ValueError, match="3 columns for the 2 classes"):
        policy.decide([[0.2, 0.3, 0.5]])
    with pytest.raises(ValueError, match="classes lists 3"):
        at_90(max_reviews=0.5).fit(None, [0.2, 0.9], classes=[0, 1, 2])
