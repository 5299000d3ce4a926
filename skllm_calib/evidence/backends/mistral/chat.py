"""The talk with Mistral's chat endpoint: one request, in whatever phrasing the model takes."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from skllm_calib.evidence.backends.hosted.hosted import (
    IMPOSSIBLE,
    Access,
    Acquaintance,
    Position,
    StopRunError,
    redact,
)
from skllm_calib.evidence.backends.mistral.errors import Problem, failure_of, no_log_probabilities
from skllm_calib.evidence.label_tokens import Token
from skllm_calib.exceptions import BackendError, Refused, UnreadableReply

if TYPE_CHECKING:
    from mistralai.client.models import ChatCompletionResponse

__all__ = ["Chat", "Completion", "Dialect", "Position", "notes_on", "usage_of"]

# What is left out when a model refuses it, and what a request of this library calls it.
_OPTIONAL = {"temperature": "temperature", "random_seed": "seed", "response_format": "schema"}
_AT_MOST = re.compile(
    r"(?:less than or equal to|at most|up to|<=|between \d+ and|max(?:imum)?(?: of| is|:)?) (\d+)",
    re.I,
)


@dataclass
class Dialect(Acquaintance):
    """What is known of one model behind one address. Shared by all threads of the process.

    Attributes
    ----------
    dropped : set of str
        Parameters that the model refuses.
    most_listed : int or None
        Most alternatives a position may list, once a larger number was refused.
    shows_logprobs : bool
        Whether log-probabilities were seen.
    no_logprobs : str or None
        Why there are none, once that is known.
    continues : bool or None
        Whether an answer begun by the user is continued; None until it was tried.
    headroom : int
        Tokens allowed on top of the answer of a text request, once the model was seen to reason.
    """

    dropped: set[str] = field(default_factory=set)
    most_listed: int | None = None
    shows_logprobs: bool = False
    no_logprobs: str | None = None
    continues: bool | None = None
    headroom: int = 0

    def phrase(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Write a request as this model takes it."""
        body = {name: value for name, value in wanted.items() if name not in self.dropped}
        if self.most_listed is not None and "top_logprobs" in body:
            body["top_logprobs"] = min(self.most_listed, body["top_logprobs"])
        return body

    def learn(self, problem: Problem, sent: Mapping[str, Any]) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing.

        Only parameters that were sent can be learned about, and each only downwards: so a request
        is sent again a bounded number of times.
        """
        if not problem.is_refused_request:
            return False
        with self.lock:
            if "logprobs" in sent and problem.names("logprobs", "top_logprobs"):
                said = [int(n) for n in _AT_MOST.findall(problem.message)]
                fewer = [n for n in said if 0 < n < sent["top_logprobs"]]
                if fewer:
                    self.most_listed = max(fewer)
                else:
                    self.no_logprobs = problem.message
                return bool(fewer)
            for name in _OPTIONAL:
                if name in sent and problem.names(name):
                    self.dropped.add(name)
                    return True
        return False


def notes_on(refused: Sequence[str]) -> tuple[str, ...]:
    """Say what was asked for and left out."""
    return tuple(f"the model refuses {name!r}; it was left out" for name in refused)


class Completion(NamedTuple):
    """What one call brought.

    Attributes
    ----------
    text : str
        What was written, without the reasoning before it.
    finish_reason : str
        Why it ended there.
    reasoned : bool
        Whether the model reasoned before it wrote.
    positions : tuple of Position
        The log-probabilities, where they were asked for and sent.
    refused : tuple of str
        What was wanted and left out, since the model refuses it.
    usage : mapping
        model, prompt_tokens, completion_tokens, cached_tokens and reasoning_tokens, as in
        :class:`~skllm_calib.backends.Reply`.
    """

    text: str
    finish_reason: str
    reasoned: bool
    positions: tuple[Position, ...]
    refused: tuple[str, ...]
    usage: Mapping[str, Any]


class Chat:
    """Sends requests one at a time; many threads may do so at once.

    Parameters
    ----------
    complete : callable
        ``client.chat.complete`` of the SDK.
    access : Access
        Where it sends requests to, for messages.
    dialect : Dialect
        What is known of the model behind that address.
    model : str
    timeout : float
    max_retries : int
    seed : int or None
        As in the backend.
    fixed : mapping
        Parameters that every request has.
    """

    def __init__(
        self,
        complete: Callable[..., ChatCompletionResponse],
        access: Access,
        dialect: Dialect,
        *,
        model: str,
        timeout: float,
        max_retries: int,
        seed: int | None,
        fixed: Mapping[str, Any],
    ) -> None:
        self.dialect = dialect
        self.model = model
        self._complete = complete
        self._access = access
        self._timeout_ms = max(1, round(1000 * timeout))
        self._max_retries = max_retries
        self._seed = seed
        self._fixed = fixed
        self._stop: StopRunError | None = None
        self._stopped = threading.Event()
        self._unreachable = False

    def stop_with(self, failure: BackendError) -> StopRunError:
        """Let no further request be sent in this run; return what to raise."""
        self._stop = StopRunError(failure)
        self._stopped.set()  # also ends the pauses of other threads
        return self._stop

    def ask(self, messages: Sequence[dict[str, Any]], *, draw: int, **options: Any) -> Completion:
        """Return the completion for `messages`, or raise a BackendError, or a StopRunError."""
        wanted = {"model": self.model, "messages": list(messages), **self._fixed, **options}
        if self._seed is not None:
            wanted["random_seed"] = self._seed + draw  # one seed for two draws: the same draw
        while True:
            if self._stop is not None:  # another row found out that none can be answered
                raise self._stop
            body = self.dialect.phrase(wanted)
            answer = self._send(body)
            if not isinstance(answer, Problem):
                left_out = wanted.keys() - body.keys()
                return self._read(answer, tuple(sorted(_OPTIONAL[name] for name in left_out)))
            if self.dialect.learn(answer, body):
                continue
            if "logprobs" in body and self.dialect.no_logprobs is not None:
                raise self.stop_with(no_log_probabilities(self.model, self.dialect.no_logprobs))
            failure = self._failure_of(answer)
            raise self.stop_with(failure.failure) if isinstance(failure, StopRunError) else failure

    def _failure_of(self, problem: Problem) -> BackendError | StopRunError:
        refused = [name for name in self._fixed if problem.names(name)]
        if problem.is_refused_request and refused:
            # The user's own wish is never left out in silence, and no other row fares better.
            named = ", ".join(f"{name}={self._fixed[name]!r}" for name in refused)
            said = f"the model {self.model!r} refuses {named}: {problem.message}"
            return StopRunError(BackendError(said))
        return failure_of(problem, self._access)

    def _send(self, body: Mapping[str, Any]) -> ChatCompletionResponse | Problem:
        """Send, and send again what may be answered later; return what came last.

        The SDK's own retries are bounded by the time they take, not by their number.
        """
        # Nobody answered after every retry: the next rows try once, until one gets through.
        n_retries = 0 if self._unreachable else self._max_retries
        for attempt in range(n_retries + 1):
            answer = self._send_once(body)
            if not isinstance(answer, Problem) or not answer.is_temporary or attempt == n_retries:
                break
            pause = answer.retry_after
            if pause is None:
                # Spread out, so that rows refused together do not come back together.
                pause = min(8.0, 0.5 * 2.0**attempt) * random.Random().uniform(0.5, 1.0)
            if self._stopped.wait(pause):
                break
        self._unreachable = isinstance(answer, Problem) and answer.is_unreachable
        return answer

    def _send_once(self, body: Mapping[str, Any]) -> ChatCompletionResponse | Problem:
        """Return a completion, or why there is none.

        Problems are returned, so that they are raised without the SDK's own error in their wake:
        that one holds the request, and with it the key.
        """
        from mistralai.client import errors, httpclient  # noqa: PLC0415  # an optional package

        http = vars(httpclient)["httpx"]  # its name has changed with the versions of the SDK
        try:
            return self._complete(**body, timeout_ms=self._timeout_ms)
        except errors.MistralError as error:
            return Problem.of(error.status_code, error.body, error.headers, self._access)
        except http.TimeoutException:
            return Problem(0, "no answer in time", timed_out=True)
        except (http.RequestError, errors.NoResponseError) as error:
            return Problem(0, redact(str(error) or type(error).__name__, self._access))

    def _read(self, answer: ChatCompletionResponse, refused: tuple[str, ...]) -> Completion:
        if not answer.choices:
            raise UnreadableReply(f"{self._access.public_address} sent no choices in its answer")
        choice = answer.choices[0]
        if choice.finish_reason == "content_filter":
            raise Refused("a content filter stopped the answer")
        if choice.finish_reason == "error":
            raise UnreadableReply("the server broke the answer off with an error of its own")
        content = getattr(choice.message, "content", None)
        chunks = content if isinstance(content, list) else []
        # A thinking chunk holds texts of its own: they are what led to the answer, not part of it.
        texts = [chunk.text for chunk in chunks if chunk.type == "text"]
        return Completion(
            content if isinstance(content, str) else "".join(texts),
            str(choice.finish_reason),
            any(chunk.type == "thinking" for chunk in chunks),
            _positions(choice.logprobs),
            refused,
            _usage(answer),
        )


def usage_of(calls: Sequence[Completion]) -> dict[str, Any]:
    """Sum what the calls of one row used."""
    first, *_ = usages = [call.usage for call in calls]
    counts = [name for name in first if name != "model"]
    return {
        "model": first["model"],
        **{name: sum(usage[name] for usage in usages) for name in counts},
    }


def _usage(answer: ChatCompletionResponse) -> dict[str, Any]:
    usage = answer.usage

    def detail(group: str, name: str) -> int:
        # Documented by Mistral, but no field of the SDK's, which hands it on as it came.
        details = getattr(usage, group, None)
        return int(details.get(name) or 0) if isinstance(details, Mapping) else 0

    return {
        "model": str(answer.model or ""),
        "prompt_tokens": usage.prompt_tokens or 0,
        "completion_tokens": usage.completion_tokens or 0,
        "cached_tokens": detail("prompt_tokens_details", "cached_tokens"),
        "reasoning_tokens": detail("completion_tokens_details", "reasoning_tokens"),
    }


def _positions(logprobs: Any) -> tuple[Position, ...]:
    positions, prefix = [], b""
    for entry in getattr(logprobs, "content", None) or ():
        listed = [
            Token(bytes(token.bytes_), token.logprob)
            for token in entry.top_logprobs or ()
            if token.logprob > IMPOSSIBLE
        ]
        positions.append(Position(prefix, tuple(sorted(listed, key=lambda t: -t.logprob))))
        prefix += bytes(entry.bytes_)
    return tuple(positions)
