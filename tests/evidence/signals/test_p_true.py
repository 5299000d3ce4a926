from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, listing, question

from skllm_calib.exceptions import SignalUnavailable
from skllm_calib.signals import PTrueSignal

ABC = ("aa", "bb", "cc")


def judge(answer, p_true):
    """Find a label most probable; believe in each proposed answer as told."""

    def reply(request):
        if request.answers != ("True", "False"):
            return listing(request, [0.8 if label == answer else 0.1 for label in request.answers])
        proposed = request.messages[-1].content.split("Proposed answer: ")[1].split("\n")[0]
        p = p_true[proposed]
        return listing(request, [p, 1 - p])

    return reply


def test_the_model_judges_its_own_answer():
    evidence, steps = lead(PTrueSignal(), question(labels=ABC), judge("bb", {"bb": 0.7}))
    assert [len(step) for step in steps] == [1, 1]
    assert steps[1][0].answers == ("True", "False")
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.15, 0.7, 0.15])
    assert evidence.details["p_true"].tolist()[1] == pytest.approx(0.7)
    assert np.isnan(evidence.details["p_true"][0])


def test_a_doubted_answer_stays_the_answer():
    evidence, _ = lead(PTrueSignal(), question(labels=ABC), judge("bb", {"bb": 0.01}))
    assert evidence.log_proba.argmax() == 1


def test_every_class_can_be_judged():
    believed = {"aa": 0.2, "bb": 0.8, "cc": 0.6}
    evidence, steps = lead(PTrueSignal(candidates="all"), question(labels=ABC), judge("", believed))
    assert [len(step) for step in steps] == [3]
    np.testing.assert_allclose(np.exp(evidence.log_proba), np.array([0.2, 0.8, 0.6]) / 1.6)


def test_without_log_probabilities_it_cannot_be_had():
    with pytest.raises(SignalUnavailable):
        lead(PTrueSignal(), question(), lambda _: SignalUnavailable("none here"))


def test_bad_parameters_are_named():
    with pytest.raises(ValueError, match="candidates='some'"):
        next(PTrueSignal(candidates="some").ask(question()))
