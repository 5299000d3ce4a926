import pickle

import numpy as np
import pytest
from scipy.stats import beta, kstest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skllm_calib.decisions.prediction_sets import PredictionSets
from skllm_calib.exceptions import NotCertifiableError

SCORES = ["lac", "aps", "raps"]
N_DRAWS = 600


def draw(rng, n_rows, n_classes=4):
    """Over-confident probabilities, and labels of what lies behind them."""
    logits = rng.normal(0, 1.5, (n_rows, n_classes))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    stated = np.exp(2.5 * logits) / np.exp(2.5 * logits).sum(axis=1, keepdims=True)
    y = (rng.random((n_rows, 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return y, stated


@pytest.fixture(scope="module")
def future():
    return draw(np.random.default_rng(1), 20_000)


def covered(sets, y, proba):
    return sets.predict_set(proba)[np.arange(y.size), y]


@pytest.mark.parametrize(("score", "n_labels"), [("lac", 20), ("aps", 20), ("raps", 50)])
def test_coverage_and_its_law(score, n_labels, future):
    """The mean is promised, the spread is the Beta law; 20 labels tell k from k - 1."""
    rng = np.random.default_rng(0)
    sets = PredictionSets(score=score, allow_empty=True, confidence=0.9)
    y, proba = future
    # The same model of ranks for all draws: scores of the future rows are computed only once.
    future_scores = np.sort(sets._scores(proba)[np.arange(y.size), y])
    reached = np.empty(N_DRAWS)
    for number in range(N_DRAWS):
        sets.fit(*draw(rng, n_labels), classes=range(4))
        threshold = sets.thresholds_[0]
        reached[number] = np.searchsorted(future_scores, threshold, side="right") / y.size
    rank = int(np.ceil(0.9 * (n_labels + 1)))
    law = beta(rank, n_labels + 1 - rank)
    pool_error = np.sqrt(0.09 / y.size)
    assert reached.mean() == pytest.approx(
        rank / (n_labels + 1), abs=4 * law.std() / N_DRAWS**0.5 + 4 * pool_error
    )
    low, high = sets.coverage_interval_
    np.testing.assert_allclose([low, high], law.ppf([0.05, 0.95]))
    within = ((reached >= low) & (reached <= high)).mean()
    assert within == pytest.approx(0.9, abs=4 * (0.09 / N_DRAWS) ** 0.5 + 0.02)
    assert kstest(reached, law.cdf).pvalue > 1e-4
    # And the sets themselves do what the sorted scores said.
    assert covered(sets, y, proba).mean() == reached[-1]


@pytest.mark.parametrize("score", SCORES)
def test_coverage_of_each_class(score, future):
    rng = np.random.default_rng(2)
    sets = PredictionSets(0.8, score=score, per_class=True, allow_empty=True, min_labels=1)
    y, proba = future
    reached = np.zeros((N_DRAWS, 4))
    scores = sets._scores(proba)[np.arange(y.size), y]
    by_class = [np.sort(scores[y == code]) for code in range(4)]
    ranks = np.zeros(4)
    for number in range(N_DRAWS):
        labels, rows = draw(rng, 80)
        sets.fit(labels, rows)
        for code, known in enumerate(by_class):
            reached[number, code] = (known <= sets.thresholds_[code]).mean()
        ranks += np.ceil(0.8 * (sets.n_labels_ + 1) - 1e-9) / (sets.n_labels_ + 1) / N_DRAWS
    spread = np.sqrt(reached.var(axis=0) / N_DRAWS + 0.16 / 4000)
    assert (np.abs(reached.mean(axis=0) - ranks) < 4 * spread).all()
    inside = covered(sets, y, proba)
    for code in range(4):
        assert inside[y == code].mean() == reached[-1, code]
    assert sets.coverage_interval_.shape == (4, 2)


def test_marginal_sets_neglect_a_rare_class_and_per_class_sets_do_not():
    def sample(rng, n_rows):
        y = (rng.random(n_rows) < 0.1).astype(int)
        p = 1 / (1 + np.exp(-(1.5 * (2 * y - 1) - 2.2 + rng.normal(size=n_rows))))
        return y, p

    rng = np.random.default_rng(0)
    rows, test = sample(rng, 2000), sample(rng, 20_000)
    rare = test[0] == 1
    marginal = covered(PredictionSets().fit(*rows), *test)
    per_class = covered(PredictionSets(per_class=True).fit(*rows), *test)
    assert marginal.mean() == pytest.approx(0.9, abs=0.03)
    assert marginal[rare].mean() < 0.7
    assert per_class[rare].mean() == pytest.approx(0.9, abs=4 * (0.09 / 200) ** 0.5)


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, {20: (0.751, 0.988), 50: (0.808, 0.967), 200: (0.856, 0.938), 1000: (0.881, 0.918)}),
        (
            {"confidence": 0.9},
            {20: (0.784, 0.982), 50: (0.826, 0.960), 200: (0.864, 0.933), 1000: (0.884, 0.915)},
        ),
    ],
)
def test_interval_of_published_sizes(options, known):
    """95 % and 90 % of draws, from the exact law."""
    rng = np.random.default_rng(0)
    for n_labels, interval in known.items():
        sets = PredictionSets(**options).fit(*draw(rng, n_labels), classes=range(4))
        np.testing.assert_allclose(sets.coverage_interval_, interval, atol=6e-4)
    wide = PredictionSets(confidence=0.99).fit(*draw(rng, 1000))
    assert wide.coverage_interval_[0] < 0.884
    assert wide.n_labels_ == 1000


