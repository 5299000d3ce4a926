"""signal="auto": find out, with a question of a few tokens, what a model shows."""

from __future__ import annotations

import json
from typing import NamedTuple

from skllm_calib.evidence.asking import ask_rows
from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.signals import SIGNALS, Signal
from skllm_calib.exceptions import BackendError, SignalUnavailable, UnreadableReply

__all__ = ["AUTO_ORDER", "Chosen", "first_available"]

AUTO_ORDER = ("logprobs", "decisions", "self_reported", "self_consistency")
"""What "auto" tries, the best first: by how informative the evidence is, and what it costs."""

_QUESTION = "Is the sky blue? {hint}\n\n{text}"


class Chosen(NamedTuple):
    """What "auto" has chosen.

    Attributes
    ----------
    signal : Signal
        The best that the model shows.
    reason : str
        Why it is not a better one.
    """

    signal: Signal
    reason: str


def first_available(backend: BaseBackend, cache: ResponseCache | None) -> Chosen:
    """Return the first signal of :data:`AUTO_ORDER` that a model shows.

    A backend that always shows the first one (``shows_logprobs``) is not asked. The result is
    remembered for the life of the process, and answered probes are kept in the cache.

    Parameters
    ----------
    backend : BaseBackend
        The model to ask.
    cache : ResponseCache or None
        Where replies are kept.

    Returns
    -------
    Chosen

    Raises
    ------
    SignalUnavailable
        If the model shows none of them.

    Notes
    -----
    If the model cannot be asked (no connection, no key), the first signal that was not refused is
    used, the reason says so, and nothing is remembered: ``fit`` needs no network, and the errors
    of the rows will say why they cannot be answered.
    """
    if backend.shows_logprobs:
        return Chosen(SIGNALS[AUTO_ORDER[0]](), "this backend always shows log-probabilities")
    handle = ("signal probe", json.dumps(backend.identity(), sort_keys=True, default=repr))
    try:
        return get_handle(handle, lambda: _probe(backend, cache))
    except _NotAskedError as e:
        return e.chosen


class _NotAskedError(Exception):
    """Carries what to use while the model cannot be asked."""

    def __init__(self, chosen: Chosen) -> None:
        super().__init__(chosen.reason)
        self.chosen = chosen


def _probe(backend: BaseBackend, cache: ResponseCache | None) -> Chosen:
    refusals: list[str] = []
    for name in AUTO_ORDER:
        signal = SIGNALS[name]()
        try:
            why = _refusal(signal, backend, cache)
        except BackendError as failure:
            reason = f"the model could not be asked which signals it offers: {failure}"
            raise _NotAskedError(Chosen(signal, "; ".join([*refusals, reason]))) from None
        if why is None:
            reason = "; ".join(refusals) or "the model shows log-probabilities"
            return Chosen(signal, reason)
        refusals.append(f"{name!r} is not available: {why}")
    raise SignalUnavailable(
        f"none of the signals {', '.join(map(repr, AUTO_ORDER))} can be read from this model: "
        + "; ".join(refusals)
    )


def _refusal(signal: Signal, backend: BaseBackend, cache: ResponseCache | None) -> str | None:
    """Return why a signal is not available, or None if it is."""
    prompt = Prompt(_QUESTION).bind(["no", "yes"], answer_form=backend.answer_form)
    model = BoundModel(
        backend=backend, cache=cache, prompt=prompt, signal=signal, classes=["no", "yes"]
    )
    try:
        (record,) = ask_rows(model, [{"text": "Think of a clear day."}])
    except SignalUnavailable as failure:  # true of every request, so the run was ended
        return str(failure)
    if record.failure is None:
        return None
    if isinstance(record.failure, SignalUnavailable):
        return str(record.failure)
    if isinstance(record.failure, UnreadableReply):
        # Token probabilities were shown, though not of these labels: the signal is available.
        return None if signal.name == "logprobs" else str(record.failure)
    raise record.failure
