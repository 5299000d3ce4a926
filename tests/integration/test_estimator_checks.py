"""scikit-learn's own checks, all of them: none is expected to fail, none is skipped."""

from __future__ import annotations

import pytest
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.utils.estimator_checks import parametrize_with_checks

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, LLMEnsembleClassifier
from skllm_calib.backends import TestingBackend


def llm(**options):
    return LLMClassifier(TestingBackend(), cache=None, **options)


def ensemble(one, other, **options):
    return LLMEnsembleClassifier([("one", one), ("other", other)], **options)


def calibrated(estimator):
    return CalibratedLLMClassifier(estimator, method="temperature")


CLASSIFIERS = [
    llm(),
    llm(n_shots=2),
    ensemble(llm(), llm(prompt="Which is it? {text} {hint}")),
    ensemble(llm(n_shots=2), llm()),
    ensemble(llm(), llm(prompt="{text}"), weights="fit", pooling="linear"),
    ensemble(LogisticRegression(), GaussianNB(), weights=[2, 1]),
    calibrated(llm()),
    calibrated(llm(n_shots=2)),
    calibrated(ensemble(llm(), llm(prompt="{text}"))),
]


@pytest.mark.filterwarnings("ignore:calibrated on .* rows, which is very few")
@pytest.mark.filterwarnings("ignore:every row .* has the label")
@pytest.mark.filterwarnings("ignore:the classifier is right in .* are labels swapped")
@parametrize_with_checks(CLASSIFIERS)
def test_all_checks_pass(estimator, check):
    check(estimator)


def test_they_are_classifiers():
    assert all(map(is_classifier, CLASSIFIERS))
