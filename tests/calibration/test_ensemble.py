from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, ParameterGrid, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, LLMEnsembleClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import FailedRowsWarning

TEXTS = [f"message number {i}" for i in range(60)]
LABELS = np.array(["ham", "spam"] * 30)


def llm(backend=None, **options):
    options = {"cache": None, **options}
    return LLMClassifier(backend or TestingBackend(), **options)


def says(spam, **options):
    """A member that gives every text the same probability."""
    rules = {"": {"ham": 1 - spam, "spam": spam}}
    return llm(TestingBackend(rules), classes=["ham", "spam"], **options)


def ensemble(*members, **options):
    return LLMEnsembleClassifier([(f"m{i}", m) for i, m in enumerate(members)], **options)


def words():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


def knowing(share_right, seed):
    """A member that is right about a given share of TEXTS, each time with 0.8."""
    rng = np.random.default_rng(seed)
    rules = {}
    for text, label in zip(TEXTS, LABELS, strict=True):
        right = rng.random() < share_right
        spam = 0.8 if (label == "spam") == right else 0.2
        rules[f"{text}\n"] = {"ham": 1 - spam, "spam": spam}
    return llm(TestingBackend(rules), classes=["ham", "spam"], prompt="{text}\n{hint}")


# -- the common checks ---------------------------------------------------------------------------


def test_it_is_a_classifier():
    assert is_classifier(ensemble(says(0.5)))


# -- pools ---------------------------------------------------------------------------------------


def test_linear_pool_by_hand():
    clf = ensemble(says(0.2), says(0.8), pooling="linear")
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.5, 0.5]])
    clf.set_params(weights=[3, 1])
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.65, 0.35]])
    np.testing.assert_allclose(clf.predict_log_proba(["a"]), np.log([[0.65, 0.35]]))


def test_log_pool_by_hand():
    clf = ensemble(says(0.2), says(0.5), pooling="log")
    # Odds of spam: the geometric mean of 1/4 and 1.
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[2 / 3, 1 / 3]])
    clf.set_params(weights=[3, 1])
    odds = 0.25**0.75
    np.testing.assert_allclose(clf.predict_proba(["a"])[0, 1], odds / (1 + odds))
    np.testing.assert_allclose(clf.decision_function(["a"]), np.log([odds]))
    assert clf.predict(["a"]).tolist() == ["ham"]


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_a_pool_of_equal_members_is_the_member(pooling):
    member = llm(classes=["a", "b", "c"])
    clf = ensemble(member, clone(member), clone(member), pooling=pooling, weights=[1, 2, 4])
    np.testing.assert_allclose(clf.predict_log_proba(TEXTS), member.predict_log_proba(TEXTS))


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_weights_of_one_and_zero_pick_a_member(counted, pooling):
    left_out = counted()
    clf = ensemble(
        llm(left_out, classes=["ham", "spam"]), says(0.7), pooling=pooling, weights=[0, 5]
    )
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.3, 0.7]])
    clf.uncertainty(["a"])
    assert not left_out.asked
    assert clf.member_log_proba(["a"]).shape == (2, 1, 2)
    assert sum(left_out.asked.values()) == 1


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_no_row_of_the_pool_is_worse_than_its_members_on_average(pooling):
    members = [llm(TestingBackend(seed=s), classes=["a", "b", "c"]) for s in range(4)]
    clf = ensemble(*members, weights=[1, 2, 3, 4], pooling=pooling)
    average = np.tensordot([0.1, 0.2, 0.3, 0.4], clf.member_log_proba(TEXTS), axes=1)
    assert (clf.predict_log_proba(TEXTS) >= average - 1e-12).all()
    assert (clf.predict_log_proba(TEXTS) > average + 0.01).any()


