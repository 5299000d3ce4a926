"""Whatever is wrong with a parameter is an InvalidInput that knows the parameter and its value."""

from __future__ import annotations

import pytest
from sklearn.naive_bayes import GaussianNB

from skllm_calib import (
    CalibratedLLMClassifier,
    CalibrationMonitor,
    LLMClassifier,
    LLMEnsembleClassifier,
    ReviewPolicy,
    RiskMatrix,
)
from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import InvalidInput
from skllm_calib.signals import (
    DecisionSignal,
    FusedSignal,
    LogprobSignal,
    MCDropoutSignal,
    PTrueSignal,
    ReasonedSignal,
    SelfConsistencySignal,
    SelfReportedSignal,
)

TEXTS, LABELS = ["a", "b", "c", "d"], ["ham", "spam"] * 2


def asks(signal):
    return LLMClassifier(
        TestingBackend(), classes=["ham", "spam"], signal=signal, cache=None
    ).predict_proba


def fits(estimator):
    return lambda texts: estimator.fit([[0.0], [1.0], [0.1], [0.9]], LABELS)


def reads(kind):
    return lambda texts: kind.from_json("{")


CASES = [
    (asks(SelfReportedSignal(form="x")), "form", "x"),
    (asks(SelfReportedSignal(smoothing=0)), "smoothing", 0),
    (asks(SelfConsistencySignal(n_draws=0)), "n_draws", 0),
    (asks(SelfConsistencySignal(variants="x")), "variants", "x"),
    (asks(DecisionSignal(smoothing=-1)), "smoothing", -1),
    (asks(ReasonedSignal(read="x")), "read", "x"),
    (asks(PTrueSignal(candidates="x")), "candidates", "x"),
    (asks(MCDropoutSignal(where="x")), "where", "x"),
    (asks(MCDropoutSignal(rate=1.0)), "rate", 1.0),
    (asks(FusedSignal([LogprobSignal()], weights=[-1])), "weights", [-1]),
    (fits(CalibratedLLMClassifier(GaussianNB(), cv="x")), "cv", "x"),
    (fits(LLMEnsembleClassifier([])), "estimators", []),
    (fits(LLMEnsembleClassifier([("a", GaussianNB())], weights=[0])), "weights", [0]),
    (lambda texts: LLMEnsembleClassifier.over(GaussianNB(), priors_=[1, 2]), "priors_", None),
    (lambda texts: asks("logprobs")("text"), "X", "text"),
    (reads(ReviewPolicy), "text", None),
    (reads(RiskMatrix), "text", None),
    (reads(CalibrationMonitor), "text", None),
]


@pytest.mark.parametrize(("call", "parameter", "value"), CASES)
def test_the_error_knows_the_parameter_and_the_value(call, parameter, value):
    with pytest.raises(InvalidInput) as caught:
        call(TEXTS)
    assert (caught.value.parameter, caught.value.value) == (parameter, value)
