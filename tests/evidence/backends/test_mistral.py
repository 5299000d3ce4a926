from __future__ import annotations

import json
import math
import pickle
import socket
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from contract import BackendContract
from loopback import Answer, Loopback
from loopback_mistral import ChatModel, completion, forbidden, position, refusal, said, thinking
from sklearn.base import clone

from skllm_calib.backends import Choice, Dropout, Message, Reply, Request, clear_handles
from skllm_calib.evidence.backends.mistral.backend import MistralBackend
from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.evidence.limits.flow import Flow
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

pytest.importorskip("mistralai")

KEY = "mistral-key-0123456789abcdef"
KEYS = ChatModel({"": {"A": 0.6, "B": 0.3, " A": 0.05, "x": 0.02}})
SCHEMA = '{"type": "object", "properties": {"label": {"type": "string"}}}'


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
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
    options.setdefault("answers", ("A", "B"))
    return Request((Message("system", "Answer A or B."), Message("user", text)), **options)


def text_request(text="hello", **options):
    return request(text, answers=(), **{"max_tokens": 50, **options})


def backend(server, **options):
    return MistralBackend("m", base_url=server.address, **{"max_retries": 0, **options})


def run(model, *requests):
    answers = dict(model.run(list(requests) or [request()]))
    return [answers[i] for i in range(len(answers))]


def masses(reply, answers):
    return LabelTree(answers).reduce({d.prefix: d for d in reply.distributions})


def user_text(body):
    return body["messages"][1]["content"]


class TestMistralContract(BackendContract):
    @pytest.fixture
    def server(self, serve):
        return serve(KEYS)

    @pytest.fixture(params=["direct", "sdk"])
    def backend(self, server, request):
        return backend(server, transport=request.param)

    @pytest.fixture
    def other(self, server):
        return backend(server, reasoning_effort="none")


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
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stream": False,
    }
    (root,) = reply.distributions
    assert root.prefix == b""
    assert root.tokens[0].text == b"A"
    assert math.isclose(root.tokens[0].logprob, math.log(0.6))
    assert math.isclose(root.listed_mass, 0.97)
    assert (reply.text, reply.model, reply.notes) == ("A", "mistral-served-2603", ())
    assert (reply.prompt_tokens, reply.completion_tokens) == (10, 1)
    assert Reply.from_json(reply.to_json()) == reply


def test_text_request(serve):
    usage = {"prompt_tokens_details": {"cached_tokens": 8}}
    server = serve(lambda body: completion("0.8", usage=usage))
    (reply,) = run(backend(server), text_request(temperature=0.7))
    (body,) = server.bodies()
    assert (body["max_tokens"], body["temperature"]) == (50, 0.7)
    assert not {"random_seed", "logprobs", "response_format", "reasoning_effort"} & body.keys()
    assert (reply.text, reply.distributions, reply.refused) == ("0.8", (), ())
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (10, 1, 8)


def test_seed_of_each_draw(serve):
    server = serve(lambda body: completion("yes"))
    run(backend(server, seed=7), *(text_request(draw=d) for d in range(3)))
    assert sorted(b["random_seed"] for b in server.bodies()) == [7, 8, 9]


def test_schema_is_sent_as_documented(serve):
    server = serve(lambda body: completion("{}"))
    run(backend(server), text_request(schema=SCHEMA))
    assert server.bodies()[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": json.loads(SCHEMA), "strict": True},
    }


def test_reasoning_parameters_are_sent(serve):
    server = serve(lambda body: completion("yes"))
    run(backend(server, reasoning_effort="high", prompt_mode="reasoning"), text_request())
    (body,) = server.bodies()
    assert (body["reasoning_effort"], body["prompt_mode"]) == ("high", "reasoning")


def test_thinking_is_never_text(serve):
    chunks = [thinking("It says prize, so A? No, "), said("B"), {"type": "brand_new"}, said("!")]
    usage = {"completion_tokens_details": {"reasoning_tokens": 30}}
    server = serve(lambda body: completion(chunks, usage=usage))
    (reply,) = run(backend(server), text_request())
    assert (reply.text, reply.reasoning_tokens) == ("B!", 30)
    assert reply.notes == (
        "30 tokens of hidden reasoning came before the answer; they are no evidence of how sure "
        "the model is",
    )


