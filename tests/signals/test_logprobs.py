from __future__ import annotations

import math

import numpy as np
import pytest

from skllm_calib.backends import Message, Reply
from skllm_calib.exceptions import UnreadableReply
from skllm_calib.label_tokens import Distribution, LabelTree, Token
from skllm_calib.signals import LogprobSignal, resolve_signal

ANSWERS = ("ham", "spam")


def reply(probabilities, answers=ANSWERS):
    tokens = [Token(t.encode(), math.log(p)) for t, p in probabilities.items()]
    return Reply("spam", (LabelTree(answers).distribution(b"", tokens),))


def test_one_request_a_row():
    messages = (Message("user", "hello"),)
    (request,) = LogprobSignal().requests(messages, ANSWERS)
    assert request.messages == messages
    assert request.answers == ANSWERS


def test_rows_are_normalised_and_the_rest_is_kept_beside():
    evidence = LogprobSignal().reduce(ANSWERS, [reply({"ham": 0.2, "spam": 0.6, "x": 0.2})])
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.25, 0.75])
    assert np.exp(evidence.log_proba).sum() == pytest.approx(1.0, abs=1e-15)
    assert evidence.off_label == pytest.approx(0.2)
    assert evidence.details["written"] == "spam"
    assert evidence.details["top_tokens"][0] == ("spam", pytest.approx(0.6))
    assert evidence.details["label_listed"].tolist() == [True, True]


def test_an_unlisted_label_is_bounded_and_finite():
    evidence = LogprobSignal().reduce(ANSWERS, [reply({"ham": 0.9, "x": 0.06})])
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.9 / 0.94, 0.04 / 0.94])
    assert evidence.details["label_mass_low"][1] == 0.0
    assert evidence.details["label_mass_high"][1] == pytest.approx(0.04)


def test_nothing_left_for_a_label_stays_finite():
    evidence = LogprobSignal().reduce(ANSWERS, [reply({"ham": 1.0})])
    assert np.isfinite(evidence.log_proba).all()
    assert evidence.log_proba[1] == pytest.approx(-25.0)


def test_replies_that_say_nothing_are_failures():
    with pytest.raises(UnreadableReply, match=r"none of the labels.*90\.0%.*'Well' \(90%\)"):
        LogprobSignal().reduce(ANSWERS, [reply({"Well": 0.9})])
    with pytest.raises(UnreadableReply, match="none of the labels"):
        LogprobSignal().reduce(ANSWERS, [Reply("", (Distribution(b"", (), 0.0, 1.0),))])


def test_resolve_signal():
    assert isinstance(resolve_signal("auto"), LogprobSignal)
    assert resolve_signal("logprobs").name == "logprobs"
    for bad in ("votes", None):
        with pytest.raises(ValueError, match="'auto', 'logprobs'"):
            resolve_signal(bad)
