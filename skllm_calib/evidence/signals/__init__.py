"""Signals: the kinds of evidence a language model shows for a label."""

from __future__ import annotations

from skllm_calib.evidence.signals.base import Evidence, Signal
from skllm_calib.evidence.signals.decisions import DecisionSignal
from skllm_calib.evidence.signals.fusion import FusedSignal, OrderAveragedSignal
from skllm_calib.evidence.signals.logprobs import LogprobSignal
from skllm_calib.evidence.signals.mc_dropout import MCDropoutSignal
from skllm_calib.evidence.signals.p_true import PTrueSignal
from skllm_calib.evidence.signals.reasoned import ReasonedSignal
from skllm_calib.evidence.signals.registry import SIGNALS, SignalRegistry, resolve_signal
from skllm_calib.evidence.signals.self_check import SelfCheckSignal
from skllm_calib.evidence.signals.self_consistency import SelfConsistencySignal
from skllm_calib.evidence.signals.self_reported import SelfReportedSignal

__all__ = [
    "SIGNALS",
    "DecisionSignal",
    "Evidence",
    "FusedSignal",
    "LogprobSignal",
    "MCDropoutSignal",
    "OrderAveragedSignal",
    "PTrueSignal",
    "ReasonedSignal",
    "SelfCheckSignal",
    "SelfConsistencySignal",
    "SelfReportedSignal",
    "Signal",
    "SignalRegistry",
    "resolve_signal",
]
