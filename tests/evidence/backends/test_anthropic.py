from __future__ import annotations

import asyncio
import json
import pickle
import socket
import subprocess
import sys
import threading
import time
from datetime import date

import pytest
from contract import BackendContract
from loopback import Answer, Loopback
from loopback_anthropic import NO_THINKING, Claude, message, refusal
from sklearn.base import clone

from skllm_calib.backends import Choice, Dropout, Message, Reply, Request, clear_handles
from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    MissingDependency,
    ModelNotFound,
    RateLimited,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

anthropic = pytest.importorskip("anthropic")

KEY = "sk-ant-test-0123456789abcdef"
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"p": {"type": "number"}},
        "required": ["p"],
        "additionalProperties": False,
    }
)
BOUNDED = json.dumps({"type": "number", "minimum": 0, "maximum": 1})


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("BASE_URL", "AUTH_TOKEN", "CUSTOM_HEADERS", "PROFILE"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    clear_handles()
    yield
    clear_handles()


@pytest.fixture
def serve():
    """Start servers that are stopped when the test ends, after the clients."""
    running = []

    def start(respond):
        server = Loopback(respond).__enter__()
        running.append(server)
        return server

    yield start
    clear_handles()
    for server in running:
        server.__exit__()


def request(text="hello", **options):
    turns = (Message("system", "Answer in a word."), Message("user", text))
    return Request(turns, **{"max_tokens": 50, **options})


def backend(server, **options):
    return AnthropicBackend("claude-m", base_url=server.address, **{"max_retries": 0, **options})


def run(model, *requests):
    answers = dict(model.run(list(requests) or [request()]))
    return [answers[i] for i in range(len(answers))]


def statuses(server):
    return [seen.status for seen in server.seen]


def key_of(seen):
    """The key as the installed SDK sends it: a bearer since its second version."""
    return seen.headers.get("x-api-key") or seen.headers["authorization"].removeprefix("Bearer ")


def user_text(body):
    return body["messages"][-1]["content"]


class TestAnthropicBackend(BackendContract):
    shows_logprobs = False

    @pytest.fixture
    def server(self, serve):
        return serve(Claude())

    @pytest.fixture(params=["direct", "sdk"])
    def backend(self, server, request):
        return backend(server, transport=request.param)

    @pytest.fixture
    def other(self, server):
        return backend(server, reasoning_effort="low")

    def test_each_request_has_one_reply_with_the_labels(self, backend, server):
        super().test_each_request_has_one_reply_with_the_labels(backend)
        (failure,) = self.ask(backend, self.request(answers=self.answers))
        assert "'claude-m'" in str(failure)
        assert "'self_reported' and 'self_consistency'" in str(failure)
        assert server.seen == []

    def test_text_without_labels(self, backend, server):
        super().test_text_without_labels(backend)
        assert len(server.seen) == 1


# ------------------------------------------------------------------ what is sent, what comes back


def test_text_request_is_sent_as_documented(serve):
    server = serve(Claude())
    (reply,) = run(backend(server), request(temperature=0.7, draw=2))
    (seen,) = server.seen
    assert seen.path == "/v1/messages"
    assert date.fromisoformat(seen.headers["anthropic-version"])  # which one is up to the SDK
    assert key_of(seen) == KEY
    assert seen.body == {
        "model": "claude-m",
        "max_tokens": 50,
        "system": "Answer in a word.",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.7,
    }
    # Read, put into the cache and read from it, as the API counts them apart.
    assert reply == Reply(
        "re: hello",
        model="claude-test-20260101",
        prompt_tokens=10 + 5 + 4,
        completion_tokens=3,
        cached_tokens=4,
    )
    assert Reply.from_json(reply.to_json()) == reply


def test_instructions_have_a_parameter_of_their_own(serve):
    server = serve(Claude())
    turns = (
        Message("system", "One."),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("system", "Two."),
        Message("user", "c"),
        Message("user", "d"),
    )
    run(backend(server), Request(turns), Request((Message("user", "no instructions"),)))
    run(backend(server), Request((Message("system", "nothing else"),)))
    first, second, third = server.bodies()
    assert first["system"] == "One.\n\nTwo."
    assert [(m["role"], m["content"]) for m in first["messages"]] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("user", "d"),
    ]
    assert "system" not in second
    assert "system" not in third
    assert third["messages"] == [{"role": "user", "content": "nothing else"}]


