"""Requests for text: schemas, reasoning models, and what a model does not take."""

import json

import pytest
from loopback import (
    KEY,
    ChatModel,
    both_apis,
    completion,
    output_text,
    reasoned,
    refusal,
    response,
    servers,
)

from skllm_calib.backends import Message, Reply, Request
from skllm_calib.evidence.backends.base import Dropout
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    SignalUnavailable,
    UnreadableReply,
)

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["spam", "ham"]}},
    "required": ["label"],
    "additionalProperties": False,
}
OTHER = {**SCHEMA, "properties": {"label": {"type": "string", "enum": ["a", "b"]}}}


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def request(text="hello", schema=SCHEMA, **options):
    options = {"max_tokens": 50, "schema": json.dumps(schema) if schema else "", **options}
    return Request((Message("system", "Classify."), Message("user", text)), **options)


def backend(server, **options):
    return OpenAIBackend("m", base_url=server.base_url, **{"max_retries": 0, **options})


def run(model, *requests):
    answers = dict(model.run(list(requests)))
    return [answers[i] for i in range(len(answers))]


def refusing(applies, answer):
    """A server that answers requests to which `applies` with a refusal."""
    return lambda body: answer if applies(body) else completion('{"label":"ham"}')


# ------------------------------------------------------------------------------------ schemas


def test_schema_is_sent_as_documented(serve):
    server = serve(lambda body: completion('{"label":"ham"}'))
    (reply,) = run(backend(server), request())
    (body,) = server.bodies()
    assert body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Classify."},
            {"role": "user", "content": "hello"},
        ],
        "max_tokens": 50,
        "temperature": 0.0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
    }
    assert (reply.text, reply.refused, reply.notes) == ('{"label":"ham"}', (), ())


@pytest.mark.parametrize(
    "answer",
    [
        refusal(
            400,
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
            "model. Learn more about supported models at the Structured Outputs guide.",
        ),
        refusal(400, "not supported", param="response_format"),
        refusal(400, "This response_format type is unavailable now; unsupported"),
        refusal(422, "extra_forbidden: body, response_format"),
        refusal(400, "Unknown parameter: json_schema"),
    ],
)
def test_refused_schemas_are_learned_from_two_rows(serve, answer):
    server = serve(refusing(lambda body: "response_format" in body, answer))
    model = backend(server, max_concurrency=4)
    replies = run(model, *(request(str(i)) for i in range(8)), request("x", OTHER))
    for reply in replies:
        assert reply.refused == ("schema",)
        assert reply.notes == (
            "the model refuses the JSON schema; only the prompt says how to answer",
        )
    assert len(server.bodies(answer.status)) == 2
    (plain,) = run(model, request(schema=None))
    assert plain.refused == plain.notes == ()


@pytest.mark.parametrize(
    "answer",
    [
        refusal(
            400,
            "Invalid schema for response_format 'answer': In context=(), 'enum' is not permitted.",
            param="response_format",
        ),
        refusal(400, "no", param="text.format", code="invalid_json_schema"),
        refusal(400, "Automatic parser generation failed: JSON schema error at #: too deep"),
        refusal(400, "The provided JSON schema has features that the backend does not know"),
    ],
)
def test_one_bad_schema_costs_no_other(serve, answer):
    def is_bad(body):
        return body.get("response_format", {}).get("json_schema", {}).get("schema") == SCHEMA

    server = serve(refusing(is_bad, answer))
    wanted = [request("1"), request("2"), request("3"), request("4", OTHER)]
    replies = run(backend(server), *wanted)
    assert [reply.refused for reply in replies] == [("schema",)] * 3 + [()]
    assert len(server.bodies(400)) == 2


def test_a_bad_request_that_is_not_about_the_schema_is_told(serve):
    server = serve(lambda body: refusal(400, "messages must not be empty"))
    (failure,) = run(backend(server), request())
    assert type(failure) is BackendError
    assert len(server.seen) == 1


def test_schema_that_is_no_json(serve):
    server = serve(lambda body: completion("x"))
    bad = Request((Message("user", "x"),), schema="{label: string}")
    with pytest.raises(ValueError, match=r"must be JSON \(Expecting property name"):
        run(backend(server), bad)


def test_form_set_by_the_user_wins(serve):
    form = {"type": "json_object"}
    server = serve(lambda body: completion("{}"))
    (reply,) = run(backend(server, extra_body={"response_format": form}), request())
    assert server.bodies()[0]["response_format"] == form
    assert reply.refused == ()


# ---------------------------------------------------------------- what else a model does not take


