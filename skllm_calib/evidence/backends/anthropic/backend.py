"""Claude, through Anthropic's Messages API.

Claude shows no log-probabilities, so this backend answers requests for text only. This file holds
the parameters and the client; ``chat`` writes and reads requests, ``facts`` holds what a model
takes. The SDK is optional (the extra `anthropic`) and imported when a first request is sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

from skllm_calib.evidence.backends.anthropic.batches import AnthropicBatches
from skllm_calib.evidence.backends.anthropic.chat import ClaudeModel
from skllm_calib.evidence.backends.anthropic.connection import AnthropicConnection
from skllm_calib.evidence.backends.anthropic.facts import ClaudeFacts
from skllm_calib.evidence.backends.base import AnswerForm, Answering, Reply, Request
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.hosted.access import Access, get_client, no_key, read_key
from skllm_calib.evidence.backends.hosted.address import (
    address_parameter,
    body_parameter,
    key_name_parameter,
)
from skllm_calib.evidence.backends.hosted.allowance import NoAllowance, allowance_of
from skllm_calib.evidence.backends.hosted.backend import HostedBackend
from skllm_calib.evidence.backends.hosted.batches import LONGEST_CALL
from skllm_calib.evidence.backends.hosted.channels import Channels, http_package, sdk_channels
from skllm_calib.evidence.backends.hosted.direct import (
    check_transport,
    direct_channels,
    needs_proxy,
)
from skllm_calib.evidence.backends.hosted.run import answer_or_stop, answering_of
from skllm_calib.exceptions import BackendError, InvalidInput, MissingDependency, SignalUnavailable

__all__ = ["AnthropicBackend"]

_ADDRESS = "https://api.anthropic.com"
_LEAST_BUDGET = 1024  # the API's own minimum


class AnthropicBackend(HostedBackend):
    """A Claude model behind Anthropic's Messages API, or behind a gateway that speaks it.

    Parameters
    ----------
    model : str
        Name of the model, such as ``"claude-haiku-4-5"``.
    base_url : str or None, default=None
        Address of the server, without ``/v1``. None takes the environment variable
        ANTHROPIC_BASE_URL or else Anthropic itself. An address with a user, a password or a query
        is refused here, because it would show; in the variable it may have them, and they are sent
        and never shown.
    api_key_env : str or None, default=None
        *Name* of the environment variable that holds the key, read at each run. None means
        ANTHROPIC_API_KEY. The key itself is not a parameter: it would show in representations,
        pickles and reports. A server of your own may need no key.
    max_concurrency : int, default=8
        Most requests in flight at the same time; fewer for a while after the server has refused
        some with status 429, 503 or 529.
    requests_per_minute, tokens_per_minute : float or None, default=None
        Most requests, and most tokens read and written, in any minute: of all threads, estimators
        and processes that use the same address, key and model, and of all workers on one cache.
        None learns it from the headers of the server, or by being refused.
    timeout : float, default=60.0
        Seconds after which a request is given up as a whole, also while its answer still comes in.
    max_retries : int, default=5
        How often a request is sent again after a time-out, a lost connection, or an answer with
        status 408, 409, 429 or 5xx. A server's Retry-After is honoured up to 60 seconds; a row for
        which it asks for more fails. Where nobody has answered yet, a refused connection is tried
        once more, a quarter of a second later.
    reasoning_effort : str or None, default=None
        How much effort the model puts into its answer: "low", "medium", "high", "xhigh" or "max",
        of which a model accepts some. None leaves it to the model.
    reasoning_budget : int or None, default=None
        Tokens allowed for hidden reasoning, 1024 or more, on top of the answer: they make the
        model reason, and are paid for. 0 turns reasoning off. None leaves it to the model; newer
        models then reason and may use up the room for the answer. A model that accepts no budget
        decides itself how much it reasons, within the room that the budget leaves; a note of the
        reply says so.
    extra_body : dict or None, default=None
        Further fields of the request, such as ``{"service_tier": "standard_only"}``. They
        override the fields this backend sets.
    transport : {"direct", "sdk"}, default="direct"
        What sends requests, as in :class:`OpenAIBackend`.

    Notes
    -----
    Signals that need log-probabilities fail with ``SignalUnavailable``, and nothing is sent; those
    that read text ('self_reported', 'self_consistency') work. What a model refuses (a temperature,
    a schema, a form of reasoning) is learned from its own answer, and the request sent again
    without it: the reply names it in `refused` and says in `notes` what was used instead. What two
    different rows have shown is taken to be true of all, for the life of the process;
    :func:`~skllm_calib.backends.clear_handles` forgets it. The API takes no seed: repetitions of a
    request differ anyway.

    Examples
    --------
    >>> from skllm_calib.backends import AnthropicBackend
    >>> backend = AnthropicBackend("claude-haiku-4-5", base_url="http://localhost:8000")
    >>> backend
    AnthropicBackend(base_url='http://localhost:8000', model='claude-haiku-4-5')
    >>> backend.identity()
    {'provider': 'anthropic', 'model': 'claude-haiku-4-5', 'base_url': 'http://localhost:8000',
     'reasoning_effort': None, 'reasoning_budget': None, 'extra_body': {}}
    """

    answer_form: AnswerForm = "keys"
    base_url = address_parameter("ANTHROPIC_BASE_URL")
    api_key_env = key_name_parameter()
    extra_body = body_parameter()

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        reasoning_effort: str | None = None,
        reasoning_budget: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        transport: Literal["direct", "sdk"] = "direct",
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.timeout = timeout
        self.max_retries = max_retries
        self.reasoning_effort = reasoning_effort
        self.reasoning_budget = reasoning_budget
        self.extra_body = extra_body
        self.transport = transport

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
            For an unknown `transport`, or a `reasoning_budget` that the API does not have.
        """
        answer, end = self._run(any(_is_text(request) for request in requests))
        return answer_or_stop(answer, requests, self.max_concurrency, end)

    def answering(self, first: Request) -> Answering:
        """Begin a run that gets its requests bit by bit."""
        answer, end = self._run(_is_text(first))
        return answering_of(answer, self.max_concurrency, end)

    def _run(self, sends: bool) -> tuple[Callable[[Request], Reply], Callable[[], None]]:
        check_transport(self.transport)
        _thinking_forms(self.reasoning_budget)  # whether there are any
        if not sends:  # so neither a key nor the SDK is needed
            return self._decline, lambda: None
        connection = self.connect()
        model = self.answerer(connection, self._facts(connection.access))

        def answer(request: Request) -> Reply:
            return model.answer(request) if _is_text(request) else self._decline(request)

        return answer, connection.close

    def connect(self, channels: Channels | None = None) -> AnthropicConnection:
        """Return a connection, through the usual channels or through others."""
        return self._connection(channels, self.timeout)

    def new_facts(self) -> ClaudeFacts:
        """Return what is known of a model before the first request."""
        own = dict(self.extra_body or {})
        fixed = frozenset({*own, *(own.get("output_config") or {})})
        return ClaudeFacts(thinking_forms=_thinking_forms(self.reasoning_budget), fixed=fixed)

    def answerer(self, connection: AnthropicConnection, facts: ClaudeFacts) -> ClaudeModel:
        """Return what answers requests for text through a connection."""
        return ClaudeModel(
            connection,
            facts,
            model=self.model,
            reasoning_effort=self.reasoning_effort,
            reasoning_budget=self.reasoning_budget,
            extra_body=dict(self.extra_body or {}),
        )

    def batch_service(self) -> AnthropicBatches:
        """Return the provider's batches."""
        channels = self._channels(self._access(read_key(self._key_name)), transport="sdk")
        return AnthropicBatches(self._connection(channels, LONGEST_CALL), self.model)

    def _connection(self, channels: Channels | None, timeout: float) -> AnthropicConnection:
        access = self._access(read_key(self._key_name))
        # Other channels than the usual ones are no requests for which there are limits.
        allowance = NoAllowance() if channels else allowance_of(self, access)
        channels = channels or self._channels(access, self.transport)
        sdk, retries = _import_sdk(), self.max_retries
        return AnthropicConnection(
            sdk, access, channels, allowance, timeout=timeout, max_retries=retries
        )

    def _channels(self, access: Access, transport: str) -> Channels:
        if access.key is None and access.public_address == _ADDRESS:
            raise no_key(access.key_name)
        sdk = _import_sdk()
        is_direct = transport == "direct" and not needs_proxy(access.public_address)

        def channels(key: str) -> Channels:
            def client(http: Any) -> Any:
                return sdk.Anthropic(
                    api_key=key,
                    base_url=access.public_address,
                    default_headers=access.parts.headers,
                    default_query=access.parts.query,
                    http_client=http,
                    max_retries=0,
                )

            own = sdk_channels(sdk, client)
            return direct_channels(http_package(sdk), client, own) if is_direct else own

        return get_client(access, channels, "anthropic", is_direct)

    @property
    def _key_name(self) -> str:
        return self.api_key_env or "ANTHROPIC_API_KEY"

    def _access(self, key: str | None) -> Access:
        address = self.base_url or os.environ.get("ANTHROPIC_BASE_URL") or _ADDRESS
        return Access(address, self._key_name, key, "It is given without /v1")

    def _facts(self, access: Access) -> ClaudeFacts:
        # What a model takes depends on what else is sent, such as a budget for reasoning.
        beside = (self.reasoning_effort, self.reasoning_budget)
        extra = json.dumps(dict(self.extra_body or {}), sort_keys=True, default=repr)
        handle = ("anthropic facts", access.address, self.model, beside, extra)
        return get_handle(handle, self.new_facts)

    def _decline(self, request: Request) -> Reply:
        if request.choices:
            what = "has no decision endpoint"
        elif request.dropout is not None:
            what = "cannot be read with dropout, which needs a model on your own machine"
        else:
            what = "shows no log-probabilities, so signal='logprobs' cannot work with it"
        raise SignalUnavailable(
            f"the model {self.model!r} is reached through Anthropic's API and {what}. The signals "
            "'self_reported' and 'self_consistency' need only text and would work."
        )


def _import_sdk() -> ModuleType:
    try:
        import anthropic  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise MissingDependency(
            "Claude needs the package 'anthropic': pip install 'skllm-calib[anthropic]' "
            f"(importing it said: {error})"
        ) from error
    return anthropic


def _is_text(request: Request) -> bool:
    return not (request.answers or request.choices or request.dropout is not None)


def _thinking_forms(budget: int | None) -> tuple[dict[str, Any] | None, ...]:
    """Return the ways to request this budget, from the exact one to what newer models have left."""
    if budget is None:
        return (None,)
    if budget == 0:
        return ({"type": "disabled"}, {"type": "between_tools"}, None)
    if budget < _LEAST_BUDGET:
        raise InvalidInput(
            f"reasoning_budget={budget!r}: must be {_LEAST_BUDGET} tokens or more, 0 to turn "
            "reasoning off, or None to leave it to the model",
            "reasoning_budget",
            value=budget,
        )
    return ({"type": "enabled", "budget_tokens": budget}, {"type": "adaptive"})