def test_zeros_of_a_forest_are_no_veto():
    X = np.arange(20.0).reshape(-1, 1)
    y = np.repeat([0, 1], 10)
    clf = ensemble(RandomForestClassifier(5, random_state=0), LogisticRegression()).fit(X, y)
    assert (clf.estimators_[0].predict_proba(X) == 0).any()
    assert np.isfinite(clf.predict_log_proba(X)).all()
    assert np.isfinite(clf.set_params(pooling="linear").predict_log_proba(X)).all()


def test_members_as_they_are():
    members = [says(0.2), says(0.9)]
    clf = ensemble(*members, weights=[1, 0])
    scores = clf.member_log_proba(TEXTS)
    assert scores.shape == (2, 60, 2)
    for score, member in zip(scores, members, strict=True):
        np.testing.assert_allclose(score, member.predict_log_proba(TEXTS))


def test_several_jobs_change_nothing():
    clf = ensemble(llm(), llm(TestingBackend(seed=1)), words()).fit(TEXTS, LABELS)
    expected = clf.predict_proba(TEXTS)
    again = clone(clf).set_params(n_jobs=2).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), expected)


def test_a_row_does_not_depend_on_the_others():
    clf = ensemble(*(llm(TestingBackend(seed=s), classes=list("abcde")) for s in range(5)))
    one_by_one = np.vstack([clf.predict_proba([text]) for text in TEXTS])
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), one_by_one)


# -- weights -------------------------------------------------------------------------------------


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


# -- copies of one classifier --------------------------------------------------------------------


def names(clf):
    return [name for name, _ in clf.estimators]


def test_over_prompts():
    clf = llm(classes=["ham", "spam"])
    prompts = ["Spam? {hint} {text}", "{text} {hint}"]
    pooled = LLMEnsembleClassifier.over(clf, prompt=prompts, pooling="linear", weights=[1, 3])
    assert names(pooled) == ["prompt_0", "prompt_1"]
    assert [member.prompt for _, member in pooled.estimators] == prompts
    assert clf.prompt is None
    by_hand = LLMEnsembleClassifier(
        [
            (name, llm(classes=["ham", "spam"], prompt=p))
            for name, p in zip("ab", prompts, strict=True)
        ],
        pooling="linear",
        weights=[1, 3],
    )
    np.testing.assert_array_equal(pooled.predict_proba(TEXTS), by_hand.predict_proba(TEXTS))
    assert pooled.get_params()["prompt_1__prompt"] == prompts[1]


def test_over_nested_parameters_leaves_all_given_alone():
    backend, other = TestingBackend(), TestingBackend(seed=9)
    clf = llm(backend, classes=["ham", "spam"])
    pooled = LLMEnsembleClassifier.over(clf, model__seed=[3, 4], n_jobs=2)
    assert names(pooled) == ["seed_3", "seed_4"]
    assert [member.model.seed for _, member in pooled.estimators] == [3, 4]
    assert pooled.n_jobs == 2
    assert backend.seed == 0
    # What is nested is set in the new model, in a copy of it.
    pooled = LLMEnsembleClassifier.over(clf, model__seed=[1, 2], model=[other])
    assert [member.model.seed for _, member in pooled.estimators] == [1, 2]
    assert other.seed == 9


def test_over_all_combinations_in_the_order_of_a_grid():
    grid = {"prompt": ["{text} {hint}", "{hint} {text}"], "n_shots": [0, 1, 2]}
    pooled = LLMEnsembleClassifier.over(llm(), **grid)
    found = [{"n_shots": m.n_shots, "prompt": m.prompt} for _, m in pooled.estimators]
    assert found == list(ParameterGrid(grid))
    assert names(pooled)[:3] == ["n_shots_0_prompt_0", "n_shots_0_prompt_1", "n_shots_1_prompt_0"]
    assert len(set(names(pooled))) == 6