def test_refused_temperature_and_seed_are_told(serve):
    server = serve(
        refusing(
            lambda body: "temperature" in body,
            refusal(400, "Unsupported value: 'temperature' does not support 0.7 with this model."),
        )
    )
    model = backend(server, seed=3)
    (reply,) = run(model, request(temperature=0.7))
    assert reply.refused == ("temperature",)
    server.respond = refusing(
        lambda body: "seed" in body, refusal(400, "Unsupported parameter: 'seed'")
    )
    (reply,) = run(model, request(temperature=0.7))
    assert reply.refused == ("seed", "temperature")
    assert reply.notes == (
        "the model refuses 'seed'; its default was used",
        "the model refuses 'temperature'; its default was used",
    )
    (reply,) = run(model.set_params(seed=None), request(temperature=0.7))
    assert reply.refused == ("temperature",)  # nobody asked for a seed
    assert Reply.from_json(reply.to_json()) == reply


def test_draws_without_a_seed_are_plain_repetitions(serve):
    server = serve(lambda body: completion("x"))
    run(backend(server), *(request(temperature=1.0, draw=d) for d in range(2)))
    first, second = server.bodies()
    assert first == second
    assert "seed" not in first


@pytest.mark.parametrize("answers", [(), ("A", "B")])
def test_dropout_is_not_to_be_had(serve, answers):
    server = serve(lambda body: completion("x"))
    bad = request(schema=None, answers=answers, dropout=Dropout("head", 0.1, 5))
    failure, reply = run(backend(server), bad, request())
    assert isinstance(failure, SignalUnavailable)
    assert "mc_dropout" in str(failure)
    assert isinstance(reply, Reply)


# --------------------------------------------------------------------------------- reasoning


def thinker(needs, length_name="max_tokens"):
    """A model that writes only where `needs` tokens of reasoning fit before the answer."""

    def respond(body):
        room = body[length_name]
        if room < needs + 5:
            return completion("", finish_reason="length", usage=reasoned(room))
        return completion("ham", usage=reasoned(needs))

    return respond


def test_reasoning_is_given_room_and_told(serve):
    server = serve(thinker(700))
    replies = run(backend(server, max_concurrency=1), *map(request, "123"))
    # Found out with two rows: the third one has the room from the start.
    assert [body["max_tokens"] for body in server.bodies()] == [50, 2050] * 2 + [2050]
    assert [reply.text for reply in replies] == ["ham"] * 3
    assert [reply.reasoning_tokens for reply in replies] == [750, 750, 700]
    assert [reply.completion_tokens for reply in replies] == [752, 752, 701]
    for reply in replies:
        assert reply.notes == (
            "the model reasons: it was allowed 2,000 tokens more than the answer needs",
            "700 tokens of hidden reasoning came before the answer; they are no evidence of how "
            "sure the model is",
        )
        assert Reply.from_json(reply.to_json()) == reply


def test_reasoning_that_fits_is_not_paid_for_twice(serve):
    server = serve(thinker(20))
    replies = run(backend(server, max_concurrency=1), *map(request, "123"))
    assert [body["max_tokens"] for body in server.bodies()] == [50, 50, 2050]
    assert [reply.reasoning_tokens for reply in replies] == [20] * 3


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_that_a_server_does_not_count(serve, field):
    def respond(body):
        if body["max_tokens"] < 100:
            return completion(None, finish_reason="length", **{field: "Hm, let me see"})
        return completion("ham", **{field: "Hm, let me see."})

    (reply,) = run(backend(serve(respond)), request())
    assert (reply.text, reply.reasoning_tokens) == ("ham", 0)
    assert "not counted" in reply.notes[1]


def written(body, text, finish):
    """A text through the API that was asked."""
    if "messages" in body:
        return completion(text, finish_reason=finish)
    cut = {"status": "incomplete", "reason": "max_output_tokens"} if finish == "length" else {}
    return response(output_text(text), **cut)


def room(body):
    return body["max_tokens"] if "messages" in body else body["max_output_tokens"]


@both_apis
@pytest.mark.parametrize("opening", ["<think>", "\n[THINK]"])
def test_reasoning_in_the_text_itself_is_taken_out(serve, api, opening):
    closing = opening.strip().replace("<", "</").replace("[", "[/")

    def respond(body):
        if room(body) < 100:
            return written(body, f"{opening}Hm, let", "length")
        return written(body, f"{opening}Hm, let me see.{closing}\n\nham", "stop")

    server = serve(respond)
    replies = run(backend(server, api=api, max_concurrency=1), *map(request, "123"))
    assert [room(body) for body in server.bodies()] == [50, 2050] * 2 + [2050]
    for reply in replies:
        assert reply.text == "ham"
        assert "tokens of reasoning, not counted, came before the answer" in reply.notes[1]