def test_text_is_that_of_the_text_blocks(serve):
    blocks = [
        {"type": "thinking", "thinking": "spam?", "signature": "x"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "text", "text": "h"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {}},
        {"type": "text", "text": "am"},
        {"type": "kind of the future", "text": "spam"},
    ]
    (reply,) = run(backend(serve(lambda body: message(content=blocks))))
    assert reply.text == "ham"
    assert reply.notes == ("hidden reasoning came before the answer",)
    assert reply.reasoning_tokens == 0  # the usage does not tell


def test_an_empty_answer_is_an_answer(serve):
    (reply,) = run(backend(serve(lambda body: message())))
    assert (reply.text, reply.completion_tokens) == ("", 3)


def test_server_without_usage_or_model(serve):
    answer = message("yes")
    for name in ("usage", "model", "stop_reason"):
        del answer.body[name]
    (reply,) = run(backend(serve(lambda body: answer)))
    assert reply == Reply("yes")


def test_extra_body_wins(serve):
    server = serve(Claude())
    own = {
        "service_tier": "standard_only",
        "temperature": 0.5,
        "output_config": {"effort": "max"},
        "model": "other",
        "max_tokens": 7,
    }
    model = backend(server, extra_body=own, reasoning_effort="low")
    (reply,) = run(model, request(schema=SCHEMA))
    (body,) = server.bodies()
    wanted = {"type": "json_schema", "schema": json.loads(SCHEMA)}
    assert body["output_config"] == {"effort": "max", "format": wanted}
    assert {**own, "output_config": None}.items() <= {**body, "output_config": None}.items()
    assert reply.refused == ()
    assert model.extra_body == own


def test_address_from_the_environment(serve, monkeypatch):
    server = serve(Claude())
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.address)
    model = AnthropicBackend("claude-m")
    assert model.identity()["base_url"] == server.address
    assert isinstance(run(model)[0], Reply)


# ------------------------------------------------------------------- what Claude does not show


