"""Errors with a good status, and answers broken off: never read, retried like their status."""

from __future__ import annotations

import pytest
from loopback import Answer, ChatModel, completion, servers

from skllm_calib.backends import Message, Reply, Request
from skllm_calib.evidence.backends.hosted.carried import carried_error
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    RateLimited,
    Refused,
    UnreadableReply,
)

GOOD = ChatModel({"": {"A": 0.6, "B": 0.4}})


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def error(**fields):
    return Answer(200, {"error": fields})


def broken(finish, **choice):
    answer = completion("A", finish_reason=finish)
    answer.body["choices"][0].update(choice)
    return answer


PASSING = [
    (error(code=503, message="overloaded"), BackendUnavailable),
    (error(code="429", message="slow down"), RateLimited),
    (error(type="overloaded_error", message="busy"), BackendUnavailable),
    (error(type="server_error", message="it died"), BackendUnavailable),
    (Answer(200, {"error": "Internal Server Error"}), BackendUnavailable),
    (broken("error", error={"code": 502, "message": "upstream went away"}), BackendUnavailable),
    (
        broken("stop", message={"role": "assistant", "content": "A", "error": {"code": 502}}),
        BackendUnavailable,
    ),
    (broken("error"), BackendUnavailable),
    (broken("insufficient_system_resource"), BackendUnavailable),
    (broken("abort"), BackendUnavailable),
    (broken("repetition"), BackendUnavailable),
]


def ask(server, max_retries, **options):
    wanted = Request((Message("user", "x"),), **options)
    model = OpenAIBackend("m", base_url=server.base_url, max_retries=max_retries)
    ((_, answer),) = model.run([wanted])
    return answer


@pytest.mark.parametrize("options", [{"max_tokens": 16}, {"answers": ("A", "B")}])
@pytest.mark.parametrize(("answer", "kind"), PASSING)
def test_what_may_pass(serve, answer, kind, options):
    server = serve(lambda body: answer)
    assert type(ask(server, 0, **options)) is kind
    server = serve(lambda body: answer if len(server.seen) == 1 else GOOD(body))
    assert isinstance(ask(server, 1, **options), Reply)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(code=400, message="odd"), BackendError),
        (error(code="content_filter", message="no"), Refused),
        (error(message="upstream died"), UnreadableReply),
        (broken("SAFETY"), Refused),
    ],
)
def test_what_will_not_pass_is_sent_once(serve, answer, kind):
    server = serve(lambda body: answer)
    assert type(ask(server, 3)) is kind
    assert len(server.seen) == 1


def test_a_refused_key_is_one_with_any_status(serve):
    with pytest.raises(AuthenticationFailed):
        ask(serve(lambda body: error(code=401, message="bad key")), 0)


@pytest.mark.parametrize("reply", [{"error": None, "choices": []}, {"choices": [{}]}, "text", None])
def test_no_error(reply):
    assert carried_error(reply) is None


@pytest.mark.parametrize("finish", ["length", "max_tokens", "model_length", "pause_turn"])
def test_what_was_cut_is_marked(serve, finish):
    reply = ask(serve(lambda body: completion("A", finish_reason=finish)), 0, max_tokens=16)
    assert reply.cut
    assert Reply.from_json(reply.to_json()) == reply
    assert not ask(serve(lambda body: completion("A")), 0, max_tokens=16).cut
