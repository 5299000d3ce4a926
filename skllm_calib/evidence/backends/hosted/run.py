"""One call of a hosted backend's `run`: what each request is, and who answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from skllm_calib.evidence.backends.base import Answering, Reply, Request
from skllm_calib.evidence.backends.hosted.answer import Usage
from skllm_calib.evidence.backends.hosted.facts import row_of
from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.evidence.backends.hosted.labels import LabelReader
from skllm_calib.evidence.backends.hosted.model import HostedModel
from skllm_calib.evidence.backends.hosted.redaction import redact_failure, redact_reply
from skllm_calib.evidence.backends.hosted.text import read_text
from skllm_calib.evidence.backends.hosted.verdicts import Verdicts
from skllm_calib.evidence.backends.pool import answer_all
from skllm_calib.evidence.label_tokens import label_tree
from skllm_calib.exceptions import (
    BackendError,
    InvalidInput,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = ["Run", "answer_or_stop", "answering_of", "check_budget", "checked"]


class Run:
    """Answers the requests of one call.

    Parameters
    ----------
    model : HostedModel
    top_logprobs : int or None
        How many alternatives to request at a position; None lets the reader choose.
    reasoning_budget : int or None
        Tokens allowed for hidden reasoning in requests for text; None finds out.
    decide : callable or None, default=None
        Answers requests with choices, where the provider has an endpoint for them.
    """

    def __init__(
        self,
        model: HostedModel,
        *,
        top_logprobs: int | None,
        reasoning_budget: int | None,
        decide: Callable[[Request, Usage], Reply] | None = None,
    ) -> None:
        check_budget(reasoning_budget)
        self._model = model
        self._top_logprobs = top_logprobs
        self._budget = reasoning_budget
        self._decide = decide
        self._verdicts = Verdicts(model.connection, model.dialect)
        self._redact = model.connection.access.redact

    def stream(
        self, requests: Sequence[Request], n_workers: int
    ) -> Iterator[tuple[int, Reply | BackendError]]:
        """Yield the answers as they come, `n_workers` requests at a time."""
        return answer_or_stop(self.answer, requests, n_workers, self._model.connection.close)

    def answering(self, n_workers: int) -> Answering:
        """Return how requests are answered that come bit by bit."""
        return answering_of(self.answer, n_workers, self._model.connection.close)

    def answer(self, request: Request) -> Reply:
        """Answer a request of this run, with the others; raise a failure, or a StopRunError."""
        self._check(request)
        return self._verdicts.answer(_kind(request), self._answer_now, request)

    def answer_alone(self, request: Request) -> Reply:
        """Answer a request as if it were the only one; raise a failure, or a StopRunError."""
        self._check(request)
        return self._answer_now(request)

    def _check(self, request: Request) -> None:
        if request.dropout is not None:
            raise SignalUnavailable(
                "a model behind an API shows no probabilities with dropout, so "
                "signal='mc_dropout' needs a model on this machine (backend 'transformers'); "
                "signal='self_reported' and signal='self_consistency' work with every model"
            )
        if request.choices and self._decide is None:
            raise SignalUnavailable(
                f"the model {self._model.model!r} has no decision endpoint: use signal='logprobs', "
                "'self_reported' or 'self_consistency'"
            )

    def _answer_now(self, request: Request) -> Reply:
        usage = Usage()
        self._model.connection.begin(row_of(request))
        try:
            reply = self._read(request, usage)
        except BackendError as failure:
            # Perhaps one of several calls was answered and charged for, and then another failed.
            failure.billed_tokens = (
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens,
            )
            if isinstance(failure, Refused | UnreadableReply):
                failure.is_billed = usage.prompt_tokens + usage.completion_tokens > 0
                redact_failure(failure, self._redact)
            raise
        return redact_reply(replace(reply, **vars(usage)), self._redact)

    def _read(self, request: Request, usage: Usage) -> Reply:
        if request.choices and self._decide is not None:
            return self._decide(request, usage)
        if request.answers:
            tree = label_tree(request.answers)
            return LabelReader(self._model, tree, request, usage, self._top_logprobs).read()
        return read_text(self._model, request, usage, self._budget)


def check_budget(budget: int | None) -> None:
    """Raise InvalidInput if a `reasoning_budget` is not a number of tokens."""
    if budget is not None and (isinstance(budget, bool) or budget < 0):
        raise InvalidInput(
            f"reasoning_budget={budget!r}: must be a number of tokens, 0 or more, or None to "
            "allow 2,000 once the model was seen to reason",
            "reasoning_budget",
            value=budget,
        )


def answer_or_stop(
    answer: Callable[[Request], Reply],
    requests: Sequence[Request],
    n_workers: int,
    end: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Reply | BackendError]]:
    """Answer many requests at a time; raise what a StopRunError carries. `end` ends the run.

    Nothing is sent after it, but what was under way is answered first: it is paid for. A text that
    cannot be written as UTF-8 is the failure of its own row.
    """
    try:
        yield from answer_all(partial(checked, answer), requests, n_workers, end=end)
        return
    except StopRunError as stop:
        failure = stop.failure
    # Outside of the handler, so that the failure drags no other exception along.
    raise failure


def answering_of(
    answer: Callable[[Request], Reply], n_workers: int, end: Callable[[], None]
) -> Answering:
    """Return how requests are answered that come bit by bit, in the way of `answer_or_stop`."""
    return Answering(partial(checked, answer), n_workers, end)


def checked(answer: Callable[[Request], Reply], request: Request) -> Reply:
    """Answer a request; raise BackendError if it cannot be written as UTF-8."""
    try:
        for message in request.messages:
            message.content.encode()
        return answer(request)
    except UnicodeEncodeError as e:
        surrogate = e.object[e.start : e.end]
    raise BackendError(
        f"the text contains an unpaired surrogate ({surrogate!r}), which no server takes: replace "
        "it, for example by text.encode('utf-8', 'replace').decode()"
    )


def _kind(request: Request) -> str:
    """Tell what a model may refuse in such a request."""
    if request.choices:
        return "decision"
    if request.answers:
        return "labels"
    return "text with schema" if request.schema else "text"
