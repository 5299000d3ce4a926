from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, question

from skllm_calib.backends import Reply
from skllm_calib.exceptions import UnreadableReply
from skllm_calib.signals import SelfCheckSignal

ABC = ("aa", "bb", "cc")


def model(answer, verdicts):
    verdicts = iter(verdicts)

    def reply(request):
        last = request.messages[-1].content
        if "Does this reasoning support" in last:
            return Reply(next(verdicts))
        return Reply(f"reason {request.draw}") if "step by step" in last else Reply(answer)

    return reply


def test_reasons_are_sampled_and_judged():
    signal = SelfCheckSignal(n_draws=4)
    evidence, steps = lead(signal, question(labels=ABC), model("bb", ["Yes", "yes.", "No", "Hm"]))
    assert [len(step) for step in steps] == [5, 4]
    assert [r.draw for r in steps[0][1:]] == [0, 1, 2, 3]
    assert all(r.temperature == 1.0 for r in steps[0][1:])
    assert steps[0][0].temperature == 0.0
    assert "'bb'" in steps[1][0].messages[-1].content
    assert steps[1][2].messages[-2].content == "reason 2"
    assert evidence.details["supported"] == [1.0, 1.0, 0.0, 0.5]
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.2, 0.6, 0.2])


def test_an_answer_without_support_stays_the_answer():
    signal = SelfCheckSignal(n_draws=3)
    evidence, _ = lead(signal, question(labels=ABC), model("cc", ["No"] * 3))
    assert evidence.log_proba.argmax() == 2


def test_an_answer_that_names_nothing():
    with pytest.raises(UnreadableReply, match="neither a label"):
        lead(SelfCheckSignal(n_draws=1), question(), model("hm", ["Yes"]))


@pytest.mark.parametrize(
    ("verdict", "supported"),
    [
        *(("Yes", 1.0), ("**no**", 0.0), ("Yes, it does", 1.0), ("No.\nIt says ham", 0.0)),
        *(("No idea", 0.5), ("Yes and no", 0.5), ("It does, yes", 0.5), ("", 0.5)),
    ],
)
def test_a_verdict_is_the_word_it_begins_with(verdict, supported):
    evidence, _ = lead(SelfCheckSignal(n_draws=2), question(), model("ham", [verdict, "Yes"]))
    assert evidence.details["supported"] == [supported, 1.0]


def test_without_any_verdict_there_is_no_evidence():
    with pytest.raises(UnreadableReply, match="no verdict is Yes or No; the model wrote 'Hm'"):
        lead(SelfCheckSignal(n_draws=2), question(), model("ham", ["Hm", "I refuse"]))


def test_bad_parameters_are_named():
    with pytest.raises(ValueError, match="n_draws=0"):
        next(SelfCheckSignal(n_draws=0).ask(question()))
