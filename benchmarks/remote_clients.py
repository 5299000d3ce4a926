"""The clients of `remote.py`: each in a process of its own, so also with a Python of its own.

Needs nothing but the package of the client that is named on the command line; the task is the next
argument, as JSON. Prints what it took as JSON. Imports, the first requests and the connections of
a run before it do not count.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

QUESTION = "Which is it: A (ham) or B (spam)? Answer with the letter only.\n\n{}"
OPTIONS: dict[str, Any] = {
    "model": "m",
    "temperature": 1,
    "max_tokens": 1,
    "logprobs": True,
    "top_logprobs": 20,
}
Ask = Callable[[Sequence[str]], object]


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTION.format(text)}]


def ours(url: str, n_at_once: int, *, cached: bool = False, **options: Any) -> Ask:
    from skllm_calib import LLMClassifier
    from skllm_calib.backends import OpenAIBackend

    path = os.path.join(tempfile.mkdtemp(), "replies.sqlite")
    llm = LLMClassifier(
        OpenAIBackend("m", base_url=url, max_concurrency=n_at_once, **options),
        classes=["ham", "spam"],
        cache=path if cached else None,
    )
    return llm.predict_proba


def sdk_threads(url: str, n_at_once: int) -> Ask:
    import openai

    client = openai.OpenAI(base_url=url)

    def ask(text: str) -> float:
        reply = client.chat.completions.create(messages=turns(text), **OPTIONS)
        return reply.choices[0].logprobs.content[0].top_logprobs[0].logprob

    def ask_all(texts: Sequence[str]) -> list[float]:
        with ThreadPoolExecutor(n_at_once) as pool:
            return list(pool.map(ask, texts))

    return ask_all


def in_tasks(n_at_once: int, client: Any, ask: Callable[[Any, str], Any]) -> Ask:
    """Ask with asyncio, in one loop that stays."""
    loop = asyncio.new_event_loop()

    async def ask_all(texts: Sequence[str]) -> None:
        left = iter(texts)

        async def work() -> None:
            for text in left:
                await ask(opened, text)

        await asyncio.gather(*(work() for _ in range(n_at_once)))

    async def make() -> Any:
        return client()

    opened = loop.run_until_complete(make())
    return lambda texts: loop.run_until_complete(ask_all(texts))


def sdk_asyncio(url: str, n_at_once: int) -> Ask:
    import openai

    async def ask(client: Any, text: str) -> float:
        reply = await client.chat.completions.create(messages=turns(text), **OPTIONS)
        return reply.choices[0].logprobs.content[0].top_logprobs[0].logprob

    return in_tasks(n_at_once, lambda: openai.AsyncOpenAI(base_url=url), ask)


def aiohttp_alone(url: str, n_at_once: int) -> Ask:
    import aiohttp

    async def ask(client: Any, text: str) -> Any:
        body = {"messages": turns(text), **OPTIONS}
        async with client.post(f"{url}/chat/completions", json=body) as reply:
            return await reply.json()

    def client() -> Any:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=n_at_once))

    return in_tasks(n_at_once, client, ask)


def http_client_alone(url: str, n_at_once: int) -> Ask:
    address, _, path = url.removeprefix("http://").partition("/")
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-test"}
    own = threading.local()

    def ask(text: str) -> Any:
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection(address)
            own.connection.connect()
            own.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps({"messages": turns(text), **OPTIONS}).encode()
        own.connection.request("POST", f"/{path}/chat/completions", body, headers)
        return json.loads(own.connection.getresponse().read())

    pool = ThreadPoolExecutor(n_at_once)
    return lambda texts: list(pool.map(ask, texts))


def langchain(url: str, n_at_once: int) -> Ask:
    from langchain_openai import ChatOpenAI

    options = {name: value for name, value in OPTIONS.items() if name != "model"}
    chain = ChatOpenAI(model="m", base_url=url).bind(**options)
    config = {"max_concurrency": n_at_once}
    return lambda texts: chain.batch([QUESTION.format(text) for text in texts], config=config)


def scikit_llm(url: str, n_at_once: int) -> Ask:
    """Ask for labels, which is all that the package gives."""
    from skllm.config import SKLLMConfig
    from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier

    SKLLMConfig.set_openai_key(os.environ["OPENAI_API_KEY"])
    SKLLMConfig.set_openai_org("")
    SKLLMConfig.set_gpt_url(url)
    classifier = ZeroShotGPTClassifier(model="custom_url::m").fit(None, ["A", "B"])
    return lambda texts: classifier.predict(list(texts), num_workers=n_at_once)


def openaivec(url: str, n_at_once: int) -> Ask:
    """Ask for labels, which is all that the package gives, of one text at a time.

    It counts tokens before it asks, with a tokenizer that it would download; bytes do as well.
    """
    import tiktoken
    from openai import AsyncOpenAI
    from openaivec import AsyncBatchResponses

    ranks = {bytes([i]): i for i in range(256)}
    counted = tiktoken.Encoding("bytes", pat_str="(?s).", mergeable_ranks=ranks, special_tokens={})
    tiktoken.get_encoding = lambda name: counted
    loop = asyncio.new_event_loop()

    async def make() -> Any:
        return AsyncOpenAI(base_url=url)

    client = loop.run_until_complete(make())

    def ask_all(texts: Sequence[str]) -> Any:
        ask = AsyncBatchResponses.of(
            client, "m", QUESTION.format(""), batch_size=1, max_concurrency=n_at_once
        )
        return loop.run_until_complete(ask.parse(list(texts)))

    return ask_all


class Client(NamedTuple):
    """How a client is made, and which share of the rows it gets: one in so many."""

    make: Callable[..., Ask]
    share: int = 1
    options: Mapping[str, Any] = MappingProxyType({})


CLIENTS = {
    "skllm-calib": Client(ours),
    "skllm-calib, cached": Client(ours, 1, {"cached": True}),
    "skllm-calib, SDK": Client(ours, 5, {"transport": "sdk"}),
    "skllm-calib, SDK, cached": Client(ours, 5, {"transport": "sdk", "cached": True}),
    "openai, threads": Client(sdk_threads, 5),
    "openai, asyncio": Client(sdk_asyncio, 5),
    "langchain-openai": Client(langchain, 5),
    "scikit-llm": Client(scikit_llm, 50),
    "openaivec": Client(openaivec, 5),
    "http.client alone": Client(http_client_alone),
    "aiohttp alone": Client(aiohttp_alone),
}


def bytes_written() -> int:
    """Return how many bytes this process has written to files; Linux tells."""
    try:
        counts = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(counts.split("wchar:")[1].split()[0])


def main(name: str, url: str, n_rows: int, n_at_once: int) -> None:
    client = CLIENTS[name]
    ask = client.make(url, n_at_once, **client.options)
    texts = [f"message {i}: " + "please confirm the meeting at noon " * 5 for i in range(n_rows)]
    ask([f"first, {text}" for text in texts[: min(n_at_once, n_rows // 2)]])
    cpu, wall, written = time.process_time(), time.perf_counter(), bytes_written()
    ask(texts)
    taken = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "written": bytes_written() - written,
    }
    print(json.dumps({**taken, "n_rows": n_rows}), flush=True)
    os._exit(0)  # some packages leave sessions open


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    main(sys.argv[1], **json.loads(sys.argv[2]))