@pytest.mark.parametrize("content", [None, "", [said(" ")]], ids=repr)
def test_text_without_room(serve, content):
    server = serve(lambda body: completion(content, finish_reason="length"))
    (failure,) = run(backend(server), text_request())
    assert isinstance(failure, UnreadableReply)
    assert "used all of max_tokens=50 before" in str(failure)
    assert "reasoning_effort='none'" in str(failure)
    assert len(server.seen) == 1


def reasoner(body):
    """Reason for 100 tokens, whatever there is room for."""
    n = body["max_tokens"]
    usage = {"completion_tokens": min(n, 101)}
    if n <= 100:
        return completion([thinking("hm, ")], finish_reason="length", usage=usage)
    return completion([thinking("hm."), said("A")], usage=usage)


def test_reasoning_is_given_room_once_it_is_seen(serve):
    server = serve(reasoner)
    replies = run(backend(server), *(text_request(str(i)) for i in range(10)))
    assert [reply.text for reply in replies] == ["A"] * 10
    assert [b["max_tokens"] for b in server.bodies()] == [50, 2050] * 2 + [2050] * 8
    assert "allowed 2,000 tokens more" in replies[0].notes[0]
    assert (
        sorted(r.completion_tokens for r in replies) == [101] * 8 + [151] * 2
    )  # nothing uncounted


def test_reasoning_budget(serve):
    server = serve(reasoner)
    (failure,) = run(backend(server, reasoning_budget=30), text_request())
    assert isinstance(failure, UnreadableReply)
    assert "max_tokens=50 and 30 tokens of reasoning" in str(failure)
    (reply,) = run(backend(server, reasoning_budget=70), text_request())
    assert reply.text == "A"
    assert [b["max_tokens"] for b in server.bodies()] == [80, 120]
    with pytest.raises(ValueError, match="reasoning_budget=-1"):
        backend(server, reasoning_budget=-1).run([])


def test_cut_off_text_is_kept(serve):
    server = serve(lambda body: completion("half a wo", finish_reason="length"))
    assert run(backend(server), text_request())[0].text == "half a wo"


# ---------------------------------------------------------------------------- keys stay secret


def test_missing_key_names_the_variable(monkeypatch):
    monkeypatch.delenv("MISTRAL_API_KEY")
    with pytest.raises(AuthenticationFailed, match="MISTRAL_API_KEY"):
        MistralBackend("m").run([request()])
    with pytest.raises(AuthenticationFailed, match="OTHER_KEY"):
        MistralBackend("m", api_key_env="OTHER_KEY").run([request()])


def test_key_goes_only_where_its_name_sends_it(serve, monkeypatch):
    server = serve(KEYS)
    run(backend(server, api_key_env="UNSET_KEY"))
    for key in ("one", "two\n"):
        monkeypatch.setenv("MY_KEY", key)
        run(backend(server, api_key_env="MY_KEY"))
    sent = [s.headers["authorization"] for s in server.seen]
    assert sent == ["Bearer no-key", "Bearer one", "Bearer two"]


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("status", [401, 418])
def test_key_shows_nowhere(serve, monkeypatch, status):
    server = serve(lambda body: refusal(status, f"wrong key {KEY} at http://me:secret@host/v1"))
    url = server.address.replace("://", "://me:secret@")
    monkeypatch.setenv("MISTRAL_BASE_URL", url)
    model = MistralBackend("m", max_retries=0)
    if status == 401:
        with pytest.raises(AuthenticationFailed, match="MISTRAL_API_KEY") as caught:
            run(model)
        failure = caught.value
    else:
        (failure,) = run(model)
        assert type(failure) is BackendError
    assert "wrong key *** at http://***@host/v1" in str(failure)
    assert list(chain(failure)) == [failure]
    shown = [f"{failure!r} {failure} {vars(failure)}", json.dumps(model.identity())]
    shown.append(repr(pickle.loads(pickle.dumps(failure))))
    plain = backend(server)
    shown += [repr(plain), plain._repr_html_(), str(pickle.dumps(plain)), str(vars(plain))]
    for text in shown:
        assert KEY not in text
        assert "secret" not in text


