"""The talk with a Chat Completions server: one request, in whatever phrasing it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from skllm_calib.backends._hosted import Access, StopRunError, redact
from skllm_calib.backends._openai_dialect import LENGTH_NAMES, Dialect
from skllm_calib.backends._openai_errors import Problem, failure_of, no_log_probabilities
from skllm_calib.exceptions import BackendError, Refused, UnreadableReply

__all__ = ["Chat", "Tally"]


@dataclass
class Tally:
    """What the calls of one row used, and who answered them.

    Attributes
    ----------
    model, fingerprint, prompt_tokens, completion_tokens, cached_tokens
        As in :class:`~skllm_calib.backends.Reply`, summed over the calls.
    """

    model: str = ""
    fingerprint: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def add(self, completion: Any) -> None:
        """Count one more call."""
        self.model = self.model or str(completion.model or "")
        self.fingerprint = self.fingerprint or getattr(completion, "system_fingerprint", None)
        if (usage := getattr(completion, "usage", None)) is not None:
            self.prompt_tokens += usage.prompt_tokens or 0
            self.completion_tokens += usage.completion_tokens or 0
            details = getattr(usage, "prompt_tokens_details", None)
            self.cached_tokens += getattr(details, "cached_tokens", None) or 0


class Chat:
    """Sends requests one at a time; many threads may do so at once.

    Parameters
    ----------
    client : openai.OpenAI
        The client of this run.
    access : Access
        Where it sends requests to, for messages.
    dialect : Dialect
        What is known of the model behind that address.
    model : str
    seed : int or None
    extra_body : mapping
        As in the backend.
    """

    def __init__(
        self,
        client: openai.OpenAI,
        access: Access,
        dialect: Dialect,
        *,
        model: str,
        seed: int | None,
        extra_body: Mapping[str, Any],
    ) -> None:
        self.dialect = dialect
        self.model = model
        self._client = client
        self._once = client.with_options(max_retries=0)
        self._access = access
        self._seed = seed
        self._extra_body = extra_body
        self._stop: StopRunError | None = None
        self._unreachable = False

    def stop_with(self, failure: BackendError) -> StopRunError:
        """Let no further request be sent in this run; return what to raise."""
        self._stop = StopRunError(failure)
        return self._stop

    def ask(
        self,
        messages: Sequence[dict[str, Any]],
        tally: Tally,
        *,
        draw: int,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Return the completion for `messages`, or raise a BackendError, or a StopRunError.

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
        **options
            Parameters of the API; `max_tokens` must be among them.
        """
        wanted = {"model": self.model, "messages": list(messages), **options}
        if self._seed is not None:
            wanted["seed"] = self._seed + draw  # two draws with one seed would be the same draw
        extra_body = {**self._extra_body, **(extra or {})}
        # What the user set wins, also over the other name of the same thing.
        set_by_user = extra_body.keys() - {"model", "messages"}
        if not set_by_user.isdisjoint(LENGTH_NAMES):
            set_by_user |= set(LENGTH_NAMES)
        while True:
            if self._stop is not None:  # another row found out that none can be answered
                raise self._stop
            phrased = self.dialect.phrase(wanted)
            body = {name: v for name, v in phrased.items() if name not in set_by_user}
            completion, failure = self._send(body, extra_body)
            if failure is None:
                tally.add(completion)
                return completion
            if isinstance(failure, Problem):
                continue
            raise failure

    def _send(
        self, body: dict[str, Any], extra_body: Mapping[str, Any]
    ) -> tuple[Any, Problem | BackendError | StopRunError | None]:
        """Return a completion, or why there is none: a Problem where another phrasing may help.

        Failures are returned, so that they are raised without the SDK's own error in their wake:
        that one holds the request, and with it the key.
        """
        client = self._once if self._unreachable else self._client
        try:
            completion = client.chat.completions.create(**body, extra_body=extra_body or None)
        except openai.APIError as error:
            # Nobody answered after every retry: the next rows try once, until one gets through.
            self._unreachable = isinstance(error, openai.APIConnectionError) and not isinstance(
                error, openai.APITimeoutError
            )
            if isinstance(error, openai.APIStatusError):
                problem = Problem.of(error, self._access)
                if self.dialect.learn(problem, body):
                    return None, problem
                if "logprobs" in body and self.dialect.no_logprobs is not None:
                    said = no_log_probabilities(self.model, self.dialect.no_logprobs)
                    return None, self.stop_with(said)
            failure = failure_of(error, self._access)
            if isinstance(failure, StopRunError):
                self._stop = failure
            return None, failure
        self._unreachable = False
        return completion, self._failure_in(completion)

    def _failure_in(self, completion: Any) -> BackendError | None:
        """Return the failure that an answer with a good status carries, if it does."""
        choices = getattr(completion, "choices", None)
        if not choices:
            error = getattr(completion, "error", None)
            said = error.get("message", error) if isinstance(error, dict) else "no choices in it"
            return UnreadableReply(
                f"{self._access.public_address} sent no chat completion: "
                f"{redact(str(said), self._access)} (is 'base_url' right? It often ends in /v1)"
            )
        if choices[0].finish_reason == "content_filter":
            return Refused("a content filter stopped the answer")
        if refusal := getattr(choices[0].message, "refusal", None):
            return Refused(f"the model declined: {redact(str(refusal), self._access)}")
        return None
