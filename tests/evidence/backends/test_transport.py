"""Requests that go through the standard library are those of the SDK, and so is what comes back."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import zlib
from contextlib import contextmanager, suppress

import pytest
from contract import BackendContract
from loopback import (
    Answer,
    ChatModel,
    both_apis,
    chosen,
    completion,
    decision,
    output_text,
    position,
    refusal,
    response,
    servers,
)

from skllm_calib.backends import Choice, Message, Reply, Request, clear_handles
from skllm_calib.evidence.backends.hosted.direct import needs_proxy
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.exceptions import BackendError, BackendUnavailable, InvalidInput, UnreadableReply

TRANSPORTS = ("direct", "sdk")
KEYS = ChatModel({"": {"A": 0.6, "B": 0.3, " A": 0.05, "x": 0.02}})
LISTED = {"A": 0.6, "B": 0.3}


@pytest.fixture(autouse=True)
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def backend(url, transport="direct", **options):
    options = {"max_retries": 0, "top_logprobs": 20, **options}
    return OpenAIBackend("m", base_url=url, transport=transport, **options)


def request(text="hello", **options):
    options.setdefault("answers", ("A", "B"))
    return Request((Message("system", "Answer A or B."), Message("user", text)), **options)


def answer_of(model, asked=None):
    try:
        ((_, answer),) = model.run([asked or request()])
    except BackendError as failure:
        return failure
    return answer


class TestOpenAIBackend(BackendContract):
    @pytest.fixture
    def server(self, serve):
        return serve(KEYS)

    @pytest.fixture(params=TRANSPORTS)
    def backend(self, server, request):
        return backend(server.base_url, request.param)

    @pytest.fixture
    def other(self, server):
        return backend(server.base_url, seed=3)


def test_the_transport_is_in_no_key():
    direct, sdk = (backend("http://localhost:8000/v1", name) for name in TRANSPORTS)
    assert request().key(direct.identity()) == request().key(sdk.identity())


def test_an_unknown_transport_is_named():
    with pytest.raises(InvalidInput, match="transport='pigeon': must be 'direct' or 'sdk'"):
        answer_of(backend("http://localhost:8000/v1", "pigeon"))


@both_apis
def test_both_send_the_same(serve, monkeypatch, api):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    model = (
        KEYS if api == "chat" else lambda body: response(output_text("A", [position("A", LISTED)]))
    )
    server = serve(model)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.base_url}?version=1%2F2&also=a+b")
    for name in TRANSPORTS:
        ((_, reply),) = backend(None, name, api=api).run([request("Grüße «»")])
        assert reply.text == "A"
    direct, sdk = server.seen
    assert (direct.path, direct.body) == (sdk.path, sdk.body)
    assert "version=1%2F2" in direct.path
    own = {"accept-encoding"}  # what can be unpacked depends on what is installed
    told = {name for name in sdk.headers if not name.startswith("x-stainless")} - own
    assert told == set(direct.headers) - own
    assert {"authorization", "openai-organization", "user-agent"} <= told
    # The body is the same, but not every blank in it.
    assert all(direct.headers[n] == sdk.headers[n] for n in told - {"content-length"})


ANSWERS = [
    refusal(400, "odd request", code="odd"),
    refusal(401, "Incorrect API key"),
    refusal(404, "no such model", code="model_not_found"),
    refusal(413, "too long"),
    refusal(429, "slow down", headers={"Retry-After": "0.5"}),
    Answer(500, {"error": "plain"}),
    Answer(400, [{"error": {"message": "as Google has it", "status": "INVALID_ARGUMENT"}}]),
    Answer(503, "<html>down</html>"),
    Answer(502, b""),
    Answer(500, {"detail": "no field of that name"}),
    Answer(200, "<html>hello</html>"),
    Answer(200, b'{"content": "\xff"}'),
    Answer(200, b"[" * 100_000),
    Answer(200, {"error": {"code": 503, "message": "overloaded"}}),
    Answer(200, None),
    Answer(200, []),
    Answer(200, {"choices": []}),
    Answer(200, {"choices": ["A"]}),
    Answer(200, {"choices": [{"message": None, "finish_reason": "stop"}]}),
    completion("A"),
    completion(None, finish_reason="content_filter"),
    completion(None, refusal="I would rather not"),
    completion("A", [position("A", LISTED)]),
    Answer(200, json.dumps(completion("A", [position("A", LISTED)]).body)),  # said to be HTML
]


@pytest.mark.parametrize("message", [{}, {"message": None}, {"message": "A"}])
def test_a_choice_without_a_message_is_no_answer(serve, message):
    choice = {**completion("A", [position("A", LISTED)]).body["choices"][0]}
    del choice["message"]
    server = serve(lambda body: Answer(200, {"choices": [{**choice, **message}]}))
    assert isinstance(answer_of(backend(server.base_url)), UnreadableReply)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_broken_json_is_no_answer(serve, transport):
    # Old versions of the SDK hand it on as text, so messages differ.
    server = serve(lambda body: Answer(200, "{broken", {"Content-Type": "application/json"}))
    assert isinstance(answer_of(backend(server.base_url, transport)), UnreadableReply)


@pytest.mark.parametrize("answer", ANSWERS)
def test_both_read_the_same(serve, answer):
    server = serve(lambda body: answer)
    direct, sdk = (answer_of(backend(server.base_url, name)) for name in TRANSPORTS)
    assert type(direct) is type(sdk)
    if isinstance(sdk, Reply):
        assert direct == sdk
    else:
        assert str(direct) == str(sdk)


def test_decisions_come_through_both(serve):
    server = serve(lambda body: decision(chosen({"spam": 0.7, "ham": 0.3})))
    asked = request(answers=(), choices=(Choice("spam"), Choice("ham")))
    direct, sdk = (answer_of(backend(server.base_url, name), asked) for name in TRANSPORTS)
    assert direct == sdk
    assert direct.decision == (0.7, 0.3)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        (" GZip ", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda plain: zlib.compress(plain, wbits=-15)),
        ("gzip, gzip", lambda plain: gzip.compress(gzip.compress(plain))),
        ("identity", bytes),
    ],
)
def test_packed_answers_are_read(serve, encoding, pack):
    plain = completion("A", [position("A", LISTED)])
    packed = pack(json.dumps(plain.body).encode())
    server = serve(lambda body: Answer(200, packed, {"Content-Encoding": encoding}))
    assert answer_of(backend(server.base_url)).text == "A"


def test_what_cannot_be_unpacked_is_a_failure(serve):
    server = serve(lambda body: Answer(200, b"no gzip", {"Content-Encoding": "gzip"}))
    assert isinstance(answer_of(backend(server.base_url)), BackendUnavailable)


def test_redirections_are_followed(serve):
    there = serve(KEYS)
    moved = Answer(307, "", {"Location": f"{there.base_url}/chat/completions"})
    here = serve(lambda body: moved)
    model = backend(here.base_url)
    assert [answer_of(model, request(text)).text for text in ("a", "b")] == ["A", "A"]
    assert len(there.seen) == 2


def test_proxies_of_the_environment_are_used(serve, monkeypatch):
    proxy = serve(KEYS)
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    monkeypatch.delenv("NO_PROXY")
    assert answer_of(backend("http://llm.invalid/v1")).text == "A"
    assert proxy.seen[0].path == "http://llm.invalid/v1/chat/completions"


def test_proxies_are_for_some_addresses(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.own.net")
    assert needs_proxy("http://api.example.com/v1")
    assert not needs_proxy("https://api.example.com/v1")
    assert not needs_proxy("http://localhost:8000/v1")
    assert not needs_proxy("http://llm.own.net/v1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    assert needs_proxy("https://api.example.com/v1")


# --------------------------------------------------------------------- connections, by the socket


class Raw:
    """Hands each connection to a function, with its number."""

    def __init__(self, talk):
        self.talk, self.n_connections = talk, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        clear_handles()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.n_connections += 1
                with suppress(OSError), connection:
                    self.talk(connection)


BODY = json.dumps(completion("A", [position("A", LISTED)]).body).encode()


def read_request(connection):
    """Return whether a whole request came."""
    received = b""
    while not received.endswith(b"}"):  # bodies are JSON
        if not (part := connection.recv(65536)):
            return False
        received += part
    return True


def http(body, *headers, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def length(body):
    return f"Content-Length: {len(body)}"


def test_a_connection_is_used_again():
    def talk(connection):
        while read_request(connection):
            connection.sendall(http(BODY, length(BODY)))

    with Raw(talk) as server:
        model = backend(f"http://{server.address}/v1", max_concurrency=1)
        assert len([reply for _, reply in model.run([request(str(i)) for i in range(3)])]) == 3
        assert isinstance(answer_of(model), Reply)
        assert server.n_connections == 1


@pytest.mark.parametrize("is_announced", [True, False])
def test_one_that_the_server_has_closed_is_not(is_announced):
    closed = threading.Semaphore(0)

    def talk(connection):
        if read_request(connection):
            announced = ["Connection: close"] if is_announced else []
            connection.sendall(http(BODY, length(BODY), *announced))
        connection.close()
        closed.release()

    with Raw(talk) as server:
        for _ in range(3):
            assert isinstance(answer_of(backend(f"http://{server.address}/v1")), Reply)
            assert closed.acquire(timeout=10)
        assert server.n_connections == 3


CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:100], BODY[100:]))


@pytest.mark.parametrize(
    ("sent", "is_read"),
    [
        (http(CHUNKED + b"0\r\n\r\n", "Transfer-Encoding: chunked"), True),
        (http(BODY), True),  # to the end of the connection
        (http(BODY[:50], length(BODY)), False),
        (http(CHUNKED, "Transfer-Encoding: chunked"), False),
        (http(b"", length(BODY))[:60], False),
        (b"HTTP/1.1 200 OK\r\nContent-Type: appl", False),
        (b"", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (http(BODY, length(BODY), *(f"X-{i}: 1" for i in range(200))), False),
    ],
)
def test_answers_that_end_early_are_lost_connections(sent, is_read):
    def talk(connection):
        if read_request(connection):
            connection.sendall(sent)

    with Raw(talk) as server:
        answer = answer_of(backend(f"http://{server.address}/v1"))
    assert isinstance(answer, Reply if is_read else BackendUnavailable)
    assert is_read or "no connection to" in str(answer)


def test_an_answer_to_half_a_request_is_read():
    def talk(connection):
        connection.recv(100)
        body = b'{"error": {"message": "too long"}}'
        connection.sendall(http(body, length(body), status="413 Too Large"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with Raw(talk) as server:
        failure = answer_of(backend(f"http://{server.address}/v1"), request("long " * 200_000))
    assert "too long" in str(failure)


@contextmanager
def certificate(folder):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    wanted = (
        f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {cert}"
    )
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *wanted.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    yield cert, context


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_certificates_are_those_of_the_environment(tmp_path, monkeypatch, transport):
    with certificate(tmp_path) as (cert, context):

        def talk(connection):
            with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as safe:
                while read_request(safe):
                    safe.sendall(http(BODY, length(BODY)))

        with Raw(talk) as server:
            url = f"https://{server.address}/v1"
            failure = answer_of(backend(url, transport))
            assert isinstance(failure, BackendUnavailable)
            assert "certificate verify failed" in str(failure).lower()
            clear_handles()
            monkeypatch.setenv("SSL_CERT_FILE", str(cert))
            assert isinstance(answer_of(backend(url, transport)), Reply)
