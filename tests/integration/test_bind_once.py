"""How much work one public call is: parameters are resolved once, and so is each row.

Counted, not timed.
"""

from __future__ import annotations

from collections import Counter

import pytest

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    Prompt,
    ResponseCache,
)
from skllm_calib.backends import TestingBackend
from skllm_calib.evidence import binding, classifier
from skllm_calib.evidence.questions import BoundPrompt

TEXTS = [f"message number {i}" for i in range(20)]
LABELS = ["ham", "spam"] * 10
ONE_OF_EACH = dict.fromkeys(
    ["resolve_model", "resolve_signal", "resolve_cache", "bind", "read_texts", "identity"], 1
)


@pytest.fixture
def work(monkeypatch):
    """Count what a call does; returns a function that runs one and gives the counts."""
    counts = Counter()

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    for name in ("resolve_model", "resolve_signal", "resolve_cache"):
        count(binding, name)
    count(classifier, "read_texts")
    count(Prompt, "bind")
    count(BoundPrompt, "render")
    count(TestingBackend, "identity")
    count(ResponseCache, "get_many")

    def run(call, *args):
        counts.clear()
        call(*args)
        return dict(counts)

    return run


@pytest.fixture
def llm(tmp_path):
    def make(**options):
        return LLMClassifier(
            TestingBackend(), classes=["ham", "spam"], cache=tmp_path / "c.sqlite", **options
        )

    return make


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "explain"])
@pytest.mark.parametrize("wrap", [lambda llm: llm, CalibratedLLMClassifier])
def test_a_call_resolves_everything_once_and_renders_a_row_once(llm, work, wrap, method):
    clf = wrap(llm()).fit(TEXTS, LABELS)
    clf.predict(TEXTS)
    # The identity of a calibration takes no second binding, reading or look into the cache.
    assert work(getattr(clf, method), TEXTS[:3]) == {**ONE_OF_EACH, "get_many": 1, "render": 3}


def test_an_ensemble_binds_each_member_once(llm, work):
    members = [("a", llm()), ("b", llm(prompt="{text} {hint}"))]
    clf = CalibratedLLMClassifier(LLMEnsembleClassifier(members)).fit(TEXTS, LABELS)
    twice = dict.fromkeys((*ONE_OF_EACH, "get_many"), 2)
    for method in (clf.predict_proba, clf.explain):
        assert work(method, TEXTS[:3]) == {**twice, "render": 6}


def test_fit_asks_nothing_and_binds_once(llm, work):
    once = {"read_texts": 1, "resolve_model": 1, "resolve_cache": 1, "bind": 1}
    assert work(llm(n_shots=1).fit, TEXTS, LABELS) == once
    corrected = {**once, "identity": 1, "get_many": 1, "render": 20}
    assert work(llm(prior_correction="batch").fit, TEXTS) == corrected


def test_calibrating_fits_and_scores(llm, work):
    clf = CalibratedLLMClassifier(llm(prompt="Only here: {text} {hint}"))
    found = work(clf.fit, TEXTS, LABELS)
    # Two calls of the classifier; the question without a text is rendered once in a process.
    assert found == {
        "read_texts": 2,
        "resolve_model": 2,
        "resolve_cache": 2,
        "resolve_signal": 1,
        "bind": 2,
        "identity": 1,
        "get_many": 1,
        "render": 21,
    }
