"""The talk with a server: one request, in whatever phrasing it takes, and one neutral answer.

:class:`Line` sends and knows when to give up, :class:`Talk` finds the phrasing, :class:`Chat` is
the talk in Chat Completions; ``_openai_responses`` holds the one in the Responses API.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import openai

from skllm_calib.evidence.backends.hosted.hosted import Access, StopRunError, redact
from skllm_calib.evidence.backends.openai.answer import Answer, Tally, first, positions_of
from skllm_calib.evidence.backends.openai.dialect import (
    CONTINUATIONS,
    LENGTH_NAMES,
    Continuation,
    Dialect,
    refuses_effort,
)
from skllm_calib.evidence.backends.openai.errors import (
    Problem,
    lost_failure,
    no_log_probabilities,
    status_failure,
)
from skllm_calib.exceptions import BackendError, Refused, UnreadableReply

__all__ = ["Chat", "Line", "Outcome", "Talk", "schema_form"]

_T = TypeVar("_T")


class Outcome(NamedTuple):
    """A reply, or else why there is none."""

    reply: Any = None
    failure: BackendError | StopRunError | None = None
    problem: Problem | None = None  # what the server said, where it answered


class Line:
    """Sends requests one at a time; many threads may do so at once.

    Parameters
    ----------
    client : openai.OpenAI
        The client of this run.
    access : Access
        Where it sends requests to, for messages.
    """

    def __init__(self, client: openai.OpenAI, access: Access) -> None:
        self.access = access
        self.client = client
        self._once = client.with_options(max_retries=0)
        self._stop: StopRunError | None = None
        self._unreachable = False

    def stop_with(self, failure: BackendError) -> StopRunError:
        """Let no further request be sent in this run; return what to raise."""
        self._stop = StopRunError(failure)
        return self._stop

    def send(self, create: Callable[[openai.OpenAI], Any], *, once: bool = False) -> Outcome:
        """Let `create` send a request; `once`: without retries.

        Failures are returned, so that they are raised without the SDK's own error in their wake:
        that one holds the request, and with it the key.
        """
        if self._stop is not None:  # another row found out that none can be answered
            raise self._stop
        lost = False
        try:
            outcome = Outcome(create(self._once if once or self._unreachable else self.client))
        except openai.APIStatusError as error:
            problem = Problem.of(error, self.access)
            outcome = Outcome(None, status_failure(problem, self.access), problem)
        except openai.APIError as error:
            is_timeout = isinstance(error, openai.APITimeoutError)
            lost = isinstance(error, openai.APIConnectionError) and not is_timeout
            outcome = Outcome(None, lost_failure(error, self.access))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            where = self.access.public_address
            outcome = Outcome(None, UnreadableReply(f"{where} sent broken JSON: {error}"))
        if not (once and lost):
            # Nobody answered after every retry: the next rows try once, until one gets through.
            self._unreachable = lost
        return outcome

    def read(self, reader: Callable[[Any], _T], reply: Any) -> _T:
        """Let `reader` read a reply; what it cannot make sense of is the failure of that row."""
        try:
            return reader(reply)
        except UnreadableReply as failure:
            said = str(failure)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            said = f"{self.access.public_address} sent an answer in an unknown form: {error!r}"
        # Outside of the handlers, so that nothing unredacted comes along.
        raise UnreadableReply(redact(said, self.access))

    def fail(self, failure: BackendError | StopRunError) -> BackendError | StopRunError:
        """Return what to raise; end the run if the failure would be that of every row."""
        return self.stop_with(failure.failure) if isinstance(failure, StopRunError) else failure


class Talk(ABC):
    """Asks one model for answers, in the phrasing that it takes.

    Parameters
    ----------
    line : Line
        Where to send.
    dialect : Dialect
        What is known of the model behind that address.
    model : str
    seed : int or None
    extra_body : mapping
    reasoning_effort : str or None
        As in the backend.

    Attributes
    ----------
    continuations : tuple of Continuation
        The ways of having a begun answer continued that the API may know.
    """

    continuations: tuple[Continuation, ...] = ()

    def __init__(
        self,
        line: Line,
        dialect: Dialect,
        *,
        model: str,
        seed: int | None,
        extra_body: Mapping[str, Any],
        reasoning_effort: str | None,
    ) -> None:
        self.line = line
        self.dialect = dialect
        self.model = model
        self._seed = seed
        self._extra_body = extra_body
        self._effort = reasoning_effort

    def ask(
        self,
        messages: Sequence[dict[str, Any]],
        tally: Tally,
        *,
        draw: int,
        extra: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Answer:
        """Return the answer to `messages`, or raise a BackendError, or a StopRunError.

        Parameters
        ----------
        messages : sequence of dict
            The conversation.
        tally : Tally
            Where to count what it used.
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
        # What the user set wins, also over the other names of the same thing.
        by_user = {self._setting(name) for name in self._extra_body}
        unset = set() if by_user.isdisjoint(LENGTH_NAMES) else set(LENGTH_NAMES)
        while True:
            phrased = self.dialect.phrase(settings)
            sent = {name: v for name, v in phrased.items() if name not in unset}
            outcome = self._send({**self._body(messages, sent), **(extra or {})})
            if outcome.failure is None:
                answer = self.line.read(lambda r: self._read(r, tally.add(r)), outcome.reply)
                left_out = settings.keys() - phrased.keys() - by_user - {"max_tokens"}
                return replace(answer, left_out=tuple(sorted(left_out)))
            # There is nothing to learn about what the user insists on.
            ours = {name: value for name, value in sent.items() if name not in by_user}
            if outcome.problem is None or not self.dialect.learn(outcome.problem, ours):
                raise self._why(outcome, ours)

    def _why(self, outcome: Outcome, sent: Mapping[str, Any]) -> BackendError | StopRunError:
        """Return the failure to raise where no other phrasing can help."""
        problem, known = outcome.problem, self.dialect
        assert outcome.failure is not None
        if problem is not None:
            if "top_logprobs" in sent and known.no_logprobs is not None:
                return self.line.stop_with(no_log_probabilities(self.model, known.no_logprobs))
            if self._effort is not None and refuses_effort(problem):
                return self.line.stop_with(
                    BackendError(
                        f"the model {self.model!r} refuses reasoning_effort={self._effort!r}: give "
                        f"a value that it takes, or None for its default; it said: "
                        f"{problem.message}"
                    )
                )
        return self.line.fail(outcome.failure)

    def _declined(self, said: Any) -> Refused:
        return Refused(f"the model declined: {redact(str(said), self.line.access)}")

    def _no_answer(self, reply: Any, what: str) -> UnreadableReply:
        error = getattr(reply, "error", None)
        said = error.get("message", error) if isinstance(error, dict) else f"no {what} in it"
        return UnreadableReply(
            f"{self.line.access.public_address} sent no {what}: {said} "
            "(is 'base_url' right? It often ends in /v1)"
        )

    @abstractmethod
    def _setting(self, field: str) -> str:
        """Return the setting that a field of the body stands for."""

    @abstractmethod
    def _body(self, messages: Sequence[dict[str, Any]], sent: Mapping[str, Any]) -> dict[str, Any]:
        """Write the body of a request, without what the user adds to it."""

    @abstractmethod
    def _send(self, body: dict[str, Any]) -> Outcome:
        """Send a body and what the user adds to it."""

    @abstractmethod
    def _read(self, reply: Any, n_reasoning: int) -> Answer:
        """Read what came back, or raise what it carries instead of an answer."""