@both_apis
def test_reasoning_that_the_template_began(serve, api):
    server = serve(lambda body: written(body, "Hm.\n</think>\n\nham", "stop"))
    model = backend(server, api=api, max_concurrency=1)
    for reply in run(model, request("1"), request("2")):
        assert reply.text == "ham"
        assert "not counted" in reply.notes[0]
    # From now on it is known that a text without a mark is none of the answer.
    server.respond = lambda body: written(body, "Hm, let me see", "length")
    (failure,) = run(model, request("4"))
    assert isinstance(failure, UnreadableReply)
    assert "reasoning_budget" in str(failure)
    # A text that ended by itself is one, with or without reasoning.
    server.respond = lambda body: written(body, "spam", "stop")
    assert run(model, request("3"))[0].text == "spam"


@both_apis
@pytest.mark.parametrize("finish", ["length", "stop"])
def test_reasoning_that_never_ends(serve, api, finish):
    server = serve(lambda body: written(body, "<think>Is it spam? Is it ham?", finish))
    (failure,) = run(backend(server, api=api), request())
    assert isinstance(failure, UnreadableReply)
    assert "max_tokens=50 and 2,000 tokens of reasoning" in str(failure)
    assert "reasoning_budget" in str(failure)
    assert [room(body) for body in server.bodies()] == [50, 2050]
    (failure,) = run(backend(server, api=api, reasoning_budget=300), request())
    assert isinstance(failure, UnreadableReply)
    assert [room(body) for body in server.bodies()] == [50, 2050, 350]


@both_apis
@pytest.mark.parametrize(
    "text", ["ham, since it says <think> in it", 'It quotes "</think>".', "a\n<think>b</think>\n"]
)
def test_a_text_that_quotes_a_mark_stays_as_it_is(serve, api, text):
    server = serve(lambda body: written(body, text, "length"))
    (reply,) = run(backend(server, api=api), request())
    assert (reply.text, reply.notes) == (text, ())
    assert reply.cut
    assert [room(body) for body in server.bodies()] == [50, 2050]  # no reasoning at length either


def test_a_whole_answer_after_one_that_was_cut_counts(serve):
    answers = iter([completion("ham, I thi", finish_reason="length"), completion("ham")])
    server = serve(lambda body: next(answers))
    (reply,) = run(backend(server), request())
    assert (reply.text, reply.cut) == ("ham", False)
    assert len(server.bodies()) == 2


def test_a_whole_answer_that_would_not_have_fitted_does_not(serve):
    answers = iter([completion("ham, I thi", finish_reason="length"), completion("x", [{}] * 51)])
    server = serve(lambda body: next(answers))
    (reply,) = run(backend(server), request())
    assert (reply.text, reply.cut) == ("ham, I thi", True)


def test_reasoning_that_was_turned_off_leaves_no_trace(serve):
    server = serve(lambda body: completion("<think>\n\n</think>\n\nham"))
    (reply,) = run(backend(server), request())
    assert (reply.text, reply.notes) == ("ham", ())
    assert [room(body) for body in server.bodies()] == [50]


def test_reasoning_longer_than_the_room(serve):
    server = serve(thinker(5000))
    for error in run(backend(server, max_concurrency=1), *map(request, "123")):
        assert isinstance(error, UnreadableReply)
        assert "max_tokens=50 and 2,000 tokens of reasoning" in str(error)
        assert "reasoning_budget" in str(error)
    assert [body["max_tokens"] for body in server.bodies()] == [50, 2050] * 2 + [2050]


def test_budget_of_the_user_is_kept(serve):
    no_max_tokens = refusal(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        param="max_tokens",
        code="unsupported_parameter",
    )
    model = thinker(300, "max_completion_tokens")
    server = serve(lambda body: no_max_tokens if "max_tokens" in body else model(body))
    (reply,) = run(backend(server, reasoning_budget=400), request())
    assert [body["max_completion_tokens"] for body in server.bodies(200)] == [450]
    assert reply.reasoning_tokens == 300
    assert len(reply.notes) == 1
    (failure,) = run(backend(server, reasoning_budget=100), request())
    assert isinstance(failure, UnreadableReply)
    assert [body["max_completion_tokens"] for body in server.bodies(200)] == [450, 150]


def test_an_empty_answer_without_reasoning_is_not_asked_for_again(serve):
    server = serve(lambda body: completion("", finish_reason="length"))
    (failure,) = run(backend(server), request())
    assert isinstance(failure, UnreadableReply)
    assert len(server.seen) == 1