class Named:
    """A value that bears a name, as signals do."""

    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({"signal": ["logprobs", "self_reported"]}, ["logprobs", "self_reported"]),
        ({"signal": ["logprobs", Named("p_true")]}, ["logprobs", "p_true"]),
        ({"signal": [Named("p_true"), Named("p_true")]}, ["signal_0", "signal_1"]),
        ({"signal": np.array(["logprobs"])}, ["logprobs"]),
        ({"random_state": range(5, 7)}, ["random_state_5", "random_state_6"]),
        ({"random_state": iter([0, None])}, ["random_state_0", "random_state_None"]),
        ({"model": ["smollm2", "openai:gpt-4o-mini"]}, ["smollm2", "openai:gpt-4o-mini"]),
        ({"model": ["smollm2", None]}, ["model_0", "model_1"]),
        ({"prompt": ["spam__ham", "other"]}, ["prompt_0", "prompt_1"]),
        ({"signal": ["weights", "pooling"]}, ["signal_0", "signal_1"]),
        (
            {"model": ["a", "a_b"], "signal": ["b_c", "c"]},
            ["model_0_signal_0", "model_0_signal_1", "model_1_signal_0", "model_1_signal_1"],
        ),
    ],
)
def test_names_of_copies(grid, expected):
    pooled = LLMEnsembleClassifier.over(llm(), **grid)
    assert names(pooled) == expected
    pooled._validate_names(expected)  # what scikit-learn asks of names
    assert {type(name) for name in names(pooled)} == {str}


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ({}, "name what the members differ in"),
        ({"prompt": []}, r"prompt=\[\]: must list at least one value"),
        ({"prompt": "{text}"}, "prompt='{text}': must be a list of values"),
        ({"label_texts": {"ham": "no"}}, "label_texts={'ham': 'no'}: must be a list of values"),
        ({"signal": {"logprobs"}}, "must be a list of values"),
        ({"random_state": 5}, "random_state=5: must be a list of values"),
        ({"random_state": [1, 2, 1]}, r"random_state=\[1, 2, 1\]: lists 1 more than once"),
        (
            {"promt": ["a"]},
            "'promt' is not a parameter of LLMClassifier, which has: cache, classes, ",
        ),
        ({"model__sed": [1]}, "'model__sed' is not a parameter of LLMClassifier.*model__seed"),
        ({"model": ["smollm2"], "model__seed": [1]}, "'model__seed' is not a parameter"),
    ],
)
def test_bad_grids(grid, problem):
    with pytest.raises(ValueError, match=problem):
        LLMEnsembleClassifier.over(llm(), **grid)


def test_over_any_classifier():
    X, y = np.arange(20.0).reshape(-1, 1), np.repeat([0, 1], 10)
    pooled = LLMEnsembleClassifier.over(RandomForestClassifier(5), random_state=range(3))
    assert pooled.fit(X, y).member_log_proba(X).shape == (3, 20, 2)
    tuned = LLMEnsembleClassifier.over(words(), logisticregression__C=[0.1, 1.0])
    assert names(tuned) == ["C_0.1", "C_1.0"]
    wrapped = LLMEnsembleClassifier.over(FrozenEstimator(words()), estimator=[words(), words()])
    assert names(wrapped) == ["estimator_0", "estimator_1"]  # no name of ours is in the way


def test_fused_and_calibrated_in_one_line(counted, tmp_path):
    backend = counted()
    clf = llm(backend, classes=["ham", "spam"], cache=str(tmp_path / "replies.sqlite"))
    prompts = ["Spam? {hint} {text}", "{text} {hint}", "{hint} {text}"]
    fused = CalibratedLLMClassifier(
        LLMEnsembleClassifier.over(clf, prompt=prompts, weights="fit"), method="temperature"
    ).fit(TEXTS, LABELS)
    assert len(backend.asked) == 3 * 60
    assert set(backend.asked.values()) == {1}
    assert fused.calibration_card_["scores"] == "cross-fitted in 5 folds"
    assert fused.estimator_.weights_.sum() == pytest.approx(1)
    fused.predict_proba(TEXTS)
    assert sum(backend.asked.values()) == 3 * 60


# -- uncertainty ---------------------------------------------------------------------------------


