from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, question

from skllm_calib.backends import Reply
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.questions import Question
from skllm_calib.exceptions import Refused, UnreadableReply
from skllm_calib.signals import DecisionSignal


def test_the_labels_are_put_to_the_endpoint_in_words():
    bound = Prompt(answer="keys").bind(("ham", "spam"), ["wanted", None])
    evidence, ((request,),) = lead(
        DecisionSignal(),
        Question(bound, {"text": "You won!"}),
        lambda _: Reply("spam", decision=(0.25, 0.75)),
    )
    assert request.choices == (("ham", "wanted"), ("spam", ""))
    assert "single letter" not in request.messages[0].content
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.25, 0.75], atol=1e-4)
    assert evidence.details["stated"].tolist() == [0.25, 0.75]


def test_what_fell_on_no_option_is_kept_beside():
    evidence, _ = lead(DecisionSignal(), question(), lambda _: Reply("", decision=(0.3, 0.5)))
    assert evidence.off_label == pytest.approx(0.2)


def test_a_zero_is_finite():
    evidence, _ = lead(DecisionSignal(), question(), lambda _: Reply("", decision=(0.0, 1.0)))
    assert evidence.log_proba[0] == pytest.approx(np.log(1e-4), abs=1e-3)


@pytest.mark.parametrize("decision", [(), (1.0,), (0.0, 0.0), (-0.1, 1.1), (float("nan"), 1.0)])
def test_what_is_no_distribution_is_a_failure(decision):
    with pytest.raises(UnreadableReply, match="not one probability for each of 2 options"):
        lead(DecisionSignal(), question(), lambda _: Reply("", decision=decision))


def test_a_refusal_is_passed_on():
    with pytest.raises(Refused):
        lead(DecisionSignal(), question(), lambda _: Refused("no"))


def test_bad_smoothing():
    with pytest.raises(ValueError, match="smoothing=0"):
        next(DecisionSignal(smoothing=0).ask(question()))
