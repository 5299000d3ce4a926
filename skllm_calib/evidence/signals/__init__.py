"""Signals: the kinds of evidence a language model shows for a label.

The classes in the table ``SIGNALS`` are names of this package, imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.signals.base import Evidence, Signal
from skllm_calib.evidence.signals.fusion import FusedSignal, OrderAveragedSignal
from skllm_calib.evidence.signals.registry import SIGNALS, resolve_signal

if TYPE_CHECKING:  # what type checkers and editors cannot see in the table
    from skllm_calib.evidence.signals.decisions import DecisionSignal as DecisionSignal
    from skllm_calib.evidence.signals.logprobs import LogprobSignal as LogprobSignal
    from skllm_calib.evidence.signals.mc_dropout import MCDropoutSignal as MCDropoutSignal
    from skllm_calib.evidence.signals.p_true import PTrueSignal as PTrueSignal
    from skllm_calib.evidence.signals.reasoned import ReasonedSignal as ReasonedSignal
    from skllm_calib.evidence.signals.self_check import SelfCheckSignal as SelfCheckSignal
    from skllm_calib.evidence.signals.self_consistency import (
        SelfConsistencySignal as SelfConsistencySignal,
    )
    from skllm_calib.evidence.signals.self_reported import SelfReportedSignal as SelfReportedSignal

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
    "resolve_signal",
]
__all__ += [name for name in SIGNALS.class_names if name not in __all__]


def __getattr__(name: str) -> Any:
    if name in SIGNALS.class_names:
        return SIGNALS[SIGNALS.class_names[name]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