def test_members_that_agree_have_no_epistemic_uncertainty():
    split = ensemble(says(0.3), says(0.3)).uncertainty(TEXTS)
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    np.testing.assert_allclose(split["total"], entropy)
    np.testing.assert_allclose(split["aleatoric"], entropy)
    np.testing.assert_allclose(split["epistemic"], 0, atol=1e-15)
    drawn = ensemble(*[llm(classes=list("abcdefg"))] * 3).uncertainty(TEXTS)
    np.testing.assert_allclose(drawn["epistemic"], 0, atol=1e-14)
    assert (drawn["epistemic"] >= 0).all()  # not even by rounding below


def test_members_that_disagree():
    far = ensemble(says(0.001), says(0.999)).uncertainty(["a"])
    near = ensemble(says(0.4), says(0.6)).uncertainty(["a"])
    # Both pools say one half; only their members tell the difference.
    assert far["total"] == pytest.approx(np.log(2))
    assert near["total"] == pytest.approx(np.log(2))
    assert far["epistemic"] > 0.98 * np.log(2)
    assert 0.01 < near["epistemic"] < 0.03


@pytest.mark.parametrize("weights", [None, [1, 2, 0, 5]])
@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_the_split(pooling, weights):
    members = [llm(TestingBackend(seed=s), classes=["a", "b", "c"]) for s in range(4)]
    clf = ensemble(*members, weights=weights, pooling=pooling)
    split = clf.uncertainty(TEXTS)
    np.testing.assert_allclose(split["total"], split["aleatoric"] + split["epistemic"])
    # The mutual information, by its other definition: the mean divergence from the mixture.
    share = np.ones(4) / 4 if weights is None else np.array(weights) / 8
    proba = np.exp(clf.member_log_proba(TEXTS))
    mixture = np.tensordot(share, proba, axes=1)
    divergence = (proba * np.log(proba / mixture)).sum(axis=2)
    np.testing.assert_allclose(split["epistemic"], share @ divergence, atol=1e-14)
    assert (split["epistemic"] >= 0).all()
    assert (split["epistemic"] > 0.01).any()


# -- rows and members that fail ------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_a_row_that_a_member_could_not_score_is_nan(pooling):
    failing = llm(TestingBackend(fail_on=("number 7",)), classes=["ham", "spam"], on_error="nan")
    clf = ensemble(failing, says(0.3), pooling=pooling)
    with pytest.warns(FailedRowsWarning):
        proba = clf.predict_proba(TEXTS)
    assert np.isnan(proba).any(axis=1).nonzero()[0].tolist() == [7]
    with pytest.warns(FailedRowsWarning):
        assert clf.predict(TEXTS)[7] is None
    with pytest.warns(FailedRowsWarning):
        assert np.isnan([v[7] for v in clf.uncertainty(TEXTS).values()]).all()
    record = clf.explain(TEXTS)[7]
    assert record["label"] is record["probability"] is record["log_proba"] is None
    assert record["uncertainty"] is None
    assert record["failure"].startswith("m0: the test backend was told to fail")
    assert record["members"]["m1"]["label"] == "ham"
    # A member of weight zero cannot spoil a row.
    clf.set_params(weights=[0, 1])
    np.testing.assert_allclose(clf.predict_proba(TEXTS)[7], [0.7, 0.3])
    assert clf.explain(TEXTS)[7]["probability"] == pytest.approx(0.7)


@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.FailedRowsWarning")
def test_failed_rows_do_not_count_for_the_weights():
    failing = llm(TestingBackend(fail_on=("number 7",)), classes=["ham", "spam"], on_error="nan")
    clf = ensemble(failing, says(0.5), weights="fit").fit(TEXTS, LABELS)
    others = np.delete(np.arange(60), 7)
    without = clone(clf).fit([TEXTS[i] for i in others], LABELS[others])
    np.testing.assert_allclose(clf.weights_, without.weights_)
    broken = llm(TestingBackend(fail_on=("number",)), classes=["ham", "spam"], on_error="nan")
    with pytest.raises(ValueError, match="rows that all members score, and there is none"):
        ensemble(broken, says(0.5), weights="fit").fit(TEXTS, LABELS)


