from __future__ import annotations

import math

import numpy as np
import pytest

from skllm_calib.backends import Reply
from skllm_calib.evidence.label_tokens import Distribution, LabelTree, Token
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.logprobs import read_labels
from skllm_calib.exceptions import SignalUnavailable, UnreadableReply
from skllm_calib.signals import LogprobSignal

ANSWERS = ("ham", "spam")


def reply(probabilities, answers=ANSWERS):
    tokens = [Token(t.encode(), math.log(p)) for t, p in probabilities.items()]
    return Reply("spam", (LabelTree(answers).distribution(b"", tokens),))


def read(probabilities):
    return read_labels(reply(probabilities).distributions, ANSWERS, "spam")


def test_one_request_a_row():
    question = Question(Prompt(answer="words").bind(ANSWERS), {"text": "hello"})
    dialogue = LogprobSignal().ask(question)
    (request,) = next(dialogue)
    assert request.messages == question.messages()
    assert request.answers == ANSWERS
    with pytest.raises(StopIteration) as end:
        dialogue.send([reply({"ham": 0.5, "spam": 0.5})])
    assert np.exp(end.value.value.log_proba).tolist() == pytest.approx([0.5, 0.5])


def test_a_failure_is_passed_on():
    dialogue = LogprobSignal().ask(Question(Prompt().bind(ANSWERS), {"text": "hello"}))
    next(dialogue)
    with pytest.raises(SignalUnavailable, match="hidden"):
        dialogue.send([SignalUnavailable("hidden")])


def test_rows_are_normalised_and_the_rest_is_kept_beside():
    evidence = read({"ham": 0.2, "spam": 0.6, "x": 0.2})
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.25, 0.75])
    assert np.exp(evidence.log_proba).sum() == pytest.approx(1.0, abs=1e-15)
    assert evidence.off_label == pytest.approx(0.2)
    assert evidence.details["written"] == "spam"
    assert evidence.details["top_tokens"][0] == ("spam", pytest.approx(0.6))
    assert evidence.details["label_listed"].tolist() == [True, True]


def test_an_unlisted_label_is_bounded_and_finite():
    evidence = read({"ham": 0.9, "x": 0.06})
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.9 / 0.94, 0.04 / 0.94])
    assert evidence.details["label_mass_low"][1] == 0.0
    assert evidence.details["label_mass_high"][1] == pytest.approx(0.04)


def test_nothing_left_for_a_label_stays_finite():
    evidence = read({"ham": 1.0})
    assert np.isfinite(evidence.log_proba).all()
    assert evidence.log_proba[1] == pytest.approx(-25.0)


def test_replies_that_say_nothing_are_failures():
    with pytest.raises(UnreadableReply, match=r"none of the labels.*90\.0%.*'Well' \(90%\)"):
        read({"Well": 0.9})
    with pytest.raises(UnreadableReply, match="none of the labels"):
        read_labels([Distribution(b"", (), 0.0, 1.0)], ANSWERS)
