"""The decision endpoint, over the real SDK."""

import json
import threading

import pytest
from loopback import (
    KEY,
    Answer,
    ChatModel,
    both_apis,
    chosen,
    decision,
    refusal,
    servers,
    systemone,
)

from skllm_calib.backends import Choice, Message, Reply, Request
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    RateLimited,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

CHOICES = (Choice("spam", "unwanted mail"), Choice("ham"))
GOOD = decision(chosen({"ham": 0.75, "spam": 0.25}))


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def request(text="hello", choices=CHOICES, **options):
    turns = (
        Message("system", "Is it spam?"),
        Message("user", "Free prize"),
        Message("assistant", "spam"),
        Message("user", text),
    )
    return Request(turns, choices=choices, **options)


def backend(server, **options):
    return OpenAIBackend("gpt-6-luna", base_url=server.base_url, **{"max_retries": 0, **options})


def run(model, *requests):
    answers = dict(model.run(list(requests) or [request()]))
    return [answers[i] for i in range(len(answers))]


@both_apis
def test_decision_is_asked_for_as_documented(serve, api):
    server = serve(lambda body: GOOD)
    model = backend(server, api=api, seed=1, extra_body={"safety_identifier": "me"})
    (reply,) = run(model)
    (seen,) = server.seen
    assert seen.path == "/v1/decisions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "gpt-6-luna",
        "input": [
            {"type": "message", "role": "system", "content": "Is it spam?"},
            {"type": "message", "role": "user", "content": "Free prize"},
            {"type": "message", "role": "assistant", "content": "spam"},
            {"type": "message", "role": "user", "content": "hello"},
        ],
        "questions": [
            {
                "type": "choice",
                "instructions": "Choose the option that answers the last message.",
                "choices": [{"value": "spam", "description": "unwanted mail"}, {"value": "ham"}],
            }
        ],
        "safety_identifier": "me",
    }
    assert reply == Reply(
        "ham",
        decision=(0.25, 0.75),
        model="gpt-6-luna-2026-10-01",
        prompt_tokens=20,
        completion_tokens=2,
        cached_tokens=5,
    )
    assert Reply.from_json(reply.to_json()) == reply


def test_what_is_missing_has_nothing_and_what_is_unknown_does_not_count(serve):
    given = {"true": 0.1, True: 0.6, "other": 0.2, "spam": 0.1}
    server = serve(lambda body: decision(chosen(given)))
    (reply,) = run(backend(server), request(choices=(*CHOICES, Choice("true"))))
    assert reply.decision == (0.1, 0.0, 0.1)


def test_reasoning_is_told(serve):
    server = serve(lambda body: decision(chosen({"ham": 1.0, "spam": 0.0}), n_reasoning=40))
    (reply,) = run(backend(server))
    assert reply.reasoning_tokens == 40
    assert "40 tokens of hidden reasoning" in reply.notes[0]


@pytest.mark.parametrize("n", [1, 256])
def test_too_few_and_too_many_options(serve, n):
    server = serve(lambda body: GOOD)
    choices = tuple(Choice(f"c{i}") for i in range(n))
    failure, reply = run(backend(server), request(choices=choices), request())
    assert isinstance(failure, SignalUnavailable)
    assert f"between 2 and 255 options, not {n}" in str(failure)
    assert reply.decision == (0.25, 0.75)


@pytest.mark.parametrize("n", [2, 255])
def test_fewest_and_most_options(serve, n):
    choices = tuple(Choice(f"c{i}") for i in range(n))
    server = serve(lambda body: decision(chosen({c.value: 1 / n for c in choices})))
    (reply,) = run(backend(server), request(choices=choices))
    assert reply.decision == (1 / n,) * n


def test_options_that_do_not_differ(serve):
    server = serve(lambda body: GOOD)
    (failure,) = run(backend(server), request(choices=(Choice("a", "x"), Choice("a", "y"))))
    assert isinstance(failure, SignalUnavailable)
    assert server.seen == []


# ------------------------------------------------------------------------------------ failures