def frozen_data():
    """Rows for a comparison; the legacy generator never changes."""
    rng = np.random.RandomState(3)
    proba = rng.dirichlet([0.6, 0.6, 0.6], size=40).round(3) + 1e-3
    proba /= proba.sum(axis=1, keepdims=True)
    y = (rng.uniform(size=(40, 1)) > proba.cumsum(axis=1)[:, :2]).sum(axis=1)
    return proba[:30], y[:30], proba[30:]


@pytest.mark.parametrize(
    ("score", "coverage", "threshold", "expected"),
    [
        ("lac", 0.6, 0.5284147557328016, "001 100 001 100 100 100 001 010 001 010"),
        ("lac", 0.8, 0.6776447105788423, "011 100 001 110 100 100 001 010 001 010"),
        ("aps", 0.6, 0.7756729810568295, "001 100 001 100 100 100 001 010 001 010"),
        ("aps", 0.8, 0.9211576846307385, "001 100 001 110 101 100 001 011 001 110"),
    ],
)
def test_agrees_with_mapie(score, coverage, threshold, expected):
    """Sets of MAPIE 1.6.0; for APS without chance and without the label that crosses."""
    proba, y, new = frozen_data()
    sets = PredictionSets(coverage, score=score, randomize=False).fit(y, proba)
    np.testing.assert_allclose(sets.thresholds_, threshold, atol=1e-11)
    found = ["".join(map(str, row)) for row in sets.predict_set(new).astype(int)]
    assert " ".join(found) == expected


def test_scores_by_hand():
    proba = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
    lac = PredictionSets()._scores(proba)
    np.testing.assert_allclose(lac, 1 - proba)
    aps = PredictionSets(score="aps", randomize=False)._scores(proba)
    np.testing.assert_allclose(aps, [[0.5, 1, 0.8], [0.9, 1, 0.8]])
    raps = PredictionSets(score="raps", randomize=False, penalty=0.25, n_free=1)._scores(proba)
    np.testing.assert_allclose(raps, aps + 0.25 * np.array([[0, 2, 1], [1, 2, 0]]))
    by_chance = PredictionSets(score="aps")._scores(proba)
    part = 1 - (aps - by_chance) / proba  # the same for all labels of a row
    np.testing.assert_allclose(part, np.broadcast_to(part[:, :1], part.shape), atol=1e-9)
    assert part[0, 0] != part[1, 0]


def test_chance_comes_from_the_row_and_the_seed():
    y, proba = draw(np.random.default_rng(0), 5000)
    first = PredictionSets(score="aps").fit(y, proba)
    again = first.predict_set(proba)
    order = np.random.default_rng(1).permutation(5000)
    np.testing.assert_array_equal(first.predict_set(proba[order]), again[order])
    np.testing.assert_array_equal(first.predict_set(proba[:1]), again[:1])
    other = PredictionSets(score="aps", random_state=1).fit(y, proba)
    assert (other.predict_set(proba) != again).any()
    part, other_part = first._uniform(proba), other._uniform(proba)
    assert kstest(part, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(part, other_part)[0, 1]) < 4 / 5000**0.5
    signed = np.array([[0.0, 1.0], [-0.0, 1.0]])
    assert np.unique(first._uniform(signed)).size == 1