def schema_form(schema: str) -> dict[str, Any]:
    """Write a JSON Schema as both APIs want it; strict, so that it is kept to the letter."""
    try:
        return {"name": "answer", "schema": json.loads(schema), "strict": True}
    except ValueError as error:
        raise ValueError(f"schema={schema!r}: a request's schema must be JSON ({error})") from None


class Chat(Talk):
    """The talk in Chat Completions."""

    continuations = CONTINUATIONS

    def _setting(self, field: str) -> str:
        return {"response_format": "schema", "logprobs": "top_logprobs"}.get(field, field)

    def _body(self, messages: Sequence[dict[str, Any]], sent: Mapping[str, Any]) -> dict[str, Any]:
        body = {"model": self.model, "messages": list(messages), **sent}
        if "top_logprobs" in body:
            body["logprobs"] = True
        if schema := body.pop("schema", None):
            body["response_format"] = {"type": "json_schema", "json_schema": schema_form(schema)}
        if self._effort is not None:
            body["reasoning_effort"] = self._effort
        return body

    def _send(self, body: dict[str, Any]) -> Outcome:
        # As a further body, fields that an older SDK does not know are sent all the same.
        named = {name: body.pop(name) for name in ("model", "messages")}
        further = {**body, **self._extra_body}
        return self.line.send(
            lambda client: client.chat.completions.create(**named, extra_body=further)
        )

    def _read(self, reply: Any, n_reasoning: int) -> Answer:
        choices = getattr(reply, "choices", None)
        if not choices:
            raise self._no_answer(reply, "chat completion")
        choice, message = choices[0], choices[0].message
        if choice.finish_reason == "content_filter":
            raise Refused("a content filter stopped the answer")
        if refusal := getattr(message, "refusal", None):
            raise self._declined(refusal)
        if not isinstance(text := message.content or "", str):
            raise self._no_answer(reply, "text")
        positions = positions_of(first(first(choice, "logprobs"), "content") or [])
        thought = bool(n_reasoning or first(message, "reasoning_content", "reasoning"))
        return Answer(text, positions, str(choice.finish_reason), n_reasoning, thought)
