"""One model behind an API: a request in whatever phrasing it takes, and one neutral answer."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skllm_calib.evidence.backends.hosted.answer import Answer, Usage, first
from skllm_calib.evidence.backends.hosted.connection import Connection
from skllm_calib.evidence.backends.hosted.facts import (
    NO_LOGPROBS,
    REASONS_FIRST,
    Continuation,
    Dialect,
)
from skllm_calib.evidence.backends.hosted.failures import Problem, StopRunError
from skllm_calib.exceptions import BackendError, Refused, SignalUnavailable, UnreadableReply

__all__ = ["HostedModel", "refused_wish", "schema_form"]


class HostedModel(ABC):
    """Sends requests to one model, in the phrasing that it takes; many threads may do so at once.

    A provider says how a body is written (`_body`), sent (`_send`) and read (`_read`).

    Parameters
    ----------
    connection : Connection
        Where to send.
    dialect : Dialect
        What is known of the model behind that address.
    model : str
    seed : int or None
        As in the backend.
    wishes : mapping
        Parameters that the user has set on purpose, by their names in the backend: one that the
        model refuses ends the run.
    extra_body : mapping
        Fields of the body that the user has set; they override ours.

    Attributes
    ----------
    continuations : tuple of Continuation
        The ways of having a begun answer continued that the API may know.
    reasoning_off : str
        How reasoning is turned off, as messages put it.
    pinned : mapping of str to float
        What would cut or bend the distribution, set to where it does not: some servers report
        log-probabilities after it, and take its values from the model's own settings.
    """

    continuations: tuple[Continuation, ...] = ()
    pinned: Mapping[str, float] = {}
    reasoning_off: str = "reasoning_effort='none' where the model takes it"

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        *,
        model: str,
        seed: int | None,
        wishes: Mapping[str, Any],
        extra_body: Mapping[str, Any],
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.model = model
        self._seed = seed
        self._wishes = {name: value for name, value in wishes.items() if value is not None}
        self._extra_body = extra_body

    def request(
        self,
        messages: Sequence[dict[str, Any]],
        usage: Usage,
        *,
        row: Hashable,
        draw: int,
        extra: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Answer:
        """Return the answer to `messages`, or raise a BackendError, or a StopRunError.

        Parameters
        ----------
        messages : sequence of dict
            The conversation.
        usage : Usage
            Where to count what it used.
        row : hashable
            What the request is about.
        draw : int
            Number of the repetition.
        extra : mapping or None, default=None
            Further fields of the body, beyond those of the user.
        **settings
            `max_tokens` and `temperature`; `top_logprobs` to have alternatives listed, or `schema`,
            the JSON Schema of the text as JSON.
        """
        if self._seed is not None:
            settings["seed"] = self._seed + draw  # two draws with one seed would be the same draw
        by_user = {self._setting(name) for name in self._extra_body}
        while True:
            phrased = self.dialect.phrase(settings, row)
            sent = self._without_what_the_user_sets(phrased, by_user)
            reply = self._send({**self._body(messages, sent), **(extra or {})})
            if not isinstance(reply, Problem):
                answer = self.connection.read(lambda r: self._read(r, usage.add(r)), reply)
                left_out = settings.keys() - phrased.keys() - by_user - {"max_tokens"}
                return replace(answer, left_out=tuple(sorted(left_out)))
            # There is nothing to learn about what the user insists on.
            ours = {name: value for name, value in sent.items() if name not in by_user}
            with self.dialect.lock:
                has_learned = self.dialect.learn(reply, ours, row)
            if not has_learned:
                raise self._failure_of(reply, ours)

    def no_logprobs(self, why: str) -> StopRunError:
        """Return what to raise where a row got no log-probabilities."""
        return StopRunError(
            SignalUnavailable(
                f"the model {self.model!r} shows no log-probabilities here ({why}), so "
                "signal='logprobs' cannot work with it. signal='self_reported' and "
                "signal='self_consistency' need only text and would work. Some reasoning models "
                f"show log-probabilities with reasoning off: {self.reasoning_off}."
            ),
            shown_by_rows=NO_LOGPROBS,
        )

    def reasons_first(self) -> StopRunError:
        """Return what to raise after reasoning: such probabilities are no evidence."""
        return StopRunError(
            SignalUnavailable(
                f"the model {self.model!r} reasons before it answers: the probabilities after that "
                "restate a decision already taken, near 0 or 1, and calibrate badly. Use "
                "signal='self_reported' or signal='self_consistency', or turn reasoning off: "
                f"{self.reasoning_off}."
            ),
            shown_by_rows=REASONS_FIRST,
            of_one_row=SignalUnavailable(
                f"the model {self.model!r} reasoned before it answered this row: probabilities "
                "after that are no evidence, as they restate a decision already taken"
            ),
        )

    def _failure_of(self, problem: Problem, sent: Mapping[str, Any]) -> BackendError | StopRunError:
        """Return what to raise where no other phrasing can help."""
        if "top_logprobs" in sent and self.dialect.no_logprobs == problem.message:
            return self.no_logprobs(problem.message)
        for name, value in self._wishes.items():
            if self.dialect.refuses(problem, name):
                return refused_wish(self.model, name, value, problem)
        return self.connection.failure_of(problem)

    def _declined(self, said: Any) -> Refused:
        return Refused(f"the model declined: {self.connection.access.redact(str(said))}")

    def _no_answer(self, reply: Any, what: str) -> UnreadableReply:
        error = first(reply, "error")
        said = error.get("message", error) if isinstance(error, dict) else f"no {what} in it"
        access = self.connection.access
        return UnreadableReply(f"{access.public_address} sent no {what}: {said} {access.hint}")

    def _setting(self, field: str) -> str:
        """Return the setting that a field of the body stands for."""
        return field

    def _without_what_the_user_sets(
        self, settings: Mapping[str, Any], by_user: set[str]
    ) -> dict[str, Any]:
        """Leave out settings that the user gives under another name."""
        return dict(settings)

    @abstractmethod
    def _body(self, messages: Sequence[dict[str, Any]], sent: Mapping[str, Any]) -> dict[str, Any]:
        """Write the body of a request, without what the user adds to it."""

    @abstractmethod
    def _send(self, body: dict[str, Any]) -> Any | Problem:
        """Send a body and what the user adds to it."""

    @abstractmethod
    def _read(self, reply: Any, n_reasoning: int) -> Answer:
        """Read what came back, or raise what it carries instead of an answer."""


def refused_wish(model: str, name: str, value: Any, problem: Problem) -> StopRunError:
    """Say that a model refuses a parameter of the backend; the user has set it, so it is kept."""
    return StopRunError(
        BackendError(
            f"the model {model!r} refuses {name}={value!r}: give a value that it takes, or None "
            f"for its default; it said: {problem.message}"
        ),
        shown_by_rows=f"{name}={value!r} is refused",
    )


def schema_form(schema: str) -> dict[str, Any]:
    """Write a JSON Schema as hosted APIs want it; strict, so that it is kept to the letter."""
    try:
        return {"name": "answer", "schema": json.loads(schema), "strict": True}
    except ValueError as error:
        raise ValueError(f"schema={schema!r}: a request's schema must be JSON ({error})") from None