def test_what_claude_does_not_show_costs_no_call_and_no_key(serve, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    server = serve(Claude())
    labels = {"answers": ("A", "B")}
    failures = run(
        AnthropicBackend("claude-m"),
        request(**labels),
        request(choices=(Choice("A"), Choice("B"))),
        request(**labels, dropout=Dropout("head", 0.1, 3)),
    )
    assert [type(f) for f in failures] == [SignalUnavailable] * 3
    for failure, says in zip(
        failures, ["log-probabilities", "decision endpoint", "dropout"], strict=True
    ):
        assert says in str(failure)
        assert "'self_reported' and 'self_consistency'" in str(failure)
    assert server.seen == []


def test_text_beside_what_claude_does_not_show(serve):
    server = serve(Claude())
    failure, reply = run(backend(server), request(answers=("A", "B")), request())
    assert isinstance(failure, SignalUnavailable)
    assert reply.text == "re: hello"
    assert len(server.seen) == 1


# ------------------------------------------------------------ what a model refuses is found out


def test_refused_temperature_is_learned_from_two_rows(serve):
    server = serve(Claude(temperature=()))
    model = backend(server)
    answers = run(model, *(request(str(i)) for i in range(20)))
    assert sorted(statuses(server)) == [200] * 20 + [400] * 2
    for i, reply in enumerate(answers):
        assert reply.text == f"re: {i}"
        assert reply.refused == ("temperature",)
        assert reply.notes == ("the model refuses temperature 0; its default was used",)
    assert not any("temperature" in body for body in server.bodies(200))
    run(clone(model))
    assert statuses(server).count(400) == 2
    run(backend(server, extra_body={"top_p": 0.9}))  # may take other things
    assert statuses(server).count(400) == 3
    clear_handles()
    run(model)
    assert statuses(server).count(400) == 4


def test_a_refused_temperature_speaks_for_itself_only(serve):
    server = serve(Claude(temperature=(1,)))
    texts = [("a", 0.0), ("b", 1.0), ("c", 0.5), ("d", 0.5), ("e", 0.0), ("f", 1.0), ("g", 0.5)]
    model = backend(server, max_concurrency=1)
    answers = run(model, *(request(text, temperature=t) for text, t in texts))
    refused_once = [400, 200]
    assert statuses(server) == [*refused_once, 200, *(refused_once * 3), 200, 200]
    assert [a.refused == ("temperature",) for a in answers] == [t != 1 for _, t in texts]
    assert "temperature 0.5" in answers[2].notes[0]


@pytest.mark.parametrize(
    "said",
    [
        "temperature: range: 0..1",
        "temperature: Input should be less than or equal to 1",
        "max_tokens: 900000 > 64000, which is the maximum allowed number of output tokens",
        "messages: text content blocks must be non-empty",
    ],
)
def test_a_wrong_value_is_no_refused_parameter(serve, said):
    server = serve(lambda body: refusal(400, said))
    first, second = run(backend(server), request(schema=SCHEMA), request())
    assert type(first) is type(second) is BackendError
    assert said in str(first)
    assert len(server.seen) == 2
    assert all("temperature" in body for body in server.bodies())


def test_a_temperature_set_by_the_user_is_not_taken_away(serve):
    server = serve(Claude(temperature=()))
    (failure,) = run(backend(server, extra_body={"temperature": 0.2}))
    assert type(failure) is BackendError
    assert "deprecated" in str(failure)
    assert len(server.seen) == 1


def test_schema_is_asked_for_as_structured_output(serve):
    server = serve(Claude())
    (reply,) = run(backend(server), request(schema=SCHEMA))
    (body,) = server.bodies()
    wanted = {"type": "json_schema", "schema": json.loads(SCHEMA)}
    assert body["output_config"] == {"format": wanted}
    assert (reply.refused, reply.notes) == ((), ())


def test_refused_schema_is_learned_from_two_rows(serve):
    server = serve(Claude(schema=False))
    answers = run(backend(server), *(request(str(i), schema=SCHEMA) for i in range(10)))
    assert sorted(statuses(server)) == [200] * 10 + [400] * 2
    for i, reply in enumerate(answers):
        assert reply.text == f"re: {i}"
        assert reply.refused == ("schema",)
        assert "only the messages say" in reply.notes[0]
    assert not any("output_config" in body for body in server.bodies(200))
    (reply,) = run(backend(server))  # that has none
    assert (reply.refused, reply.notes) == ((), ())


def test_a_refused_schema_speaks_for_itself_only(serve):
    server = serve(Claude())
    model = backend(server, reasoning_effort="low", max_concurrency=1)
    bounded, plain, again = run(
        model, *(request(schema=schema) for schema in (BOUNDED, SCHEMA, BOUNDED))
    )
    assert statuses(server) == [400, 200, 200, 200]
    assert bounded.refused == again.refused == ("schema",)
    assert plain.refused == ()
    sent = [body["output_config"] for body in server.bodies(200)]
    assert [set(output) for output in sent] == [{"effort"}, {"effort", "format"}, {"effort"}]


@pytest.mark.parametrize(
    "said",
    [
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        "This model does not support the effort parameter.",
    ],
)
def test_a_refused_effort_ends_the_run(serve, said):
    server = serve(lambda body: refusal(400, said))
    model = backend(server, reasoning_effort="odd")
    with pytest.raises(BackendError, match="'claude-m' refuses reasoning_effort='odd'") as caught:
        run(model, *(request(str(i), schema=SCHEMA) for i in range(20)))
    assert type(caught.value) is BackendError
    assert said in str(caught.value)
    assert len(server.seen) == 2  # of two different rows


def test_everything_refused_at_once(serve):
    server = serve(Claude(temperature=(), thinking=("adaptive",), schema=False))
    model = backend(server, reasoning_budget=2048)
    answers = run(model, *(request(str(i), schema=SCHEMA) for i in range(10)))
    assert sorted(statuses(server)) == [200] * 10 + [400] * 6
    for reply in answers:
        assert reply.refused == ("schema", "temperature")
        assert len(reply.notes) == 4


# ------------------------------------------------------------------------------------ reasoning


def test_effort(serve):
    server = serve(Claude())
    run(backend(server, reasoning_effort="low"))
    (body,) = server.bodies()
    assert body["output_config"] == {"effort": "low"}
    assert "thinking" not in body


def test_budget_is_added_to_the_room_for_the_answer(serve):
    server = serve(Claude())
    model = backend(server, reasoning_budget=2048)
    first, second, third = run(model, request("a"), request("b"), request("c", temperature=1))
    # With reasoning, a temperature other than 1 is refused; that is learned like any refusal.
    assert sorted(statuses(server)) == [200, 200, 200, 400, 400]
    for body in server.bodies(200):
        assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
        assert body["max_tokens"] == 50 + 2048
    assert [a.text for a in (first, second, third)] == ["re: a", "re: b", "re: c"]
    assert first.refused == second.refused == ("temperature",)
    assert third.refused == ()
    for reply in (first, second, third):
        assert (reply.reasoning_tokens, reply.completion_tokens) == (30, 33)
        assert reply.notes[-1] == "hidden reasoning came before the answer"


def test_model_that_takes_no_budget(serve):
    server = serve(Claude(thinking=("adaptive",)))
    model = backend(server, reasoning_budget=1024)
    first, second = run(model, request("a", temperature=1), request("b", temperature=1))
    assert statuses(server) == [400, 200] * 2
    for body in server.bodies(200):
        assert body["thinking"] == {"type": "adaptive"}
        assert body["max_tokens"] == 50 + 1024
    for reply in (first, second):
        assert reply.refused == ()
        assert reply.notes[0].startswith("the model takes no reasoning budget")


@pytest.mark.parametrize(
    ("takes", "sent", "noted"),
    [
        (("disabled",), {"type": "disabled"}, False),
        (("between_tools", "adaptive"), {"type": "between_tools"}, False),
        (("adaptive",), None, True),
    ],
)
def test_reasoning_turned_off(serve, takes, sent, noted):
    server = serve(Claude(thinking=takes))
    first, second = run(backend(server, reasoning_budget=0), request("a"), request("b"))
    last = server.bodies(200)[-1]
    assert last.get("thinking") == sent
    assert last["max_tokens"] == 50
    n_refused = [{"type": "disabled"}, {"type": "between_tools"}, None].index(sent)
    assert statuses(server).count(400) == 2 * n_refused  # of two rows
    for reply in (first, second):
        assert any("does not let its reasoning" in note for note in reply.notes) == noted


def test_model_without_any_reasoning_ends_the_run(serve):
    server = serve(Claude(thinking=()))
    with pytest.raises(BackendError, match="refuses reasoning_budget=1024") as caught:
        run(backend(server, reasoning_budget=1024), *(request(str(i)) for i in range(20)))
    assert NO_THINKING.format("adaptive") in str(caught.value)
    assert len(server.seen) == 4  # two rows in two forms


def test_refusals_that_cross_each_other(serve):
    """Two threads refused for the same form go on to the next one, not to the one after it."""
    model = Claude(thinking=("adaptive",))
    both = threading.Barrier(2, timeout=10)

    def respond(body):
        if user_text(body) == "down":
            return refusal(500, "Internal server error", "api_error")
        if body["thinking"]["type"] == "enabled":
            both.wait()
        return model(body)

    server = serve(respond)
    chatty = backend(server, reasoning_budget=1024, max_concurrency=2)
    for _ in range(2):  # the first ones go alone, and find out nothing
        run(chatty, request("down", temperature=1))
    answers = run(chatty, request("a", temperature=1), request("b", temperature=1))
    assert [a.text for a in answers] == ["re: a", "re: b"]
    assert sorted(statuses(server)) == [200, 200, 400, 400, 500, 500]


@pytest.mark.parametrize("budget", [-1, 1, 1023])
def test_budget_that_the_api_does_not_have(serve, budget):
    with pytest.raises(ValueError, match=rf"reasoning_budget={budget}: must be 1024 tokens"):
        backend(serve(Claude()), reasoning_budget=budget).run([])


@pytest.mark.parametrize("content", [[], [{"type": "text", "text": " \n"}]])
def test_room_used_up_by_reasoning(serve, content):
    server = serve(lambda body: message(content=content, stop_reason="max_tokens"))
    (failure,) = run(backend(server))
    assert type(failure) is UnreadableReply
    for says in ("max_tokens=50", "reasoning_budget=0", "reasoning_budget=4096"):
        assert says in str(failure)


def test_cut_answer_is_still_what_was_written(serve):
    (reply,) = run(backend(serve(lambda body: message("0.8", stop_reason="max_tokens"))))
    assert reply.text == "0.8"


# ------------------------------------------------------------------------------------- failures


def failing(serve, answer, n=1, **options):
    server = serve(lambda body: answer)
    return server, run(backend(server, **options), *(request(str(i)) for i in range(n)))


@pytest.mark.parametrize(
    ("answer", "excess"),
    [
        (refusal(400, "prompt is too long: 210000 tokens > 200000 maximum"), 10000),
        (
            refusal(
                400,
                "input length and `max_tokens` exceed context limit: 188,240 + 21,333 > 200,000, "
                "decrease input length or `max_tokens` and try again",
            ),
            9573,
        ),
        (refusal(400, "prompt is too long"), None),
        (refusal(413, "Request exceeds the maximum size", "request_too_large"), None),
        (message(stop_reason="model_context_window_exceeded"), None),
    ],
)
def test_context_too_long(serve, answer, excess):
    _, (failure,) = failing(serve, answer)
    assert type(failure) is ContextTooLong
    assert failure.excess == excess


STOPPED = {"type": "refusal", "category": "bio", "explanation": "This looks like a hazard."}


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(400, "Output blocked by content filtering policy"), Refused, "content filter"),
        (message("I can", stop_reason="refusal", stop_details=STOPPED), Refused, "a hazard"),
        (
            message(stop_reason="refusal", stop_details={**STOPPED, "explanation": None}),
            Refused,
            "declined: bio",
        ),
        (message(stop_reason="refusal"), Refused, "declined"),
        (refusal(429, "slow down", "rate_limit_error"), RateLimited, "max_concurrency"),
        (refusal(529, "Overloaded", "overloaded_error"), BackendUnavailable, "Overloaded"),
        (refusal(500, "Internal server error", "api_error"), BackendUnavailable, "500"),
        (refusal(400, "odd request"), BackendError, "odd request"),
        (Answer(400, {"error": "plain"}), BackendError, "plain"),
        (Answer(200, "<html>hello</html>"), UnreadableReply, "without /v1"),
        (Answer(200, {"error": {"message": "upstream died"}}), UnreadableReply, "upstream died"),
        (Answer(200, {"content": None}), UnreadableReply, "no content"),
        (Answer(200, {"content": ["a", None]}), UnreadableReply, "no content"),
        (
            Answer(200, "{broken", {"Content-Type": "application/json"}),
            UnreadableReply,
            "broken JSON",
        ),
        (Answer(200, b'{"content": "\xff"}'), UnreadableReply, "broken JSON"),
    ],
)
def test_failures_of_a_row(serve, answer, kind, says):
    server, failures = failing(serve, answer, 3)
    assert len(server.seen) == 3
    for failure in failures:
        assert type(failure) is kind
        assert says in str(failure)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (
            refusal(401, "invalid x-api-key", "authentication_error"),
            AuthenticationFailed,
            "ANTHROPIC_API_KEY",
        ),
        (refusal(403, "not your model", "permission_error"), AuthenticationFailed, "not your"),
        (
            refusal(400, "disabled", details={"error_code": "organization_on_hold"}),
            AuthenticationFailed,
            "on hold",
        ),
        (refusal(404, "model: claude-m", "not_found_error"), ModelNotFound, "model: claude-m"),
        (
            refusal(400, "Your credit balance is too low to access the Anthropic API."),
            RateLimited,
            "no credit",
        ),
        (
            refusal(400, "You have reached your specified API usage limits. Try in June."),
            RateLimited,
            "in June",
        ),
        (Answer(400, "<html>bad</html>"), BackendError, "<html>"),
        (refusal(402, "pay", "billing_error"), RateLimited, "no credit"),
        (
            refusal(
                429,
                "limit",
                "rate_limit_error",
                details={"error_code": "enforced_spend_limit_reached"},
            ),
            RateLimited,
            "no credit",
        ),
    ],
)
def test_failures_of_the_whole_run(serve, answer, kind, says):
    server = serve(lambda body: answer)
    answers = backend(server).run([request(str(i)) for i in range(50)])
    with pytest.raises(kind, match=says):
        list(answers)
    assert len(server.seen) == (
        1 if kind is RateLimited or says == "on hold" else 2  # and a harmless text
    )


