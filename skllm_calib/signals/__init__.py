"""Signals: the kinds of evidence a language model shows for a label."""

from __future__ import annotations

from skllm_calib.signals.base import Evidence, Signal
from skllm_calib.signals.logprobs import LogprobSignal

__all__ = ["Evidence", "LogprobSignal", "Signal", "resolve_signal"]

_SIGNALS: dict[str, type[LogprobSignal]] = {"logprobs": LogprobSignal}


def resolve_signal(signal: str) -> Signal:
    """Return the signal of a name; "auto" takes the best one that this version has."""
    if signal == "auto":
        signal = "logprobs"
    if not isinstance(signal, str) or signal not in _SIGNALS:
        known = ", ".join(map(repr, ("auto", *_SIGNALS)))
        raise ValueError(f"signal={signal!r}: must be one of {known}")
    return _SIGNALS[signal]()
