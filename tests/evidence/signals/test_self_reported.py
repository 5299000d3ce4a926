from __future__ import annotations

import json

import numpy as np
import pytest
from scripted import lead, question, says

from skllm_calib.backends import Reply
from skllm_calib.exceptions import BackendError, Refused, UnreadableReply
from skllm_calib.signals import SelfReportedSignal

MANY = tuple(f"class {i:02d}" for i in range(30))


def read(text, signal=None, **options):
    evidence, ((request,),) = lead(signal or SelfReportedSignal(), question(**options), says(text))
    assert np.exp(evidence.log_proba).sum() == pytest.approx(1.0, abs=1e-12)
    return evidence, request


def test_a_probability_for_every_class():
    evidence, request = read('{"ham": 0.2, "spam": 0.8}')
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.205 / 1.01, 0.805 / 1.01])
    assert evidence.off_label == 0.0
    assert evidence.details["stated"].tolist() == [0.2, 0.8]
    assert evidence.details["written"] == '{"ham": 0.2, "spam": 0.8}'
    assert request.answers == ()
    asked = request.messages[-1].content
    assert "The labels are ham or spam." in request.messages[0].content
    assert asked.endswith('{"ham": ..., "spam": ...}')
    assert "Answer:" not in asked


@pytest.mark.parametrize("form", ["distribution", "guesses", "answer"])
@pytest.mark.parametrize(
    "text", ["ham: 88%\nspam: 12", '{"ham": 0.2, "spam": 0.8}', "Answer: spam\nConfidence: 8"]
)
def test_what_was_cut_is_never_read(form, text):
    with pytest.raises(UnreadableReply, match=r"cut off.*max_tokens.*reasoning_budget"):
        lead(SelfReportedSignal(form=form), question(), lambda _: Reply(text, cut=True))


def test_structured_output_is_asked_for():
    _, request = read('{"A": 0.2, "B": 0.8}', answer="keys")
    schema = json.loads(request.schema)
    assert schema["required"] == ["A", "B"]
    assert schema["additionalProperties"] is False
    assert request.max_tokens > 50


def test_zeros_and_ones_have_finite_logarithms():
    evidence, _ = read('{"ham": 0, "spam": 1}')
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.005 / 1.01, 1.005 / 1.01])


def test_what_the_numbers_lack_is_shown_and_not_given_away():
    evidence, _ = read('{"ham": 0.3, "spam": 0.3}')
    assert np.exp(evidence.log_proba).tolist() == pytest.approx([0.5, 0.5])
    assert evidence.off_label == pytest.approx(0.4)


def test_numbers_above_one_in_sum_are_scaled():
    evidence, _ = read('{"ham": 0.9, "spam": 0.9}')
    assert np.exp(evidence.log_proba).tolist() == pytest.approx([0.5, 0.5])
    assert evidence.off_label == 0.0


def test_a_class_not_guessed_gets_what_is_left_but_no_more_than_the_lowest_guess():
    three = ("a1", "b2", "c3")
    guesses = SelfReportedSignal(form="guesses")
    evidence, _ = read('{"a1": 0.7, "b2": 0.2}', guesses, labels=three)
    expected = np.array([0.7, 0.2, 0.1]) + 0.005
    np.testing.assert_allclose(np.exp(evidence.log_proba), expected / expected.sum())
    evidence, _ = read('{"a1": 0.5, "b2": 0.1}', guesses, labels=three)
    assert evidence.off_label == pytest.approx(0.3)
    assert evidence.log_proba[2] == pytest.approx(evidence.log_proba[1])


def test_many_classes_are_asked_for_guesses():
    guesses = [{"label": "class 07", "probability": 0.6}, {"label": "class 01", "probability": 0.1}]
    evidence, request = read(json.dumps({"guesses": guesses}), labels=MANY)
    assert "4 best guesses" in request.messages[-1].content
    assert evidence.log_proba.argmax() == 7
    assert np.argsort(evidence.log_proba)[-2] == 1
    assert len(set(np.delete(evidence.log_proba, [1, 7]).round(12))) == 1
    assert evidence.details["form"] == "guesses"


def test_no_more_guesses_than_classes():
    signal = SelfReportedSignal(form="guesses", n_guesses=9)
    reply = '{"guesses": [{"label": "ham", "probability": 0.9}]}'
    _, request = read(reply, signal)
    assert "2 best guesses" in request.messages[-1].content


@pytest.mark.parametrize(("stated", "expected"), [(0.8, 0.8), (0.3, 0.505), (1.0, 1 - 1e-4)])
def test_one_answer_with_one_probability(stated, expected):
    signal = SelfReportedSignal(form="answer")
    reply = f'{{"label": "spam", "probability": {stated}}}'
    evidence, request = read(reply, signal)
    assert np.exp(evidence.log_proba[1]) == pytest.approx(expected)
    assert json.loads(request.schema)["properties"]["label"]["enum"] == ["ham", "spam"]


def test_options_go_by_their_keys_in_every_order():
    about = question(answer="keys").shifted(1)
    evidence, ((request,),) = lead(SelfReportedSignal(), about, says('{"A": 0.9, "B": 0.1}'))
    assert "A) spam\nB) ham" in request.messages[0].content
    assert evidence.log_proba.argmax() == 1


def test_examples_are_answered_with_labels_and_the_row_with_numbers():
    about = question(answer="words", examples=[({"text": "Lunch?"}, 0)])
    _, ((request,),) = lead(SelfReportedSignal(), about, says('{"ham": 0.5, "spam": 0.5}'))
    first, answered, last = request.messages
    assert "Answer with one word" in first.content
    assert answered.content == "ham"
    assert "probability between 0 and 1" in last.content


@pytest.mark.parametrize(
    "text", ["", "I cannot say.", '{"ham": -1, "spam": 2}', "spam", "{}", '{"ham": 0.3}']
)
def test_what_cannot_be_read_is_a_failure(text):
    with pytest.raises(UnreadableReply):
        lead(SelfReportedSignal(), question(), says(text))


def test_failures_of_the_backend_are_passed_on():
    with pytest.raises(Refused):
        lead(SelfReportedSignal(), question(), lambda _: Refused("no"))
    with pytest.raises(BackendError, match="out"):
        lead(SelfReportedSignal(), question(), lambda _: BackendError("out of order"))


@pytest.mark.parametrize(
    "bad", [{"form": "odds"}, {"smoothing": 0}, {"n_guesses": 0, "form": "guesses"}]
)
def test_bad_parameters_are_named(bad):
    (name, *_), (value, *_) = bad, bad.values()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        next(SelfReportedSignal(**bad).ask(question()))
