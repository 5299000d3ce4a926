"""Replies that look like answers and are none, through the classifier and the real SDK."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("openai")

from loopback import ChatModel, completion, position, refusal, servers

from skllm_calib import LLMClassifier, Prompt
from skllm_calib.backends import OpenAIBackend
from skllm_calib.exceptions import FailedRowsWarning, OffLabelWarning


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def classifier(server, classes, **settings):
    backend = OpenAIBackend("m", base_url=server.base_url, max_retries=0)
    settings = {"signal": "logprobs", "cache": None, "on_error": "nan", **settings}
    return LLMClassifier(backend, classes=list(classes), **settings)


def row(server, classes, **settings):
    """Return the probabilities of a text, and why there are none."""
    clf = classifier(server, classes, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedRowsWarning)
        warnings.simplefilter("ignore", OffLabelWarning)
        (proba,) = clf.predict_proba(["some text"])
        (record,) = clf.explain(["some text"])
    return proba, record["failure"]


@pytest.mark.parametrize("blank", ["\n", " ", "\ufeff", "\n\n"])
@pytest.mark.parametrize("answer", ["keys", "words"])
def test_the_answer_comes_behind_a_blank(serve, blank, answer):
    a, b = ("A", "B") if answer == "keys" else ("ham", "spam")
    model = ChatModel({"": {blank: 0.97, a: 0.02, b: 0.01}, blank: {b: 0.9, a: 0.1}})
    proba, failure = row(serve(model), ["ham", "spam"], prompt=Prompt(answer=answer))
    assert failure is None
    np.testing.assert_allclose(proba, [0.117, 0.883], atol=1e-3)


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("I", ["'m", " sorry"]),
        ("A", [" customer", " who"]),
        ("I", [" cannot", " answer"]),
        ("A", ["/", "B"]),  # one token more tells
        ("A", [" ", "customer"]),
        ("I", ["-", "beam"]),
    ],
)
def test_a_refusal_that_begins_with_a_key(serve, first, rest):
    after = {"": {first: 0.97, "B": 0.03}, first: {rest[0]: 0.95, ".": 0.05}}
    after[first + rest[0]] = {rest[1]: 1.0}
    proba, failure = row(serve(ChatModel(after)), [f"topic {i}" for i in range(10)])
    assert np.isnan(proba).all()
    assert "goes on as another word" in failure


def test_mass_off_the_labels_beyond_the_limit(serve):
    server = serve(ChatModel({"": {"The": 0.7, "A": 0.2, "B": 0.1}}))
    proba, failure = row(server, ["ham", "spam"])
    np.testing.assert_allclose(proba, [2 / 3, 1 / 3], atol=1e-3)
    proba, failure = row(server, ["ham", "spam"], max_off_label=0.5)
    assert np.isnan(proba).all()
    assert "70.0% of the evidence is on none of the labels" in failure
    assert "'The' (70%)" in failure


def test_a_large_share_off_the_labels_is_a_warning(serve):
    server = serve(ChatModel({"": {"The": 0.78, "A": 0.2, "B": 0.02}}))
    with pytest.warns(OffLabelWarning, match="78%"):
        classifier(server, ["ham", "spam"]).predict_proba(["some text"])


@pytest.mark.parametrize("value", [-0.1, 1.1, "none", None, True])
def test_limits_that_are_none(serve, value):
    clf = classifier(serve(ChatModel({"": {"A": 1.0}})), ["ham", "spam"], max_off_label=value)
    with pytest.raises(ValueError, match="max_off_label"):
        clf.predict_proba(["some text"])


@pytest.mark.parametrize(
    "labels",
    [("C", "C#", "C++"), ("not spam", "not sure", "spam"), ("card fee", "card lost", "top up")],
)
def test_labels_of_one_beginning_that_cannot_be_followed(serve, labels):
    first = labels[0].split(" ")[0]
    model = ChatModel({"": {first: 0.9, labels[2][:1] + "x": 0.1}})
    proba, failure = row(serve(model), labels, prompt=Prompt(answer="words"))
    assert np.isnan(proba).all()
    assert "one label or another" in failure


def test_another_sample_may_show_what_the_first_did_not(serve):
    after = {"": {"not": 0.6, "spam": 0.4}, "not": {" spam": 0.25, " sure": 0.75}}
    samples = iter([["spam"], ["spam"], ["not", " sure"], ["spam"]] * 2)

    def respond(body):
        if body["messages"][-1]["role"] == "assistant":
            return refusal(400, "no")
        return ChatModel(after, writes=next(samples))(body)

    labels = ["not spam", "not sure", "spam"]
    proba, failure = row(serve(respond), labels, prompt=Prompt(answer="words"))
    assert failure is None
    np.testing.assert_allclose(proba, [0.15, 0.45, 0.4], atol=1e-3)


@pytest.mark.parametrize("value", [50.0, 0.5, float("nan")])
def test_impossible_numbers_fail_the_row_and_say_so(serve, value):
    entry = position("A", {"A": 0.8, "B": 0.15})
    entry["top_logprobs"][0]["logprob"] = value
    proba, failure = row(serve(lambda body: completion("A", [entry])), ["ham", "spam"])
    assert np.isnan(proba).all()
    assert str(value) in failure


@pytest.mark.parametrize("field", ["top_k", "min_p", "repetition_penalty", "top_p"])
def test_a_server_that_does_not_know_a_pinned_field(serve, field):
    def respond(body):
        if field in body:
            return refusal(400, f"Unrecognized request argument supplied: {field}")
        return ChatModel({"": {"A": 0.8, "B": 0.2}})(body)

    proba, failure = row(serve(respond), ["ham", "spam"])
    assert failure is None
    np.testing.assert_allclose(proba, [0.8, 0.2], atol=1e-3)


def test_a_server_that_wants_another_number_for_no_bound(serve):
    def respond(body):
        if body["top_k"] == 0:
            return refusal(400, "top_k must be -1 (disable), or at least 1, got 0.")
        return ChatModel({"": {"A": 0.8, "B": 0.2}})(body)

    server = serve(respond)
    proba, _ = row(server, ["ham", "spam"])
    np.testing.assert_allclose(proba, [0.8, 0.2], atol=1e-3)
    assert server.bodies()[-1]["top_k"] == -1
