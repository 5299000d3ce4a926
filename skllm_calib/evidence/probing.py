"""signal="auto": find out, with a whole answer of a few tokens, what a model shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sklearn.base import clone

from skllm_calib.evidence.asking import ask_rows
from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.bound_model import BoundModel, Example
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.money.spending import Spending
from skllm_calib.evidence.questions import BoundPrompt
from skllm_calib.evidence.signals import SIGNALS, Signal
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = ["AUTO_ORDER", "Chosen", "first_available"]

AUTO_ORDER = ("logprobs", "decisions", "self_reported", "self_consistency")
"""What "auto" tries, the best first: by how informative the evidence is, and what it costs."""

# What the user's own question is asked about; what one of them does not show, the other may.
_TEXTS = ("The meeting was moved to Tuesday.", "Thank you for the quick answer!")


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


def first_available(
    backend: BaseBackend,
    cache: ResponseCache | None,
    prompt: BoundPrompt,
    classes: list[Any],
    *,
    columns: Sequence[str] = (),
    examples: Sequence[Example] = (),
    spending: Spending | None = None,
    ask: bool = True,
) -> Chosen:
    """Return the first signal of :data:`AUTO_ORDER` with which a model answers the question.

    Each is tried with the user's own prompt and labels on a short neutral text, to the end: a
    signal that can be requested but gives no probabilities of the labels is not available. It is
    refused if a second text shows nothing either. A backend that always shows the first one
    (``shows_logprobs``) is not asked. The result is remembered for the life of the process, and
    answered probes are kept in the cache.

    Parameters
    ----------
    backend : BaseBackend
        The model to ask.
    cache : ResponseCache or None
        Where replies are kept.
    prompt : BoundPrompt
        The question with its labels.
    classes : list
        The labels.
    columns : sequence of str, default=()
        Names of the columns, if the rows are those of a table.
    examples : sequence of (mapping, int), default=()
        Rows shown in the prompt.
    spending : Spending or None, default=None
        What may be spent on it.
    ask : bool, default=True
        False takes the first one for granted, with no reason, where the model would be asked.

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
    best = SIGNALS[AUTO_ORDER[0]]()
    if backend.shows_logprobs:
        return Chosen(best, "this backend always shows log-probabilities")
    if not ask:
        return Chosen(best, "")
    model = BoundModel(
        backend=backend,
        cache=cache,
        prompt=prompt,
        signal=best,
        classes=classes,
        columns=tuple(columns),
        examples=examples,
        spending=spending or Spending(),
    )
    asked = [model.question(fields).messages() for fields in _rows(model)]
    what = json.dumps([backend.identity(), asked], sort_keys=True, default=repr)
    try:
        return get_handle(("signal probe", what), lambda: _probe(model))
    except _NotAskedError as e:
        return e.chosen


class _NotAskedError(Exception):
    """Carries what to use while it is not known for good what the model shows."""

    def __init__(self, chosen: Chosen) -> None:
        super().__init__(chosen.reason)
        self.chosen = chosen


def _probe(model: BoundModel) -> Chosen:
    refusals: list[str] = []
    unclear: Chosen | None = None  # failed for a reason that says nothing of the signal
    may_pass = False
    for name in AUTO_ORDER:
        signal = SIGNALS[name]()
        failure = _failure(replace(model, signal=signal))
        if failure is None:
            chosen = Chosen(signal, "; ".join(refusals) or "the model shows log-probabilities")
            if may_pass:
                raise _NotAskedError(chosen)
            return chosen
        # Gateways answer whatever they like where they have no such endpoint.
        is_refusal = name == "decisions" or isinstance(failure, SignalUnavailable | UnreadableReply)
        if not is_refusal and unclear is None:
            reason = f"the model could not be asked which signals it offers: {failure}"
            unclear = Chosen(signal, "; ".join([*refusals, reason]))
        if isinstance(failure, BackendUnavailable):
            if name != "decisions":
                break
            may_pass = True
        refusals.append(f"{name!r} is not available: {failure}")
    if unclear is not None:
        raise _NotAskedError(unclear)
    raise SignalUnavailable(
        f"none of the signals {', '.join(map(repr, AUTO_ORDER))} can be read from this model: "
        + "; ".join(refusals)
    )


def _failure(model: BoundModel) -> BackendError | None:
    """Return why a signal gives no answer to the question, or None if it does."""
    if model.signal.name == "decisions":
        model = replace(model, backend=_without_retries(model.backend))
    failure: BackendError | None = None
    for row in _rows(model):
        try:
            (record,) = ask_rows(model, [row])
        except BackendError as fatal:  # true of every request, so the run was ended
            return fatal
        failure = record.failure
        if failure is None or isinstance(failure, BackendUnavailable):
            break
    return failure


def _rows(model: BoundModel) -> list[dict[str, str]]:
    return [dict.fromkeys(("text", *model.columns), text) for text in _TEXTS]


def _without_retries(backend: BaseBackend) -> BaseBackend:
    """Return a backend that takes no for an answer: there is another signal to go on with."""
    if "max_retries" not in backend.get_params(deep=False):
        return backend
    quick: BaseBackend = clone(backend).set_params(max_retries=0)
    return quick
