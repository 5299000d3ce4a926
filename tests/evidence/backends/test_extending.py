"""The walk-through "Add a backend": its code runs, keeps the contract, and is found by its name."""

from __future__ import annotations

import re
import socket
import sys
import textwrap
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from loopback import Answer, servers

from skllm_calib import LlamaCppBackend, LLMClassifier, backends
from skllm_calib.backends import PROVIDERS, Choice, Message, Request, resolve_model
from skllm_calib.evidence.backends.providers import backend_classes
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    SignalUnavailable,
    UnreadableReply,
)

PAGE = Path(__file__).parents[3] / "docs/extending/backend.rst"


def blocks(language):
    text = PAGE.read_text(encoding="utf-8")
    pattern = rf"^\.\. code-block:: {language}\n\n((?:(?: {{3}}.*)?\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, text, re.M)]


CLASS, LINE, TESTS = blocks("python")
(PYPROJECT,) = blocks("toml")

module = types.ModuleType("completion_backend")
exec(CLASS, module.__dict__)
CompletionBackend = module.CompletionBackend

names = {"__name__": __name__, "CompletionBackend": CompletionBackend}
exec(TESTS, names)
TestCompletionBackend = names["TestCompletionBackend"]  # collected by pytest as it stands here


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "completion_backend", module)


def llama_cpp(body):
    """Answer as a llama.cpp server does; the longer the prompt, the likelier is A."""
    if "messages" in body:
        return Answer(200, {"prompt": "\n".join(m["content"] for m in body["messages"])})
    if "too long" in body["prompt"]:
        error = {"code": 400, "type": "exceed_context_size_error", "message": "too long"}
        return Answer(400, {"error": error})
    p = 0.9 - 0.5 / len(body["prompt"])
    listed = [
        {"token": token, "bytes": list(token.encode()), "logprob": float(np.log(share))}
        for token, share in (("A", p), ("B", 0.9 - p), ("The", 0.1))
    ]
    reply = {"content": "A", "tokens_evaluated": 10, "tokens_predicted": body["n_predict"]}
    return Answer(200, {**reply, "completion_probabilities": [{"top_logprobs": listed}]})


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


@pytest.fixture
def server(serve):
    return serve(llama_cpp)


def run(backend, text="hello", **options):
    options.setdefault("answers", ("A", "B"))
    ((_, answer),) = backend.run([Request((Message("user", text),), **options)])
    return answer


def test_probabilities_come_from_the_list(server):
    clf = LLMClassifier(
        CompletionBackend("m", base_url=server.address), classes=["ham", "spam"], cache=None
    )
    low, high = clf.predict_proba(["a", "a" * 400])
    assert low.sum() == pytest.approx(1.0)
    assert 0.9 < low[0] < high[0] < 1.0


@pytest.mark.parametrize(
    ("respond", "kind"),
    [
        (lambda body: Answer(500, {"error": {"message": "no"}}), BackendError),
        (lambda body: Answer(200, "<html>"), UnreadableReply),
        (lambda body: Answer(200, {"prompt": "?"}), UnreadableReply),
    ],
)
def test_failures_of_the_server(serve, respond, kind):
    assert type(run(CompletionBackend("m", base_url=serve(respond).address))) is kind


def test_failures_of_a_row(server):
    backend = CompletionBackend("m", base_url=server.address)
    assert isinstance(run(backend, "far too long"), ContextTooLong)
    options = {"answers": (), "choices": (Choice("A"), Choice("B"))}
    assert isinstance(run(backend, **options), SignalUnavailable)


def test_a_server_that_is_down():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{s.getsockname()[1]}"
    assert isinstance(run(CompletionBackend("m", base_url=address)), BackendUnavailable)


def test_the_line_is_all_that_a_provider_needs(monkeypatch, capsys):
    monkeypatch.setitem(PROVIDERS, "completion", None)  # taken out after the test
    exec(LINE, {})
    assert "CompletionBackend(model='qwen3')" in capsys.readouterr().out
    assert backends.CompletionBackend is CompletionBackend
    assert CompletionBackend in backend_classes().values()  # what saved classifiers may hold
    with pytest.raises(ValueError, match="'completion:NAME'"):
        resolve_model("nothing:qwen3")


def test_an_entry_point_is_all_that_another_package_needs(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="unknown"):
        resolve_model("completion:qwen3")
    monkeypatch.delitem(sys.modules, "completion_backend")
    monkeypatch.syspath_prepend(tmp_path)
    project = tomllib.loads(PYPROJECT)["project"]
    (tmp_path / "completion_backend.py").write_text(CLASS)
    info = tmp_path / "my_completion-1.0.dist-info"
    info.mkdir()
    lines = [f"Name: {project['name']}", f"Version: {project['version']}"]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
    for group, entries in project["entry-points"].items():
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""]
        (info / "entry_points.txt").write_text("\n".join(lines))
    backend = resolve_model("completion:qwen3")
    assert type(backend).__name__ == "CompletionBackend"
    assert backend.model == "qwen3"
    with pytest.raises(ValueError, match="'completion:NAME'"):
        resolve_model("nothing:qwen3")


@pytest.mark.local_llm
def test_a_real_server_answers_as_the_model_in_process_does():
    local = LlamaCppBackend()
    served = CompletionBackend("smollm2", base_url=local.http_address().removesuffix("/v1"))
    text = "Is 'You won a prize' spam? A) yes B) no. Answer with the letter."
    here, there = (run(backend, text).distributions[0] for backend in (local, served))
    expected = {token.text: token.logprob for token in here.tokens}
    for token in there.tokens:
        assert token.logprob == pytest.approx(expected[token.text], abs=0.01)
    assert isinstance(run(served, "word " * 5000), ContextTooLong)