def test_refused_dummy_key_says_that_there_is_none(serve, monkeypatch):
    monkeypatch.delenv("MISTRAL_API_KEY")
    server = serve(lambda body: Answer(401, {"detail": "Unauthorized"}))
    with pytest.raises(AuthenticationFailed, match=r"not set: no key was sent.*Unauthorized"):
        run(backend(server))


# ------------------------------------------------------------------------ a parameter bag only


def test_identity_holds_what_changes_answers():
    model = MistralBackend("m", base_url="http://host:1/", seed=3, prompt_mode="reasoning")
    assert model.identity() == {
        "provider": "mistral",
        "model": "m",
        "base_url": "http://host:1",
        "top_logprobs": 20,
        "seed": 3,
        "reasoning_effort": None,
        "reasoning_budget": None,
        "prompt_mode": "reasoning",
    }
    same = clone(model).set_params(max_retries=1, timeout=1, max_concurrency=2, api_key_env="X")
    assert same.identity() == model.identity()
    assert MistralBackend("m").identity()["base_url"] == "https://api.mistral.ai"
    assert model.answer_form == "keys"


def test_a_client_per_worker_for_all_runs_closed_at_the_end(serve, monkeypatch):
    from mistralai import client

    made = []
    real = client.Mistral

    def count(**options):
        made.append(options["client"])
        return real(**options)

    monkeypatch.setattr(client, "Mistral", count)
    model = backend(serve(KEYS), transport="sdk")
    run(model, *(request(str(i)) for i in range(20)))
    assert 1 <= len(made) <= model.max_concurrency
    n_made = len(made)
    assert not any(connections.is_closed for connections in made)
    run(clone(model))
    assert len(made) == n_made
    clear_handles()
    assert all(connections.is_closed for connections in made)
    assert isinstance(run(model)[0], Reply)
    assert len(made) == n_made + 1


def test_missing_package_names_the_extra(serve, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mistralai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mistralai", None)
    with pytest.raises(MissingDependency, match=r"pip install 'skllm-calib\[mistral\]'"):
        run(backend(serve(KEYS)))


# ----------------------------------------------------------------------- many rows, bad rows


def test_one_bad_row_among_twenty(serve):
    def respond(body):
        if user_text(body) == "13":
            return refusal(400, "odd row")
        return KEYS(body)

    answers = run(backend(serve(respond)), *(request(str(i)) for i in range(20)))
    assert [i for i, a in enumerate(answers) if isinstance(a, BackendError)] == [13]
    assert type(answers[13]) is BackendError


def test_concurrency_is_bounded_and_used(serve):
    both = threading.Barrier(2)  # broken, and the test with it, unless two are there at once

    def respond(body):
        if user_text(body) != "0":  # the first one of a kind goes alone
            both.wait(10)
        return KEYS(body)

    server = serve(respond)
    answers = run(backend(server, max_concurrency=2), *(request(str(i)) for i in range(13)))
    assert all(isinstance(a, Reply) for a in answers)
    assert server.most_at_once == 2


def test_unfinished_iteration_cancels_the_rest(serve):
    go_on = threading.Event()

    def respond(body):
        if user_text(body) != "0":
            go_on.wait(10)
        return KEYS(body)

    server = serve(respond)
    answers = backend(server, max_concurrency=2).run([request(str(i)) for i in range(50)])
    assert next(answers)[0] == 0
    go_on.set()
    answers.close()
    n = len(server.seen)
    assert n < 50
    time.sleep(0.05)
    assert len(server.seen) == n


@pytest.mark.parametrize(
    "options", [{"choices": (Choice("A"), Choice("B"))}, {"dropout": Dropout("head", 0.1, 3)}]
)
def test_what_no_hosted_model_has_costs_no_call(serve, options):
    server = serve(KEYS)
    refused, reply = run(backend(server), request(**options), request())
    assert isinstance(refused, SignalUnavailable)
    assert "self_reported" in str(refused)
    assert "self_consistency" in str(refused)
    assert isinstance(reply, Reply)
    assert len(server.seen) == 1


# ------------------------------------------------------------------------------- failures

TOO_LONG = "Prompt contains 66385 tokens, too large for model with 32768 maximum context length"


@pytest.mark.parametrize(
    ("answer", "excess"),
    [
        (refusal(400, TOO_LONG), 33617),
        (refusal(400, TOO_LONG.replace("66385 tokens", "66,385 tokens and 0 draft tokens")), 33617),
        (refusal(422, "The request exceeds the context window."), None),
        (completion("", finish_reason="model_length"), None),
    ],
)
def test_context_too_long(serve, answer, excess):
    server = serve(lambda body: answer)
    (failure,) = run(backend(server), text_request())
    assert isinstance(failure, ContextTooLong)
    assert failure.excess == excess


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (completion(None, finish_reason="content_filter"), Refused, "content filter"),
        (refusal(400, "no", code="content_filter"), Refused, "content filter"),
        (completion("A", finish_reason="error"), BackendUnavailable, "broke the answer off"),
        (
            refusal(429, "Rate limit exceeded", type="rate_limited", code="1300"),
            RateLimited,
            "max_concurrency",
        ),
        (refusal(503, "Service tier capacity exceeded"), BackendUnavailable, "capacity"),
        (Answer(502, "<html>bad gateway</html>"), BackendUnavailable, "bad gateway"),
        (refusal(400, "odd request"), BackendError, "odd request"),
        (Answer(422, {"detail": "odd form"}), BackendError, "odd form"),
        (Answer(200, "<html>hello</html>"), UnreadableReply, "base_url"),
        (Answer(200, {"id": "1"}), UnreadableReply, "base_url"),
        (completion(""), UnreadableReply, "wrote nothing"),
    ],
)
def test_failures_of_a_row(serve, answer, kind, says):
    server = serve(lambda body: answer)
    failures = run(backend(server), request("1"), request("2"))
    for failure in failures:
        assert type(failure) is kind
        assert says in str(failure)
    assert len(server.seen) == 2


