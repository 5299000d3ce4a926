"""The signals by name, and what a `signal` parameter means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from skllm_calib.evidence.signals.base import Signal
from skllm_calib.evidence.signals.fusion import FusedSignal
from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils.addresses import ClassTable

__all__ = ["SIGNALS", "SignalRegistry", "resolve_signal"]


class SignalRegistry(ClassTable[Signal]):
    """Signal classes by the names users give.

    Notes
    -----
    To add one at run time, assign the class or its address:
    ``SIGNALS["mine"] = "my_package.signals:MySignal"``. Its `name` must be the key.
    """

    def checked(self, name: str, cls: type[Signal]) -> type[Signal]:
        """Refuse what is not a signal of this name."""
        if not (isinstance(cls, type) and issubclass(cls, Signal)):
            raise TypeError(f"signal {name!r} is {cls!r}: must be a subclass of Signal")
        if cls.name != name:
            raise ValueError(f"{cls.__name__}.name is {cls.name!r}: must be {name!r}")
        return cls


_HERE = "skllm_calib.evidence.signals"

#: The signals by name, the one line that a new signal of this library needs.
SIGNALS = SignalRegistry(
    {
        "logprobs": f"{_HERE}.logprobs:LogprobSignal",
        "decisions": f"{_HERE}.decisions:DecisionSignal",
        "self_reported": f"{_HERE}.self_reported:SelfReportedSignal",
        "self_consistency": f"{_HERE}.self_consistency:SelfConsistencySignal",
        "self_check": f"{_HERE}.self_check:SelfCheckSignal",
        "p_true": f"{_HERE}.p_true:PTrueSignal",
        "reasoned": f"{_HERE}.reasoned:ReasonedSignal",
        "mc_dropout": f"{_HERE}.mc_dropout:MCDropoutSignal",
    }
)


def resolve_signal(signal: str | Signal | Sequence[Any]) -> Signal:
    """Return the signal that a `signal` parameter means; "auto" is resolved elsewhere.

    Parameters
    ----------
    signal : str or Signal or list of these
        A list means all of them, pooled.

    Returns
    -------
    Signal

    Raises
    ------
    InvalidInput
        If no signal has this name.

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
            raise InvalidInput(
                f"signal={signal!r}: 'auto' cannot be one of several; name them",
                "signal",
                value=signal,
            )
        return FusedSignal([resolve_signal(s) for s in signal])
    if isinstance(signal, str) and signal in SIGNALS:
        return SIGNALS[signal]()
    known = ", ".join(map(repr, ("auto", *SIGNALS)))
    close = difflib.get_close_matches(str(signal), SIGNALS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise InvalidInput(
        f"signal={signal!r}: must be one of {known}, a Signal, or a list of these.{hint}",
        "signal",
        value=signal,
    )