def test_one_bad_row_among_twenty(serve):
    def respond(body):
        if user_text(body) == "13":
            return refusal(400, "Output blocked by content filtering policy")
        return Claude()(body)

    answers = run(backend(serve(respond)), *(request(str(i)) for i in range(20)))
    assert [i for i, a in enumerate(answers) if isinstance(a, BackendError)] == [13]
    assert isinstance(answers[13], Refused)
    assert answers[12].text == "re: 12"


def test_retry_after_is_honoured(serve):
    times = []

    def respond(body):
        times.append(time.monotonic())
        if len(times) == 1:
            return refusal(429, "slow down", "rate_limit_error", headers={"Retry-After": "1"})
        return Claude()(body)

    (reply,) = run(backend(serve(respond), max_retries=1))
    assert isinstance(reply, Reply)
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 529])
@pytest.mark.parametrize("max_retries", [0, 2])
def test_retries_are_counted(serve, status, max_retries):
    answer = refusal(status, "busy", headers={"retry-after-ms": "1"})
    server, (failure,) = failing(serve, answer, max_retries=max_retries)
    assert isinstance(failure, BackendUnavailable)
    assert isinstance(failure, RateLimited) == (status == 429)
    assert len(server.seen) == 1 + max_retries


def test_server_down_is_told():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    failures = run(
        AnthropicBackend("claude-m", base_url=url, max_retries=1),
        *(request(str(i)) for i in range(40)),
    )
    assert len(failures) == 40
    for failure in failures:
        assert type(failure) is BackendUnavailable
        assert url in str(failure)


