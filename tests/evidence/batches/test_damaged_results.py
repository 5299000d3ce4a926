"""Files of results that are damaged, or in another order: no row gets what is not its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from batch_server import BatchServer
from loopback import ChatModel, completion, position

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.backends import OpenAIBackend, clear_handles

TEXTS = [f"message {i}" for i in range(6)]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    yield
    clear_handles()


def respond(body):
    """Answer each text with a probability of its own."""
    text = body["messages"][-1]["content"]
    p = next((0.5 + i / 20 for i, known in enumerate(TEXTS) if known in text), 0.5)
    if body.get("logprobs"):
        return completion("A", [position("A", {"A": p, "B": 1 - p})])
    return ChatModel({"": {"A": p, "B": 1 - p}})(body)


def body_as(text):
    def change(lines):
        line = json.loads(lines[0])
        line["response"]["body"] = text
        return [json.dumps(line).encode(), *lines[1:]]

    return change


@pytest.mark.parametrize(
    ("change", "n_again", "n_failed"),
    [
        (lambda lines: lines[::-1], 0, 0),
        (lambda lines: [*lines, *lines], 0, 0),
        (lambda lines: [b"", *lines, b'{"custom_id": "another"}', b"{}", b"3"], 0, 0),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], 1, 0),
        (lambda lines: [b"[" * 100_000, *lines[1:]], 1, 0),
        (lambda lines: [b"\xff\xfe", *lines[1:]], 1, 0),
        (body_as("\ud800"), 0, 1),
        (body_as("[" * 100_000), 0, 1),
    ],
)
def test_each_row_gets_its_own_answer_or_none(tmp_path, change, n_again, n_failed):
    with BatchServer(respond) as server:
        backend = OpenAIBackend("m", base_url=f"{server.address}/v1")
        cache = ResponseCache(tmp_path / "replies.sqlite")
        llm = LLMClassifier(backend, classes=["ham", "spam"], signal="logprobs", cache=cache)
        llm.submit_batch(TEXTS)
        server.finish()
        written = server.result_files

        def damaged(batch, *, openai):
            name, errors = written(batch, openai=openai)
            if name is not None and batch.id == "batch_0":
                server.files[name] = b"\n".join(change(server.files[name].split(b"\n")))
            return name, errors

        server.result_files = damaged
        status = llm.submit_batch(TEXTS)
        assert (status.n_waiting, status.n_failed) == (n_again, n_failed)
        server.finish()
        assert llm.submit_batch(TEXTS).is_done
        proba = llm.predict_proba(TEXTS)[:, 0]
    np.testing.assert_allclose(proba, 0.5 + np.arange(6) / 20, atol=0.01)