def without_probabilities(**changes):
    return decision({**chosen({"ham": 1.0}), **changes})


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (decision({"type": "refusal", "name": None}), Refused, "declined"),
        (decision(), UnreadableReply, "no decision"),
        (decision({"type": "predicate", "probability": 0.5}), UnreadableReply, "predicate"),
        (decision(chosen({"other": 1.0})), UnreadableReply, "no option"),
        (without_probabilities(probabilities=[]), UnreadableReply, "no option"),
        (decision(chosen({"ham": -0.5, "spam": 1.0})), UnreadableReply, "-0.5"),
        (decision(chosen({"ham": 0.0, "spam": 0.0})), UnreadableReply, "no option"),
        (Answer(200, b'{"answers": ['), UnreadableReply, "broken JSON"),
        (Answer(200, {"answers": [KEY]}), UnreadableReply, "unknown form"),
        (decision(chosen({"ham": float("nan"), "spam": 0.1})), UnreadableReply, "nan"),
        (refusal(400, "no", code="content_filter"), Refused, "content filter"),
        (refusal(400, "questions[0] is odd", param="questions"), BackendError, "odd"),
        (refusal(429, f"slow down {KEY}"), RateLimited, "max_concurrency"),
        (refusal(503, "overloaded"), BackendUnavailable, "overloaded"),
    ],
)
def test_failures_of_a_row(serve, answer, kind, says):
    server = serve(lambda body: answer)
    for failure in run(backend(server), request("1"), request("2")):
        assert type(failure) is kind
        assert says in str(failure)
        assert KEY not in repr(failure)
        assert failure.__context__ is None
    assert len(server.seen) <= 4  # as long as no decision was read, each row in both forms


def test_refused_key_ends_the_run(serve):
    server = serve(lambda body: refusal(401, "bad key"))
    with pytest.raises(AuthenticationFailed, match="OPENAI_API_KEY"):
        run(backend(server), *(request(str(i)) for i in range(9)))
    assert paths(server) == ["/v1/decisions", "/v1/systemone"] * 2  # of a row, of a harmless text


@pytest.mark.parametrize(
    "answer",
    [
        refusal(404, "no model of this name", code="model_not_found"),
        refusal(501, "not implemented"),
        refusal(400, "Only `gpt-6-luna` is supported.", param="model"),
        refusal(400, "The model 'gpt-4o' is not supported for decisions."),
    ],
)
def test_no_decision_endpoint(serve, answer):
    keys = ChatModel({"": {"A": 0.6, "B": 0.4}})
    server = serve(lambda body: answer if "questions" in body else keys(body))
    model = backend(server, max_retries=3)  # none of them is worth a second try
    for _ in range(2):
        with pytest.raises(SignalUnavailable) as caught:
            run(model, *(request(str(i)) for i in range(9)))
        for way_out in ("'logprobs'", "'self_reported'", "'self_consistency'"):
            assert way_out in str(caught.value)
        assert "gpt-6-luna" in str(caught.value)
        assert caught.value.__context__ is None
    # Of two different rows, in both forms.
    assert paths(server) == ["/v1/decisions", "/v1/systemone"] * 2
    (reply,) = run(model, Request((Message("user", "x"),), answers=("A", "B")))
    assert reply.distributions


def test_overload_is_tried_again(serve):
    calls = []

    def respond(body):
        calls.append(1)
        return refusal(503, "overloaded") if len(calls) == 1 else GOOD

    (reply,) = run(backend(serve(respond), max_retries=1))
    assert reply.decision == (0.25, 0.75)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(200, b'{"answers": ['), UnreadableReply),
        (refusal(400, "odd", param="questions"), BackendError),
    ],
)
def test_what_will_not_change_is_not_asked_for_again(serve, answer, kind):
    server = serve(lambda body: answer)
    (failure,) = run(backend(server, max_retries=3))
    assert type(failure) is kind
    assert paths(server) == ["/v1/decisions", "/v1/systemone"]


