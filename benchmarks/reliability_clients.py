"""The clients of `reliability.py`: each in a process of its own, so also with a Python of its own.

Needs nothing but the package of the client that is named on the command line. A line of standard
input is a task (the fields of `Task` as JSON); the line of standard output that follows has what
came of it: ``rows`` (three numbers per text, or null), ``error``, or ``interrupted``.

Each package is used as its documentation shows it, with its own retries. Where a caller has to read
a reply, the reader is a careful one: it looks for the three keys only and divides by their sum.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

KEYS = "ABC"
CLASSES = {"A": "ham", "B": "other", "C": "spam"}
AT_ONCE = 16
QUESTION = "Which is it: A (ham), B (other) or C (spam)? Answer with the letter only.\n\n{}"
STATED = "How probable is each: A (ham), B (other), C (spam)? Answer in JSON.\n\n{}"
Row = Sequence[float] | None


@dataclass(frozen=True)
class Task:
    """What to ask: `timeout` is in seconds, None for what the package waits by itself."""

    url: str
    signal: str
    texts: Sequence[str]
    cache: str
    timeout: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        given = {"base_url": self.url, "timeout": self.timeout}
        return {name: value for name, value in given.items() if value is not None}


def ours(task: Task) -> list[Row]:
    from skllm_calib import LLMClassifier
    from skllm_calib.backends import OpenAIBackend

    backend = OpenAIBackend("m", max_concurrency=AT_ONCE, **task.options)
    llm = LLMClassifier(
        backend,
        classes=list(CLASSES.values()),
        signal=task.signal,
        cache=task.cache,
        on_error="nan",
    )
    return llm.predict_proba(task.texts).tolist()


def shares(values: Iterable[float]) -> Row:
    values = [float(value) for value in values]
    total = sum(values)
    return [value / total for value in values] if total > 0 else None


def row_of_tokens(logprobs: Mapping[str, Any]) -> Row:
    """Read the first token: what its alternatives say of the three keys."""
    listed = logprobs["content"][0]["top_logprobs"]
    found = {each["token"]: math.exp(each["logprob"]) for each in listed}
    return shares(found.get(key, 0.0) for key in KEYS)


def row_of_stated(parsed: Any) -> Row:
    """Read probabilities that the package has parsed; None is a refusal."""
    return None if parsed is None else shares(getattr(parsed, key) for key in KEYS)


def stated_schema() -> Any:
    from pydantic import create_model

    return create_model("Probabilities", **dict.fromkeys(KEYS, (float, ...)))


def openai_sdk(task: Task, catch: str) -> list[Row]:
    """Ask in threads; catch the errors of the package, as its README does, or all."""
    import openai

    client = openai.OpenAI(**task.options)
    caught = openai.OpenAIError if catch == "its own" else Exception
    schema = stated_schema()

    def ask_tokens(text: str) -> Row:
        completion = client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": QUESTION.format(text)}],
            temperature=0,
            max_tokens=1,
            logprobs=True,
            top_logprobs=20,
        )
        return row_of_tokens(completion.choices[0].logprobs.model_dump())

    def ask_stated(text: str) -> Row:
        completion = client.chat.completions.parse(
            model="m",
            messages=[{"role": "user", "content": STATED.format(text)}],
            temperature=0,
            response_format=schema,
        )
        return row_of_stated(completion.choices[0].message.parsed)

    ask = ask_tokens if task.signal == "logprobs" else ask_stated

    def ask_or_none(text: str) -> Row:
        try:
            return ask(text)
        except caught:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask_or_none, task.texts))


def langchain(task: Task, cached: bool) -> list[Row]:
    from langchain_openai import ChatOpenAI

    if cached:
        from langchain_community.cache import SQLiteCache
        from langchain_core.globals import set_llm_cache

        set_llm_cache(SQLiteCache(database_path=task.cache))
    model = ChatOpenAI(model="m", temperature=0, **task.options)
    if task.signal == "logprobs":
        chain, question = model.bind(max_tokens=1, logprobs=True, top_logprobs=20), QUESTION
    else:
        chain, question = model.with_structured_output(stated_schema()), STATED
    replies = chain.batch(
        [question.format(text) for text in task.texts],
        config={"max_concurrency": AT_ONCE},
        return_exceptions=True,
    )

    def read(reply: Any) -> Row:
        try:
            if task.signal == "logprobs":
                return row_of_tokens(reply.response_metadata["logprobs"])
            return row_of_stated(reply)
        except Exception:
            return None

    return [read(reply) for reply in replies]


def scikit_llm(task: Task, per_call: int | None) -> list[Row]:
    """Ask for labels, which is all that the package gives; all rows per call, or one."""
    from openai import OpenAI
    from skllm.config import SKLLMConfig
    from skllm.llm.gpt.clients.openai import credentials
    from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier

    SKLLMConfig.set_openai_key(os.environ["OPENAI_API_KEY"])
    SKLLMConfig.set_openai_org("")
    SKLLMConfig.set_gpt_url(task.url)
    if task.timeout is not None:  # it has no parameter for that
        credentials.OpenAI = functools.partial(OpenAI, timeout=task.timeout)
    classifier = ZeroShotGPTClassifier(model="custom_url::m").fit(None, list(KEYS))

    def row_of(label: str) -> Row:
        return [float(label == key) for key in KEYS]

    if per_call is None:
        return [row_of(label) for label in classifier.predict(task.texts, num_workers=AT_ONCE)]

    def ask_or_none(text: str) -> Row:
        try:
            return row_of(classifier.predict([text])[0])
        except Exception:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask_or_none, task.texts))


CLIENTS: dict[str, Callable[[Task], list[Row]]] = {
    "skllm-calib": ours,
    "openai": functools.partial(openai_sdk, catch="its own"),
    "openai, all caught": functools.partial(openai_sdk, catch="all"),
    "langchain": functools.partial(langchain, cached=False),
    "langchain, cached": functools.partial(langchain, cached=True),
    "scikit-llm": functools.partial(scikit_llm, per_call=None),
    "scikit-llm, row by row": functools.partial(scikit_llm, per_call=1),
}


def main(name: str) -> None:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # packages may print
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        began = time.monotonic()
        try:
            result: dict[str, Any] = {"rows": CLIENTS[name](Task(**json.loads(line)))}
        except KeyboardInterrupt:
            result = {"interrupted": time.monotonic()}
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        result["seconds"] = time.monotonic() - began
        out.write(json.dumps(result) + "\n")
        out.flush()
        if "interrupted" in result:
            return


if __name__ == "__main__":
    main(sys.argv[1])
