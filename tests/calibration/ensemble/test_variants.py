from __future__ import annotations

import numpy as np
import pytest
from ensemble_members import LABELS, TEXTS, llm, words
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterGrid

from skllm_calib import CalibratedLLMClassifier, LLMEnsembleClassifier
from skllm_calib.backends import TestingBackend


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
            "'promt' is not a parameter of LLMClassifier, which has: budget, cache, ",
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