def test_azure_path(serve, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    server = serve(lambda body: GOOD)
    run(OpenAIBackend("deployed", base_url=server.address, api_version="2026-10-01"))
    (seen,) = server.seen
    assert seen.path == "/openai/decisions?api-version=2026-10-01"
    assert seen.body["model"] == "deployed"


def test_one_bad_row_among_many(serve):
    def respond(body):
        declined = json.dumps(body["input"][-1]).count('"3"')
        return decision({"type": "refusal", "name": None}) if declined else GOOD

    answers = run(backend(serve(respond)), *(request(str(i)) for i in range(8)))
    assert [isinstance(a, Refused) for a in answers] == [i == 3 for i in range(8)]


# ---------------------------------------------------------------------- the System One format

ABSENT = [
    refusal(404, "File Not Found", type="not_found_error"),
    refusal(405, "Method Not Allowed"),
    Answer(404, "<html>Not Found</html>"),
]
# https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
NO_DECIDER = Answer(
    501,
    {
        "error": {
            "code": 501,
            "message": "This model is not a decision model",
            "type": "not_supported_error",
        }
    },
)


def speaking(answer, absent=ABSENT[0]):
    """A server that knows the System One format only; `answer` may be a function of the body."""

    def respond(body):
        if "state" not in body:
            return absent
        return answer(body) if callable(answer) else answer

    return respond


def paths(server):
    return [seen.path for seen in server.seen]


@pytest.mark.parametrize("absent", ABSENT)
@both_apis
def test_a_server_that_speaks_system_one(serve, absent, api):
    server = serve(speaking(systemone({"ham": 0.75, "spam": 0.25}), absent))
    model = backend(server, api=api, extra_body={"keep_alive": "5m"})
    replies = run(model, *(request(str(i)) for i in range(5)))
    replies += run(model, request("later"))
    # Found out once.
    assert paths(server) == ["/v1/decisions"] + ["/v1/systemone"] * 6
    assert server.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    assert server.seen[-1].body == {
        "model": "gpt-6-luna",
        "state": [
            {"role": "system", "content": "Is it spam?"},
            {"role": "user", "content": "Free prize"},
            {"role": "assistant", "content": "spam"},
            {"role": "user", "content": "later"},
        ],
        "questions": {
            "label": {
                "type": "choice",
                "instructions": "Choose the option that answers the last message.",
                "criteria": {"spam": "unwanted mail", "ham": None},
            }
        },
        "keep_alive": "5m",
    }
    for reply in replies:
        assert reply == Reply("ham", decision=(0.25, 0.75), model="some-decider", prompt_tokens=42)


@pytest.mark.parametrize("absent", ABSENT)
def test_a_server_with_neither(serve, absent):
    server = serve(lambda body: absent)
    model = backend(server, max_retries=3)
    for _ in range(2):
        with pytest.raises(SignalUnavailable) as caught:
            run(model, *(request(str(i)) for i in range(9)))
        for way_out in ("'logprobs'", "'self_reported'", "'self_consistency'"):
            assert way_out in str(caught.value)
        assert caught.value.__context__ is None
    assert paths(server) == ["/v1/decisions", "/v1/systemone"] * 2  # of two different rows


@pytest.mark.parametrize(
    "answer",
    [
        NO_DECIDER,
        Answer(404, {"error": "model 'm' not found"}),
        Answer(400, {"error": 'model "m" does not support systemone'}),
        Answer(400, {"error": "m does not support systemone"}),
        refusal(422, "no", code="model_capability", param="model"),
    ],
)
def test_a_model_that_decides_nothing(serve, answer):
    server = serve(speaking(answer))
    model = backend(server, max_retries=3)  # 501 is a final word
    for _ in range(2):
        with pytest.raises(SignalUnavailable) as caught:
            run(model, *(request(str(i)) for i in range(9)))
    error = answer.body["error"]
    assert (error if isinstance(error, str) else error["message"]) in str(caught.value)
    assert set(paths(server)[1:]) <= {"/v1/systemone", "/v1/decisions"}
    assert len(server.seen) == 4  # of two different rows, in both forms


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (systemone({"other": 1.0}), UnreadableReply, "no option"),
        (systemone({"ham": -0.5, "spam": 1.0}), UnreadableReply, "-0.5"),
        (systemone({"ham": 1.0}, answers={KEY: "?"}), UnreadableReply, "no probabilities"),
        (systemone({"ham": 1.0}, answers=[1]), UnreadableReply, "no probabilities"),
        (systemone({"ham": 1.0}, answers={}), UnreadableReply, "no decision"),
        (Answer(200, b'{"answers": {'), UnreadableReply, "broken JSON"),
        (refusal(400, "too many options (60), this model supports at most 52"), BackendError, "52"),
        (refusal(429, f"slow down {KEY}"), RateLimited, "max_concurrency"),
        (refusal(503, "Loading model"), BackendUnavailable, "Loading model"),
    ],
)
def test_system_one_failures_of_a_row(serve, answer, kind, says):
    server = serve(speaking(answer))
    for failure in run(backend(server), request("1"), request("2")):
        assert type(failure) is kind
        assert says in str(failure)
        assert KEY not in repr(failure)
        assert failure.__context__ is None
    assert paths(server) == ["/v1/decisions", "/v1/systemone"] * 2


