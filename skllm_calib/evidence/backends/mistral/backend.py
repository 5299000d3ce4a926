"""Mistral AI, and servers that speak its chat endpoint, through Mistral's own client.

This file holds the parameters and the client, ``chat`` writes and reads requests, ``connection``
sends them; labels, texts and failures are read in ``hosted``, as for other providers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from skllm_calib.evidence.backends.base import AnswerForm, Answering, Reply, Request
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.hosted.access import Access, get_client, no_key, read_key
from skllm_calib.evidence.backends.hosted.address import (
    Address,
    address_parameter,
    key_name_parameter,
)
from skllm_calib.evidence.backends.hosted.allowance import NoAllowance, allowance_of
from skllm_calib.evidence.backends.hosted.backend import HostedBackend
from skllm_calib.evidence.backends.hosted.batches import LONGEST_CALL
from skllm_calib.evidence.backends.hosted.channels import Channels, SDKChannel
from skllm_calib.evidence.backends.hosted.direct import (
    check_transport,
    direct_channels,
    needs_proxy,
)
from skllm_calib.evidence.backends.hosted.run import Run, check_budget
from skllm_calib.evidence.backends.mistral.batches import MistralBatches
from skllm_calib.evidence.backends.mistral.chat import MistralDialect, MistralModel
from skllm_calib.evidence.backends.mistral.connection import MistralClient, MistralConnection
from skllm_calib.exceptions import BackendError, MissingDependency

__all__ = ["MistralBackend"]

_ADDRESS = "https://api.mistral.ai"


class MistralBackend(HostedBackend):
    """A model behind Mistral's chat endpoint. Needs ``pip install 'skllm-calib[mistral]'``.

    Parameters
    ----------
    model : str
        Name of the model, such as ``"mistral-small-latest"``.
    base_url : str or None, default=None
        Address of the server, without ``/v1``, such as ``"https://api.eu.mistral.ai"``. None takes
        the environment variable MISTRAL_BASE_URL or else ``"https://api.mistral.ai"``. An address
        with a user, a password or a query is refused here, because it would show; in the variable
        it may have them, and they are sent and never shown.
    api_key_env : str or None, default=None
        *Name* of the environment variable that holds the key, read at each run; None means
        MISTRAL_API_KEY. The key itself is not a parameter: it would show in representations,
        pickles and reports. A server of your own may need no key.
    top_logprobs : int, default=20
        How many alternatives to request at each position of the answer. Where a model lists fewer,
        fewer are requested.
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
        Seed of the sampling (``random_seed``). Repetition `d` of a request uses ``seed + d``.
    reasoning_effort : str or None, default=None
        How much the model reasons before it answers, such as ``"none"`` or ``"high"``; the accepted
        values depend on the model. None leaves it to the model.
    reasoning_budget : int or None, default=None
        Tokens allowed for hidden reasoning in requests for text, on top of those of the answer:
        ``max_tokens`` bounds both. None allows 2,000 once the model was seen to reason; an answer
        that was cut off before that is requested again.
    prompt_mode : str or None, default=None
        ``"reasoning"`` has a reasoning model begin with Mistral's own system prompt.
    transport : {"direct", "sdk"}, default="direct"
        What sends requests, as in :class:`OpenAIBackend`.

    Notes
    -----
    What a model refuses (``temperature``, ``random_seed``, ``response_format``, a number of
    alternatives) is learned from its own answer, and the request sent again without it. What two
    different rows have shown is taken to be true of all, for the life of the process;
    :func:`~skllm_calib.backends.clear_handles` forgets it. A refused `reasoning_effort` or
    `prompt_mode` ends the run instead, since you asked for it.

    Log-probabilities (``logprobs``, ``top_logprobs``) are parameters of the chat endpoint in
    Mistral's client from version 3.4 on. A model that refuses them or sends none fails with
    ``SignalUnavailable``, once for the whole run.

    Examples
    --------
    >>> from skllm_calib.backends import MistralBackend
    >>> backend = MistralBackend("mistral-small-latest", reasoning_effort="none")
    >>> backend
    MistralBackend(model='mistral-small-latest', reasoning_effort='none')
    >>> backend.identity()
    {'provider': 'mistral', 'model': 'mistral-small-latest', 'base_url': 'https://api.mistral.ai',
     'top_logprobs': 20, 'seed': None, 'reasoning_effort': 'none',
     'reasoning_budget': None, 'prompt_mode': None}
    """

    answer_form: AnswerForm = "keys"
    base_url = address_parameter("MISTRAL_BASE_URL")
    api_key_env = key_name_parameter()

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        top_logprobs: int = 20,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        reasoning_budget: int | None = None,
        prompt_mode: str | None = None,
        transport: Literal["direct", "sdk"] = "direct",
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.top_logprobs = top_logprobs
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.timeout = timeout
        self.max_retries = max_retries
        self.seed = seed
        self.reasoning_effort = reasoning_effort
        self.reasoning_budget = reasoning_budget
        self.prompt_mode = prompt_mode
        self.transport = transport

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer; no key, and no user or password of the address."""
        return {
            "provider": "mistral",
            "model": self.model,
            "base_url": self._access(None).public_address,
            "top_logprobs": self.top_logprobs,
            "seed": self.seed,
            "reasoning_effort": self.reasoning_effort,
            "reasoning_budget": self.reasoning_budget,
            "prompt_mode": self.prompt_mode,
        }

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests, `max_concurrency` at a time, as the answers come in.

        Raises
        ------
        AuthenticationFailed, ModelNotFound, SignalUnavailable
            If every request would fail alike: no key, no such model, no log-probabilities. The
            rest of the run is then cancelled.
        MissingDependency
            If the package ``mistralai`` is not installed, or is too old.
        ValueError
            For an unknown `transport` or a negative `reasoning_budget`.
        """
        return self._run().stream(requests, self.max_concurrency)

    def answering(self, first: Request) -> Answering:
        """Begin a run that gets its requests bit by bit."""
        return self._run().answering(self.max_concurrency)

    def _run(self) -> Run:
        check_transport(self.transport)
        check_budget(self.reasoning_budget)
        connection = self.connect()
        # What a model takes may depend on what else is sent, such as its reasoning effort.
        known = ("mistral dialect", connection.access.address, self.model, json.dumps(self._wishes))
        return self.answerer(connection, get_handle(known, self.new_facts))

    def connect(self, channels: Channels | None = None) -> MistralConnection:
        """Return a connection, through the usual channels or through others."""
        return self._connection(channels, self.timeout)

    def new_facts(self) -> MistralDialect:
        """Return what is known of a model before the first request."""
        return MistralDialect()

    def answerer(self, connection: MistralConnection, facts: MistralDialect) -> Run:
        """Return what answers requests through a connection."""
        model = MistralModel(
            connection,
            facts,
            model=self.model,
            seed=self.seed,
            wishes=self._wishes,
            extra_body={},
        )
        return Run(model, top_logprobs=self.top_logprobs, reasoning_budget=self.reasoning_budget)

    def batch_service(self) -> MistralBatches:
        """Return the provider's batches."""
        channels = self._channels(self._access(read_key(self._key_name)), transport="sdk")
        return MistralBatches(self._connection(channels, LONGEST_CALL), self.model)

    def _connection(self, channels: Channels | None, timeout: float) -> MistralConnection:
        access = self._access(read_key(self._key_name))
        # Other channels than the usual ones are no requests for which there are limits.
        allowance = NoAllowance() if channels else allowance_of(self, access)
        channels = channels or self._channels(access, self.transport)
        retries = self.max_retries
        return MistralConnection(access, channels, allowance, timeout=timeout, max_retries=retries)

    @property
    def _wishes(self) -> dict[str, str | None]:
        return {"reasoning_effort": self.reasoning_effort, "prompt_mode": self.prompt_mode}

    @property
    def _key_name(self) -> str:
        return self.api_key_env or "MISTRAL_API_KEY"

    def _access(self, key: str | None) -> Access:
        address = self.base_url or os.environ.get("MISTRAL_BASE_URL") or _ADDRESS
        return Access(address, self._key_name, key, "It goes without /v1")

    def _channels(self, access: Access, transport: str) -> Channels:
        if access.key is None and access.public_address == _ADDRESS:
            raise no_key(access.key_name)
        is_direct = transport == "direct" and not needs_proxy(access.public_address)

        def make(key: str) -> Channels:
            return _channels(key, access.parts, is_direct)

        return get_client(access, make, "mistral", is_direct)


def _channels(key: str, where: Address, is_direct: bool) -> Channels:
    try:
        from mistralai.client import Mistral, httpclient  # noqa: PLC0415  # optional, and slow
    except ImportError as error:
        raise MissingDependency(
            "MistralBackend needs the package mistralai, version 3.4 or later: "
            "pip install 'skllm-calib[mistral]'"
        ) from error
    http = vars(httpclient)["httpx"]  # its name has changed with the versions of the SDK
    certificates = http.create_ssl_context()  # once: reading them takes longer than a request
    # The SDK would close connections of its own in an event loop at some later time. So it is given
    # both kinds; this one is never used.
    unused = http.AsyncClient(verify=certificates)

    def client(own: Any) -> MistralClient:
        own.auth = (where.user, where.password) if where.headers else None
        own.params = where.query
        sdk = Mistral(api_key=key, server_url=where.public, client=own, async_client=unused)
        return MistralClient(sdk)

    def make() -> SDKChannel:
        own = http.Client(follow_redirects=True, verify=certificates)
        return SDKChannel(own, client(own))

    channels = Channels(make)
    return direct_channels(http, client, channels) if is_direct else channels