def test_no_choices(serve):
    answer = completion("A")
    answer.body["choices"] = []
    (failure,) = run(backend(serve(lambda body: answer)), text_request())
    assert isinstance(failure, UnreadableReply)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(401, "bad key"), AuthenticationFailed, "MISTRAL_API_KEY"),
        (refusal(403, "not your model"), AuthenticationFailed, "not your model"),
        (refusal(402, "no money left"), RateLimited, "no credit or quota"),
        (
            refusal(400, "Invalid model: m", type="invalid_model", code="1500"),
            ModelNotFound,
            "Invalid model: m",
        ),
        (Answer(404, {"detail": "Not Found"}), ModelNotFound, "without /v1"),
    ],
)
def test_failures_of_the_whole_run(serve, answer, kind, says):
    server = serve(lambda body: answer)
    answers = backend(server).run([request(str(i)) for i in range(50)])
    with pytest.raises(kind, match=says):
        list(answers)
    assert len(server.seen) == (1 if kind is RateLimited else 2)  # and a harmless text


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_retries_are_counted(serve, status):
    server = serve(lambda body: refusal(status, "later", headers={"Retry-After": "0"}))
    (failure,) = run(backend(server, max_retries=3))
    assert isinstance(failure, BackendUnavailable)
    assert isinstance(failure, RateLimited) == (status == 429)
    assert len(server.seen) == 4


def test_a_retry_may_succeed(serve):
    server = serve(lambda body: KEYS(body) if len(server.seen) > 1 else refusal(503, "later"))
    assert isinstance(run(backend(server, max_retries=1))[0], Reply)
    assert len(server.seen) == 2


class Pauses:
    """Stands for the event that ends pauses: it writes them down instead of pausing."""

    def __init__(self, pauses):
        self.wait = pauses.append
        self.set = lambda: None


def with_event(event):
    return SimpleNamespace(
        Event=event, Lock=threading.Lock, Thread=threading.Thread, local=threading.local
    )


