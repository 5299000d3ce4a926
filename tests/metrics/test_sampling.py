"""Draws of rows to label: weighted figures hold for all rows."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import suggest_rows_to_label

rng = np.random.default_rng(0)
P = rng.beta(0.4, 0.4, 3000)
BOTH = np.column_stack([1 - P, P])
HIT = (rng.random(3000) < P.clip(0.1, 0.9)) == (P > 0.5)  # an over-confident model


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_weighted_estimates_are_unbiased_and_unweighted_ones_are_not(strategy):
    weighted, plain, totals = [], [], []
    for seed in range(400):
        rows = suggest_rows_to_label(BOTH, 150, strategy=strategy, random_state=seed)
        hit = HIT[rows.indices]
        totals.append((1 / rows.probability).sum())
        weighted.append((hit / rows.probability).sum() / len(P))
        plain.append(hit.mean())
    error = np.std(weighted) / 20
    assert np.mean(weighted) == pytest.approx(HIT.mean(), abs=3.5 * error)
    np.testing.assert_allclose(totals, len(P))
    if strategy == "stratified":
        assert np.mean(plain) < HIT.mean() - 0.025


def test_it_estimates_the_accuracy_better_than_a_random_draw():
    def estimate(strategy, seed):
        rows = suggest_rows_to_label(P, 150, strategy=strategy, random_state=seed)
        return np.average(HIT[rows.indices], weights=1 / rows.probability)

    spread = {
        strategy: np.std([estimate(strategy, seed) for seed in range(300)])
        for strategy in ("stratified", "random")
    }
    assert spread["stratified"] < spread["random"]


def test_the_probability_is_how_often_a_row_is_drawn():
    drawn = np.zeros(300)
    for seed in range(500):
        rows = suggest_rows_to_label(P[:300], 60, random_state=seed)
        assert len(np.unique(rows.indices)) == 60
        drawn[rows.indices] += 1
    stated = np.full(300, np.nan)
    for seed in range(500):  # the probabilities depend on the confidences alone
        rows = suggest_rows_to_label(P[:300], 60, random_state=seed)
        stated[rows.indices] = rows.probability
    known = ~np.isnan(stated)
    z = (drawn - 500 * stated)[known] / np.sqrt(500 * stated * (1 - stated) + 1e-9)[known]
    assert np.abs(z).max() < 4.5
    assert 0.85 < z[stated[known] < 1].std() < 1.15


def test_the_unsure_rows_are_drawn_more_often():
    rows = suggest_rows_to_label(P, 200)
    sure = np.maximum(P, 1 - P)[rows.indices] > 0.95
    assert rows.probability[~sure].min() > rows.probability[sure].max()


def test_every_number_of_rows_is_kept():
    for n in (10, 11, 37, 299, 300):
        rows = suggest_rows_to_label(P[:300], n)
        assert len(rows.indices) == n
        assert (np.diff(rows.indices) > 0).all()
    assert (rows.probability == 1).all()
    equal = suggest_rows_to_label(np.full(50, 0.7), 5)
    assert equal.probability.tolist() == [0.1] * 5
    assert suggest_rows_to_label(np.ones(10), 3).probability.tolist() == [0.3] * 3


def test_the_seed_decides():
    same = [suggest_rows_to_label(P, 50, random_state=s).indices.tolist() for s in (0, 0, 1)]
    assert same[0] == same[1] != same[2]


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (0, {}, "n must be an integer of at least 1, got 0"),
        (3001, {}, "n=3001 exceeds the 3000 rows"),
        (True, {}, "n must be"),
        (5, {}, "n=5 rows cannot cover the 10 strata"),
        (50, {"strategy": "best"}, "strategy"),
    ],
)
def test_wrong_parameters(n, options, message):
    with pytest.raises(ValueError, match=message):
        suggest_rows_to_label(P, n, **options)