def test_effort_is_sent_and_part_of_the_identity(serve):
    server = serve(lambda body: completion("x"))
    model = backend(server, reasoning_effort="low")
    run(model, request())
    run(backend(server), request())
    assert [body.get("reasoning_effort") for body in server.bodies()] == ["low", None]
    plain = backend(server)
    assert model.identity() == {**plain.identity(), "reasoning_effort": "low"}
    budget = backend(server, reasoning_budget=0)
    assert budget.identity() == {**plain.identity(), "reasoning_budget": 0}
    assert "api" not in plain.identity()


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "Unrecognized request argument supplied: reasoning_effort"),
        refusal(
            400,
            "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. "
            "Supported values are: 'low', 'medium', and 'high'.",
            param="reasoning_effort",
            code="unsupported_value",
        ),
    ],
)
def test_refused_effort_is_an_error_that_says_so(serve, answer):
    server = serve(refusing(lambda body: "reasoning_effort" in body, answer))
    model = backend(server, reasoning_effort="minimal")
    with pytest.raises(BackendError, match="refuses reasoning_effort='minimal'") as caught:
        run(model, *(request(str(i)) for i in range(20)))
    assert len(server.seen) == 2  # of two different rows
    assert caught.value.__context__ is None
    assert KEY not in str(caught.value)
    assert isinstance(run(backend(server), request())[0], Reply)


def test_overload_is_not_blamed_on_the_effort(serve):
    server = serve(lambda body: refusal(503, "reasoning_effort 'low' queue is full"))
    (failure,) = run(backend(server, reasoning_effort="low"), request())
    assert isinstance(failure, BackendUnavailable)


def test_what_a_model_takes_depends_on_its_effort(serve):
    def picky(body):
        return body.get("reasoning_effort") != "none" and "temperature" in body

    message = "Unsupported parameter: 'temperature' is not supported with this model."
    server = serve(refusing(picky, refusal(400, message, param="temperature")))
    (reply,) = run(backend(server), request())
    assert reply.refused == ("temperature",)
    (reply,) = run(backend(server, reasoning_effort="none"), request())
    assert reply.refused == ()


def test_labels_of_a_model_that_reasons_point_elsewhere(serve):
    keys = ChatModel({"": {"A": 0.6, "B": 0.4}})

    def respond(body):
        if body.get("reasoning_effort") == "none":
            return keys(body)
        return completion("A", usage=reasoned(30))

    server = serve(respond)
    labels = request(schema=None, answers=("A", "B"))
    (failure,) = run(backend(server), labels)
    assert isinstance(failure, SignalUnavailable)
    for way_out in ("'self_reported'", "'self_consistency'", "reasoning_effort='none'"):
        assert way_out in str(failure)
    (reply,) = run(backend(server, reasoning_effort="none"), labels)
    assert reply.distributions


@pytest.mark.parametrize(
    ("option", "value"), [("reasoning_budget", -1), ("reasoning_budget", True), ("api", "chats")]
)
def test_bad_parameters(serve, option, value):
    server = serve(lambda body: completion("x"))
    with pytest.raises(ValueError, match=f"{option}={value!r}"):
        run(backend(server, **{option: value}), request())


def test_a_bound_below_the_least_is_raised(serve):
    message = (
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got "
        "5 instead."
    )
    low = refusal(400, message, param="max_output_tokens", code="integer_below_min_value")
    server = serve(refusing(lambda body: body["max_tokens"] < 16, low))
    replies = run(backend(server), *(request(text, max_tokens=5) for text in "123"))
    assert [reply.text for reply in replies] == ['{"label":"ham"}'] * 3
    assert [body["max_tokens"] for body in server.bodies()] == [5, 16] * 2 + [16]


def test_a_bound_of_the_user_is_not_raised(serve):
    message = "Invalid 'max_tokens': integer below minimum value. Expected a value >= 32."
    server = serve(lambda body: refusal(400, message, param="max_tokens"))
    (failure,) = run(backend(server, extra_body={"max_tokens": 5}), request())
    assert type(failure) is BackendError
    assert [body["max_tokens"] for body in server.bodies()] == [5]


def test_half_a_character_fails_its_own_row(serve):
    broken = Request((Message("user", "half: \ud83d"),), max_tokens=5)
    fine = Request((Message("user", "whole"),), max_tokens=5)
    server = serve(lambda body: completion("yes"))
    answers = dict(OpenAIBackend("m", base_url=server.base_url).run([broken, fine]))
    assert "unpaired surrogate" in str(answers[0])
    assert isinstance(answers[0], BackendError)
    assert answers[1].text == "yes"
