from __future__ import annotations

import json

import pytest

from skllm_calib.backends import Choice, Message, Request
from skllm_calib.evidence.backends.openai.systemone import read_systemone, systemone_body
from skllm_calib.exceptions import UnreadableReply

CHOICES = (Choice("ham", "wanted mail"), Choice("spam"))
REQUEST = Request((Message("user", "You won!"),), choices=CHOICES)


def answered(**answer):
    return {
        "model": "some-decider",
        "answers": {"label": {"type": "choice", **answer}},
        "usage": {"input_tokens": 42, "output_tokens": 0},
    }


def test_the_question_in_the_documented_form():
    body = systemone_body(REQUEST)
    assert json.loads(json.dumps(body)) == body
    assert body["state"] == "You won!"
    (question,) = body["questions"].values()
    assert question["type"] == "choice"
    assert question["criteria"] == {"ham": "wanted mail", "spam": None}


def test_a_conversation_is_a_state_of_several_turns():
    turns = (Message("system", "Be brief."), Message("user", "You won!"))
    body = systemone_body(Request(turns, choices=CHOICES))
    assert [turn["role"] for turn in body["state"]] == ["system", "user"]


def test_probabilities_in_the_order_of_the_choices():
    told = answered(choice="spam", probabilities={"spam": 0.9, "ham": 0.1}, confidence=0.8)
    reply = read_systemone(told, CHOICES)
    assert reply.decision == (0.1, 0.9)
    assert (reply.text, reply.model, reply.prompt_tokens) == ("spam", "some-decider", 42)


def test_an_option_that_is_missing_has_none():
    assert read_systemone(answered(probabilities={"spam": 1.0}), CHOICES).decision == (0.0, 1.0)


@pytest.mark.parametrize(
    "body",
    [{}, {"answers": {}}, {"answers": [1]}, answered(), answered(probabilities="spam")],
)
def test_an_answer_without_probabilities_is_a_failure(body):
    with pytest.raises(UnreadableReply, match="no probabilities"):
        read_systemone(body, CHOICES)


@pytest.mark.parametrize(
    ("probabilities", "says"),
    [
        ({"x": 1}, "no option"),
        ({"ham": 0, "spam": None}, "no option"),
        ({"ham": -0.1, "spam": 1.1}, "'ham' the probability -0.1"),
        ({"ham": float("nan"), "spam": 1.0}, "'ham' the probability nan"),
        ({"ham": float("inf")}, "'ham' the probability inf"),
        ({"ham": "high"}, "'ham' the probability 'high'"),
    ],
)
def test_what_is_no_probability_is_a_failure(probabilities, says):
    with pytest.raises(UnreadableReply, match=says):
        read_systemone(answered(probabilities=probabilities), CHOICES)
