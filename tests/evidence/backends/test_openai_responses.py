"""The Responses API: the same questions and answers under other names."""

import json

import numpy as np
import pytest
from loopback import (
    KEY,
    Answer,
    completion,
    needs_responses,
    output_text,
    position,
    refusal,
    response,
    servers,
)

from skllm_calib.backends import Message, Reply, Request
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    ModelNotFound,
    RateLimited,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

SCHEMA = {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}}}
KEYS = position("A", {"A": 0.6, "B": 0.3, " A": 0.05, "x": 0.02})
WORDS = ("positive", "negative", "neutral")
REASONING = {"id": "rs_1", "type": "reasoning", "summary": []}


pytestmark = needs_responses


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def request(text="hello", **options):
    options.setdefault("answers", ("A", "B"))
    return Request((Message("system", "Answer A or B."), Message("user", text)), **options)


def text_request(text="hello", **options):
    return request(text, answers=(), **{"max_tokens": 50, **options})


def backend(server, **options):
    options = {"max_retries": 0, "top_logprobs": 20, "api": "responses", **options}
    return OpenAIBackend("m", base_url=server.base_url, **options)


def run(model, *requests):
    answers = dict(model.run(list(requests) or [request()]))
    return [answers[i] for i in range(len(answers))]


def masses(reply, answers):
    return LabelTree(answers).reduce({d.prefix: d for d in reply.distributions})


# ------------------------------------------------------------------ what is sent, what comes back


def test_label_request_is_sent_as_documented(serve):
    server = serve(lambda body: response(output_text("A", [KEYS])))
    (reply,) = run(backend(server))
    (seen,) = server.seen
    assert seen.path == "/v1/responses"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "m",
        "input": [
            {"role": "system", "content": "Answer A or B."},
            {"role": "user", "content": "hello"},
        ],
        "store": False,
        "max_output_tokens": 16,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_logprobs": 20,
        "include": ["message.output_text.logprobs"],
    }
    assert masses(reply, ("A", "B")).point == pytest.approx([0.65, 0.3])
    assert (reply.text, reply.model, reply.notes) == ("A", "served-2026-01-01", ())
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (10, 3, 4)
    assert Reply.from_json(reply.to_json()) == reply


def test_text_request_is_sent_as_documented(serve):
    server = serve(lambda body: response(output_text('{"label":'), output_text('"ham"}')))
    model = backend(server, reasoning_effort="low")
    (reply,) = run(model, text_request(schema=json.dumps(SCHEMA), temperature=0.7))
    (body,) = server.bodies()
    assert body == {
        "model": "m",
        "input": [
            {"role": "system", "content": "Answer A or B."},
            {"role": "user", "content": "hello"},
        ],
        "store": False,
        "max_output_tokens": 50,
        "temperature": 0.7,
        "reasoning": {"effort": "low"},
        "text": {
            "format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
        },
    }
    assert (reply.text, reply.refused, reply.notes) == ('{"label":"ham"}', (), ())


def test_fields_of_the_user_join_ours(serve):
    server = serve(lambda body: response(output_text("x")))
    own = {
        "text": {"verbosity": "low"},
        "reasoning": {"summary": "auto", "effort": "high"},
        "store": True,
        "max_output_tokens": 99,
    }
    model = backend(server, extra_body=own, reasoning_effort="low")
    run(model, text_request(schema=json.dumps(SCHEMA)))
    (body,) = server.bodies()
    assert body["reasoning"] == own["reasoning"]
    assert body["text"]["verbosity"] == "low"
    assert body["text"]["format"]["schema"] == SCHEMA
    assert (body["store"], body["max_output_tokens"]) == (True, 99)


def test_identity_tells_the_apis_apart(serve):
    server = serve(lambda body: response(output_text("x")))
    model = backend(server)
    chat = backend(server, api="chat")
    assert model.identity() == {**chat.identity(), "api": "responses"}