def test_pauses_before_retries(serve, monkeypatch):
    pauses = []
    monkeypatch.setattr(Flow, "pause", lambda self, now, seconds: pauses.append(seconds))
    answers = [
        refusal(429, "slow down", headers={"Retry-After": "2.5"}),
        refusal(503, "later"),
        refusal(503, "later"),
        completion("yes"),
    ]
    server = serve(lambda body: answers[len(server.seen) - 1])
    assert run(backend(server, max_retries=5), text_request())[0].text == "yes"
    assert pauses[0] == 2.5
    assert 0.5 <= pauses[1] <= 1.0
    assert 1.0 <= pauses[2] <= 2.0
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("3", 3, 3),
        ("0.5", 0.5, 0.5),
        ("86400", 86400, 86400),
        ("-1", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2199 07:28:00 GMT", 1e9, math.inf),
        ("soon", None, None),
        ("nan", None, None),
        ("", None, None),
    ],
)
def test_forms_of_retry_after(header, least, most):
    from skllm_calib.evidence.backends.hosted.connection import seconds_to_wait

    seconds = seconds_to_wait({"retry-after": header})
    assert seconds is None if least is None else least <= seconds <= most


def test_the_end_of_a_run_ends_pauses(serve):
    both, refused = threading.Event(), threading.Event()

    def respond(body):
        if user_text(body) == "0":
            return completion("yes")
        if user_text(body) == "1":
            both.wait(10)
            threading.Timer(0.2, refused.set).start()
            return refusal(503, "later", headers={"Retry-After": "50"})
        both.set()
        refused.wait(10)
        return refusal(402, "all is spent")

    model, began = backend(serve(respond), max_retries=5), time.monotonic()
    with pytest.raises(RateLimited, match="all is spent"):
        run(model, *(text_request(str(i)) for i in range(3)))
    assert time.monotonic() - began < 30


def test_a_server_that_is_down_is_waited_for_once(monkeypatch):
    from skllm_calib.evidence.backends.hosted import connection

    pauses = []
    monkeypatch.setattr(connection, "threading", with_event(lambda: Pauses(pauses)))
    model = MistralBackend("m", base_url=f"http://127.0.0.1:{free_port()}", max_retries=2)
    run(model, *(request(str(i)) for i in range(9)))
    assert pauses == [0.25]  # one row tries once more, another one once, the rest not at all


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_server_down_is_told():
    url = f"http://127.0.0.1:{free_port()}"
    model = MistralBackend("m", base_url=url, max_retries=1)
    failures = run(model, *(request(str(i)) for i in range(40)))
    assert len(failures) == 40
    for failure in failures:
        assert isinstance(failure, BackendUnavailable)
        assert f"no connection to {url}" in str(failure)
        assert list(chain(failure)) == [failure]


def test_server_too_slow(serve):
    release = threading.Event()

    def respond(body):
        release.wait(10)
        return KEYS(body)

    (failure,) = run(backend(serve(respond), timeout=0.05))
    release.set()
    assert isinstance(failure, BackendUnavailable)
    assert "timeout" in str(failure)


# ------------------------------------------------------------ what a model refuses is found out


class Picky:
    """Refuses in the words of a real server until the request suits it."""

    def __init__(self, rules, model):
        self.rules = rules
        self.model = model

    def __call__(self, body):
        for name, answer in self.rules.items():
            if name in body:
                return answer
        return self.model(body)


REFUSALS = {
    "temperature": refusal(400, "Unsupported value.", param="temperature"),
    "random_seed": forbidden("random_seed"),
    "response_format": refusal(422, json.dumps(forbidden("response_format").body), code="1000"),
}


def test_refused_parameters_are_learned_from_two_rows(serve):
    server = serve(Picky(REFUSALS, lambda body: completion("{}")))
    model = backend(server, seed=1)
    wanted = [text_request(str(i), schema=SCHEMA) for i in range(20)]
    for reply in run(model, *wanted):
        assert reply.refused == ("schema", "seed", "temperature")
        assert reply.notes == (
            "the model refuses 'seed'; its default was used",
            "the model refuses 'temperature'; its default was used",
            "the model refuses the JSON schema; only the prompt says how to answer",
        )
    assert len(server.seen) == 20 + 2 * 3
    assert not REFUSALS.keys() & server.bodies(200)[-1].keys()
    (reply,) = run(clone(model).set_params(seed=None), text_request())
    assert reply.refused == ("temperature",)  # only what was wanted
    assert len(server.seen) == 27
    clear_handles()
    run(model, wanted[0])
    assert len(server.seen) == 27 + 4


