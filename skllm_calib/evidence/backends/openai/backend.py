"""OpenAI, Azure OpenAI, and every server that speaks Chat Completions.

vLLM, SGLang, llama.cpp, Ollama and most hosted models speak it, each in a dialect of its own, which
is found out at run time (``dialect``). This file holds the parameters and the client. ``chat`` and
``responses`` write and read requests, ``decisions`` talks to the decision endpoint, ``connection``
sends; labels, texts and failures are read in ``hosted``, as for other providers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

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
from skllm_calib.evidence.backends.hosted.run import Run, check_budget
from skllm_calib.evidence.backends.openai.batches import OpenAIBatches
from skllm_calib.evidence.backends.openai.chat import ChatModel
from skllm_calib.evidence.backends.openai.connection import OpenAIConnection
from skllm_calib.evidence.backends.openai.decisions import Decisions
from skllm_calib.evidence.backends.openai.dialect import OpenAIDialect
from skllm_calib.evidence.backends.openai.responses import ResponsesModel, responses_dialect
from skllm_calib.exceptions import BackendError, InvalidInput

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAIBackend"]

_ADDRESS = "https://api.openai.com/v1"


class OpenAIBackend(HostedBackend):
    """A model behind OpenAI's APIs, or behind a server that speaks Chat Completions.

    Parameters
    ----------
    model : str
        Name of the model as the server knows it; on Azure the name of the deployment.
    base_url : str or None, default=None
        Address of the server, such as ``"http://localhost:8000/v1"``; on Azure the endpoint, such
        as ``"https://my-resource.openai.azure.com"``. None takes the environment variable
        OPENAI_BASE_URL (on Azure AZURE_OPENAI_ENDPOINT) or else OpenAI itself. An address with a
        user, a password or a query is refused here, because it would show; in the variable it may
        have them, and they are sent and never shown.
    api_key_env : str or None, default=None
        *Name* of the environment variable that holds the key, read at each run. None means
        OPENAI_API_KEY (on Azure AZURE_OPENAI_API_KEY). The key itself is not a parameter: it would
        show in representations, pickles and reports. A server of your own may need no key.
    api_version : str or None, default=None
        Version of Azure's API, such as ``"2024-10-21"``. Setting it selects Azure.
    top_logprobs : int or None, default=None
        How many alternatives to request at each position of the answer. None requests 20, the most
        that OpenAI documents, and 500 or more where a label may be missing from the list: servers
        of your own often list as many, which makes the labels exact. Whether a server does is
        found out with two rows. Where a model lists fewer, fewer are requested.
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
    seed : int or None, default=None
        Seed of the sampling, where the server takes one; the Responses API has none. Repetition
        `d` of a request uses ``seed + d``.
    extra_body : dict or None, default=None
        Further fields of the request, such as ``{"service_tier": "flex"}``. They override the
        fields this backend sets.
    reasoning_effort : str or None, default=None
        How much a reasoning model thinks before it answers. OpenAI documents "none", "minimal",
        "low", "medium", "high", "xhigh" and "max"; a model accepts some of them. A value that it
        refuses is an error, never dropped. Sent as ``reasoning_effort`` in Chat Completions and as
        ``reasoning={"effort": ...}`` in the Responses API. None leaves it to the model. With
        "none" some reasoning models show log-probabilities.
    reasoning_budget : int or None, default=None
        Tokens allowed for hidden reasoning in requests for text, on top of those of the answer:
        OpenAI counts both against ``max_completion_tokens`` (``max_output_tokens``). None allows
        2,000 once the model was seen to reason; an answer that was cut off before that is
        requested again.
    api : {"chat", "responses"}, default="chat"
        "chat": Chat Completions, which nearly every server speaks. "responses": OpenAI's Responses
        API, the only API of some models (needs openai 1.66 or later). It lists at most 20
        alternatives and continues no given beginning, so labels of several tokens are read along
        one sampled answer, with bounds for the rest. Nothing is stored on the provider's side
        (``store=False``).
    transport : {"direct", "sdk"}, default="direct"
        What sends requests. "direct": the HTTP client of the standard library, with what the SDK
        would send, in a fraction of the SDK's processor time. Azure, proxies and redirections are
        left to the SDK all the same. "sdk": all requests go through the SDK. Answers do not depend
        on it, and replies that were cached are found with both.

    Notes
    -----
    What a model refuses (``max_tokens``, ``temperature``, ``seed``, a number of alternatives) is
    learned from its own answer, and the request sent again without it. What two different rows
    have shown is taken to be true of all, for the life of the process;
    :func:`~skllm_calib.backends.clear_handles` forgets it. Log-probabilities are always requested
    at temperature 1, since some servers report them after dividing by the temperature. Labels of
    several tokens are read exactly from servers that continue an answer begun by the user
    (llama.cpp, vLLM, SGLang); elsewhere along one sampled answer, with bounds for the rest.

    Requests with choices go to the decision endpoint (``POST /v1/decisions``), which gives each
    choice a probability: openai 3.54.0 documents it for the model ``gpt-6-luna`` and for 2 to 255
    choices, whichever `api` the other requests use. Where a server has none, decision models are
    called in the System One format of llama.cpp, Ollama and others (``POST /v1/systemone``).
    Requests with dropout need a model on this machine.

    Reasoning that a server leaves in the text, as in ``<think>...</think>ham``, is taken out of it;
    where it never ends, because the answer was cut off, the row fails and the message says
    what to do.

    Examples
    --------
    >>> from skllm_calib.backends import OpenAIBackend
    >>> backend = OpenAIBackend("qwen3-8b", base_url="http://localhost:8000/v1")
    >>> backend
    OpenAIBackend(base_url='http://localhost:8000/v1', model='qwen3-8b')
    >>> backend.identity()
    {'provider': 'openai', 'model': 'qwen3-8b', 'base_url': 'http://localhost:8000/v1',
     'api_version': None, 'top_logprobs': None, 'seed': None, 'extra_body': {}}
    """

    answer_form: AnswerForm = "keys"
    base_url = address_parameter("OPENAI_BASE_URL")
    api_key_env = key_name_parameter()
    extra_body = body_parameter()

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        api_version: str | None = None,
        top_logprobs: int | None = None,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        seed: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        reasoning_effort: str | None = None,
        reasoning_budget: int | None = None,
        api: Literal["chat", "responses"] = "chat",
        transport: Literal["direct", "sdk"] = "direct",
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.api_version = api_version
        self.top_logprobs = top_logprobs
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.timeout = timeout
        self.max_retries = max_retries
        self.seed = seed
        self.extra_body = extra_body
        self.reasoning_effort = reasoning_effort
        self.reasoning_budget = reasoning_budget
        self.api = api
        self.transport = transport

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer; no key, and no user or password of the address."""
        # What is not set is left out: replies that were cached before it existed stay good.
        newer = {
            "reasoning_effort": self.reasoning_effort,
            "reasoning_budget": self.reasoning_budget,
            "api": None if self.api == "chat" else self.api,
        }
        return {
            "provider": "openai",
            "model": self.model,
            "base_url": self._access().public_address,
            "api_version": self.api_version,
            "top_logprobs": self.top_logprobs,
            "seed": self.seed,
            "extra_body": dict(self.extra_body or {}),
            **{name: value for name, value in newer.items() if value is not None},
        }

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests, `max_concurrency` at a time, as the answers come in.

        Raises
        ------
        AuthenticationFailed, ModelNotFound, SignalUnavailable, RateLimited
            If every request would fail alike: no key, no such model, no log-probabilities, no
            quota. The rest of the run is then cancelled.
        BackendError
            If the model refuses `reasoning_effort`.
        MissingDependency
            If the installed SDK is too old for ``api="responses"``.
        ValueError
            For an unknown `api` or `transport`, or a negative `reasoning_budget`.
        """
        return self._run().stream(requests, self.max_concurrency)

    def answering(self, first: Request) -> Answering:
        """Begin a run that gets its requests bit by bit."""
        return self._run().answering(self.max_concurrency)

    def _run(self) -> Run:
        self._check()
        connection = self.connect()
        return self.answerer(connection, self._dialect(connection.access))

    def connect(self, channels: Channels | None = None) -> OpenAIConnection:
        """Return a connection, through the usual channels or through others."""
        return self._connection(channels, self.timeout)

    def new_facts(self) -> OpenAIDialect:
        """Return what is known of a model before the first request."""
        return responses_dialect() if self.api == "responses" else OpenAIDialect()

    def answerer(self, connection: OpenAIConnection, facts: OpenAIDialect) -> Run:
        """Return what answers requests through a connection."""
        extra = dict(self.extra_body or {})
        model = (ResponsesModel if self.api == "responses" else ChatModel)(
            connection,
            facts,
            model=self.model,
            seed=self.seed,
            wishes={"reasoning_effort": self.reasoning_effort},
            extra_body=extra,
        )
        decisions = Decisions(connection, facts, model=self.model, extra_body=extra)
        return Run(
            model,
            top_logprobs=self.top_logprobs,
            reasoning_budget=self.reasoning_budget,
            decide=decisions.read,
        )

    def batch_service(self) -> OpenAIBatches:
        """Return the provider's batches."""
        self._check()
        if self.api_version is not None:
            raise InvalidInput(
                f"api_version={self.api_version!r} means Azure, whose batches are not supported: "
                "predict_proba asks row by row",
                "api_version",
                value=self.api_version,
            )
        channels = self._channels(self._access(), transport="sdk")
        return OpenAIBatches(self._connection(channels, LONGEST_CALL), self.model)

    def _connection(self, channels: Channels | None, timeout: float) -> OpenAIConnection:
        import openai  # noqa: PLC0415 (slow)

        access = self._access()
        # Other channels than the usual ones are no requests for which there are limits.
        allowance = NoAllowance() if channels else allowance_of(self, access)
        channels = channels or self._channels(access, self.transport)
        retries = self.max_retries
        return OpenAIConnection(
            openai, access, channels, allowance, timeout=timeout, max_retries=retries
        )

    def _check(self) -> None:
        if self.api not in ("chat", "responses"):
            raise InvalidInput(
                f"api={self.api!r}: must be 'chat' or 'responses'", "api", value=self.api
            )
        check_transport(self.transport)
        check_budget(self.reasoning_budget)

    def _access(self) -> Access:
        """Read the address and the key; both may come from the environment."""
        azure = self.api_version is not None
        variable = "AZURE_OPENAI_ENDPOINT" if azure else "OPENAI_BASE_URL"
        address = self.base_url or os.environ.get(variable)
        if not address and azure:
            raise InvalidInput(
                "api_version means Azure, which has no common address: give the endpoint of your "
                "resource as base_url, or set AZURE_OPENAI_ENDPOINT",
                "base_url",
                value=None,
            )
        name = self.api_key_env or ("AZURE_OPENAI_API_KEY" if azure else "OPENAI_API_KEY")
        return Access(address or _ADDRESS, name, read_key(name), "It often ends in /v1")

    def _channels(self, access: Access, transport: str) -> Channels:
        import openai  # noqa: PLC0415 (slow)

        azure = self.api_version is not None
        where = access.parts
        if access.key is None and not where.headers and (azure or where.public == _ADDRESS):
            raise no_key(access.key_name)

        def client(http: Any, key: str) -> openai.OpenAI:
            if self.api_version is None:
                return openai.OpenAI(
                    api_key=key,
                    base_url=where.public,
                    default_headers=where.headers,
                    default_query=where.query,
                    http_client=http,
                    max_retries=0,
                )
            return openai.AzureOpenAI(
                api_key=key,
                azure_endpoint=where.public,
                api_version=self.api_version,
                default_headers=where.headers,
                default_query=where.query,
                http_client=http,
                max_retries=0,
            )

        is_direct = transport == "direct" and not azure and not needs_proxy(where.public)

        def make(key: str) -> Channels:
            def of(http: Any) -> openai.OpenAI:
                return client(http, key)

            channels = sdk_channels(openai, of)
            if not is_direct:
                return channels
            return direct_channels(http_package(openai), of, channels, error_field="error")

        return get_client(access, make, "openai", self.api_version, is_direct)

    def _dialect(self, access: Access) -> OpenAIDialect:
        # What a model takes may depend on what else is sent, such as its reasoning effort.
        extra = json.dumps(self.extra_body, sort_keys=True, default=repr)
        what = (self.model, self.reasoning_effort, extra)
        handle = ("openai dialect", access.address, self.api_version, self.api, *what)
        return get_handle(handle, self.new_facts)