def test_azure_path_and_key(serve, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    server = serve(lambda body: response(output_text("A", [KEYS])))
    model = OpenAIBackend(
        "deployed", base_url=server.address, api_version="2025-04-01-preview", api="responses"
    )
    assert isinstance(run(model)[0], Reply)
    (seen,) = server.seen  # labels may hide behind the 20th place, but there is no more to ask for
    assert seen.path == "/openai/responses?api-version=2025-04-01-preview"
    assert seen.headers["api-key"] == "azure-key"
    assert seen.body["model"] == "deployed"


def test_both_apis_read_the_same_probabilities(serve):
    def respond(body):
        if "input" in body:
            return response(output_text("A", [KEYS]))
        return completion("A", [KEYS])

    server = serve(respond)
    (one,) = run(backend(server))
    (other,) = run(backend(server, api="chat"))
    assert one.distributions == other.distributions


# ------------------------------------------------------------------- labels of several tokens


def test_labels_are_read_along_the_sampled_answer(serve):
    first = position("ne", {"pos": 0.5, "ne": 0.4, "The": 0.1})
    then = position("gative", {"gative": 0.25, "utral": 0.7, "w": 0.05})
    sampled = response(output_text("negative", [first, then]))
    server = serve(lambda body: sampled)
    (reply,) = run(backend(server), request(answers=WORDS))
    mass = masses(reply, WORDS)
    assert mass.low[1:] == pytest.approx([0.4 * 0.25, 0.4 * 0.7])
    assert mass.point == pytest.approx([0.5, 0.1, 0.28])
    assert "not all told apart" in reply.notes[0]  # "pos" may go on otherwise
    assert len(server.seen) == 1  # nothing was begun for the model
    assert [d.prefix for d in reply.distributions] == [b"", b"ne"]


def test_answers_in_several_parts_are_one_answer(serve):
    parts = [output_text("ne", [position("ne", {"ne": 0.9})])]
    parts += [output_text("utral", [position("utral", {"utral": 0.8, "gative": 0.2})])]
    (reply,) = run(backend(serve(lambda body: response(*parts))), request(answers=WORDS))
    assert reply.text == "neutral"
    assert masses(reply, WORDS).point[1:] == pytest.approx([0.18, 0.72])


# ------------------------------------------------------------ what a model refuses is found out


def refusing(applies, answer, good=None):
    good = good or response(output_text("A", [KEYS]))
    return lambda body: answer if applies(body) else good


def test_refused_parameters_are_learned_from_two_rows(serve):
    no_temperature = refusal(
        400,
        "Unsupported parameter: 'temperature' is not supported with this model.",
        param="temperature",
    )
    no_schema = refusal(
        400,
        "Invalid parameter: 'text.format' of type 'json_schema' is not supported with this model.",
        param="text.format",
    )
    picky = refusing(lambda body: "temperature" in body, no_temperature)
    server = serve(lambda body: no_schema if "text" in body else picky(body))
    wanted = [text_request(str(i), schema=json.dumps(SCHEMA)) for i in range(6)]
    replies = run(backend(server, seed=5), *wanted)
    for reply in replies:
        assert reply.refused == ("schema", "seed", "temperature")
        assert reply.notes == (
            "the model refuses 'temperature'; its default was used",
            "the model refuses the JSON schema; only the prompt says how to answer",
            "this API has no 'seed'; its default was used",
        )
    assert len(server.bodies(400)) == 2 * 2
    assert not any("seed" in body for body in server.bodies())
    (reply,) = run(backend(server), text_request("no seed"))
    assert reply.refused == ("temperature",)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(
            400,
            "logprobs are not supported with reasoning models.",
            param="include",
            code="unsupported_parameter",
        ),
        refusal(400, "Unsupported parameter: 'top_logprobs'", param="top_logprobs"),
        refusal(400, "Invalid value: 'message.output_text.logprobs'.", param="include"),
        # llama.cpp
        refusal(400, "top_logprobs requires logprobs to be set to true", code=400),
        response(output_text("A")),
    ],
)
def test_no_log_probabilities(serve, answer):
    server = serve(refusing(lambda b: "include" in b, answer, response(output_text("A"))))
    model = backend(server)
    with pytest.raises(SignalUnavailable) as caught:
        run(model, *(request(str(i)) for i in range(20)))
    assert "self_reported" in str(caught.value)
    assert "reasoning_effort='none'" in str(caught.value)
    assert len(server.seen) == 2  # of two different rows
    assert run(model, text_request())[0].text == "A"


def test_fewer_alternatives(serve):
    few = refusal(400, "Invalid 'top_logprobs': must be less than or equal to 5.")
    server = serve(refusing(lambda b: b["top_logprobs"] > 5, few))
    (reply,) = run(backend(server))
    assert reply.notes == ("the model lists 5 alternatives, not 20",)


def test_refused_effort_is_an_error_that_says_so(serve):
    message = "Unsupported parameter: 'reasoning.effort' is not supported with this model."
    server = serve(lambda body: refusal(400, message, param="reasoning.effort"))
    with pytest.raises(BackendError, match="refuses reasoning_effort='low'"):
        run(backend(server, reasoning_effort="low"), *(text_request(str(i)) for i in range(9)))
    assert len(server.seen) == 2  # of two different rows


# --------------------------------------------------------------------------------- reasoning


def test_reasoning_is_given_room_and_told(serve):
    def respond(body):
        if body["max_output_tokens"] < 500:
            cut = {"status": "incomplete", "reason": "max_output_tokens"}
            return response(n_reasoning=50, before=[REASONING], **cut)
        return response(output_text("ham"), n_reasoning=300, before=[REASONING])

    server = serve(respond)
    replies = run(backend(server, max_concurrency=1), *map(text_request, "123"))
    assert [body["max_output_tokens"] for body in server.bodies()] == [50, 2050] * 2 + [2050]
    assert [reply.text for reply in replies] == ["ham"] * 3
    assert [reply.reasoning_tokens for reply in replies] == [350, 350, 300]
    assert "300 tokens of hidden reasoning" in replies[0].notes[1]
    (failure,) = run(backend(server, reasoning_budget=100), text_request())
    assert isinstance(failure, UnreadableReply)
    assert "reasoning_budget" in str(failure)


