"""Keys and passwords show nowhere, however a server echoes them."""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import logging
import pickle
import traceback
from urllib.parse import quote, quote_plus

import pytest
from loopback import Answer, chosen, completion, decision, position, servers, systemone
from sklearn.base import clone

from skllm_calib import LLMClassifier
from skllm_calib.backends import Choice, Message, Reply, Request
from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend
from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.evidence.backends.hosted.address import split_address
from skllm_calib.evidence.backends.hosted.redaction import Redactor
from skllm_calib.evidence.backends.mistral.backend import MistralBackend
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.exceptions import BackendError

KEY = "sk-of-nobody+/7Gh2:x~9Kq4Wz1Rt8Yb"
PASSWORD = "Passw0rd of nobody/&ü"
QUERY_KEY = "AIzaOfNobody0123456789abcdef"

BACKENDS = [
    (OpenAIBackend, "OPENAI"),
    pytest.param(AnthropicBackend, "ANTHROPIC", marks=pytest.mark.skipif(
        importlib.util.find_spec("anthropic") is None, reason="needs anthropic"
    )),
    pytest.param(MistralBackend, "MISTRAL", marks=pytest.mark.skipif(
        importlib.util.find_spec("mistralai") is None, reason="needs mistralai"
    )),
]  # fmt: skip
each_backend = pytest.mark.parametrize(("kind", "name"), BACKENDS)

