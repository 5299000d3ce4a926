"""Claude, through Anthropic's Messages API.

Claude shows no log-probabilities, so this backend answers requests for text only. This file holds
the parameters, the client and the talk with the server; ``_anthropic_errors`` tells what a refusal
means. The SDK is optional (the extra `anthropic`) and imported when a first request is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skllm_calib.backends._anthropic_errors import (
    Dialect,
    Problem,
    lost_failure,
    refused_wish,
    status_failure,
)
from skllm_calib.backends._hosted import (
    Access,
    StopRunError,
    answer_or_stop,
    no_key,
    read_key,
    redact,
)
from skllm_calib.backends.base import AnswerForm, BaseBackend, Message, Reply, Request
from skllm_calib.backends.registry import get_handle
from skllm_calib.exceptions import (
    BackendError,
    ContextTooLong,
    MissingDependency,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

if TYPE_CHECKING:
    import anthropic

__all__ = ["AnthropicBackend"]

_ADDRESS = "https://api.anthropic.com"
_NO_KEY = "no-key"  # the SDK wants one, a gateway of your own may not
_LEAST_BUDGET = 1024  # the API's own minimum


class AnthropicBackend(BaseBackend):
    """A Claude model behind Anthropic's Messages API, or behind a gateway that speaks it.

    Parameters
    ----------
    model : str
        Name of the model, such as ``"claude-haiku-4-5"``.
    base_url : str or None, default=None
        Address of the server, without ``/v1``. None takes the environment variable
        ANTHROPIC_BASE_URL or else Anthropic itself.
    api_key_env : str or None, default=None
        *Name* of the environment variable that holds the key, read at each run. None means
        ANTHROPIC_API_KEY. The key itself is no parameter: it would show in representations,
        pickles and reports. A server given by its address may need none.
    max_concurrency : int, default=8
        How many requests are under way at the same time.
    timeout : float, default=60.0
        Seconds to wait for an answer.
    max_retries : int, default=5
        How often a request is sent again after a time-out, a lost connection, or an answer with
        status 408, 409, 429 or 5xx. A server's Retry-After is honoured.
    reasoning_effort : str or None, default=None
        How much effort the model puts into its answer: "low", "medium", "high", "xhigh" or "max",
        as far as the model has them. None leaves it to the model.
    reasoning_budget : int or None, default=None
        Tokens of hidden reasoning to allow for, 1024 or more, on top of the answer: they make the
        model reason, and count towards what is paid. 0 turns reasoning off. None leaves it to the
        model; the newer ones then reason and may use up the room for the answer. A model that
        takes no budget decides for itself how much it reasons, within the room that the budget
        leaves; a note of the reply says so.
    extra_body : dict or None, default=None
        Further fields of the request, such as ``{"service_tier": "standard_only"}``. They win
        over what is sent otherwise.

    Notes
    -----
    Signals that need log-probabilities fail with ``SignalUnavailable``, without a call; those that
    read text ('self_reported', 'self_consistency') work. What a model refuses (a temperature, a
    schema, a form of reasoning) is learned from its own answer, once in a process, and the request
    sent again without it: the reply names it in `refused` and says in `notes` what held instead.
    :func:`~skllm_calib.backends.clear_handles` forgets it. The API takes no seed: repetitions of a
    request differ by themselves.

    Examples
    --------
    >>> from skllm_calib.backends.anthropic import AnthropicBackend
    >>> backend = AnthropicBackend("claude-haiku-4-5", base_url="http://localhost:8000")
    >>> backend
    AnthropicBackend(base_url='http://localhost:8000', model='claude-haiku-4-5')
    >>> backend.identity()
    {'provider': 'anthropic', 'model': 'claude-haiku-4-5', 'base_url': 'http://localhost:8000',
     'reasoning_effort': None, 'reasoning_budget': None, 'extra_body': {}}
    """

    answer_form: AnswerForm = "keys"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        max_concurrency: int = 8,
        timeout: float = 60.0,
        max_retries: int = 5,
        reasoning_effort: str | None = None,
        reasoning_budget: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.reasoning_effort = reasoning_effort
        self.reasoning_budget = reasoning_budget
        self.extra_body = extra_body

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer; no key, and no user or password of the address."""
        return {
            "provider": "anthropic",
            "model": self.model,
            "base_url": self._access(None).public_address,
            "reasoning_effort": self.reasoning_effort,
            "reasoning_budget": self.reasoning_budget,
            "extra_body": dict(self.extra_body or {}),
        }

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests, `max_concurrency` at a time, as the answers come in.

        Raises
        ------
        AuthenticationFailed, ModelNotFound, RateLimited
            If every request would fail alike: no key, no such model, no credit. The rest of the
            run is then cancelled.
        BackendError
            If the model refuses `reasoning_effort` or `reasoning_budget`, with the same end.
        MissingDependency
            If the package `anthropic` is not installed.
        ValueError
            If `reasoning_budget` is none that the API has.
        """
        forms = _thinking_forms(self.reasoning_budget)
        if not any(_is_text(request) for request in requests):
            # Nothing to send, so neither a key nor the SDK is needed.
            return answer_or_stop(self._decline, requests, 1)
        access = self._access(read_key(self._key_name))
        client = self._client(access)
        chat = _Chat(
            client.with_options(timeout=self.timeout, max_retries=self.max_retries),
            access,
            self._dialect(access, forms),
            self,
        )

        def answer(request: Request) -> Reply:
            return chat.answer(request) if _is_text(request) else self._decline(request)

        return answer_or_stop(answer, requests, self.max_concurrency)

    @property
    def _key_name(self) -> str:
        return self.api_key_env or "ANTHROPIC_API_KEY"

    def _access(self, key: str | None) -> Access:
        address = self.base_url or os.environ.get("ANTHROPIC_BASE_URL") or _ADDRESS
        return Access(address, self._key_name, key)

    def _client(self, access: Access) -> anthropic.Anthropic:
        if access.key is None and access.public_address == _ADDRESS:
            raise no_key(access.key_name)
        try:
            import anthropic  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise MissingDependency(
                "Claude needs the package 'anthropic': pip install 'skllm-calib[anthropic]' "
                f"(importing it said: {error})"
            ) from error
        key = access.key or _NO_KEY

        def make() -> anthropic.Anthropic:
            return anthropic.Anthropic(api_key=key, base_url=access.address)

        digest = hashlib.sha256(key.encode()).hexdigest()
        return get_handle(("anthropic client", access.address, access.key_name, digest), make)

    def _dialect(self, access: Access, forms: tuple[dict[str, Any] | None, ...]) -> Dialect:
        # What a model takes depends on what else is sent, such as a budget for reasoning.
        own = dict(self.extra_body or {})
        beside = (self.reasoning_effort, self.reasoning_budget)
        extra = json.dumps(own, sort_keys=True, default=repr)
        handle = ("anthropic dialect", access.address, self.model, beside, extra)
        fixed = frozenset({*own, *(own.get("output_config") or {})})
        return get_handle(handle, lambda: Dialect(forms, fixed))

    def _decline(self, request: Request) -> Reply:
        if request.choices:
            what = "has no decision endpoint"
        elif request.dropout is not None:
            what = "cannot be read with dropout, as only a model on your own machine can"
        else:
            what = "shows no log-probabilities, so signal='logprobs' cannot work with it"
        raise SignalUnavailable(
            f"the model {self.model!r} is asked through Anthropic's API and {what}. The signals "
            "'self_reported' and 'self_consistency' need only text and would work (see the "
            "signals that this version has in LLMClassifier)."
        )


def _is_text(request: Request) -> bool:
    return not (request.answers or request.choices or request.dropout is not None)


def _thinking_forms(budget: int | None) -> tuple[dict[str, Any] | None, ...]:
    """Return the ways to ask for this budget, from the exact one to what newer models have left."""
    if budget is None:
        return (None,)
    if budget == 0:
        return ({"type": "disabled"}, {"type": "between_tools"}, None)
    if budget < _LEAST_BUDGET:
        raise ValueError(
            f"reasoning_budget={budget!r}: must be {_LEAST_BUDGET} tokens or more, 0 to turn "
            "reasoning off, or None to leave it to the model"
        )
    return ({"type": "enabled", "budget_tokens": budget}, {"type": "adaptive"})


class _Chat:
    """One call of :meth:`AnthropicBackend.run`; many threads may ask at once."""

    def __init__(
        self,
        client: anthropic.Anthropic,
        access: Access,
        dialect: Dialect,
        backend: AnthropicBackend,
    ) -> None:
        self._client = client
        self._once = client.with_options(max_retries=0)
        self._access = access
        self._dialect = dialect
        self._model = backend.model
        self._effort = backend.reasoning_effort
        self._budget = backend.reasoning_budget
        self._extra_body = dict(backend.extra_body or {})
        self._stop: StopRunError | None = None
        self._unreachable = False

    def answer(self, request: Request) -> Reply:
        """Return the reply, or raise a BackendError, or a StopRunError."""
        kind, known = (bool(request.schema), request.temperature), self._dialect
        if kind not in known.asked:
            # The first one goes alone, so that what the model refuses is refused once.
            with known.lock:
                if kind not in known.asked:
                    try:
                        return self._answer_now(request)
                    finally:
                        known.asked.add(kind)
        return self._answer_now(request)

    def _answer_now(self, request: Request) -> Reply:
        while True:
            if self._stop is not None:  # another row found out that none can be answered
                raise self._stop
            body = self._phrase(request)
            message, failure = self._send(body, request.schema)
            if failure is None:
                return self._read(message, request, body)
            if not isinstance(failure, Problem):
                raise failure

    def _phrase(self, request: Request) -> dict[str, Any]:
        """Write the body in the words that the model takes; what the user set wins."""
        system, turns = _split(request.messages)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens + (self._budget or 0),
            "messages": turns,
        }
        if system:
            body["system"] = system
        if self._dialect.takes_temperature(request.temperature):
            body["temperature"] = request.temperature
        if self._dialect.thinking is not None:
            body["thinking"] = self._dialect.thinking
        output: dict[str, Any] = {}
        if self._effort is not None:
            output["effort"] = self._effort
        if request.schema and self._dialect.takes_schema(request.schema):
            output["format"] = {"type": "json_schema", "schema": json.loads(request.schema)}
        output.update(self._extra_body.get("output_config") or {})
        return {**body, **self._extra_body, **({"output_config": output} if output else {})}

    def _send(
        self, body: dict[str, Any], schema: str
    ) -> tuple[Any, Problem | BackendError | StopRunError | None]:
        """Return a message, or why there is none: a Problem where another phrasing may help.

        Failures are returned, so that they are raised without the SDK's own error in their wake:
        that one holds the request, and with it the key.
        """
        import anthropic  # noqa: PLC0415 (optional)

        client = self._once if self._unreachable else self._client
        # The parameters that the SDK names change with its version (the temperature has gone), the
        # wire format does not: so all but the required ones are sent as they are.
        required = {name: body[name] for name in ("model", "max_tokens", "messages")}
        message, failure = None, None
        try:
            message = client.messages.create(**required, extra_body=body)
        except anthropic.APIStatusError as error:
            self._unreachable = False
            problem = Problem.of(error, self._access)
            if self._dialect.learn(problem, body, schema):
                return None, problem
            failure = self._refused_wish(problem, body) or status_failure(problem, self._access)
        except anthropic.APIError as error:
            # Nobody answered after every retry: the next rows try once, until one gets through.
            lost = isinstance(error, anthropic.APIConnectionError)
            self._unreachable = lost and not isinstance(error, anthropic.APITimeoutError)
            failure = lost_failure(error, self._access)
        except json.JSONDecodeError as error:
            failure = UnreadableReply(f"{self._access.public_address} sent broken JSON: {error}")
        else:
            self._unreachable = False
            failure = self._failure_in(message)
        if isinstance(failure, StopRunError):
            self._stop = failure
        return message, failure

    def _refused_wish(self, problem: Problem, body: Mapping[str, Any]) -> StopRunError | None:
        """Tell of a parameter that the user set on purpose; no other row fares better."""
        name = refused_wish(problem, body)
        if name is None:
            return None
        value = {"reasoning_effort": self._effort, "reasoning_budget": self._budget}[name]
        return StopRunError(
            BackendError(
                f"the model {self._model!r} refuses {name}={value!r}: give a value that it takes, "
                f"or None for its default; it said: {problem.message}"
            )
        )

    def _failure_in(self, message: Any) -> BackendError | None:
        """Return the failure that an answer with a good status carries, if it does."""
        blocks = getattr(message, "content", None)
        if not isinstance(blocks, list) or not all(getattr(b, "type", None) for b in blocks):
            error = getattr(message, "error", None)
            said = error.get("message", error) if isinstance(error, dict) else "no content in it"
            return UnreadableReply(
                f"{self._access.public_address} sent no message: {redact(str(said), self._access)} "
                "(is 'base_url' right? It is given without /v1)"
            )
        if getattr(message, "stop_reason", None) == "refusal":
            details = getattr(message, "stop_details", None)
            why = getattr(details, "explanation", None) or getattr(details, "category", None)
            about = f": {redact(str(why), self._access)}" if why else ""
            return Refused(f"the model declined{about}")
        return None

    def _read(self, message: Any, request: Request, body: Mapping[str, Any]) -> Reply:
        text = "".join(block.text or "" for block in message.content if block.type == "text")
        if not text.strip():
            self._check_room(getattr(message, "stop_reason", None), request)
        usage = getattr(message, "usage", None)
        details = getattr(usage, "output_tokens_details", None)
        n_hidden = getattr(details, "thinking_tokens", None) or 0
        n_read, n_stored, n_cached, n_written = (
            getattr(usage, f"{name}_tokens", None) or 0
            for name in ("input", "cache_creation_input", "cache_read_input", "output")
        )
        refused, notes = self._left_out(request, body)
        if n_hidden > 0 or any("thinking" in block.type for block in message.content):
            notes.append("hidden reasoning came before the answer")
        return Reply(
            text,
            model=str(getattr(message, "model", None) or ""),
            # The API counts what it reads from its cache, and what it puts there, beside the rest.
            prompt_tokens=n_read + n_stored + n_cached,
            completion_tokens=n_written,
            cached_tokens=n_cached,
            reasoning_tokens=n_hidden,
            refused=tuple(refused),
            notes=tuple(notes),
        )

    def _left_out(self, request: Request, body: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return which fields of the request the model does not take, and what held instead."""
        refused, notes = [], []
        if request.schema and "format" not in body.get("output_config", {}):
            refused.append("schema")
            notes.append("the model refuses 'schema'; only the messages say what is wanted")
        if "temperature" not in body:
            refused.append("temperature")
            asked = f"temperature {request.temperature:g}"
            notes.append(f"the model refuses {asked}; its default was used")
        if self._budget and body.get("thinking") == {"type": "adaptive"}:
            notes.append("the model takes no reasoning budget and decides itself how much it needs")
        if self._budget == 0 and "thinking" not in body:
            notes.append("the model does not let its reasoning be turned off")
        return refused, notes

    def _check_room(self, stop_reason: str | None, request: Request) -> None:
        """Raise what it means that nothing was written; an empty answer may be all there is."""
        if stop_reason == "model_context_window_exceeded":
            raise ContextTooLong("the prompt leaves no room for an answer in the context")
        if stop_reason == "max_tokens":
            raise UnreadableReply(
                f"the model {self._model!r} used all of max_tokens={request.max_tokens} and of "
                f"reasoning_budget={self._budget} before it wrote a word of its answer, as models "
                "do that reason: turn that off with reasoning_budget=0, leave room for it, for "
                "example with reasoning_budget=4096, or lower it with reasoning_effort='low'"
            )


def _split(messages: Sequence[Message]) -> tuple[str, list[Any]]:
    """Separate the instructions, which have a parameter of their own, from the turns."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    turns = [{"role": m.role, "content": m.content} for m in messages if m.role != "system"]
    # Turns of one role in a row are joined by the API, but it wants one to answer to.
    return (system, turns) if turns else ("", [{"role": "user", "content": system}])