def test_empty_answers_are_told(serve):
    cut = response(output_text(""), status="incomplete", reason="max_output_tokens")
    server = serve(lambda body: cut)
    failure, other = run(backend(server), text_request(), request())
    assert isinstance(failure, UnreadableReply)
    assert "max_tokens=50" in str(failure)
    assert isinstance(other, UnreadableReply)
    assert "'length'" in str(other)
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("before", "n_reasoning"),
    [
        ([REASONING], 30),
        ([{**REASONING, "summary": [{"type": "summary_text", "text": "Hm."}]}], 0),
        (
            [
                {
                    "id": "msg_0",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "phase": "commentary",
                    "content": [output_text("It looks like A.")],
                }
            ],
            0,
        ),
    ],
)
def test_probabilities_after_reasoning_are_no_evidence(serve, before, n_reasoning):
    answer = response(output_text("A", [KEYS]), before=before, n_reasoning=n_reasoning)
    server = serve(lambda body: answer)
    with pytest.raises(SignalUnavailable, match="reasons before it answers"):
        run(backend(server), *(request(str(i)) for i in range(20)))
    assert len(server.seen) == 2  # of two different rows
    (reply,) = run(backend(server), text_request())
    assert reply.text == "A"  # and not the commentary


def test_an_empty_reasoning_item_is_no_reasoning(serve):
    answer = response(output_text("A", [KEYS]), before=[REASONING])
    (reply,) = run(backend(serve(lambda body: answer)))
    assert reply.distributions


# ------------------------------------------------------------------------------------ failures


def failed(code, message="it went wrong"):
    return response(status="failed", error={"code": code, "message": message})


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (failed("server_error", f"died {KEY}"), BackendUnavailable, "died ***"),
        (failed("vector_store_timeout"), BackendUnavailable, "went wrong"),
        (failed("rate_limit_exceeded"), RateLimited, "max_concurrency"),
        (failed("invalid_prompt", "your prompt was flagged"), Refused, "flagged"),
        (failed("bio_policy"), Refused, "content filter"),
        (failed("invalid_prompt", "too many images"), BackendError, "invalid_prompt"),
        (failed("data_residency_mismatch"), BackendError, "data_residency_mismatch"),
        (response(status="failed"), BackendUnavailable, "broke the answer off (failed)"),
        (response(status="incomplete", reason="content_filter"), Refused, "content filter"),
        (response({"type": "refusal", "refusal": "I cannot"}), Refused, "I cannot"),
        (response(status="queued"), UnreadableReply, "queued"),
        (response(), UnreadableReply, "wrote nothing"),
        (refusal(400, "no", code="content_filter"), Refused, "content filter"),
        (refusal(400, "Your prompt was flagged", code="invalid_prompt"), Refused, "flagged"),
        (refusal(429, "slow down"), RateLimited, "max_concurrency"),
        (Answer(200, "<html>hello</html>"), UnreadableReply, "/v1"),
        (Answer(200, {"choices": []}), UnreadableReply, "response"),
        (Answer(200, b'{"output": [{'), UnreadableReply, "broken JSON"),
        (response({"type": "output_text", "text": "A", "logprobs": 3}), UnreadableReply, "form"),
    ],
)
def test_failures_of_a_row(serve, answer, kind, says):
    server = serve(lambda body: answer)
    failures = run(backend(server), request("1"), request("2"))
    for failure in failures:
        assert type(failure) is kind
        assert says in str(failure)
        assert KEY not in repr(failure)
        assert failure.__context__ is None


def test_one_bad_row_among_many(serve):
    def respond(body):
        if body["input"][1]["content"] == "3":
            return failed("server_error")
        return response(output_text("A", [KEYS]))

    answers = run(backend(serve(respond)), *(request(str(i)) for i in range(8)))
    assert [isinstance(a, BackendError) for a in answers] == [i == 3 for i in range(8)]


@pytest.mark.parametrize("status", [404, 405])
def test_server_without_the_api(serve, status):
    server = serve(lambda body: refusal(status, "Not Found"))
    with pytest.raises(ModelNotFound, match="use api='chat'"):
        run(backend(server), *(request(str(i)) for i in range(9)))
    assert len(server.seen) == 2  # of a row, of a harmless text
    server.respond = lambda body: refusal(404, "no model 'm'", code="model_not_found")
    with pytest.raises(ModelNotFound) as caught:
        run(backend(server))
    assert "api='chat'" not in str(caught.value)


def test_probabilities_survive_an_sdk_that_hands_on_plain_json():
    from skllm_calib.evidence.backends.hosted.answer import positions_of

    (first,) = positions_of([KEYS])
    assert [token.text for token in first.listed] == [b"A", b"B", b" A", b"x"]
    np.testing.assert_allclose(np.exp([t.logprob for t in first.listed]), [0.6, 0.3, 0.05, 0.02])
