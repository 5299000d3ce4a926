"""A small server on the loopback address that speaks OpenAI's wire formats.

What it answers is a function of the request, so that each test says what its server is like. The
tests reach it through the real SDK; nothing of that is replaced.
"""

from __future__ import annotations

import importlib.util
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from skllm_calib.backends import clear_handles

KEY = "sk-test-0123456789abcdef"

needs_responses = pytest.mark.skipif(
    importlib.util.find_spec("openai.resources.responses") is None,
    reason="the installed openai does not know the Responses API",
)
both_apis = pytest.mark.parametrize(
    "api", ["chat", pytest.param("responses", marks=needs_responses)]
)

Probabilities = Mapping[str, float]


@dataclass
class Answer:
    """A status, a body (JSON, or bytes sent as if they were, or text) and further headers."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """A request as it came over the wire."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    status: int = 0


class Loopback:
    """A context manager: ``with Loopback(respond) as server: ... server.base_url``."""

    def __init__(self, respond: Callable[[dict[str, Any]], Answer]) -> None:
        self.respond = respond
        self.seen: list[Seen] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        return f"{self.address}/v1"

    def bodies(self, status: int | None = None) -> list[dict[str, Any]]:
        return [s.body for s in self.seen if status in (None, s.status)]

    def __enter__(self) -> Loopback:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.path, headers, body)
                with outer._lock:
                    outer.seen.append(seen)
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                answer = outer.respond(body)
                seen.status = answer.status
                with outer._lock:
                    outer.at_once -= 1
                is_text, raw = isinstance(answer.body, str), answer.body
                if not isinstance(raw, bytes):
                    raw = (raw if is_text else json.dumps(raw)).encode()
                try:
                    self.send_response(answer.status)
                    kind = "text/html" if is_text else "application/json"
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(raw)))
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(raw)
                except OSError:
                    self.close_connection = True  # the client gave up waiting

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def servers(monkeypatch: Any) -> Iterator[Callable[..., Loopback]]:
    """Start servers on demand, in an environment with a key; stop them after their clients."""
    for name in ("OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    clear_handles()
    running: list[Loopback] = []

    def start(respond: Callable[[dict[str, Any]], Answer]) -> Loopback:
        running.append(Loopback(respond).__enter__())
        return running[-1]

    try:
        yield start
    finally:
        clear_handles()
        for server in running:
            server.__exit__()


def refusal(status: int, message: str, **fields: Any) -> Answer:
    """An error in the documented form."""
    headers = fields.pop("headers", {})
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Answer(status, {"error": {**error, **fields}}, headers)


def position(written: str, listed: Probabilities) -> dict[str, Any]:
    """One entry of ``logprobs.content``."""

    def entry(token: str, p: float) -> dict[str, Any]:
        logprob = math.log(p) if p > 0 else -9999.0
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    top = [entry(token, p) for token, p in sorted(listed.items(), key=lambda item: -item[1])]
    return {**entry(written, listed.get(written, 1e-6)), "top_logprobs": top}


def completion(
    content: str | None,
    positions: Sequence[Mapping[str, Any]] | None = None,
    *,
    finish_reason: str = "stop",
    usage: Mapping[str, Any] | None = None,
    model: str = "served-2026-01-01",
    **message: Any,
) -> Answer:
    """A chat completion in the documented form."""
    logprobs = None if positions is None else {"content": list(positions), "refusal": None}
    n_written = 1 if positions is None else len(positions)
    counted = {"prompt_tokens": 10, "completion_tokens": n_written, "total_tokens": 10 + n_written}
    return Answer(
        200,
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "system_fingerprint": "fp_1",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": content,
                        "refusal": None,
                        **message,
                    },
                    "logprobs": logprobs,
                    "finish_reason": finish_reason,
                }
            ],
            "usage": {
                **counted,
                "prompt_tokens_details": {"cached_tokens": 4},
                **(usage or {}),
            },
        },
    )


