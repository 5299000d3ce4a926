"""What can go wrong with an answer: one function a fault.

A function takes the healthy answer and returns what is sent in its place: an `Answer`, or a
function that writes to the socket itself. `readable` faults leave the truth in what is sent, so
that a number is right or the row fails; after all others the row has to fail.

These strike answers of every form; `faults_of_answers` has those of one form.
"""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

from healthy import Healthy
from loopback import Answer, refusal

Fault = Callable[[Healthy], Any]
FAMILIES: dict[str, dict[str, Fault]] = {
    family: {} for family in ("any", "chat", "tokens", "text", "decision")
}
READABLE: set[str] = set()


def add(name: str, make: Fault, family: str = "any", *, readable: bool = False) -> None:
    FAMILIES[family][name] = make
    if readable:
        READABLE.add(name)


def fault(family: str = "any", *, readable: bool = False) -> Callable[[Fault], Fault]:
    """Enter a function into the table, for answers of one form or of all."""

    def enter(make: Fault) -> Fault:
        add(make.__name__, make, family, readable=readable)
        return make

    return enter


# Statuses


def _status(status: int, message: str = "not now", **fields: Any) -> Fault:
    return lambda healthy: refusal(status, message, **fields)


for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 501, 502, 503, 504, 529):
    add(f"status_{status}", _status(status))
add("status_429_soon", _status(429, headers={"Retry-After": "0"}))
add("status_429_in_an_hour", _status(429, headers={"Retry-After": "3600"}))
add("status_400_filtered", _status(400, "filtered", code="content_filter"))
add("status_400_too_long", _status(400, "too long", code="context_length_exceeded"))
_PAGE = "<!DOCTYPE html><html><head><title>Request blocked</title></head><body>A</body></html>"
for status in (200, 403, 404, 502):
    add(f"page_{status}", lambda healthy, status=status: Answer(status, _PAGE))

# Errors in the place of a reply, with a good status


@fault()
def error_body(healthy):
    return Answer(200, {"error": {"message": "upstream is overloaded", "code": 502}})


@fault()
def error_body_of_a_refused_key(healthy):
    return Answer(200, {"error": {"message": "no auth credentials found", "code": 401}})


@fault()
def error_beside_an_answer(healthy):
    answer = healthy.wrong().answer()
    answer.body["error"] = {"message": "the provider broke off", "code": 500}
    return answer


@fault()
def no_content_204(healthy):
    return Answer(204, b"")


for name, raw in {
    "empty_body": b"",
    "null_body": b"null",
    "list_body": b"[]",
    "text_body": b'"A"',
    "other_object": b'{"object": "list", "data": []}',
    "no_utf8": b"\xff\xfe\x00{",
}.items():
    add(name, lambda healthy, raw=raw: Answer(200, raw))


# The wire


def _raw(healthy: Healthy) -> bytes:
    return json.dumps(healthy.answer().body).encode()


def _sent_as(raw: Callable[[bytes], bytes], **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda healthy: Answer(200, raw(_raw(healthy)), named)


add("truncated_json", _sent_as(lambda raw: raw[: len(raw) // 2]))
add("duplicated_reply", _sent_as(lambda raw: raw + raw), readable=True)
add("byte_order_mark_in_body", _sent_as(lambda raw: b"\xef\xbb\xbf" + raw), readable=True)
add("gzip_garbage", _sent_as(lambda raw: random.Random(0).randbytes(200), Content_Encoding="gzip"))
add("gzip_only_said", _sent_as(bytes, Content_Encoding="gzip"), readable=True)
add("content_type_text", _sent_as(bytes, Content_Type="text/plain"), readable=True)
add("content_type_events", _sent_as(bytes, Content_Type="text/event-stream"), readable=True)
add("unknown_charset", _sent_as(bytes, Content_Type="application/json; charset=x"), readable=True)


def _head(length: int) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    )


def _reset(handler: Any) -> None:
    linger = struct.pack("ii", 1, 0)  # closing sends a reset
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


@fault()
def content_length_too_long(healthy):
    raw = _raw(healthy)
    return lambda handler: handler.wfile.write(_head(len(raw) + 50) + raw)


@fault()
def content_length_too_short(healthy):
    raw = _raw(healthy)
    return lambda handler: handler.wfile.write(_head(len(raw) - 50) + raw)


@fault()
def not_http(healthy):
    return lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


@fault()
def closed_before(healthy):
    return lambda handler: None


@fault()
def reset_before(healthy):
    return _reset


@fault()
def reset_in_the_middle(healthy):
    raw = _raw(healthy)

    def write(handler):
        handler.wfile.write(_head(len(raw)) + raw[: len(raw) // 2])
        _reset(handler)

    return write


@fault(readable=True)
def body_drips(healthy):
    raw = _raw(healthy)

    def write(handler):
        handler.wfile.write(_head(len(raw)))
        for i in range(len(raw)):
            handler.wfile.write(raw[i : i + 1])
            if handler.server.over.wait(0.05):
                return

    return write


@fault()
def stalls(healthy):
    return lambda handler: handler.server.over.wait(60)


@fault()
def stalls_in_the_middle(healthy):
    raw = _raw(healthy)

    def write(handler):
        handler.wfile.write(_head(len(raw)) + raw[: len(raw) // 2])
        handler.server.over.wait(60)

    return write
