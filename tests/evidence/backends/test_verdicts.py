"""Whose failure it is: a row that fails costs no other, and what is true of all ends the run."""

from __future__ import annotations

import pytest
from loopback import Answer, ChatModel, both_apis, completion, position, reasoned, refusal, servers

from skllm_calib.backends import Message, Reply, Request
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    ModelNotFound,
    RateLimited,
    SignalUnavailable,
)

KEYS = ChatModel({"": {"A": 0.6, "B": 0.4}})
PAGE = "<!DOCTYPE html><html><title>Blocked</title>You have been blocked</html>"
THINKS = completion("<think", [position("<think", {"<think": 0.9, "A": 0.1})])
SILENT = completion("A")
# What one text may meet, and what it must not say of the others.
OF_ONE_ROW = [
    Answer(403, PAGE),
    Answer(401, "<html><h1>Sign in</h1></html>"),
    Answer(406, "<html>Not acceptable</html>"),
    refusal(401, "this text is not for your key"),
    refusal(403, "blocked by a policy"),
    refusal(404, "nothing here"),
    refusal(404, "no such model", code="model_not_found"),
    THINKS,
    SILENT,
    completion("A", [position("A", {"A": 1.0})], usage=reasoned(30)),
    completion("A", [position("A", {"A": 1.0})], reasoning_content="Hm."),
    refusal(400, "logprobs is not supported with this model", param="logprobs"),
]
TEXTS = [f"text {i}" for i in range(5)]


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def request(text, row=None, **options):
    options.setdefault("answers", ("A", "B"))
    return Request((Message("user", text),), subject=text if row is None else row, **options)


def run(model, *requests):
    answers = dict(model.run(requests))
    return [answers[i] for i in range(len(requests))]


def backend(server, **options):
    return OpenAIBackend("m", base_url=server.base_url, **{"max_retries": 0, **options})


def answering(bad, answer, good=KEYS):
    return lambda body: answer if body["messages"][-1]["content"] in bad else good(body)


@pytest.mark.parametrize("bad", [0, 7, 11])
@pytest.mark.parametrize("answer", OF_ONE_ROW)
def test_a_row_that_fails_costs_no_other(serve, answer, bad):
    server = serve(answering({f"text {bad}"}, answer))
    model = backend(server)
    answers = run(model, *(request(f"text {i}") for i in range(12)))
    assert [isinstance(a, Reply) for a in answers] == [i != bad for i in range(12)]
    assert isinstance(answers[bad], BackendError)
    # The process has learned nothing from it.
    assert all(isinstance(a, Reply) for a in run(model, request("later"), request("again")))


def test_a_blocked_row_says_what_is_true_of_it_alone(serve):
    for answer in (refusal(401, "not this one"), Answer(403, PAGE), refusal(404, "not here")):
        for bad in ("text 0", "text 3"):
            answers = run(backend(serve(answering({bad}, answer))), *map(request, TEXTS))
            (failure,) = (a for a in answers if not isinstance(a, Reply))
            assert type(failure) is BackendError
            assert f"status {answer.status} for this row, while others are answered" in str(failure)
            assert "key is refused" not in str(failure)


def test_a_row_that_reasons_says_nothing_of_the_others(serve):
    answers = run(backend(serve(answering({"text 3"}, THINKS))), *map(request, TEXTS))
    assert "reasoned before it answered this row" in str(answers[3])


@pytest.mark.parametrize("answer", OF_ONE_ROW[:7])
def test_several_texts_that_are_blocked_before_any_is_answered(serve, answer):
    bad = {f"text {i}" for i in range(6)}
    answers = run(backend(serve(answering(bad, answer))), *(request(f"text {i}") for i in range(9)))
    assert [isinstance(a, Reply) for a in answers] == [i >= 6 for i in range(9)]


