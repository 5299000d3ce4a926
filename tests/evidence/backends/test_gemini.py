"""Gemini behind its OpenAI-compatible address, as far as its behaviour there is public.

Sources: https://ai.google.dev/gemini-api/docs/openai (address, bearer key, ``reasoning_effort``,
``response_format``, and no word of ``logprobs``); errors come as a list of one, see
https://discuss.ai.google.dev/t/where-can-i-find-the-error-format-doc/115017 (a refused key) and
https://github.com/Vali-98/ChatterUI/issues/227 (fields that are not known). The refusal of
log-probabilities in words is that of the same models at Google's own address:
https://github.com/mscraftsman/generative-ai/issues/135.
"""

from __future__ import annotations

import pytest
from loopback import Answer, Loopback, completion

from skllm_calib.backends import Message, OpenAIBackend, Reply, Request, clear_handles
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    RateLimited,
    SignalUnavailable,
    UnreadableReply,
)

KEY = "gemini-key-0123456789"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
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


def gemini(server, **options):
    return OpenAIBackend(
        "gemini-2.5-flash",
        base_url=f"{server.address}/v1beta/openai/",
        api_key_env="GEMINI_API_KEY",
        **{"max_retries": 0, **options},
    )


def request(text="hello", **options):
    return Request((Message("system", "Answer A or B."), Message("user", text)), **options)


def label_request(text="hello"):
    return request(text, answers=("A", "B"))


def run(model, *requests):
    answers = dict(model.run(list(requests)))
    return [answers[i] for i in range(len(answers))]


def google_error(code, status, message, **details):
    """An error in Google's form, in a list of one."""
    error = {"code": code, "message": message, "status": status, "details": [details]}
    return Answer(code, [{"error": error}])


def unknown(*names):
    said = [
        f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
        for name in names
    ]
    return google_error(
        400,
        "INVALID_ARGUMENT",
        "\n".join(said),
        **{
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"description": text} for text in said],
        },
    )


def test_text_request_goes_to_the_documented_address(serve):
    server = serve(lambda body: completion("A", model="gemini-2.5-flash"))
    (reply,) = run(
        gemini(server, extra_body={"reasoning_effort": "low"}),
        request(max_tokens=50, temperature=0.5),
    )
    (seen,) = server.seen
    assert seen.path == "/v1beta/openai/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert (seen.body["model"], seen.body["max_tokens"]) == ("gemini-2.5-flash", 50)
    assert (seen.body["temperature"], seen.body["reasoning_effort"]) == (0.5, "low")
    assert (reply.text, reply.model, reply.refused) == ("A", "gemini-2.5-flash", ())


@pytest.mark.parametrize(
    "answer",
    [
        unknown("logprobs", "top_logprobs"),
        google_error(
            400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/gemini-2.5-flash"
        ),
        completion("A"),  # the fields are taken and nothing comes of it
    ],
    ids=["unknown field", "not enabled", "ignored"],
)
def test_no_log_probabilities(serve, answer):
    server = serve(lambda body: answer if "logprobs" in body else completion("A"))
    model = gemini(server)
    for _ in range(2):
        with pytest.raises(SignalUnavailable) as caught:
            run(model, *(label_request(str(i)) for i in range(10)))
        for said in ("gemini-2.5-flash", "self_reported", "self_consistency"):
            assert said in str(caught.value)
    assert len(server.seen) == 2  # known from two texts
    assert run(model, request(max_tokens=50))[0].text == "A"


def test_a_seed_that_is_not_known_is_left_out(serve):
    server = serve(lambda body: unknown("seed") if "seed" in body else completion("A"))
    for reply in run(gemini(server, seed=1), *(request(str(i), max_tokens=50) for i in range(5))):
        assert isinstance(reply, Reply)
        assert "seed" in reply.notes[0]
    assert len(server.seen) == 5 + 2


def test_refused_key_ends_the_run(serve):
    server = serve(
        lambda body: google_error(
            401,
            "UNAUTHENTICATED",
            "API keys are not supported by this API.",
            reason="CREDENTIALS_MISSING",
        )
    )
    with pytest.raises(AuthenticationFailed, match="GEMINI_API_KEY") as caught:
        run(gemini(server), *(request(str(i), max_tokens=50) for i in range(9)))
    assert "API keys are not supported" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.seen) == 2  # the first row, and a text that nobody can object to


@pytest.mark.parametrize("wrap", [list, dict], ids=["a list of one", "plain"])
@pytest.mark.parametrize(
    ("message", "details"),
    [
        ("API key not valid. Please pass a valid API key.", {"reason": "API_KEY_INVALID"}),
        ("API key expired. Please renew the API key.", {"reason": "API_KEY_INVALID"}),
        ("API key not valid. Please pass a valid API key.", {}),
    ],
)
def test_a_key_refused_with_another_status(serve, wrap, message, details):
    # https://github.com/continuedev/continue/issues/10290
    answer = google_error(400, "INVALID_ARGUMENT", message, **details)
    if wrap is dict:
        answer = Answer(400, answer.body[0])
    server = serve(lambda body: answer)
    with pytest.raises(AuthenticationFailed, match="GEMINI_API_KEY") as caught:
        run(gemini(server), *(request(str(i), max_tokens=50) for i in range(9)))
    assert str(caught.value).endswith(f"said: {message}")
    assert len(server.seen) == 2


def test_errors_read_well_and_cost_one_row(serve):
    said = f"User text quotes 'API key not valid' and {KEY}"
    server = serve(lambda body: google_error(400, "INVALID_ARGUMENT", said))
    for failure in run(gemini(server), *(request(str(i), max_tokens=50) for i in range(2))):
        assert type(failure) is BackendError
        assert str(failure).endswith("said: User text quotes 'API key not valid' and ***")


@pytest.mark.parametrize("body", [[], [3], [{"error": None}], ["no"], {"error": [1]}])
def test_errors_of_another_form(serve, body):
    server = serve(lambda _: Answer(400, body))
    (failure,) = run(gemini(server), request(max_tokens=50))
    assert type(failure) is BackendError
    assert "status 400" in str(failure)


def test_quota(serve):
    server = serve(lambda body: google_error(429, "RESOURCE_EXHAUSTED", "You exceeded your quota"))
    (failure,) = run(gemini(server), request(max_tokens=50))
    assert isinstance(failure, RateLimited)
    assert str(failure).endswith("said: You exceeded your quota")


def test_thinking_that_used_all_room_says_what_to_do(serve):
    answer = completion(None, finish_reason="length")
    del answer.body["choices"][0]["message"]["content"]
    (failure,) = run(gemini(serve(lambda body: answer)), request(max_tokens=50))
    assert isinstance(failure, UnreadableReply)
    assert "reasoning" in str(failure)
