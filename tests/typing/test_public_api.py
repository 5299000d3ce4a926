"""The types that users of the public API see: checked by mypy --strict, and run as a test too.

``assert_type`` fails in mypy where an annotation changes; the ``type: ignore`` comments are for
calls that mypy must refuse, and mypy says so where one of them is no longer needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

from skllm_calib import (
    CalibratedLLMClassifier,
    LlamaCppBackend,
    LLMClassifier,
    LLMEnsembleClassifier,
    OpenAIBackend,
    Prompt,
    ResponseCache,
    accept_threshold,
    calibration_scoring,
    expected_calibration_error,
)
from skllm_calib.backends import BaseBackend, TestingBackend
from skllm_calib.calibration import CalibrationCard
from skllm_calib.calibrators import AutoCalibrator, TemperatureScaling
from skllm_calib.datasets import load_messages
from skllm_calib.decisions import AcceptThreshold
from skllm_calib.exceptions import SkllmCalibError
from skllm_calib.metrics import (
    CalibrationErrorInterval,
    ReliabilityCurve,
    RiskCoverageCurve,
    aurc,
    brier_score,
    calibration_error_interval,
    calibration_noise_floor,
    classwise_calibration_error,
    debiased_calibration_error,
    reliability_curve,
    risk_coverage_curve,
    selective_risk,
    smooth_calibration_error,
)
from skllm_calib.signals import SelfConsistencySignal

TEXTS = [f"message number {i}" for i in range(60)]
LABELS = ["ham", "spam"] * 30
Matrix = NDArray[np.float64]


def test_classifiers(tmp_path: Path) -> None:
    clf = LLMClassifier(TestingBackend(), classes=["ham", "spam"], cache=None)
    assert_type(clf.fit(TEXTS, LABELS), LLMClassifier)
    assert_type(clf.predict(TEXTS), NDArray[Any])
    assert_type(clf.predict_proba(TEXTS), Matrix)
    assert_type(clf.predict_log_proba(TEXTS), Matrix)
    assert_type(clf.decision_function(TEXTS), Matrix)
    assert_type(clf.transform(TEXTS), Matrix)
    assert_type(clf.classes_, NDArray[Any])
    assert_type(clf.render(TEXTS), list[list[dict[str, str]]])
    assert_type(clf.explain(TEXTS), list[dict[str, Any]])
    assert_type(clf.needs_cross_fitting(), bool)
    assert_type(clf.order_flip_rate(TEXTS), float)

    calibrated = CalibratedLLMClassifier(clf, method=TemperatureScaling()).fit(TEXTS, LABELS)
    assert_type(calibrated, CalibratedLLMClassifier)
    assert_type(calibrated.predict_proba(TEXTS), Matrix)
    assert_type(calibrated.calibration_card_, CalibrationCard)
    assert_type(calibrated.save(tmp_path), None)
    assert_type(CalibratedLLMClassifier.load(str(tmp_path)), CalibratedLLMClassifier)

    both = LLMEnsembleClassifier([("one", clf), ("two", clf)], pooling="linear")
    assert_type(both.fit(TEXTS, LABELS), LLMEnsembleClassifier)
    over = LLMEnsembleClassifier.over(clf, signal=["logprobs", "self_reported"], weights="fit")
    assert_type(over, LLMEnsembleClassifier)
    assert_type(both.predict_proba(TEXTS), Matrix)


def test_calibrators_take_a_matrix() -> None:
    log_proba = np.log(np.full((60, 2), 0.5))
    assert_type(TemperatureScaling().fit(log_proba, LABELS).predict_proba(log_proba), Matrix)
    assert_type(AutoCalibrator().fit(log_proba, LABELS), AutoCalibrator)


def test_metrics() -> None:
    proba = np.tile([0.6, 0.4], (60, 1))
    assert_type(expected_calibration_error(LABELS, proba, strategy="quantile"), float)
    assert_type(classwise_calibration_error(LABELS, proba), float)
    assert_type(debiased_calibration_error(LABELS, proba), float)
    assert_type(smooth_calibration_error(LABELS, proba), float)
    assert_type(calibration_noise_floor(proba), float)
    assert_type(brier_score(LABELS, proba), float)
    assert_type(aurc(LABELS, proba), float)
    assert_type(selective_risk(LABELS, proba, coverage=0.5), float)
    assert_type(risk_coverage_curve(LABELS, proba), RiskCoverageCurve)
    assert_type(reliability_curve(LABELS, proba), ReliabilityCurve)
    assert_type(calibration_error_interval(LABELS, proba), CalibrationErrorInterval)
    assert_type(calibration_scoring(labels=["ham", "spam"]), dict[str, Any])
    found = accept_threshold(LABELS, proba, target_precision=0.3)
    assert_type(found, AcceptThreshold)
    assert_type(found.threshold, float)


def test_models_prompts_and_caches(tmp_path: Path) -> None:
    models: list[str | BaseBackend | None] = [
        "smollm2",
        LlamaCppBackend("smollm2", n_threads=1),
        OpenAIBackend("some-model", base_url="http://localhost:1/v1"),
        TestingBackend({"prize": {"spam": 1.0}}),
        None,
    ]
    prompts: list[Prompt | str | list[dict[str, str]] | None] = [
        Prompt("{text}? {hint}", answer="words"),
        "{text} {hint}",
        [{"role": "user", "content": "{text}"}],
        None,
    ]
    caches: list[ResponseCache | str | Path | None] = [
        ResponseCache(tmp_path / "replies.sqlite"),
        "default",
        tmp_path / "replies.sqlite",
        None,
    ]
    for model in models:
        LLMClassifier(model, label_texts={0: "no", 1: "yes"}, on_error="nan")
    for prompt in prompts:
        LLMClassifier(prompt=prompt)
    for cache in caches:
        LLMClassifier(cache=cache)
    LLMClassifier(signal=["logprobs", SelfConsistencySignal(n_draws=5)], order_averaging=2)
    LLMClassifier(prior_correction={"ham": 0.8, "spam": 0.2})
    LLMClassifier(prior_correction=np.array([0.8, 0.2]))
    names: list[str] = ["logprobs", "p_true"]
    LLMClassifier(signal=names)
    texts, labels = load_messages(return_X_y=True)
    assert_type(texts, list[str])
    assert len(texts) == len(labels)


def test_what_mypy_must_refuse() -> None:
    with pytest.raises(TypeError):
        LLMClassifier("smollm2", ["ham", "spam"])  # type: ignore[call-arg]
    LLMClassifier(on_error="guess")  # type: ignore[arg-type]
    LLMClassifier(signal=3)  # type: ignore[arg-type]
    LLMClassifier(model=3)  # type: ignore[arg-type]
    Prompt(answer="essay")  # type: ignore[arg-type]
    proba = np.tile([0.6, 0.4], (60, 1))
    with pytest.raises(ValueError, match="strategy"):
        expected_calibration_error(LABELS, proba, strategy="equal")  # type: ignore[arg-type]
    assert issubclass(SkllmCalibError, Exception)
