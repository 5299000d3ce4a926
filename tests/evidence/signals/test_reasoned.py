from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, listing, question

from skllm_calib.backends import Reply
from skllm_calib.exceptions import BackendUnavailable, SignalUnavailable, UnreadableReply
from skllm_calib.signals import ReasonedSignal


def thinker(label="spam", hidden=False):
    def reply(request):
        if "step by step" in request.messages[-1].content:
            return Reply("It promises a prize.")
        if request.answers:
            return SignalUnavailable("none") if hidden else listing(request, [0.1, 0.9])
        return Reply(label)

    return reply


def test_the_label_is_read_right_after_the_reasoning():
    evidence, ((thinking,), (concluding,)) = lead(ReasonedSignal(), question(), thinker())
    assert thinking.max_tokens == 256
    assert not thinking.answers
    assert "Answer with one word" not in thinking.messages[0].content
    *_, thought, last = concluding.messages
    assert thought == ("assistant", "It promises a prize.")
    assert last == ("user", "So which is it? Answer with one word: ham or spam.")
    assert concluding.answers == ("ham", "spam")
    assert np.exp(evidence.log_proba).tolist() == pytest.approx([0.1, 0.9])
    assert evidence.details["reasoning"] == "It promises a prize."
    assert evidence.details["read"] == "logprobs"


def test_where_log_probabilities_are_hidden_the_label_is_read():
    evidence, steps = lead(ReasonedSignal(), question(), thinker(hidden=True))
    assert len(steps) == 3
    np.testing.assert_allclose(np.exp(evidence.log_proba), [0.5 / 2, 1.5 / 2])
    assert evidence.details["read"] == "label"


def test_what_was_asked_for_by_name_is_not_replaced():
    with pytest.raises(SignalUnavailable):
        lead(ReasonedSignal(read="logprobs"), question(), thinker(hidden=True))
    evidence, steps = lead(ReasonedSignal(read="label"), question(), thinker())
    assert len(steps) == 2
    assert evidence.details["read"] == "label"


def test_another_failure_is_no_reason_to_read_something_else():
    def reply(request):
        return BackendUnavailable("down") if request.answers else Reply("so")

    with pytest.raises(BackendUnavailable):
        lead(ReasonedSignal(), question(), reply)


def test_a_conclusion_that_names_nothing_is_a_failure():
    with pytest.raises(UnreadableReply, match=r"neither a label .* the model wrote 'hm'"):
        lead(ReasonedSignal(read="label"), question(), thinker(label="hm"))


@pytest.mark.parametrize("bad", [{"read": "mind"}, {"smoothing": -1}])
def test_bad_parameters_are_named(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        next(ReasonedSignal(**bad).ask(question()))
