"""What a calibration was made for, and the refusal of anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    Prompt,
)
from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import CalibrationMismatch
from skllm_calib.log_proba import identity
from skllm_calib.log_proba.identity import differences, identity_of

TEXTS = [f"message number {i}" for i in range(40)]
LABELS = np.array(["ham", "spam"] * 20)


@pytest.fixture
def fitted(counted, tmp_path):
    llm = LLMClassifier(counted(), cache=str(tmp_path / "c.sqlite"))
    return CalibratedLLMClassifier(llm, method="temperature").fit(TEXTS, LABELS)


def test_names_every_difference_with_both_values():
    then = {"estimator": {"backend": {"model": "a", "seed": 1}, "prompt": "x", "old": 1}}
    now = {"estimator": {"backend": {"model": "b", "seed": 1}, "prompt": "x", "new": 2}}
    assert differences(then, now) == [
        "backend model was 'a' and is 'b'",
        "old was 1 and is None",
        "new was None and is 2",
    ]
    assert differences(then, then) == []


@pytest.mark.parametrize("name", ["model as served", "estimator"])
def test_what_is_not_known_is_no_difference(name):
    known, unknown, other = {name: {"model": "m-1"}}, {name: None}, {name: {"model": "m-2"}}
    assert differences(known, unknown) == differences(unknown, known) == []
    assert differences(known, other) != []


def test_an_address_is_no_difference():
    here = {"estimator": {"model": "a", "base_url": "http://localhost:8000/v1"}}
    there = {"estimator": {"model": "a", "base_url": "https://llm.example.com/v1"}}
    assert differences(here, there) == []


def test_an_identity_is_a_copy():
    fingerprint = {"backend": {"rules": {}}}
    kept = identity_of(fingerprint, None)
    fingerprint["backend"]["rules"]["a"] = 1
    assert kept["estimator"] == {"backend": {"rules": {}}}


def test_a_classifier_without_fingerprint_matches_itself():
    X = np.repeat([[0.0], [1.0]], 20, axis=0)
    clf = CalibratedLLMClassifier(LogisticRegression(), method="temperature").fit(X, LABELS)
    assert clf.calibrated_for_ == identity_of(None, None)
    clf.estimator_.set_params(C=0.1)
    assert clf.predict(X).shape == (40,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": Prompt("Spam or not? {text}")}, "prompt was"),
        ({"signal": "self_reported"}, "signal was 'logprobs' and is 'self_reported"),
        ({"order_averaging": 2}, "signal name was|signal was"),
        ({"label_texts": {"ham": "fine", "spam": "junk"}}, "prompt was"),
        ({"model__seed": 5}, "backend seed was 0 and is 5"),
    ],
)
def test_a_changed_setting_is_refused_before_anything_is_asked(fitted, change, named):
    fitted.predict_proba(TEXTS[:3])
    fitted.estimator_.set_params(**change)
    backend = fitted.estimator_.model
    asked = backend.asked.total()
    for method in ("predict", "predict_proba", "explain"):
        with pytest.raises(CalibrationMismatch, match=named):
            getattr(fitted, method)(["a new text"])
    assert backend.asked.total() == asked


def test_set_back_it_works_again(fitted):
    before = fitted.predict_proba(TEXTS)
    fitted.estimator_.set_params(model__seed=5)
    with pytest.raises(CalibrationMismatch, match="Change it back, or calibrate again with fit"):
        fitted.predict_proba(TEXTS)
    fitted.estimator_.set_params(model__seed=0)
    np.testing.assert_array_equal(fitted.predict_proba(TEXTS), before)


def test_another_model_under_the_same_name_is_noticed(fitted, monkeypatch):
    """As when a provider moves an alias to a new model."""
    reply = TestingBackend._reply
    fitted.predict_proba(["asked before the change"])

    def moved(self, request, row):
        return replace(reply(self, request, row), model="testing-2027")

    monkeypatch.setattr(TestingBackend, "_reply", moved)
    fitted.predict_proba(["asked before the change"])  # the cached reply is of the old model
    with pytest.raises(CalibrationMismatch, match=r"model as served was .* and is 'testing-2027'"):
        fitted.predict_proba(["asked after the change"])
    with pytest.raises(CalibrationMismatch, match="and is 'testing-2027'"):
        fitted.explain(["asked after the change"])


def test_another_model_is_noticed_without_a_cache(counted, monkeypatch):
    llm = LLMClassifier(counted(), cache=None)
    clf = CalibratedLLMClassifier(llm, method="temperature").fit(TEXTS, LABELS)
    clf.predict_proba(TEXTS[:1])
    reply = TestingBackend._reply
    moved = lambda *args: replace(reply(*args), model="testing-2027")  # noqa: E731
    monkeypatch.setattr(TestingBackend, "_reply", moved)
    with pytest.raises(CalibrationMismatch, match="and is 'testing-2027'"):
        clf.predict_proba(TEXTS[:1])


def test_a_warning_by_choice(fitted):
    fitted.set_params(on_mismatch="warn")
    fitted.estimator_.set_params(model__seed=5)
    with pytest.warns(UserWarning, match="seed was 0 and is 5"):
        proba = fitted.predict_proba(TEXTS[:2])
    assert np.isfinite(proba).all()
    fitted.set_params(on_mismatch="ignore")
    with pytest.raises(ValueError, match="on_mismatch must be 'raise' or 'warn', got 'ignore'"):
        fitted.predict(TEXTS)


def test_a_saved_calibration_of_another_release(fitted, tmp_path, monkeypatch):
    fitted.save(tmp_path / "kept")
    loaded = CalibratedLLMClassifier.load(tmp_path / "kept")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    monkeypatch.setattr(identity, "CALIBRATORS_VERSION", 2)
    with pytest.raises(CalibrationMismatch, match="version of the calibrators was 1 and is 2"):
        loaded.predict(TEXTS)


def test_members_of_an_ensemble_count(counted):
    members = [(name, LLMClassifier(counted(), cache=None)) for name in "ab"]
    clf = CalibratedLLMClassifier(LLMEnsembleClassifier(members), method="temperature")
    clf.fit(TEXTS, LABELS).predict(TEXTS)
    clf.estimator_.named_estimators_["b"].set_params(prompt=Prompt("Spam? {text}"))
    with pytest.raises(CalibrationMismatch, match="members b prompt was"):
        clf.predict(TEXTS)