def test_after_a_lost_connection_the_next_rows_try_once(serve):
    class Gone(Exception):
        pass

    alive = []

    def respond(body):
        if user_text(body) == "alive":
            alive.append(1)
        if not alive:
            raise Gone  # the connection ends without an answer
        if len(alive) == 1 and user_text(body) == "busy":
            alive.append(1)
            return refusal(500, "busy", headers={"retry-after-ms": "1"})
        return Claude()(body)

    server = serve(respond)
    server._server.handle_error = lambda *args: None
    texts = ["a", "b", "c", "alive", "busy"]
    answers = run(
        backend(server, max_retries=1, max_concurrency=1), *(request(text) for text in texts)
    )
    assert [type(a) for a in answers] == [BackendUnavailable] * 3 + [Reply] * 2
    sent = [user_text(body) for body in server.bodies()]
    assert sent == ["a", "a", "b", "c", "alive", "busy", "busy"]


def test_server_too_slow(serve):
    release = threading.Event()

    def respond(body):
        release.wait(10)
        return Claude()(body)

    (failure,) = run(backend(serve(respond), timeout=0.05))
    release.set()
    assert type(failure) is BackendUnavailable
    assert "timeout" in str(failure)


# ----------------------------------------------------------------------- many rows at a time


def test_concurrency_is_bounded_and_used(serve):
    three = threading.Barrier(3, timeout=10)

    def respond(body):
        if user_text(body) != "first":
            three.wait()  # passes only while three are under way
        return Claude()(body)

    server = serve(respond)
    model = backend(server, max_concurrency=3)
    run(model, request("first"))  # goes alone
    answers = run(model, *(request(str(i)) for i in range(12)))
    assert [a.text for a in answers] == [f"re: {i}" for i in range(12)]
    assert server.most_at_once == 3


