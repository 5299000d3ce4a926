"""Mistral AI, and servers that speak its chat endpoint, through Mistral's own client.

This file holds the parameters and the client, ``_mistral_chat`` sends requests, ``_mistral_labels``
reads label probabilities, ``_mistral_errors`` tells what a failure means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from skllm_calib.evidence.backends.base import AnswerForm, BaseBackend, Reply, Request
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.hosted.hosted import (
    Access,
    answer_or_stop,
    check_budget,
    no_key,
    read_key,
)
from skllm_calib.evidence.backends.mistral.chat import Chat, Completion, Dialect, notes_on, usage_of
from skllm_calib.evidence.backends.mistral.labels import LabelReader
from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.exceptions import (
    BackendError,
    ContextTooLong,
    MissingDependency,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = ["MistralBackend"]

_ADDRESS = "https://api.mistral.ai"
# Tokens for hidden reasoning where the user gives no number. Reasoning about one short text is
# mostly done well before; what is not used is not paid for.
_HEADROOM = 2_000
_NO_KEY = "no-key"  # the client would else take MISTRAL_API_KEY, a key for another server


class MistralBackend(BaseBackend):
    """A model behind Mistral's chat endpoint. Needs ``pip install 'skllm-calib[mistral]'``.

    Parameters
    ----------
    model : str
        Name of the model, such as ``"mistral-small-latest"``.
    base_url : str or None, default=None
        Address of the server, without ``/v1``, such as ``"https://api.eu.mistral.ai"``. None means
        ``"https://api.mistral.ai"``.
    api_key_env : str or None, default=None
        *Name* of the environment variable that holds the key, read at each run; None means
        MISTRAL_API_KEY. The key itself is no parameter: it would show in representations, pickles
        and reports. A server given by its address may need none.
    top_logprobs : int, default=20
        How many alternatives to ask for at a position of the answer. Where a model lists fewer,
        fewer are asked for.
    max_concurrency : int, default=8
        How many requests are under way at the same time.
    timeout : float, default=60.0
        Seconds to wait for an answer.
    max_retries : int, default=5
        How often a request is sent again after a time-out, a lost connection, or an answer with
        status 408, 429 or 5xx. A server's Retry-After is honoured, up to a minute.
    seed : int or None, default=None
        Seed of the sampling (``random_seed``). Repetition `d` of a request uses ``seed + d``.
    reasoning_effort : str or None, default=None
        How much the model reasons before it answers, such as ``"none"`` or ``"high"``; which values
        there are depends on the model. None leaves it to the model.
    reasoning_budget : int or None, default=None
        Tokens allowed for hidden reasoning in requests for text, on top of those of the answer:
        ``max_tokens`` bounds both. None allows 2,000 once the model was seen to reason; an answer
        that was cut off before that is asked for again.
    prompt_mode : str or None, default=None
        ``"reasoning"`` has a reasoning model begin with Mistral's own system prompt.

    Notes
    -----
    What a model refuses (``temperature``, ``random_seed``, ``response_format``, a number of
    alternatives) is learned from its own answer, once in a process, and the request sent again
    without it; :func:`~skllm_calib.backends.clear_handles` forgets it. A refused
    `reasoning_effort` or `prompt_mode` ends the run instead, since it is the user's own wish.

    Log-probabilities (``logprobs``, ``top_logprobs``) are parameters of the chat endpoint in
    Mistral's client from version 3.4 on. A model that refuses them or sends none fails with
    ``SignalUnavailable``, once for the whole run.

    Examples
    --------
    >>> from skllm_calib.evidence.backends.mistral.backend import MistralBackend
    >>> backend = MistralBackend("mistral-small-latest", reasoning_effort="none")
    >>> backend
    MistralBackend(model='mistral-small-latest', reasoning_effort='none')
    >>> backend.identity()
    {'provider': 'mistral', 'model': 'mistral-small-latest', 'base_url': 'https://api.mistral.ai',
     'top_logprobs': 20, 'seed': None, 'reasoning_effort': 'none',
     'reasoning_budget': None, 'prompt_mode': None}
    """

    answer_form: AnswerForm = "keys"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        top_logprobs: int = 20,
        max_concurrency: int = 8,
        timeout: float = 60.0,
        max_retries: int = 5,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        reasoning_budget: int | None = None,
        prompt_mode: str | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.top_logprobs = top_logprobs
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.seed = seed
        self.reasoning_effort = reasoning_effort
        self.reasoning_budget = reasoning_budget
        self.prompt_mode = prompt_mode

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer; no key, and no user or password of the address."""
        address = Access(self.base_url or _ADDRESS, "", None)
        return {
            "provider": "mistral",
            "model": self.model,
            "base_url": address.public_address,
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
            For a negative `reasoning_budget`.
        """
        budget = self.reasoning_budget
        check_budget(budget)
        name = self.api_key_env or "MISTRAL_API_KEY"
        access = Access(self.base_url or _ADDRESS, name, read_key(name))
        wishes = {"reasoning_effort": self.reasoning_effort, "prompt_mode": self.prompt_mode}
        fixed = {name: value for name, value in wishes.items() if value is not None}
        # What a model takes may depend on what else is sent, such as its reasoning effort.
        known = ("mistral dialect", access.address, self.model, json.dumps(fixed, sort_keys=True))
        chat = Chat(
            self._client(access).complete,
            access,
            get_handle(known, Dialect),
            model=self.model,
            timeout=self.timeout,
            max_retries=self.max_retries,
            seed=self.seed,
            fixed=fixed,
        )
        row = _Run(chat, self.top_logprobs, budget)
        return answer_or_stop(row.answer, requests, self.max_concurrency)

    def _client(self, access: Access) -> _Client:
        if access.key is None and self.base_url is None:
            raise no_key(access.key_name)
        key = access.key or _NO_KEY
        digest = hashlib.sha256(key.encode()).hexdigest()
        handle = ("mistral client", access.address, access.key_name, digest)
        return get_handle(handle, lambda: _Client(key, access.address))


class _Client:
    """Mistral's client, used by all threads of a process, and its connections."""

    def __init__(self, key: str, address: str) -> None:
        try:
            from mistralai.client import Mistral, httpclient  # noqa: PLC0415  # optional, and slow
        except ImportError as error:
            raise MissingDependency(
                "MistralBackend needs the package mistralai, version 3.4 or later: "
                "pip install 'skllm-calib[mistral]'"
            ) from error
        http = vars(httpclient)["httpx"]  # its name has changed with the versions of the SDK
        # The client has no close(), and would close connections of its own in an event loop at some
        # later time. So it is given both kinds; the second one is never used.
        self._connections = http.Client(follow_redirects=True, limits=http.Limits())
        sdk = Mistral(
            api_key=key,
            server_url=address,
            client=self._connections,
            async_client=http.AsyncClient(),
        )
        self.complete = sdk.chat.complete  # looked up once: it is made at the first look

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


class _Run:
    """One call of :meth:`MistralBackend.run`."""

    def __init__(self, chat: Chat, top_logprobs: int, budget: int | None) -> None:
        self._chat = chat
        self._top_logprobs = top_logprobs
        self._budget = budget
        self._trees: dict[tuple[str, ...], LabelTree] = {}

    def answer(self, request: Request) -> Reply:
        if request.choices or request.dropout:
            what = "decision endpoint" if request.choices else "dropout at inference"
            raise SignalUnavailable(
                f"Mistral's models have no {what}: use signal='logprobs', 'self_reported' or "
                "'self_consistency'"
            )
        kind = "labels" if request.answers else "schema" if request.schema else "text"
        return self._chat.dialect.first_alone(kind, self._answer_now, request)

    def _answer_now(self, request: Request) -> Reply:
        if request.answers:
            tree = self._trees.setdefault(request.answers, LabelTree(request.answers))
            return LabelReader(self._chat, tree, request, self._top_logprobs).read()
        return self._text(request)

    def _text(self, request: Request) -> Reply:
        known, budget = self._chat.dialect, self._budget
        room = known.headroom if budget is None else budget
        calls = [self._ask(request, room)]
        if calls[0].reasoned and budget is None:
            known.headroom = _HEADROOM
            if calls[0].finish_reason == "length" and room < _HEADROOM:
                room = _HEADROOM
                calls.append(self._ask(request, room))
        call = calls[-1]
        if not call.text.strip() and call.finish_reason == "model_length":
            raise ContextTooLong(
                f"the prompt leaves no room for an answer in the context of {self._chat.model!r}"
            )
        if not call.text.strip() and call.finish_reason == "length":
            allowed = f"max_tokens={request.max_tokens}"
            allowed += f" and {room:,} tokens of reasoning" if room else ""
            raise UnreadableReply(
                f"the model {self._chat.model!r} used all of {allowed} before it wrote a word of "
                "its answer, as reasoning models do: allow more with reasoning_budget, or turn "
                "reasoning off with reasoning_effort='none' where the model takes that"
            )
        notes = notes_on(call.refused)
        if call.reasoned:
            notes += ("reasoning came before the answer; it is no part of the text",)
            if room and budget is None:
                notes += (
                    f"the model reasons: it was allowed {room:,} tokens more than the answer needs",
                )
        return Reply(call.text, notes=notes, refused=call.refused, **usage_of(calls))

    def _ask(self, request: Request, room: int) -> Completion:
        options: dict[str, Any] = {
            "max_tokens": request.max_tokens + room,
            "temperature": request.temperature,
        }
        if request.schema:
            schema = {"name": "answer", "schema": json.loads(request.schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        return self._chat.ask(messages, draw=request.draw, **options)