def test_members_of_other_classes():
    clf = ensemble(says(0.5), llm(classes=["eggs", "ham"]))
    with pytest.raises(ValueError, match=r"'m1' has \['eggs'\], 'm0' has only \['ham', 'spam'\]"):
        clf.fit(TEXTS, ["ham"] * 60)
    with pytest.raises(ValueError, match="'eggs'"):
        clf.predict(TEXTS)
    with pytest.raises(ValueError, match="'eggs'"):
        clf.explain(TEXTS)
    assert not hasattr(clf, "classes_")


def test_a_member_that_knows_less_gives_the_rest_no_probability():
    wide = llm(classes=["eggs", "ham", "spam"])
    clf = ensemble(words(), wide, pooling="linear").fit(TEXTS, LABELS)
    assert clf.classes_.tolist() == ["eggs", "ham", "spam"]
    np.testing.assert_allclose(
        clf.predict_proba(TEXTS)[:, 0], wide.predict_proba(TEXTS)[:, 0] / 2, rtol=1e-6
    )
    assert np.isfinite(clf.set_params(pooling="log").decision_function(TEXTS)).all()


def test_labels_that_no_member_knows():
    frozen = FrozenEstimator(words().fit(TEXTS, LABELS))
    with pytest.raises(ValueError, match="y holds 'eggs' in row 1, which is not one of the labels"):
        ensemble(frozen).fit(TEXTS, ["ham", "eggs"] * 30)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pooling": "median"}, "pooling='median': must be 'log' or 'linear'"),
        ({"weights": [1]}, r"weights=\[1\]: must be None, 'fit', or one number for each of the 2"),
        ({"weights": [1, -1]}, "none of them negative"),
        ({"weights": [0, 0]}, "not all zero"),
        ({"weights": [1, np.nan]}, "weights="),
        ({"weights": "best"}, "weights='best'"),
        ({"weights": [1, [2, 3]]}, "weights="),
        ({"estimators": []}, r"estimators=\[\]: must be a list of \(name, classifier\)"),
        ({"estimators": None}, "estimators=None: must be"),
        ({"estimators": [says(0.1)]}, "must be a list of"),
        ({"m0": "drop", "m1": "drop"}, "at least one that is not 'drop'"),
        ({"m0": LinearRegression()}, "LinearRegression should be a classifier"),
        ({"estimators": [("a", says(0.1)), ("a", says(0.2))]}, "not unique"),
    ],
)
def test_bad_parameters(options, problem):
    clf = ensemble(says(0.1), says(0.2)).set_params(**options)
    with pytest.raises(ValueError, match=problem):
        clf.fit(TEXTS, LABELS)


def test_bad_parameters_are_seen_without_fit():
    with pytest.raises(ValueError, match="pooling='median'"):
        ensemble(says(0.1), pooling="median").predict(TEXTS)
    with pytest.raises(ValueError, match="weights="):
        ensemble(says(0.1), weights=[1, 2]).predict(TEXTS)


def test_labels_are_needed_where_they_are_used():
    with pytest.raises(ValueError, match="weights='fit' requires y"):
        ensemble(says(0.1), weights="fit").fit(TEXTS)
    with pytest.raises(ValueError, match="requires y"):
        ensemble(says(0.1), words()).fit(TEXTS)
    assert ensemble(says(0.1)).fit(TEXTS).predict(["a"]).tolist() == ["ham"]


def test_without_fit():
    assert ensemble(says(0.1)).classes_.tolist() == ["ham", "spam"]
    ready = words().fit(TEXTS, LABELS)
    assert ensemble(says(0.1), ready).predict(["a"]).tolist() == ["ham"]
    for clf in (ensemble(says(0.1), words()), ensemble(says(0.1), weights="fit")):
        assert not hasattr(clf, "classes_")
        with pytest.raises(NotFittedError):
            clf.predict(TEXTS)
        with pytest.raises(NotFittedError):
            clf.member_log_proba(TEXTS)