def test_answers_come_as_they_are_ready(serve):
    release = threading.Event()

    def respond(body):
        if user_text(body) == "slow":
            release.wait(10)
        return Claude()(body)

    model = backend(serve(respond))
    run(model)
    answers = model.run([request("slow"), request("fast")])
    assert next(answers)[0] == 1
    release.set()
    assert next(answers)[0] == 0


def test_unfinished_iteration_cancels_the_rest(serve):
    server = serve(Claude())
    answers = backend(server, max_concurrency=2).run([request(str(i)) for i in range(300)])
    next(answers)
    answers.close()
    n = len(server.seen)
    assert n < 300
    time.sleep(0.05)
    assert len(server.seen) == n


def test_inside_a_running_event_loop(serve):
    model = backend(serve(Claude()))

    async def notebook():
        return list(model.run([request("1"), request("2")]))

    assert sorted(i for i, _ in asyncio.run(notebook())) == [0, 1]


# ---------------------------------------------------------------------------- keys stay secret


def test_missing_key_names_the_variable(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "not what was asked for")
    with pytest.raises(AuthenticationFailed, match="ANTHROPIC_API_KEY"):
        AnthropicBackend("claude-m").run([request()])
    with pytest.raises(AuthenticationFailed, match="OTHER_KEY"):
        AnthropicBackend("claude-m", api_key_env="OTHER_KEY").run([request()])


