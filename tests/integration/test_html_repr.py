"""The HTML representation shows no key, opens no connection and asks nothing.

scikit-learn prints the public attributes that end in an underscore, so it evaluates every property
of such a name: none may cost anything.
"""

from __future__ import annotations

import inspect

import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skllm_calib import (
    CalibratedLLMClassifier,
    LlamaCppBackend,
    LLMClassifier,
    LLMEnsembleClassifier,
    OpenAIBackend,
    Prompt,
)
from skllm_calib.backends import TestingBackend

TEXTS = [f"message {i:02d}" for i in range(40)]
LABELS = ["ham", "spam"] * 20
KEY = "sk-recognisable-0123456789"
PASSWORD = "password-of-the-address"
QUESTIONS = {"prompt": ["Spam? {hint} {text}", Prompt("{text}", instruction="Spam? {hint}")]}


@pytest.fixture(scope="module")
def silence(tmp_path_factory):
    """Make estimators of each kind; after that, asking and opening connections are errors."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield from _silence(monkeypatch, tmp_path_factory.mktemp("silence"))


def _silence(monkeypatch, tmp_path):
    monkeypatch.setenv("SKLLM_CALIB_CACHE", str(tmp_path / "default.sqlite"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://user:{PASSWORD}@localhost:1/v1")
    testing = TestingBackend(name="silence")
    (tmp_path / "model.gguf").write_bytes(b"GGUF, as far as its name goes")
    llm = LLMClassifier(testing, cache=None)
    few_shot = LLMClassifier(testing, n_shots=1, cache=None)
    hosted = LLMClassifier(OpenAIBackend("gpt", api_key_env="OTHER_KEY"), classes=["ham", "spam"])
    local = LLMClassifier(LlamaCppBackend(str(tmp_path / "model.gguf")), classes=["ham", "spam"])
    pool = LLMEnsembleClassifier([("one", llm), ("two", few_shot)])
    frugal = {"cv": 2, "scoring": "accuracy"}
    unfitted = {
        "nothing": LLMClassifier(),
        "by name": LLMClassifier("openai:gpt-4o-mini", classes=["ham", "spam"]),
        "hosted": hosted,
        "local": local,
        "few-shot": few_shot,
        "calibrated": CalibratedLLMClassifier(hosted, method="vector"),
        "ensemble": pool,
        "pipeline": make_pipeline(hosted),
        "search": GridSearchCV(CalibratedLLMClassifier(hosted), {"method": ["vector", "platt"]}),
        "search over prompts": GridSearchCV(hosted, QUESTIONS, **frugal),
        "backend": hosted.model,
    }
    fitted = {
        "zero-shot": LLMClassifier(testing, cache=None).fit(TEXTS, LABELS),
        "few-shot": LLMClassifier(testing, n_shots=1, cache=None).fit(TEXTS, LABELS),
        "hosted": LLMClassifier(hosted.model).fit(TEXTS, LABELS),
        "local": LLMClassifier(local.model).fit(TEXTS, LABELS),
        "calibrated": CalibratedLLMClassifier(few_shot, method="platt").fit(TEXTS, LABELS),
        "auto": CalibratedLLMClassifier(llm).fit(TEXTS, LABELS),
        "ensemble": clone(pool).fit(TEXTS, LABELS),
        "pipeline": make_pipeline(LLMClassifier(testing, cache=None)).fit(TEXTS, LABELS),
        "search over prompts": GridSearchCV(llm, QUESTIONS, **frugal).fit(TEXTS, LABELS),
    }
    fitted["calibrator"] = fitted["auto"].calibrator_
    fitted["card"] = fitted["auto"].calibration_card_
    testing.forget()

    def refuse(*args, **options):
        raise AssertionError("something was asked or opened")

    for name in ("socket.socket", "sqlite3.connect", "openai.OpenAI"):
        monkeypatch.setattr(name, refuse)
    for backend in (type(testing), OpenAIBackend, LlamaCppBackend):
        monkeypatch.setattr(backend, "run", refuse)
    yield {"unfitted": unfitted, "fitted": fitted}
    assert not testing.asked


@pytest.mark.parametrize("state", ["unfitted", "fitted"])
def test_html(silence, state):
    for name, estimator in silence[state].items():
        shown = estimator._repr_html_() + repr(estimator)
        assert "<" in shown, name
        assert KEY not in shown, name
        assert PASSWORD not in shown, name


def test_html_says_what_is_asked_and_where_the_key_is(silence):
    shown = silence["unfitted"]["search"]._repr_html_()
    for word in ("CalibratedLLMClassifier", "LLMClassifier", "OpenAIBackend", "OTHER_KEY", "gpt"):
        assert word in shown
    shown = silence["fitted"]["search over prompts"]._repr_html_()
    assert "Spam? {hint}" in shown


def test_of_the_texts_html_shows_examples_only(silence):
    for name, estimator in silence["fitted"].items():
        shown = estimator._repr_html_()
        seen = {text for text in TEXTS if text in shown}
        assert seen <= {text for text, _ in getattr(estimator, "examples_", [])}, name
    assert {text for text, _ in silence["fitted"]["few-shot"].examples_}


@pytest.mark.parametrize("state", ["unfitted", "fitted"])
def test_public_attributes_cost_nothing(silence, state):
    n_properties = 0
    for name, estimator in silence[state].items():
        for attribute in dir(estimator):
            if attribute.startswith("_"):
                continue
            n_properties += isinstance(inspect.getattr_static(estimator, attribute), property)
            try:
                value = getattr(estimator, attribute)
            except AttributeError:  # not before fit, or not with these parameters
                continue
            assert KEY not in repr(value), (name, attribute)
            assert PASSWORD not in repr(value), (name, attribute)
    assert n_properties  # it did look at some