@pytest.mark.parametrize("score", SCORES)
def test_the_last_bit_does_not_matter(score):
    """Few different probabilities, as votes have: what is equal but for rounding stays equal."""
    rng = np.random.default_rng(0)
    votes = rng.multinomial(10, [0.5, 0.3, 0.2], size=300)
    proba, y = votes / 10, rng.integers(3, size=300)
    sets = PredictionSets(0.7, score=score).fit(y, proba)
    noisy = np.exp(np.log(np.maximum(proba, 1e-300)))
    assert (noisy != proba).any()
    np.testing.assert_array_equal(sets.predict_set(noisy), sets.predict_set(proba))


def test_equal_sums_are_equal():
    """0.7 + 0.2 is 0.8999999999999999, and as good as 0.9."""
    proba, y = np.tile([0.7, 0.2, 0.1], (20, 1)), np.ones(20, dtype=int)
    sets = PredictionSets(score="aps", randomize=False, allow_empty=True)
    sets.fit(y, proba, classes=range(3))
    assert sets.predict_set([[0.9, 0.1, 0]]).tolist() == [[True, False, False]]


@pytest.mark.parametrize("score", SCORES)
def test_the_threshold_itself_is_inside(score):
    y, proba = draw(np.random.default_rng(0), 200)
    sets = PredictionSets(score=score, allow_empty=True).fit(y, proba)
    assert covered(sets, y, proba).sum() == 181  # ceil(0.9 * 201)


def test_empty_sets():
    proba = np.array([[0.99, 0.01], [0.02, 0.98]] * 50 + [[0.5, 0.5]] * 2)
    y = np.array([0, 1] * 50 + [0, 1])
    empty = PredictionSets(allow_empty=True).fit(y, proba)
    np.testing.assert_array_equal(empty.predict_set([[0.4, 0.6]]), [[False, False]])
    assert empty.predict_labels([[0.4, 0.6]]) == [[]]
    filled = PredictionSets().fit(y, proba)
    np.testing.assert_array_equal(filled.predict_set([[0.4, 0.6]]), [[False, True]])
    np.testing.assert_array_equal(filled.thresholds_, empty.thresholds_)
    tie = filled.predict_set([[0.5, 0.5]])
    np.testing.assert_array_equal(tie, [[True, False]])  # the first of equals, as argmax has it


def test_labels_most_probable_first():
    codes, proba = draw(np.random.default_rng(0), 500)
    y = np.array(["d", "e", "f", "g"])[codes]
    sets = PredictionSets(0.95, score="raps").fit(y, proba)
    inside, listed = sets.predict_set(proba), sets.predict_labels(proba)
    assert sets.classes_.tolist() == ["d", "e", "f", "g"]
    for row in range(500):
        names = [name for name, chosen in zip("defg", inside[row], strict=True) if chosen]
        assert sorted(listed[row]) == names
        own = [proba[row, "defg".index(name)] for name in listed[row]]
        assert own == sorted(own, reverse=True)
    assert {len(names) for names in listed} == {2, 3, 4}
    integers = PredictionSets().fit(codes, proba)
    assert all(type(label) is int for labels in integers.predict_labels(proba) for label in labels)


def test_one_dimension_is_the_last_class():
    rng = np.random.default_rng(0)
    p = rng.random(400)
    y = rng.random(400) < p
    flat, matrix = PredictionSets().fit(y, p), PredictionSets().fit(y, np.column_stack([1 - p, p]))
    np.testing.assert_array_equal(flat.thresholds_, matrix.thresholds_)
    assert flat.predict_labels([0.999]) == [[True]]


def test_a_class_without_labels():
    y, proba = draw(np.random.default_rng(0), 200)
    sets = PredictionSets().fit(y[y < 3], proba[y < 3], classes=range(4))
    assert sets.predict_set(proba).shape == (200, 4)
    assert sets.predict_set([[0, 0, 0, 1]])[0, 3]
    with pytest.raises(NotCertifiableError, match="3 has 0 and needs 20 more"):
        PredictionSets(per_class=True).fit(y[y < 3], proba[y < 3], classes=range(4))