# -- as a scikit-learn object --------------------------------------------------------------------


def test_parameters_of_members():
    clf = ensemble(llm(prompt="{text} {hint}"), llm())
    assert clf.get_params()["m0__prompt"] == "{text} {hint}"
    clf.set_params(m0__prompt="Which? {text}", m1=says(0.9), pooling="linear")
    assert clf.estimators[0][1].prompt == "Which? {text}"
    clf.set_params(m0="drop").fit(TEXTS, LABELS)
    assert list(clf.named_estimators_) == ["m1"]
    assert len(clf.estimators_) == 1
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.1, 0.9]])


def test_fit_leaves_the_members_given_alone():
    given = words()
    clf = ensemble(given).fit(TEXTS, LABELS)
    assert not hasattr(given[-1], "coef_")
    assert clf.estimators_[0] is not given


def test_grid_search_over_pooling_and_a_prompt_of_a_member():
    clf = ensemble(llm(classes=["ham", "spam"]), knowing(0.9, 0))
    grid = {
        "pooling": ["log", "linear"],
        "m0__prompt": ["Spam? {hint} {text}", "{text} {hint}"],
        "weights": [None, "fit"],
    }
    search = GridSearchCV(clf, grid, scoring="neg_log_loss", cv=3).fit(TEXTS, LABELS)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    equal = search.cv_results_["param_weights"] == None  # noqa: E711 (an array)
    assert len(set(scores[equal].round(8))) == 4  # pools and prompts differ
    assert search.best_params_["weights"] == "fit"  # which leaves the hash out
    assert search.predict_proba(TEXTS).shape == (60, 2)


def test_clone_and_pickle():
    clf = ensemble(llm(), words(), weights="fit").fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert not hasattr(clone(clf), "weights_")
    assert not hasattr(clone(clf), "n_features_in_")
    assert "TestingBackend" in repr(clf) + clf._repr_html_()


def test_contradicting_members_can_still_be_shown():
    clf = ensemble(says(0.5), llm(classes=["eggs", "ham"]))
    assert "eggs" in repr(clf)
    assert clf._repr_html_()


def test_tags():
    tags = get_tags(ensemble(llm(classes=["ham", "spam"]), llm(on_error="nan")))
    assert tags.input_tags.string
    assert not tags.input_tags.allow_nan
    assert tags.classifier_tags.poor_score
    assert tags.requires_fit
    assert tags.target_tags.required
    tags = get_tags(ensemble(says(0.5), says(0.6)))
    assert not tags.requires_fit
    assert not tags.target_tags.required
    assert get_tags(ensemble(says(0.5), weights="fit")).target_tags.required
    assert not get_tags(ensemble(LogisticRegression())).classifier_tags.poor_score
    assert not get_tags(ensemble(LogisticRegression(), llm())).input_tags.string
    assert get_tags(LLMEnsembleClassifier(3)).input_tags.two_d_array


def test_frames():
    frame = pd.DataFrame({"title": TEXTS, "n": range(60)}, index=range(60, 120))
    clf = ensemble(llm(prompt="{title} {n}"), llm(prompt="{n} {title}", n_shots=1), weights="fit")
    clf.fit(frame, pd.Series(LABELS, index=frame.index))
    assert clf.n_features_in_ == 2
    assert clf.feature_names_in_.tolist() == ["title", "n"]
    assert clf.predict_proba(frame).shape == (60, 2)
    assert not hasattr(ensemble(llm()).fit(TEXTS, LABELS), "n_features_in_")


