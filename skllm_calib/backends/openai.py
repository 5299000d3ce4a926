"""OpenAI, Azure OpenAI, and every server that speaks Chat Completions.

vLLM, SGLang, llama.cpp, Ollama and most hosted models speak it, each in a dialect of its own, which
is found out at run time (``_openai_dialect``). This file holds the parameters and the client,
``_openai_chat`` sends requests, ``_openai_labels`` reads label probabilities, ``_openai_errors``
tells what a failure means.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import openai

from skllm_calib.backends._hosted import Access, answer_or_stop, no_key, read_key
from skllm_calib.backends._openai_chat import Chat, Tally
from skllm_calib.backends._openai_dialect import Dialect
from skllm_calib.backends._openai_labels import LabelReader
from skllm_calib.backends.base import AnswerForm, BaseBackend, Reply, Request
from skllm_calib.backends.registry import get_handle
from skllm_calib.exceptions import BackendError, UnreadableReply
from skllm_calib.label_tokens import LabelTree

__all__ = ["OpenAIBackend"]

_ADDRESS = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # the SDK wants one, a local server does not


class OpenAIBackend(BaseBackend):
    """A model behind OpenAI's Chat Completions API, or behind a server that speaks it.

    Parameters
    ----------
    model : str
        Name of the model as the server knows it; on Azure the name of the deployment.
    base_url : str or None, default=None
        Address of the server, such as ``"http://localhost:8000/v1"``; on Azure the endpoint, such
        as ``"https://my-resource.openai.azure.com"``. None takes the environment variable
        OPENAI_BASE_URL (on Azure AZURE_OPENAI_ENDPOINT) or else OpenAI itself.
    api_key_env : str or None, default=None
        *Name* of the environment variable that holds the key, read at each run. None means
        OPENAI_API_KEY (on Azure AZURE_OPENAI_API_KEY). The key itself is no parameter: it would
        show in representations, pickles and reports. A server given by its address may need none.
    api_version : str or None, default=None
        Version of Azure's API, such as ``"2024-10-21"``. Giving it means Azure.
    top_logprobs : int or None, default=None
        How many alternatives to ask for at a position of the answer. None asks for 20, the most
        that OpenAI documents, and tries 500 and more where a label may hide behind the end of the
        list: servers of your own often list as many, which makes the labels exact. Whether a
        server does is found out once. Where a model lists fewer, fewer are asked for.
    max_concurrency : int, default=8
        How many requests are under way at the same time.
    timeout : float, default=60.0
        Seconds to wait for an answer.
    max_retries : int, default=5
        How often a request is sent again after a time-out, a lost connection, or an answer with
        status 408, 409, 429 or 5xx. A server's Retry-After is honoured.
    seed : int or None, default=None
        Seed of the sampling, where the server takes one. Repetition `d` of a request uses
        ``seed + d``.
    extra_body : dict or None, default=None
        Further fields of the request, such as ``{"reasoning_effort": "none"}``. They win over
        what is sent otherwise.

    Notes
    -----
    What a model refuses (``max_tokens``, ``temperature``, ``seed``, a number of alternatives) is
    learned from its own answer, once in a process, and the request sent again without it;
    :func:`~skllm_calib.backends.clear_handles` forgets it. Log-probabilities are always asked for
    at temperature 1, since some servers report them after dividing by the temperature. Labels of
    several tokens are read exactly from servers that continue an answer begun by the user
    (llama.cpp, vLLM, SGLang); elsewhere along one sampled answer, with bounds for the rest.

    Examples
    --------
    >>> from skllm_calib.backends.openai import OpenAIBackend
    >>> backend = OpenAIBackend("qwen3-8b", base_url="http://localhost:8000/v1")
    >>> backend
    OpenAIBackend(base_url='http://localhost:8000/v1', model='qwen3-8b')
    >>> backend.identity()
    {'provider': 'openai', 'model': 'qwen3-8b', 'base_url': 'http://localhost:8000/v1',
     'api_version': None, 'top_logprobs': None, 'seed': None, 'extra_body': {}}
    """

    answer_form: AnswerForm = "keys"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        api_version: str | None = None,
        top_logprobs: int | None = None,
        max_concurrency: int = 8,
        timeout: float = 60.0,
        max_retries: int = 5,
        seed: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.api_version = api_version
        self.top_logprobs = top_logprobs
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.seed = seed
        self.extra_body = extra_body

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer; no key, and no user or password of the address."""
        return {
            "provider": "openai",
            "model": self.model,
            "base_url": self._access().public_address,
            "api_version": self.api_version,
            "top_logprobs": self.top_logprobs,
            "seed": self.seed,
            "extra_body": dict(self.extra_body or {}),
        }

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests, `max_concurrency` at a time, as the answers come in.

        Raises
        ------
        AuthenticationFailed, ModelNotFound, SignalUnavailable, RateLimited
            If every request would fail alike: no key, no such model, no log-probabilities, no
            quota. The rest of the run is then cancelled.
        """
        access = self._access()
        chat = Chat(
            self._client(access).with_options(timeout=self.timeout, max_retries=self.max_retries),
            access,
            self._dialect(access),
            model=self.model,
            seed=self.seed,
            extra_body=dict(self.extra_body or {}),
        )
        return _Run(chat, self.top_logprobs).stream(requests, self.max_concurrency)

    def _access(self) -> Access:
        """Read the address and the key; both may come from the environment."""
        azure = self.api_version is not None
        variable = "AZURE_OPENAI_ENDPOINT" if azure else "OPENAI_BASE_URL"
        address = self.base_url or os.environ.get(variable)
        if not address and azure:
            raise ValueError(
                "api_version means Azure, which has no common address: give the endpoint of your "
                "resource as base_url, or set AZURE_OPENAI_ENDPOINT"
            )
        name = self.api_key_env or ("AZURE_OPENAI_API_KEY" if azure else "OPENAI_API_KEY")
        return Access(address or _ADDRESS, name, read_key(name))

    def _client(self, access: Access) -> openai.OpenAI:
        azure = self.api_version is not None
        if access.key is None and (azure or access.address == _ADDRESS):
            raise no_key(access.key_name)
        key = access.key or _NO_KEY

        def make() -> openai.OpenAI:
            if self.api_version is None:
                return openai.OpenAI(api_key=key, base_url=access.address)
            return openai.AzureOpenAI(
                api_key=key, azure_endpoint=access.address, api_version=self.api_version
            )

        digest = hashlib.sha256(key.encode()).hexdigest()
        handle = ("openai client", access.address, self.api_version, access.key_name, digest)
        return get_handle(handle, make)

    def _dialect(self, access: Access) -> Dialect:
        # What a model takes may depend on what else is sent, such as its reasoning effort.
        extra = json.dumps(self.extra_body, sort_keys=True, default=repr)
        handle = ("openai dialect", access.address, self.api_version, self.model, extra)
        return get_handle(handle, Dialect)


class _Run:
    """One call of :meth:`OpenAIBackend.run`."""

    def __init__(self, chat: Chat, top_logprobs: int | None) -> None:
        self._chat = chat
        self._top_logprobs = top_logprobs
        self._trees: dict[tuple[str, ...], LabelTree] = {}

    def stream(
        self, requests: Sequence[Request], n_workers: int
    ) -> Iterator[tuple[int, Reply | BackendError]]:
        return answer_or_stop(self._answer, requests, n_workers)

    def _answer(self, request: Request) -> Reply:
        kind, known = "labels" if request.answers else "text", self._chat.dialect
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
        tally = Tally()
        if request.answers:
            tree = self._trees.setdefault(request.answers, LabelTree(request.answers))
            reply = LabelReader(self._chat, tree, request, tally, self._top_logprobs).read()
        else:
            reply = self._text(request, tally)
        return replace(reply, **asdict(tally))

    def _text(self, request: Request, tally: Tally) -> Reply:
        completion = self._chat.ask(
            [{"role": m.role, "content": m.content} for m in request.messages],
            tally,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            draw=request.draw,
        )
        choice = completion.choices[0]
        text = choice.message.content or ""
        if not text.strip() and choice.finish_reason == "length":
            raise UnreadableReply(
                f"the model {self._chat.model!r} used all of max_tokens={request.max_tokens} "
                "before it wrote a word of its answer, as reasoning models do: allow more tokens, "
                "or turn reasoning off, for example with extra_body={'reasoning_effort': 'none'}"
            )
        return Reply(text, notes=self._chat.dialect.notes())