def test_own_server_needs_no_key(serve, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    server = serve(Claude())
    assert isinstance(run(backend(server))[0], Reply)
    assert key_of(server.seen[0]) == "no-key"


def test_refused_dummy_key_says_that_there_is_none(serve, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(AuthenticationFailed, match="not set: no key was sent"):
        failing(serve, refusal(401, "bad key", "authentication_error"))


def test_key_is_read_at_each_run_and_stripped(serve, monkeypatch):
    server = serve(Claude())
    model = backend(server, api_key_env="MY_KEY")
    for key in ("one", "two\n"):
        monkeypatch.setenv("MY_KEY", key)
        run(model)
    assert [key_of(seen) for seen in server.seen] == ["one", "two"]


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_key_shows_nowhere(serve, monkeypatch):
    said = f"wrong key {KEY} at http://me:secret@host"
    server = serve(lambda body: refusal(401, said, "authentication_error"))
    url = server.address.replace("://", "://me:secret@")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    model = AnthropicBackend("claude-m", max_retries=0)
    with pytest.raises(AuthenticationFailed) as caught:
        run(model)
    assert list(chain(caught.value)) == [caught.value]
    assert "wrong key *** at http://***@host" in str(caught.value)
    shown = [f"{caught.value!r} {caught.value} {vars(caught.value)}"]
    shown += [json.dumps(model.identity()), repr(model._access(KEY))]
    shown.append(repr(pickle.loads(pickle.dumps(caught.value))))
    plain = backend(server)
    for text in shown:
        assert KEY not in text
        assert "secret" not in text
    for text in (repr(plain), plain._repr_html_(), str(pickle.dumps(plain)), str(vars(plain))):
        assert KEY not in text


@pytest.mark.parametrize(
    "answer",
    [
        refusal(418, f"teapot {KEY}"),
        Answer(200, {"error": {"message": f"upstream died with {KEY}"}}),
        message(stop_reason="refusal", stop_details={**STOPPED, "explanation": f"saw {KEY}"}),
    ],
)
def test_key_in_the_failure_of_a_row_is_redacted(serve, answer):
    _, (failure,) = failing(serve, answer)
    assert "***" in str(failure)
    assert KEY not in f"{failure!r}"
    assert list(chain(failure)) == [failure]


# ------------------------------------------------------------------------ a parameter bag only


def test_identity_holds_what_changes_answers():
    model = AnthropicBackend(
        "claude-m",
        base_url="http://host:1/",
        reasoning_effort="low",
        reasoning_budget=2048,
        extra_body={"a": 1},
    )
    assert model.identity() == {
        "provider": "anthropic",
        "model": "claude-m",
        "base_url": "http://host:1",
        "reasoning_effort": "low",
        "reasoning_budget": 2048,
        "extra_body": {"a": 1},
    }
    same = clone(model).set_params(max_retries=1, timeout=1, max_concurrency=2, api_key_env="X")
    assert same.identity() == model.identity()
    assert AnthropicBackend("claude-m").identity()["base_url"] == "https://api.anthropic.com"
    assert model.answer_form == "keys"


def test_missing_sdk_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(MissingDependency, match=r"pip install 'skllm-calib\[anthropic\]'"):
        AnthropicBackend("claude-m").run([request()])


def test_import_without_the_sdk():
    code = (
        "import sys; sys.modules['anthropic'] = None\n"
        "from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend\n"
        "from skllm_calib.backends import Message, Request\n"
        "asked = Request((Message('user', 'a'),), answers=('A', 'B'))\n"
        "((_, failure),) = AnthropicBackend('claude-m').run([asked])\n"
        "print(type(failure).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "SignalUnavailable"