def test_another_model_may_take_more(serve):
    def respond(body):
        return forbidden("temperature") if body["model"] == "m" else completion("yes")

    server = serve(respond)
    (failure,) = run(backend(server), text_request())
    assert type(failure) is BackendError  # refused also when it was not sent: no endless loop
    assert len(server.seen) == 2
    (reply,) = run(backend(server).set_params(model="n"), text_request())
    assert reply.refused == ()


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "Supported values: low, high.", param="reasoning_effort"),
        refusal(400, "reasoning_effort 'medium' is not one of ['low', 'high']"),
        forbidden("reasoning_effort"),
    ],
)
def test_a_wish_of_the_user_is_not_dropped(serve, answer):
    server = serve(lambda body: answer)
    with pytest.raises(BackendError, match="'m' refuses reasoning_effort='medium'"):
        run(backend(server, reasoning_effort="medium"), *(text_request(str(i)) for i in range(9)))
    assert len(server.seen) == 2  # of two different rows


@pytest.mark.parametrize(
    "answer",
    [
        forbidden("logprobs"),
        refusal(400, "logprobs is not supported for this model"),
        completion("A"),
        completion("A", []),
    ],
)
def test_no_log_probabilities(serve, answer):
    server = serve(lambda body: answer if body.get("logprobs") else completion("A"))
    model = backend(server)
    for _ in range(2):
        with pytest.raises(SignalUnavailable) as caught:
            run(model, *(request(str(i)) for i in range(20)))
        for said_to_user in ("'m'", "self_reported", "self_consistency"):
            assert said_to_user in str(caught.value)
    assert len(server.seen) == 2  # of two different rows
    assert run(model, text_request())[0].text == "A"


def test_log_probabilities_missing_from_one_row_only(serve):
    def respond(body):
        return completion("A") if user_text(body) == "3" else KEYS(body)

    answers = run(backend(serve(respond), max_concurrency=1), *(request(str(i)) for i in range(5)))
    assert [isinstance(a, UnreadableReply) for a in answers] == [i == 3 for i in range(5)]


def test_fewer_alternatives(serve):
    too_many = forbidden("top_logprobs", "Input should be less than or equal to 5")
    server = serve(lambda body: too_many if body["top_logprobs"] > 5 else KEYS(body))
    for reply in run(backend(server), *(request(str(i)) for i in range(10))):
        assert reply.notes == ("the model lists 5 alternatives, not 20",)
        assert masses(reply, ("A", "B")).point == pytest.approx([0.65, 0.3])
    assert [b["top_logprobs"] for b in server.bodies()] == [20, 5] * 2 + [5] * 8


def test_probabilities_after_reasoning_are_no_evidence(serve):
    chunks = [thinking("Hm."), said("A")]
    server = serve(lambda body: completion(chunks, [position("A", {"A": 1.0})]))
    with pytest.raises(SignalUnavailable, match=r"reasons before it answers.*reasoning_effort"):
        run(backend(server), *(request(str(i)) for i in range(20)))
    assert len(server.seen) == 2  # of two different rows


def test_impossible_tokens(serve):
    entry = position("A", {"A": 0.5, "B": 0.25, "C": 0.0})
    (reply,) = run(backend(serve(lambda body: completion("A", [entry]))))
    (root,) = reply.distributions
    assert [t.text for t in root.tokens] == [b"A", b"B"]


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


def test_beginnings_are_continued(serve):
    server = serve(ChatModel(SENTIMENT))
    answers = run(backend(server), *(request(str(i), answers=WORDS) for i in range(10)))
    for reply in answers:
        mass = masses(reply, WORDS)
        assert mass.point == pytest.approx(EXPECTED)
        assert mass.low == pytest.approx(EXPECTED)
        assert reply.distributions == answers[0].distributions
        assert reply.notes == ()
    # One look and three beginnings a row, which also show whether they are continued.
    assert len(server.seen) == 10 * 4
    assert sum(a.prompt_tokens for a in answers) == 400
    assert server.bodies()[-1]["messages"][-1]["prefix"] is True