def reasoned(n: int) -> dict[str, Any]:
    """Usage of a chat completion with hidden reasoning."""
    return {"completion_tokens": n + 1, "completion_tokens_details": {"reasoning_tokens": n}}


def output_text(text: str, positions: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A part of a message of the Responses API."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(positions)}


def response(
    *parts: Mapping[str, Any],
    status: str = "completed",
    reason: str | None = None,
    n_reasoning: int = 0,
    before: Sequence[Mapping[str, Any]] = (),
    **fields: Any,
) -> Answer:
    """A response in the documented form; `before`: output items before the message."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return Answer(
        200,
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "served-2026-01-01",
            "status": status,
            "error": None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": [*before, {**message, "content": list(parts)}] if parts else list(before),
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
                "output_tokens": 3 + n_reasoning,
                "output_tokens_details": {"reasoning_tokens": n_reasoning},
                "total_tokens": 13 + n_reasoning,
            },
            **fields,
        },
    )


def decision(*answers: Mapping[str, Any], n_reasoning: int = 0) -> Answer:
    """A decision in the documented form."""
    return Answer(
        200,
        {
            "answers": list(answers),
            "model": "gpt-6-luna-2026-10-01",
            "usage": {
                "input_tokens": 20,
                "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
                "output_tokens": 2,
                "output_tokens_details": {"reasoning_tokens": n_reasoning},
                "total_tokens": 22,
            },
        },
    )


def chosen(probabilities: Mapping[Any, Any]) -> dict[str, Any]:
    """The answer to a choice: the likeliest option, and the probability of each."""
    best = max(probabilities, key=probabilities.__getitem__)
    listed = [{"value": v, "probability": p} for v, p in probabilities.items()]
    return {
        "type": "choice",
        "name": None,
        "choice": best,
        "confidence": probabilities[best],
        "probabilities": listed,
    }


def systemone(probabilities: Mapping[str, Any], **fields: Any) -> Answer:
    """A decision in the System One format."""
    best = max(probabilities, key=probabilities.__getitem__)
    answer = {"type": "choice", "choice": best, "probabilities": probabilities, "confidence": 0.5}
    usage = {"input_tokens": 42, "output_tokens": 0}
    return Answer(
        200, {"model": "some-decider", "answers": {"label": answer}, "usage": usage, **fields}
    )


class ChatModel:
    """A model with a known distribution after each beginning of its answer.

    Parameters
    ----------
    after : mapping of str to probabilities
        Next tokens by what is written so far; "" as a token ends the answer.
    continues : {"plain", "flagged", "marked"} or None
        In which way a trailing turn of the assistant is continued; otherwise a new turn begins.
    writes : sequence of str
        What is written instead of the likeliest tokens.
    """

    def __init__(
        self,
        after: Mapping[str, Probabilities],
        *,
        continues: str | None = None,
        writes: Sequence[str] = (),
    ) -> None:
        self.after = after
        self.continues = continues
        self.writes = writes

    def __call__(self, body: dict[str, Any]) -> Answer:
        *_, last = body["messages"]
        begun = ""
        if last["role"] == "assistant":
            flagged = body.get("continue_final_message") is True
            way = "flagged" if flagged else "marked" if last.get("prefix") else "plain"
            if way == self.continues:
                begun = last["content"]
        text, positions, finish = begun, [], "length"
        for i in range(body.get("max_tokens") or body["max_completion_tokens"]):
            listed = self.after.get(text)
            if listed is None:
                finish = "stop"
                break
            token = max(listed, key=listed.__getitem__)
            if not begun and i < len(self.writes):
                token = self.writes[i]
            if not token:
                finish = "stop"
                break
            top = sorted(listed.items(), key=lambda item: -item[1])[: body.get("top_logprobs", 0)]
            positions.append(position(token, dict(top)))
            text += token
        shown = positions if body.get("logprobs") else None
        return completion(text, shown, finish_reason=finish)
