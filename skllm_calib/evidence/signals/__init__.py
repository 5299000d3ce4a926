"""Signals: the kinds of evidence a language model shows for a label."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from skllm_calib.evidence.signals.base import Evidence, Signal
from skllm_calib.evidence.signals.decisions import DecisionSignal
from skllm_calib.evidence.signals.fusion import FusedSignal, OrderAveragedSignal
from skllm_calib.evidence.signals.logprobs import LogprobSignal
from skllm_calib.evidence.signals.mc_dropout import MCDropoutSignal
from skllm_calib.evidence.signals.p_true import PTrueSignal
from skllm_calib.evidence.signals.reasoned import ReasonedSignal
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
    "resolve_signal",
]

SIGNALS: dict[str, type[Signal]] = {
    signal.name: signal
    for signal in (
        LogprobSignal,
        DecisionSignal,
        SelfReportedSignal,
        SelfConsistencySignal,
        SelfCheckSignal,
        PTrueSignal,
        ReasonedSignal,
        MCDropoutSignal,
    )
}


def resolve_signal(signal: str | Signal | Sequence[Any]) -> Signal:
    """Return the signal that a `signal` parameter means; "auto" is not decided here.

    Parameters
    ----------
    signal : str or Signal or list of these
        A list means all of them, pooled.

    Returns
    -------
    Signal

    Raises
    ------
    ValueError
        For a name that no signal has.

    Examples
    --------
    >>> from skllm_calib.signals import resolve_signal
    >>> resolve_signal("p_true")
    PTrueSignal()
    """
    if isinstance(signal, Signal):
        return signal
    if isinstance(signal, list | tuple):
        if "auto" in signal:
            raise ValueError(f"signal={signal!r}: 'auto' cannot be one of several; name them")
        return FusedSignal([resolve_signal(s) for s in signal])
    if isinstance(signal, str) and signal in SIGNALS:
        return SIGNALS[signal]()
    known = ", ".join(map(repr, ("auto", *SIGNALS)))
    close = difflib.get_close_matches(str(signal), SIGNALS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"signal={signal!r}: must be one of {known}, a Signal, or a list of these.{hint}"
    )
