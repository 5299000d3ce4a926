from __future__ import annotations

import dataclasses
import json
import math

import pytest

from skllm_calib.backends import BaseBackend, Choice, Dropout, Message, Reply, Request
from skllm_calib.evidence.label_tokens import Distribution, Token

REQUEST = Request((Message("user", "hello"),), answers=("A", "B"))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("user", "hello "),)},
        {"messages": (Message("system", "hello"),)},
        {"messages": (Message("user", "hello"), Message("user", "hello"))},
        {"answers": ("B", "A")},
        {"answers": ()},
        {"max_tokens": 2},
        {"temperature": 1.0},
        {"draw": 1},
        {"schema": "{}"},
        {"among": ("A", "B")},
        {"choices": (Choice("A"), Choice("B"))},
        {"dropout": Dropout("head", 0.1, 5)},
    ],
)
def test_the_key_holds_everything_that_changes_an_answer(change):
    identity = {"provider": "x"}
    changed = dataclasses.replace(REQUEST, **change)
    assert changed.key(identity) != REQUEST.key(identity)
    assert len(changed.key(identity)) == 64


def test_the_key_is_that_of_the_content():
    again = Request((Message("user", "hello"),), answers=("A", "B"))
    assert again.key({"a": 1, "b": 2}) == REQUEST.key({"b": 2, "a": 1})
    assert REQUEST.key({"a": 1}) != REQUEST.key({"a": 2})


def test_odd_texts_have_a_key():
    texts = ["\ud800", "\0", "é", "e\u0301"]
    assert len({Request((Message("user", t),)).key({}) for t in texts}) == 4


def test_a_reply_loses_nothing_in_json():
    reply = Reply(
        text='say "A"\n',
        distributions=(
            Distribution(b"", (Token(b"A", -0.1), Token(b"\xc3", -2.0)), 0.95, 0.01),
            Distribution("é".encode(), (Token(b"\xff\xfe", -math.pi),), 1.0, 1e-9, followed=True),
        ),
        model="m-2026",
        fingerprint="fp",
        prompt_tokens=3,
        completion_tokens=2,
        cached_tokens=1,
        notes=("a note",),
    )
    assert Reply.from_json(reply.to_json()) == reply
    assert Reply.from_json(Reply("x").to_json()) == Reply("x")


def test_replies_of_an_earlier_version_can_be_read():
    kept = (
        '{"text":"A","distributions":[{"prefix":"","tokens":[["A",-0.5]],"listed_mass":0.9,'
        '"smallest":0.01}],"model":"m","fingerprint":null,"usage":[3,1,0],"notes":[]}'
    )
    reply = Reply.from_json(kept)
    assert reply.distributions == (Distribution(b"", (Token(b"A", -0.5),), 0.9, 0.01),)


def test_a_backend_needs_run_and_identity():
    with pytest.raises(TypeError, match="abstract"):
        BaseBackend()


WHOLE = {
    "text": "A",
    "distributions": [
        {
            "prefix": "",
            "tokens": [["A", -0.1], [["/w=="], -math.inf]],
            "listed_mass": 1,
            "smallest": 0.0,
            "n_listed": 2,
            "followed": True,
        }
    ],
    "model": "m",
    "fingerprint": None,
    "usage": [1, 2, 3],
    "notes": [],
    "decision": [0.5, 0.5],
}


def test_infinite_log_probabilities_and_whole_numbers_are_read():
    reply = Reply.from_json(json.dumps(WHOLE))
    assert reply.distributions[0].tokens == (Token(b"A", -0.1), Token(b"\xff", -math.inf))
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (1, 2, 3)


def changed(path, value):
    """Return the JSON of a reply in which one place is another."""
    whole = json.loads(json.dumps(WHOLE))
    *parents, last = path
    place = whole
    for step in parents:
        place = place[step]
    place[last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "{}", "[]", "null", "5", "NaN", '"A"', "A", "[" * 100_000, "\ufeff{}"),
        json.dumps(WHOLE)[:-1],
        json.dumps(WHOLE) * 2,
        json.dumps({"choices": [{"message": {"content": "A"}}]}),
        *(changed([name], None) for name in WHOLE if name != "fingerprint"),
        *(changed([name], 5) for name in WHOLE),
        *(changed([name], "AAA") for name in WHOLE if name not in ("text", "model", "fingerprint")),
        changed(["usage"], [1, 2]),
        changed(["usage"], [1, 2, "3"]),
        changed(["usage"], [1, 2, True]),
        changed(["notes"], [None]),
        changed(["decision"], ["0.5", 0.5]),
        changed(["decision"], [math.nan, 0.5]),
        changed(["passes"], "AAA"),
        *(
            changed(["distributions", 0, *path], value)
            for path, value in [
                (["tokens"], {}),
                (["tokens", 0], "A"),
                (["tokens", 0, 0], None),
                (["tokens", 0, 0], ["?", "?"]),
                (["tokens", 0, 0], ["?"]),
                (["tokens", 0, 1], "-0.1"),
                (["tokens", 0, 1], math.nan),
                (["tokens", 0, 1], True),
                (["listed_mass"], None),
                (["smallest"], "0"),
                (["n_listed"], 1.5),
                (["followed"], 1),
                (["prefix"], 5),
            ]
        ),
    ],
)
def test_a_damaged_reply_is_no_reply(text):
    with pytest.raises(ValueError):  # noqa: PT011  (JSON has its own texts)
        Reply.from_json(text)
