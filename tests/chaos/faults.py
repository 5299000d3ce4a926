"""What can go wrong with an answer of a server that speaks Chat Completions: one function a fault.

A function takes the healthy answer and returns what is sent in its place: an `Answer`, or a
function that writes to the socket itself. `readable` faults leave the truth in what is sent, so
that a number is right or the row fails; after all others the row has to fail.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loopback import Answer, completion, position, refusal

KEYS = "ABC"


@dataclass(frozen=True)
class Healthy:
    """The answer about a text: its distribution follows from the text alone."""

    text: str
    signal: str

    @property
    def truth(self) -> dict[str, float]:
        digest = hashlib.sha256(self.text.encode()).digest()
        parts = [1 + byte for byte in digest[: len(KEYS)]]
        return {key: part / sum(parts) for key, part in zip(KEYS, parts, strict=True)}

    @property
    def listed(self) -> dict[str, float]:
        return {**{key: 0.97 * p for key, p in self.truth.items()}, "The": 0.02, "It": 0.01}

    @property
    def best(self) -> str:
        return max(KEYS, key=self.truth.__getitem__)

    @property
    def stated(self) -> str:
        return json.dumps({key: round(p, 4) for key, p in self.truth.items()})

    def position(self) -> dict[str, Any]:
        return position(self.best, self.listed)

    def answer(self, **fields: Any) -> Answer:
        if self.signal == "logprobs":
            return completion(self.best, [self.position()], **fields)
        return completion(self.stated, **fields)

    def wrong(self) -> Healthy:
        """Return what the same server would say of some other text."""
        other = Healthy("another text, and one that has quite different probabilities", self.signal)
        assert max(abs(other.truth[key] - p) for key, p in self.truth.items()) > 0
        return other


Fault = Callable[[Healthy], Any]
FAULTS: dict[str, dict[str, Fault]] = {"logprobs": {}, "self_reported": {}}
READABLE: set[str] = set()


def add(name: str, make: Fault, *signals: str, readable: bool = False) -> None:
    for signal in signals or FAULTS:
        FAULTS[signal][name] = make
    if readable:
        READABLE.add(name)


def fault(*signals: str, readable: bool = False) -> Callable[[Fault], Fault]:
    """Enter a function into the table, for some signals or for all."""

    def enter(make: Fault) -> Fault:
        add(make.__name__, make, *signals, readable=readable)
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
def error_beside_choices(healthy):
    answer = healthy.wrong().answer()
    answer.body["error"] = {"message": "the provider broke off", "code": 500}
    return answer


@fault()
def finish_error(healthy):
    return healthy.wrong().answer(finish_reason="error")


@fault()
def finish_content_filter(healthy):
    return healthy.wrong().answer(finish_reason="content_filter")


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


def _choice(healthy: Healthy, **fields: Any) -> Answer:
    answer = healthy.answer()
    answer.body["choices"][0].update(fields)
    return answer


@fault()
def empty_choices(healthy):
    answer = healthy.answer()
    answer.body["choices"] = []
    return answer


@fault()
def null_choices(healthy):
    answer = healthy.answer()
    answer.body["choices"] = None
    return answer


@fault()
def null_message(healthy):
    return _choice(healthy, message=None)


@fault()
def null_content(healthy):
    message = {"role": "assistant", "content": None}
    return _choice(healthy, message=message, logprobs=None)


@fault()
def refusal_field(healthy):
    return completion(None, refusal="I cannot help with that.")


@fault(readable=True)
def reasoning_field(healthy):
    return healthy.answer(reasoning_content="Let me see. A? No, B.")


# Lists of tokens


def _logprobs(healthy: Healthy, content: Any) -> Answer:
    return _choice(healthy, logprobs=content)


@fault("logprobs")
def no_logprobs(healthy):
    return _logprobs(healthy, None)


@fault("logprobs")
def null_logprobs(healthy):
    return _logprobs(healthy, {"content": None})


@fault("logprobs")
def empty_logprobs(healthy):
    return _logprobs(healthy, {"content": []})


def _edited(healthy: Healthy, edit: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> Any:
    entry = copy.deepcopy(healthy.position())
    edit(entry, entry["top_logprobs"])
    return completion(healthy.best, [entry])


@fault("logprobs")
def no_alternatives(healthy):
    return _edited(healthy, lambda entry, top: top.clear())


def _all_at(value: Any) -> Fault:
    def make(healthy: Healthy) -> Any:
        def edit(entry, top):
            for each in (entry, *top):
                each["logprob"] = value

        return _edited(healthy, edit)

    return make


add("all_zeros", _all_at(0.0), "logprobs")
add("all_null", _all_at(None), "logprobs")
add("all_nan", _all_at(math.nan), "logprobs")
add("all_infinite", _all_at(math.inf), "logprobs")
add("all_texts", _all_at("high"), "logprobs")


def _one_at(value: Any) -> Fault:
    return lambda healthy: _edited(healthy, lambda entry, top: top[0].update(logprob=value))


add("one_nan", _one_at(math.nan), "logprobs")
add("one_plus_50", _one_at(50.0), "logprobs")
add("one_plus_a_little", _one_at(0.1), "logprobs")


@fault("logprobs")
def mass_above_1(healthy):
    def edit(entry, top):
        for each in (entry, *top):
            each["logprob"] += math.log(1.5)

    return _edited(healthy, edit)


@fault("logprobs", readable=True)
def duplicate_tokens(healthy):
    return _edited(healthy, lambda entry, top: top.insert(1, dict(top[0])))


@fault("logprobs")
def duplicates_that_differ(healthy):
    other = {"logprob": math.log(0.01)}
    return _edited(healthy, lambda entry, top: top.append({**top[0], **other}))


@fault("logprobs")
def null_token(healthy):
    return _edited(healthy, lambda entry, top: top[0].update(token=None, bytes=None))


@fault("logprobs", readable=True)
def drawn_token_listed_in_addition(healthy):
    entry = position("Z", {**healthy.listed, "Z": 1e-6})
    return completion("Z", [entry])


@fault("logprobs", readable=True)
def drawn_token_unlisted(healthy):
    return completion("Z", [position("Z", healthy.listed)])


# Where the label is


def _before(first: str) -> Fault:
    def make(healthy: Healthy) -> Answer:
        lead = position(first, {first: 0.98, "The": 0.01})
        return completion(first + healthy.best, [lead, healthy.position()])

    return make


for name, first in {
    "blank_first": " ",
    "line_break_first": "\n",
    "two_line_breaks_first": "\n\n",
    "byte_order_mark_first": "\ufeff",
    "stars_first": "**",
    "quote_first": '"',
    "end_of_thought_first": "</think>",
}.items():
    add(name, _before(first), "logprobs", readable=True)


def _written(*tokens: str) -> Fault:
    """Return a fault: other words, of which each is nearly certain to its model."""

    def make(healthy: Healthy) -> Answer:
        positions = [position(token, {token: 0.97, "Z": 0.01}) for token in tokens]
        return completion("".join(tokens), positions, finish_reason="length")

    return make


add("sentence_begins_with_key", _written("A", " customer", " asked"), "logprobs")
add("refusal_begins_with_key", _written("C", "annot", " help"), "logprobs")
add("word_begins_with_key", _written("B", "oth", " are"), "logprobs")
add("refusal", _written("I", "'m", " sorry"), "logprobs")
add("thinks", _written("<think>", "\n", "Okay"), "logprobs")


@fault("logprobs")
def character_split_over_tokens(healthy):
    parts = [position("x", {"x": 0.9, "Z": 0.01}) for _ in range(2)]
    for part, byte in zip(parts, "é".encode(), strict=True):
        part.update(token="\ufffd", bytes=[byte])
        part["top_logprobs"][0].update(token="\ufffd", bytes=[byte])
    return completion("é", parts, finish_reason="length")


# Stated answers


def _said(text: str, **fields: Any) -> None:
    return lambda healthy: completion(text, **fields)


for name, text in {
    "stated_refusal": "A request like this I cannot answer.",
    "stated_template": '{"A": ..., "B": ..., "C": ...}',
    "stated_percent_and_fraction": '{"A": 60, "B": 0.3, "C": 0.1}',
    "stated_negative": '{"A": 1.5, "B": -0.3, "C": -0.2}',
    "stated_nan": '{"A": NaN, "B": 0.5, "C": 0.5}',
    "stated_nothing": '{"A": 0, "B": 0, "C": 0}',
    "stated_three_ones": '{"A": 1, "B": 1, "C": 1, "D": 1, "A": 0}',
    "stated_two_answers": '{"A": 0.9, "B": 0.1, "C": 0} or {"A": 0.1, "B": 0.8, "C": 0.1}',
    "stated_steps": "1. Read the text. 2. Weigh A, B and C. 3. Answer.",
    "stated_unfinished_thought": '<think>Say {"A": 0.9, "B": 0.05, "C": 0.05}? Perhaps',
    "stated_blank": "  \n",
    "stated_key_only": "A",
}.items():
    add(name, _said(text), "self_reported")


@fault("self_reported")
def stated_cut(healthy):
    return completion(healthy.stated[:17], finish_reason="length")


@fault("self_reported")
def stated_cut_without_a_word(healthy):
    return completion(healthy.stated[:17])


@fault("self_reported", readable=True)
def stated_after_thought(healthy):
    return completion(f'<think>{{"A": 0.3}}? No.</think>\n{healthy.stated}')


@fault("self_reported", readable=True)
def stated_in_a_fence(healthy):
    return completion(f"Sure!\n```json\n{healthy.stated}\n```")


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


def kinds() -> Mapping[str, Fault]:
    return {**FAULTS["logprobs"], **FAULTS["self_reported"]}