# How a server may show a secret, and what it may say around it.
ECHOES = {
    "plain": str,
    "quoted": repr,
    "as JSON": json.dumps,
    "URL-encoded": lambda s: quote(s, safe=""),
    "as in a path": quote,
    "as in a form": quote_plus,
    "in lower-case escapes": lambda s: quote(s, safe="").lower(),
    "as HTML": html.escape,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64 behind a user": lambda s: base64.b64encode(f"bob:{s}".encode()).decode(),
    "base64 behind Bearer": lambda s: base64.b64encode(f"Bearer {s}".encode()).decode(),
    "hex": lambda s: s.encode().hex(),
    "masked": lambda s: f"{s[:7]}{'*' * 12}{s[-5:]}",
    "masked with dots": lambda s: f"{s[:6]}...{s[-4:]}",
    "masked with X": lambda s: f"{s[:5]}XXXXXXXX{s[-4:]}",
    "its beginning": lambda s: s[: len(s) // 2],
    "its end": lambda s: s[len(s) // 2 :],
    "its middle": lambda s: s[4:-4],
    "on two lines": lambda s: f"{s[:11]}\n{s[11:]}",
}


# What "Bearer ..." begins with in base64.
AROUND = {base64.b64encode(b"Bearer s").decode()[i : i + 8] for i in range(3)}


@pytest.fixture
def serve(monkeypatch):
    for name in ("OPENAI", "ANTHROPIC", "MISTRAL"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with servers(monkeypatch) as start:
        for name in ("OPENAI", "ANTHROPIC", "MISTRAL"):
            monkeypatch.setenv(f"{name}_API_KEY", KEY)
        yield start


def pieces(secret, size=8):
    """Return every run of some characters of a secret, in each of its forms."""
    forms = {echo(secret) for name, echo in ECHOES.items() if "mask" not in name}
    return {form[i : i + size] for form in forms for i in range(len(form) - size + 1)}


def shown_in(text, *secrets):
    return {p for secret in secrets for p in pieces(secret) if p in text} - AROUND


def failure_of(model, text="hello"):
    try:
        (answer,) = model.run([Request((Message("user", text),), max_tokens=5)])
    except BackendError as failure:
        return failure
    return answer[1]


def told(failure):
    """Return everything that a user may see of a failure."""
    assert isinstance(failure, BackendError)
    everything = [repr(failure), str(failure), repr(vars(failure))]
    everything.append("".join(traceback.format_exception(failure)))
    return "\n".join([*everything, repr(pickle.loads(pickle.dumps(failure)))])


def address_with(server, parts, kind):
    """Return an address with user and password, or with a query."""
    url = server.base_url if kind is OpenAIBackend else server.address
    return f"{url}?key={QUERY_KEY}" if parts == "query" else url.replace(
        "://", f"://bob:{quote(PASSWORD, safe='')}@"
    )  # fmt: skip


# ------------------------------------------------------------------------------- the redactor


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize(
    "secret", [KEY, PASSWORD, "hunter2-of-nobody"], ids=["key", "password", "short"]
)
def test_every_echo_is_redacted(secret, echo):
    shown = Redactor((secret,))(f"the key '{echo(secret)}' is refused")
    assert shown.startswith("the key '")
    assert shown.endswith("' is refused")
    assert "***" in shown
    assert not {s for s in (secret[i : i + 7] for i in range(len(secret) - 6)) if s in shown}
    if "mask" in [name.split()[0][:4] for name, e in ECHOES.items() if e is echo]:
        assert secret[:3] not in shown
        assert secret[-3:] not in shown


@pytest.mark.parametrize("start", range(0, 26, 5))
def test_a_secret_that_was_cut_is_redacted(start):
    for end in range(start + 6, len(KEY)):
        assert KEY[start:end] not in Redactor((KEY,))("y" * 99 + KEY[start:end])


def test_what_is_no_secret_stays():
    said = (
        "Incorrect key provided: see https://host/v1/keys; the tokens... 8192 > 4096 (status 400)"
    )
    assert Redactor((KEY, PASSWORD))(said) == said
    assert Redactor(())(said) == said
    assert Redactor(("pw", "sk-1"))("pwd of sk-2, pw") == "pwd of sk-2, ***"
    # A placeholder for a key may have words that a model writes.
    assert Redactor(("sk-no-key-required",)).of_answer("required: no key") == "required: no key"


def test_a_long_text_takes_no_time():
    page = "<p>" + "y" * 200_000 + KEY
    assert Redactor((KEY,))(page).endswith("y***")


# ----------------------------------------------------------------------------- through a server


@each_backend
@pytest.mark.parametrize("status", [401, 418, 200])
@pytest.mark.parametrize("form", ["message", "detail", "page", "carried"])
def test_no_echo_reaches_the_user(serve, kind, name, status, form):
    url = None

    def answer(body):
        said = "; ".join(f"{how} {echo(KEY)}" for how, echo in ECHOES.items())
        padded = "y" * (490 - len(KEY) // 2) + KEY
        return {
            "message": Answer(status, {"error": {"message": said, "code": KEY, "type": KEY}}),
            "detail": Answer(status, {"detail": padded}),
            "carried": Answer(status, {"error": padded, "choices": []}),
            "page": Answer(status, f"<html>{padded}{said}</html>"),
        }[form]

    server = serve(answer)
    url = server.base_url if kind is OpenAIBackend else server.address
    assert not shown_in(told(failure_of(kind("m", base_url=url, max_retries=0))), KEY)


def test_an_answer_that_quotes_the_key_does_not_show_it(serve):
    server = serve(lambda body: completion(f"Incorrect API key: {KEY}."))
    model = OpenAIBackend("m", base_url=server.base_url)
    ((_, reply),) = model.run([Request((Message("user", "hello"),), max_tokens=9)])
    assert reply.text == "Incorrect API key: ***."
    asked = LLMClassifier(model, classes=["ham", "spam"], signal="self_reported", cache=None)
    with pytest.raises(BackendError) as caught:
        asked.predict_proba(["hello"])
    assert not shown_in(told(caught.value), KEY)


@each_backend
@pytest.mark.parametrize("parts", ["user", "query"])
def test_secrets_of_an_address_are_sent_and_never_shown(
    serve, monkeypatch, caplog, kind, name, parts
):
    caplog.set_level(logging.DEBUG)
    secret = PASSWORD if parts == "user" else QUERY_KEY
    said = {"error": {"message": f"wrong: {secret!r}, {KEY}"}}
    server = serve(lambda body: Answer(401, said, {"x-echo": f"{KEY} {quote(secret)}"}))
    monkeypatch.setenv(f"{name}_BASE_URL", address_with(server, parts, kind))
    model = kind("m", max_retries=0)
    failure = failure_of(model)

    seen = server.seen[0]
    if parts == "user":
        pair = base64.b64encode(f"bob:{PASSWORD}".encode()).decode()
        assert seen.headers["authorization"] == f"Basic {pair}"
    else:
        assert seen.path.endswith(f"?key={QUERY_KEY}")
        assert "/v1/" in seen.path
    everything = [told(failure), caplog.text, repr(model), json.dumps(model.identity())]
    assert "POST" in caplog.text or kind is MistralBackend
    asked = LLMClassifier(model, classes=["ham", "spam"], cache=None)
    everything += [repr(asked), asked._repr_html_(), repr(asked.get_params())]
    everything.append(pickle.dumps(asked).decode("latin1"))
    assert not shown_in("\n".join(everything), KEY, secret)


@each_backend
@pytest.mark.parametrize("retries", [0, 1])
def test_no_key_in_the_logs_of_an_sdk(serve, caplog, kind, name, retries):
    caplog.set_level(logging.DEBUG)
    server = serve(lambda body: Answer(500, f"<p>{KEY}</p>", {"x-echo": KEY}))
    url = server.base_url if kind is OpenAIBackend else server.address
    failure_of(kind("m", base_url=url, max_retries=retries), text=f"is {KEY} a key?")
    assert caplog.records
    assert not shown_in(caplog.text, KEY)


def test_secrets_of_a_proxy_are_redacted(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://bob:{quote(PASSWORD, safe='')}@proxy:3128")
    assert PASSWORD not in Access("https://host", "MY_KEY", KEY).redact(f"no way to {PASSWORD}")


# -------------------------------------------------------------------------------- as a parameter


@each_backend
@pytest.mark.parametrize("url", [
    "http://bob:Passw0rd@host/v1", "https://t0ken-0123@host", "bob:Passw0rd@host/v1",
    "http://bob:Passw0rd/with/slashes@host/v1", "http://bob:p@Passw0rd@host", "http://:Passw0rd@host",
    "https://host/v1?key=t0ken-0123", "https://host?t0ken-0123", "https://host/v1#t0ken-0123",
])  # fmt: skip
def test_an_address_with_secrets_is_refused(kind, name, url):
    model = kind("m", base_url="http://host")
    for refused in (lambda: kind("m", base_url=url), lambda: model.set_params(base_url=url)):
        with pytest.raises(ValueError, match=f"base_url holds .* set {name}_BASE_URL") as caught:
            refused()
        shown = "".join(traceback.format_exception(caught.value))
        assert "Passw0rd" not in shown
        assert "t0ken" not in shown
    assert model.base_url == "http://host"


@each_backend
def test_a_plain_address_is_kept_as_it_is(kind, name):
    for url in (None, "http://localhost:8000/v1", "http://[::1]:8000/", "https://host/a/@b/v1"):
        model = clone(kind("m", base_url=url, api_key_env="MY_KEY_2"))
        assert model.get_params()["base_url"] is url
        assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()


@each_backend
@pytest.mark.parametrize("key", [KEY, QUERY_KEY, "0123456789abcdef0123456789abcdef", "mY3" * 8])
def test_a_key_for_the_name_of_its_variable_is_refused(kind, name, key):
    with pytest.raises(ValueError, match="api_key_env must be the name") as caught:
        kind("m", api_key_env=key)
    assert key not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("address", "public", "user", "password"), [
    ("https://host/v1/", "https://host/v1", "", ""),
    ("https://me:p%40w@host:1/v1", "https://host:1/v1", "me", "p@w"),
    ("https://me:p@w@host", "https://host", "me", "p@w"),
    ("https://me:p/w@host/v1", "https://host/v1", "me", "p/w"),
    ("https://host/@me/v1", "https://host/@me/v1", "", ""),
    ("me@host", "host", "me", ""),
])  # fmt: skip
def test_addresses_are_taken_apart(address, public, user, password):
    parts = split_address(address)
    assert (parts.public, parts.user, parts.password) == (public, user, password)


# ------------------------------------------------------------------------ the rest of a reply


def test_no_field_of_a_reply_shows_a_secret(serve):
    listed = [position(KEY, {KEY: 0.5, "A": 0.5})]
    odd = completion("A", listed, model=f"m of {KEY}", finish_reason=KEY)
    odd.body["system_fingerprint"] = {"by": KEY}
    answers = [
        odd,
        completion("", model=KEY, finish_reason=KEY),
        decision({**chosen({"A": 1.0, "B": 0.0}), "choice": KEY}),
        systemone({"A": 1.0, "B": 0.0}, model=KEY),
    ]
    message = (Message("user", "hello"),)
    for answer in answers:
        wanted = Request(message, choices=(Choice("A"), Choice("B")))
        if "answers" not in answer.body:
            wanted = Request(message, answers=("A", "B"))
        server = serve(lambda body, answer=answer: answer)
        (told_of,) = dict(OpenAIBackend("m", base_url=server.base_url).run([wanted])).values()
        if isinstance(told_of, Reply):
            assert Reply.from_json(told_of.to_json()) == told_of
        assert not shown_in(told_of.to_json() if isinstance(told_of, Reply) else told(told_of), KEY)


def test_a_placeholder_for_a_key_hides_no_word_of_a_name():
    redact = Redactor(("any-gemini-key", "mistral-key-of-nobody"))
    for name in ("gemini-2.5-flash-001", "mistral-small-2603"):
        assert redact.of_name(name) == name


@pytest.mark.parametrize("key", [KEY, "Gpw4-of-xyz", "pw-of-x"])
@pytest.mark.parametrize("echo", ["plain", "URL-encoded", "base64"])
def test_a_name_shows_no_secret(key, echo):
    shown = ECHOES[echo](key)
    assert shown not in Redactor((key,)).of_name(f"m-{shown}-001")


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": PASSWORD},
        {"apiKey": PASSWORD},
        {"router": [{"extra_headers": {"Authorization": PASSWORD}}]},
    ],
)
def test_a_key_in_further_fields_is_refused_without_it(body):
    model = OpenAIBackend("m", extra_body={"prompt_cache_key": "a", "max_tokens": 1, "key": 2})
    for refused in (
        lambda: OpenAIBackend("m", extra_body=body),
        lambda: model.set_params(extra_body=body),
    ):
        with pytest.raises(ValueError, match=r"extra_body holds .* that api_key_env") as caught:
            refused()
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert clone(model).extra_body == model.extra_body
