"""The signals by name, and what a `signal` parameter means."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from skllm_calib.evidence.signals.base import Signal
from skllm_calib.evidence.signals.fusion import FusedSignal
from skllm_calib.exceptions import InvalidInput

__all__ = ["SIGNALS", "SignalRegistry", "resolve_signal"]


class SignalRegistry(MutableMapping[str, type[Signal]]):
    """Signal classes by the names users give.

    Parameters
    ----------
    signals : dict of str to str
        Addresses of the form "module:Class"; a class is imported when it is looked up.

    Notes
    -----
    To add one at run time, assign the class or its address:
    ``SIGNALS["mine"] = "my_package.signals:MySignal"``. Its `name` must be the key.
    """

    def __init__(self, signals: dict[str, str]) -> None:
        self._signals: dict[str, type[Signal] | str] = dict(signals)

    @property
    def class_names(self) -> dict[str, str]:
        """The name of each signal, by the name of its class."""
        return {
            s.partition(":")[2] if isinstance(s, str) else s.__name__: name
            for name, s in self._signals.items()
        }

    def __getitem__(self, name: str) -> type[Signal]:
        signal = self._signals[name]
        if isinstance(signal, str):
            module, _, cls = signal.partition(":")
            signal = self._checked(name, getattr(importlib.import_module(module), cls))
            self._signals[name] = signal
        return signal

    def __setitem__(self, name: str, signal: type[Signal] | str) -> None:
        self._signals[name] = signal if isinstance(signal, str) else self._checked(name, signal)

    def __delitem__(self, name: str) -> None:
        del self._signals[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)

    @staticmethod
    def _checked(name: str, signal: type[Signal]) -> type[Signal]:
        if not (isinstance(signal, type) and issubclass(signal, Signal)):
            raise TypeError(f"signal {name!r} is {signal!r}: must be a subclass of Signal")
        if signal.name != name:
            raise ValueError(f"{signal.__name__}.name is {signal.name!r}: must be {name!r}")
        return signal


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