def test_beginnings_too_unlikely_to_follow_are_not_counted(serve):
    root = {**SENTIMENT[""], "n": 1e-6}
    (reply,) = run(backend(serve(ChatModel({**SENTIMENT, "": root}))), request(answers=WORDS))
    mass = masses(reply, WORDS)
    assert mass.shared == 0.0
    assert mass.low == pytest.approx(EXPECTED)


def test_server_that_lists_something_else_after_a_prefix(serve):
    server = serve(ChatModel(SENTIMENT, continues=False))
    for reply in run(backend(server), *(request(str(i), answers=WORDS) for i in range(10))):
        mass = masses(reply, WORDS)
        # The likeliest answer is known to its end, the shared beginning of the others is not.
        assert mass.low[0] == pytest.approx(0.45)
        assert mass.low[1] == mass.low[2] == 0.0
        assert all(mass.high + 1e-9 >= EXPECTED)
        assert reply.notes == (
            "labels that begin alike were not all told apart: this server does not continue a "
            "given beginning",
        )
    # Three more samples do not show more of them.
    assert len(server.seen) == 10 * 4 + 2


def test_refused_prefix_is_tried_with_two_rows(serve):
    def respond(body):
        return refusal(400, "no prefix here") if len(body["messages"]) > 2 else model(body)

    model = ChatModel(SENTIMENT)
    server = serve(respond)
    answers = run(backend(server), *(request(str(i), answers=WORDS) for i in range(5)))
    assert all(isinstance(a, Reply) for a in answers)
    assert len(server.seen) == 5 * 4 + 2


def test_overload_while_finding_out_is_no_finding(serve):
    calls = []

    def respond(body):
        if len(body["messages"]) > 2 and not calls:
            calls.append(1)
            return refusal(503, "overloaded")
        return model(body)

    model = ChatModel(SENTIMENT)
    failure, reply = run(
        backend(serve(respond), max_concurrency=1),
        *(request(str(i), answers=WORDS) for i in range(2)),
    )
    assert isinstance(failure, BackendUnavailable)
    assert masses(reply, WORDS).point == pytest.approx(EXPECTED)


def test_beginnings_that_end_the_answer_are_left_to_the_bounds(serve):
    silent = {**SENTIMENT, "ne": {"": 1.0}}
    (reply,) = run(backend(serve(ChatModel(silent))), request(answers=WORDS))
    mass = masses(reply, WORDS)
    assert mass.low[1:].tolist() == [0, 0]
    assert mass.high[1:].tolist() == pytest.approx([0.4, 0.4])


def test_half_a_character_is_never_sent(serve):
    words = (*WORDS, "écru", "école")

    def respond(body):
        answer = model(body)
        if len(body["messages"]) == 2:  # the beginning of a character, as likely as a tenth
            entry = answer.body["choices"][0]["logprobs"]["content"][0]
            half = {"token": "?", "bytes": [0xC3], "token_id": 1, "logprob": math.log(0.1)}
            entry["top_logprobs"].append(half)
        return answer

    model = ChatModel({**SENTIMENT, "": {"pos": 0.5, "ne": 0.4}})
    server = serve(respond)
    (reply,) = run(backend(server), request(answers=words))
    begun = [b["messages"][-1]["content"] for b in server.bodies() if len(b["messages"]) > 2]
    assert set(begun) == {"pos", "ne"}
    mass = masses(reply, words)
    assert mass.low.tolist() == pytest.approx([0.45, 0.1, 0.28, 0, 0])
    assert mass.high[3:].tolist() == pytest.approx([0.1, 0.1])
    assert reply.notes == ("labels that begin alike were not all told apart",)


def test_replies_of_label_requests_keep_their_draws_apart(serve):
    server = serve(KEYS)
    first = request()
    run(backend(server, seed=5), first, replace(first, draw=1))
    assert sorted(b["random_seed"] for b in server.bodies()) == [5, 6]