@pytest.mark.parametrize("container", [tuple, np.array, pd.Series])
def test_types_of_input(container):
    clf = ensemble(llm(), llm(n_shots=1), weights="fit").fit(TEXTS, LABELS)
    again = clone(clf).fit(container(TEXTS), pd.Series(LABELS, index=range(7, 67)))
    np.testing.assert_array_equal(again.weights_, clf.weights_)
    np.testing.assert_array_equal(again.predict_proba(container(TEXTS)), clf.predict_proba(TEXTS))


@pytest.mark.parametrize("labels", [[1, 2, 3], [False, True], ["a", "b"]])
def test_types_of_labels(labels):
    y = np.resize(labels, 60)
    clf = ensemble(llm(), words(), weights="fit").fit(TEXTS, y)
    assert clf.classes_.tolist() == labels
    assert set(clf.predict(TEXTS)) <= set(labels)


def test_negative_sample_weights():
    with pytest.raises(ValueError, match="must be finite and not negative, but row 0 has -1"):
        ensemble(says(0.1)).fit(TEXTS, LABELS, sample_weight=-np.ones(60))


def test_sample_weights_reach_the_members_that_take_them():
    X, y = np.arange(40.0).reshape(-1, 1), np.repeat([0, 1], 20)
    counts = np.resize([3, 1], 40)
    clf = ensemble(LogisticRegression(), make_pipeline(LogisticRegression()))
    clf.fit(X, y, sample_weight=counts)
    alone = LogisticRegression().fit(X, y, sample_weight=counts)
    np.testing.assert_array_equal(clf.estimators_[0].coef_, alone.coef_)


def test_needs_cross_fitting():
    assert not ensemble(says(0.1), FrozenEstimator(words())).needs_cross_fitting()
    assert ensemble(says(0.1), words()).needs_cross_fitting()
    assert ensemble(says(0.1), says(0.2, n_shots=1)).needs_cross_fitting()
    assert ensemble(says(0.1), says(0.2), weights="fit").needs_cross_fitting()
    assert not ensemble(ensemble(says(0.1)), says(0.2)).needs_cross_fitting()
    # What counts is what would be fitted next.
    fitted = ensemble(says(0.1)).fit(TEXTS, LABELS)
    assert fitted.set_params(m0__n_shots=1).needs_cross_fitting()


# -- records -------------------------------------------------------------------------------------


def test_explain():
    members = [llm(classes=["ham", "spam"]), words(), CalibratedLLMClassifier(says(0.7))]
    clf = ensemble(*members, weights=[2, 1, 1]).fit(TEXTS, LABELS)
    records, proba = clf.explain(TEXTS), clf.predict_proba(TEXTS)
    split = clf.uncertainty(TEXTS)
    for i, record in enumerate(records):
        assert record["label"] == clf.classes_[proba[i].argmax()]
        assert record["probability"] == pytest.approx(proba[i].max())
        assert record["log_proba"]["spam"] == pytest.approx(np.log(proba[i, 1]))
        assert record["uncertainty"] == pytest.approx({k: v[i] for k, v in split.items()})
        assert record["failure"] is None
        assert list(record["members"]) == ["m0", "m1", "m2"]
    own = clf.estimators_[0].explain(TEXTS)
    assert [record["members"]["m0"] for record in records] == own
    foreign = clf.estimators_[1].predict_proba(TEXTS)
    assert records[3]["members"]["m1"]["probability"] == pytest.approx(foreign[3].max())
    assert not hasattr(ensemble(words()), "explain")


def test_ensembles_of_ensembles():
    inner = ensemble(says(0.2), says(0.5))
    clf = ensemble(inner, says(1 / 3), pooling="linear")
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[2 / 3, 1 / 3]])
    assert clf.explain(["a"])[0]["members"]["m0"]["members"]["m1"]["probability"] == 0.5


# -- together with others ------------------------------------------------------------------------