def test_system_one_is_tried_again_when_overloaded(serve):
    good = systemone({"ham": 0.75, "spam": 0.25})
    answers = iter([refusal(503, "Loading model"), good])
    server = serve(speaking(lambda body: next(answers)))
    (reply,) = run(backend(server, max_retries=1))
    assert reply.decision == (0.25, 0.75)


def test_system_one_with_a_refused_key(serve):
    server = serve(speaking(refusal(401, f"bad key {KEY}")))
    with pytest.raises(AuthenticationFailed, match="OPENAI_API_KEY") as caught:
        run(backend(server), *(request(str(i)) for i in range(9)))
    assert KEY not in repr(caught.value)
    assert len(server.seen) == 4  # of a row, of a harmless text


def test_a_late_answer_does_not_undo_what_was_found_out(serve):
    release = threading.Event()
    good = systemone({"ham": 0.75, "spam": 0.25})

    def respond(body):
        text = (body.get("state") or body["input"])[-1]["content"]
        if "state" in body:
            return refusal(503, "starting") if text == "first" else good
        if text == "slow":
            release.wait(10)
        return refusal(503, "starting") if text == "first" else ABSENT[0]

    model = backend(serve(respond))
    for _ in range(2):  # the first ones go alone, and find out nothing
        run(model, request("first"))
    answers = model.run([request("slow"), request("fast")])
    assert next(answers)[0] == 1
    release.set()
    assert next(answers)[1].decision == (0.25, 0.75)


# What servers and gateways answer to an address that they do not have.
ELSEWHERE = [
    Answer(200, {"ok": True}),
    Answer(200, "<html>Welcome</html>"),
    refusal(400, "Only `gpt-6-luna` is supported.", param="model"),
    *(refusal(status, "no") for status in (400, 403, 422, 429, 501, 503)),
]


@pytest.mark.parametrize("absent", ELSEWHERE)
def test_decisions_are_found_whatever_the_other_address_answers(serve, absent):
    server = serve(speaking(systemone({"ham": 0.75, "spam": 0.25}), absent))
    for reply in run(backend(server), request("1"), request("2"), request("3")):
        assert reply.decision == (0.25, 0.75)
    assert paths(server) == ["/v1/decisions"] + ["/v1/systemone"] * 3


@pytest.mark.parametrize("odd", ELSEWHERE[:3])
def test_one_odd_answer_does_not_settle_the_form(serve, odd):
    def respond(body):
        good = ABSENT[0] if "state" in body else GOOD
        return odd if len(server.seen) == 1 else good

    server = serve(respond)
    answers = run(backend(server, max_concurrency=1), *(request(str(i)) for i in range(4)))
    assert [isinstance(a, Reply) for a in answers] == [False, True, True, True]


def test_an_overload_is_waited_for_at_one_address_only(serve):
    server = serve(lambda body: refusal(503, "overloaded", headers={"retry-after": "0"}))
    (failure,) = run(backend(server, max_retries=2))
    assert isinstance(failure, BackendUnavailable)
    assert paths(server) == ["/v1/decisions"] * 3 + ["/v1/systemone"]
