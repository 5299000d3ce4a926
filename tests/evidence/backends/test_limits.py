"""How long a request may take, how often it is sent, and what is not worth a second try."""

from __future__ import annotations

import math
import socket
import time

import pytest
from loopback import completion, refusal, servers
from test_stopping import Server

from skllm_calib import LLMClassifier
from skllm_calib.backends import AnthropicBackend, Message, MistralBackend, OpenAIBackend, Request
from skllm_calib.exceptions import BackendUnavailable, InvalidInput, RateLimited

BACKENDS = [OpenAIBackend, AnthropicBackend, MistralBackend]
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, "sk-test-0123456789abcdef")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def made(backend, url, **options):
    pytest.importorskip({"A": "anthropic", "M": "mistralai", "O": "openai"}[backend.__name__[0]])
    return backend("m", base_url=url, **options)


def failures(model, n=1):
    texts = [Request((Message("user", str(i)),), max_tokens=50) for i in range(n)]
    began = time.monotonic()
    answers = [answer for _, answer in model.run(texts)]
    return answers, time.monotonic() - began


@every_backend
@pytest.mark.parametrize("kind", ["stalled", "dripping", "dripping head"])
def test_the_timeout_bounds_a_request_as_a_whole(backend, kind):
    with Server(kind, n_good=0) as server:
        (failure,), took = failures(made(backend, server.url, timeout=0.5, max_retries=0))
        assert type(failure) is BackendUnavailable
        assert "increase timeout" in str(failure)
        assert 0.5 <= took < 8


@every_backend
def test_where_nobody_listens_a_run_ends_at_once(backend):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
    answers, took = failures(made(backend, url, max_retries=5), 50)
    assert len(answers) == 50
    assert all(type(answer) is BackendUnavailable for answer in answers)
    assert all(f"no connection to {url}" in str(answer) for answer in answers)
    assert all("is the server running?" in str(answer) for answer in answers)
    assert took < 5


@every_backend
@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "127.0.0.1:1", "ftp://a/v1", "http://", "//a"]
)
def test_an_address_that_cannot_be_reached_is_refused_before_anything_is_sent(backend, url):
    model = made(backend, url)
    with pytest.raises(InvalidInput, match="begins with http://") as told:
        failures(model)
    assert told.value.parameter == "base_url"


@every_backend
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_concurrency", value) for value in (0, 1.5, None)),
        *(("max_retries", value) for value in (-1, 0.5)),
        *(("timeout", value) for value in (0, -1, math.inf, math.nan, "60", None)),
    ],
)
def test_numbers_that_are_none_are_named_before_anything_is_sent(backend, name, value):
    with pytest.raises(InvalidInput, match=f"^{name} must be") as told:
        failures(made(backend, "http://127.0.0.1:9", **{name: value}))
    assert told.value.parameter == name


def test_an_address_without_a_scheme_ends_a_prediction_at_once():
    llm = LLMClassifier(OpenAIBackend("m", base_url="localhost:8000/v1"), classes=["a", "b"])
    with pytest.raises(InvalidInput, match="is the server running"):
        llm.predict_proba(["some text"])


@every_backend
@pytest.mark.parametrize(
    ("header", "n_sent"), [("60.5", 1), ("86400", 1), ("inf", 1), ("0.01", 3), ("soon", 3)]
)
def test_a_server_that_wants_to_be_left_alone_for_long_is(serve, backend, header, n_sent):
    server = serve(lambda body: refusal(429, "slow down", headers={"Retry-After": header}))
    (failure,), took = failures(made(backend, server.address, max_retries=2))
    assert type(failure) is RateLimited
    assert len(server.seen) == n_sent
    assert took < 5


@pytest.mark.parametrize("status", [402, 429])
def test_no_quota_costs_one_request(serve, status):
    server = serve(lambda body: refusal(status, "You exceeded it", code="insufficient_quota"))
    model = OpenAIBackend("m", base_url=server.base_url, max_retries=5)
    with pytest.raises(RateLimited, match="add credit"):
        failures(model, 20)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "is_billed"),
    [
        (completion("", finish_reason="content_filter"), True),
        (completion("", finish_reason="length"), True),
        (completion(None, refusal="I cannot"), True),
        (refusal(400, "no", code="content_filter"), False),
        (refusal(503, "later"), False),
    ],
)
def test_what_a_server_charged_for_is_marked(serve, answer, is_billed):
    server = serve(lambda body: answer)
    (failure,), _ = failures(OpenAIBackend("m", base_url=server.base_url, max_retries=0))
    assert failure.is_billed == is_billed


def test_a_channel_that_was_cut_is_not_used_again():
    with Server("stalled", n_good=1) as server:
        model = OpenAIBackend("m", base_url=server.url, timeout=0.3, max_retries=0)
        answers, _ = failures(model)
        assert "0.3" in answers[0].text
        late, _ = failures(model)
        assert isinstance(late[0], BackendUnavailable)
        server.kind = "healthy"
        again, _ = failures(model)
        assert again[0].text == answers[0].text