@pytest.mark.parametrize("answer", [THINKS, SILENT])
def test_two_requests_about_one_row_are_one_row(serve, answer):
    server = serve(answering({"AB riddle", "BA riddle"}, answer))
    wanted = [request("AB riddle", "riddle"), request("BA riddle", "riddle"), request("mail")]
    answers = run(backend(server, max_concurrency=1), *wanted)
    assert [type(a) for a in answers] == [SignalUnavailable, SignalUnavailable, Reply]


@both_apis
@pytest.mark.parametrize(
    ("answer", "kind", "n"),
    [
        (refusal(401, "bad key"), AuthenticationFailed, 2),
        (refusal(404, "no model"), ModelNotFound, 2),
        (Answer(404, PAGE), ModelNotFound, 2),
        (Answer(403, PAGE), BackendError, 2),
        (refusal(402, "pay"), RateLimited, 1),
    ],
)
def test_what_is_true_of_every_row_ends_the_run(serve, api, answer, kind, n):
    server = serve(lambda body: answer)
    with pytest.raises(kind):
        run(backend(server, api=api), *(request(str(i), answers=()) for i in range(40)))
    assert len(server.seen) == n


def test_what_came_in_is_kept_when_the_credit_ends(serve):
    def respond(body):
        return refusal(402, "all is spent") if len(server.seen) > 6 else KEYS(body)

    server = serve(respond)
    came, answers = [], backend(server).run([request(str(i)) for i in range(40)])
    with pytest.raises(RateLimited, match="all is spent"):
        came.extend(answers)
    assert sum(isinstance(answer, Reply) for _, answer in came) == 6
    assert len(server.seen) < 20


def test_a_key_that_is_revoked_during_a_run_is_noticed(serve):
    server = serve(lambda body: KEYS(body) if len(server.seen) <= 5 else refusal(401, "revoked"))
    with pytest.raises(AuthenticationFailed, match="revoked"):
        run(backend(server), *(request(str(i)) for i in range(200)))
    assert len(server.seen) < 60


# What one row may meet in a gateway that sends it to another server than the rest.
ODD_REFUSALS = [
    refusal(400, "Unknown parameter: seed", param="seed", code="unknown_parameter"),
    refusal(400, "temperature is not supported", param="temperature"),
    refusal(400, "max_tokens is not supported", param="max_tokens", code="unsupported_parameter"),
    refusal(400, "top_logprobs must be between 0 and 2", param="top_logprobs"),
    refusal(400, "top_k is unknown", param="top_k"),
    refusal(400, "below minimum value: expected >= 16", param="max_tokens"),
]


def test_what_one_row_is_refused_is_still_asked_for_with_the_others(serve):
    for answer in ODD_REFUSALS:
        struck = []

        def respond(body, answer=answer, struck=struck):
            if body["messages"][-1]["content"] == "text 0" and not struck:
                struck.append(body)
                return answer
            return KEYS(body)

        server = serve(respond)
        replies = run(backend(server, seed=1), *(request(f"text {i}") for i in range(4)))
        assert all(isinstance(reply, Reply) for reply in replies)
        first, again, *rest = server.bodies()
        settings = [{k: v for k, v in b.items() if k != "messages"} for b in (first, again, *rest)]
        assert settings[1] != settings[0]
        seeds = [body.pop("seed", None) for body in settings]
        assert all(body == settings[0] for body in settings[2:])
        assert seeds[2:] == seeds[:1] * len(rest)


def test_a_row_that_reasons_gives_no_other_row_more_room(serve):
    def respond(body):
        cut = body["max_tokens"] < 100
        if body["messages"][-1]["content"] == "riddle":
            return completion("" if cut else "ham", finish_reason="length", usage=reasoned(40))
        return completion("ham")

    server = serve(respond)
    texts = ("riddle", "1", "2", "riddle")
    run(backend(server, max_concurrency=1), *(request(t, answers=(), max_tokens=50) for t in texts))
    assert [body["max_tokens"] for body in server.bodies()] == [50, 2050, 50, 50, 2050]