@pytest.mark.parametrize(
    ("coverage", "min_labels", "needed"),
    [(0.9, 1, 9), (0.95, 1, 19), (0.99, 1, 99), (0.8, 1, 4), (0.9, 20, 20), (0.99, 20, 99)],
)
def test_fewest_labels(coverage, min_labels, needed):
    y, proba = draw(np.random.default_rng(0), needed)
    sets = PredictionSets(coverage, min_labels=min_labels)
    sets.fit(y, proba, classes=range(4))
    with pytest.raises(NotCertifiableError, match="Label 1 more") as caught:
        sets.fit(y[1:], proba[1:], classes=range(4))
    assert caught.value.n_more == 1
    assert f"these {needed - 1} labels" in str(caught.value)
    lower = "min_labels" if min_labels == needed else "coverage"
    assert f"or lower {lower}." in str(caught.value)


def test_fewest_labels_of_each_class():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], [50, 12, 19])
    proba = rng.dirichlet([1, 1, 1], size=81)
    with pytest.raises(NotCertifiableError) as caught:
        PredictionSets(per_class=True).fit(y, proba)
    message = str(caught.value)
    assert "'b' has 12 and needs 8 more, 'c' has 19 and needs 1 more" in message
    assert "'a'" not in message
    assert "lower min_labels, or set per_class=False" in message
    assert caught.value.n_more == 9
    sets = PredictionSets(per_class=True, min_labels=12).fit(y, proba)
    assert sets.n_labels_.tolist() == [50, 12, 19]
    with pytest.raises(NotCertifiableError, match=r"needs at least 19\b.*lower coverage, or set"):
        PredictionSets(0.95, per_class=True, min_labels=1).fit(y, proba)


@pytest.mark.parametrize(
    ("coverage", "n_labels", "rank"), [(0.55, 99, 55), (0.9, 9, 9), (0.9, 10, 10), (0.7, 29, 21)]
)
def test_rank_is_exact(coverage, n_labels, rank):
    """0.55 * 100 is 55.00000000000001, and still 55."""
    scores = np.linspace(0.01, 0.99, n_labels)
    sets = PredictionSets(coverage, min_labels=1).fit(np.ones(n_labels), 1 - scores, classes=[0, 1])
    assert sets.thresholds_[0] == pytest.approx(scores[rank - 1])


def test_is_an_estimator():
    y, proba = draw(np.random.default_rng(0), 200)
    sets = PredictionSets(0.8, score="raps", penalty=0.2)
    assert clone(sets).get_params() == sets.get_params()
    with pytest.raises(NotFittedError):
        sets.predict_set(proba)
    fitted = sets.fit(y, proba)
    assert fitted is sets
    again = pickle.loads(pickle.dumps(sets))
    np.testing.assert_array_equal(again.predict_set(proba), sets.predict_set(proba))
    assert "score='raps'" in repr(sets)


@pytest.mark.parametrize(
    "parameters",
    [
        {"coverage": 1.0},
        {"coverage": 0},
        {"score": "naive"},
        {"per_class": "yes"},
        {"penalty": -0.1},
        {"n_free": 1.5},
        {"min_labels": 0},
        {"confidence": 1},
        {"random_state": None},
    ],
)
def test_bad_parameters(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of PredictionSets"):
        PredictionSets(**parameters).fit([0], [[0.5, 0.5]])


def test_bad_input():
    y, proba = draw(np.random.default_rng(0), 100)
    with pytest.raises(ValueError, match=r"y holds 3 class\(es\).*pass all of them as classes="):
        PredictionSets().fit(y[y < 3], proba[y < 3])
    with pytest.raises(ValueError, match=r"classes lists 2 .*but proba describes 4"):
        PredictionSets().fit(y, proba, classes=[0, 1])
    with pytest.raises(ValueError, match="must be sorted"):
        PredictionSets().fit(y, proba, classes=[3, 2, 1, 0])
    with pytest.raises(ValueError, match="which is not one of the labels"):
        PredictionSets().fit(y + 1, proba, classes=range(4))
    with pytest.raises(ValueError, match="must sum to 1"):
        PredictionSets().fit(y, np.log(proba) * 0 + 0.9)
    with pytest.raises(ValueError, match="y has 99 rows and proba has 100"):
        PredictionSets().fit(y[1:], proba)
    sets = PredictionSets().fit(y, proba)
    with pytest.raises(ValueError, match="proba has 2 columns for the 4 classes"):
        sets.predict_set([[0.5, 0.5]])
    with pytest.raises(ValueError, match="NaN"):
        sets.predict_labels([[np.nan, 0.5, 0.5, 0]])