def test_pool_first_then_calibrate(counted, tmp_path):
    one, two = counted(), counted(seed=1)
    cache = str(tmp_path / "replies.sqlite")
    clf = CalibratedLLMClassifier(
        ensemble(llm(one, cache=cache), llm(two, cache=cache)), method="temperature"
    ).fit(TEXTS, LABELS)
    for backend in (one, two):
        assert set(backend.asked.values()) == {1}
    card = clf.calibration_card_
    assert card["scores"] == "computed once"
    assert card["estimator"] == "LLMEnsembleClassifier"
    assert card["model_as_served"] == f"testing-{one.name}, testing-{two.name}"
    assert "held out" in str(card)
    assert json.loads(card.to_json()) == dict(card)
    raw = clf.estimator_.predict_proba(TEXTS)
    assert log_loss(LABELS, clf.predict_proba(TEXTS)) < log_loss(LABELS, raw)
    record = clf.explain(TEXTS)[0]
    assert record["calibrated"]["ham"] == pytest.approx(clf.predict_proba(TEXTS)[0, 0])
    clf.save(tmp_path / "model")
    again = CalibratedLLMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_calibrating_what_learns_is_cross_fitted():
    clf = CalibratedLLMClassifier(
        ensemble(says(0.2), says(0.7), weights="fit"), method="temperature"
    ).fit(TEXTS, LABELS)
    assert clf.calibration_card_["scores"] == "cross-fitted in 5 folds"


def test_fingerprint():
    clf = ensemble(llm(), words(), pooling="linear", weights=[3, 1]).fit(TEXTS, LABELS)
    assert clf.fingerprint_ == {
        "members": {"m0": clf.estimators_[0].fingerprint_, "m1": {"estimator": "Pipeline"}},
        "pooling": "linear",
        "weights": [0.75, 0.25],
    }
    assert json.loads(json.dumps(clf.fingerprint_)) == clf.fingerprint_


def test_prepared_members_ask_nothing_until_they_are_scored(counted):
    one, two, off = (counted(seed=i) for i in range(3))
    members = [llm(backend, classes=["ham", "spam"]) for backend in (one, two, off)]
    clf = ensemble(*members, weights=[1, 1, 0])
    assert clf.prepare_rows(TEXTS).fingerprint is None
    prepared = clf.fit(TEXTS, LABELS).prepare_rows(TEXTS)
    assert prepared.fingerprint == clf.fingerprint_
    assert not one.asked
    # Members of weight zero are asked by explain only, and change no probability.
    both = f"testing-{one.name}, testing-{two.name}"
    assert prepared.score().served_model == both
    assert not off.asked
    assert prepared.explain().served_model == both
    assert off.asked
    unknown = ensemble(words()).fit(TEXTS, LABELS).prepare_rows(TEXTS)
    assert unknown.score().served_model is None


def test_soft_voting_is_the_linear_pool():
    members = [("a", llm(classes=["ham", "spam"])), ("b", knowing(0.8, 0)), ("c", words())]
    voting = VotingClassifier(members, voting="soft", weights=[1, 2, 3]).fit(TEXTS, LABELS)
    ours = LLMEnsembleClassifier(members, pooling="linear", weights=[1, 2, 3]).fit(TEXTS, LABELS)
    np.testing.assert_allclose(voting.predict_proba(TEXTS), ours.predict_proba(TEXTS))
    assert voting.predict(TEXTS).tolist() == ours.predict(TEXTS).tolist()


def test_stacking_and_cross_val_predict():
    members = [("a", llm(classes=["ham", "spam"])), ("b", knowing(0.9, 0))]
    stacking = StackingClassifier(members, cv=3).fit(TEXTS, LABELS)
    assert stacking.score(TEXTS, LABELS) > 0.8
    clf = LLMEnsembleClassifier(members)
    proba = cross_val_predict(clf, TEXTS, LABELS, cv=3, method="predict_proba")
    np.testing.assert_allclose(proba, clf.predict_proba(TEXTS))
    nested = StackingClassifier([("e", clf), ("b", knowing(0.9, 1))], cv=3).fit(TEXTS, LABELS)
    assert nested.score(TEXTS, LABELS) > 0.8
