from __future__ import annotations

import numpy as np
import pytest
from scripted import LABELS, lead, listing, question, says

from skllm_calib.backends import Reply, Request
from skllm_calib.evidence.signals.base import (
    interleave,
    log_proba_of_answer,
    replies_or_raise,
    smoothed_log_proba,
)
from skllm_calib.exceptions import BackendError, UnreadableReply
from skllm_calib.signals import Evidence, LogprobSignal, SelfConsistencySignal, Signal


class Steps(Signal):
    """Takes some steps of one request each."""

    name = "steps"

    def __init__(self, n=1, fail=False):
        self.n = n
        self.fail = fail

    def ask(self, question):
        seen = []
        for step in range(self.n):
            (answer,) = yield [Request(question.messages(), max_tokens=self.n, draw=step)]
            seen.append(answer.text)
        if self.fail:
            raise UnreadableReply("nothing in it")
        return Evidence(np.log([0.5, 0.5]), details={"seen": seen})


class Joined(Signal):
    name = "joined"

    def __init__(self, parts=()):
        self.parts = parts

    def ask(self, question):
        ends = yield from interleave([part.ask(question) for part in self.parts])
        return Evidence(np.log([0.5, 0.5]), details={"ends": ends})


def answer(request):
    return Reply(f"{request.max_tokens}.{request.draw}")


def test_dialogues_side_by_side_get_their_own_answers():
    evidence, steps = lead(Joined([Steps(1), Steps(3), Steps(2)]), question(), answer)
    assert [len(step) for step in steps] == [3, 2, 1]
    seen = [end.details["seen"] for end in evidence.details["ends"]]
    assert seen == [["1.0"], ["3.0", "3.1", "3.2"], ["2.0", "2.1"]]


def test_one_that_fails_leaves_the_others_alone():
    evidence, _ = lead(Joined([Steps(1, fail=True), Steps(2)]), question(), answer)
    failed, fine = evidence.details["ends"]
    assert isinstance(failed, UnreadableReply)
    assert fine.details["seen"] == ["2.0", "2.1"]


def test_no_dialogues_at_all():
    evidence, steps = lead(Joined(), question(), answer)
    assert steps == []
    assert evidence.details["ends"] == []


def test_the_first_failure_is_raised():
    with pytest.raises(BackendError, match="one"):
        replies_or_raise([Reply("a"), BackendError("one"), BackendError("two")])
    assert replies_or_raise([Reply("a")]) == [Reply("a")]


def test_counts_become_posterior_means():
    np.testing.assert_allclose(np.exp(smoothed_log_proba(np.array([3.0, 1.0]), 0.5)), [0.7, 0.3])
    assert np.isfinite(smoothed_log_proba(np.array([1.0, 0.0]), 1e-6)).all()


@pytest.mark.parametrize(
    ("proba", "kept"), [(0.7, 0.7), (1.0, 1 - 1e-4), (0.0, 1.01 / 4), (0.2, 1.01 / 4)]
)
def test_an_answer_stays_the_prediction(proba, kept):
    row = np.exp(log_proba_of_answer(2, proba, 4))
    assert row.argmax() == 2
    assert row[2] == pytest.approx(kept)
    assert row.sum() == pytest.approx(1.0, abs=1e-12)
    assert len(set(np.delete(row, 2))) == 1


def test_a_single_class_is_certain():
    assert log_proba_of_answer(0, 0.3, 1).tolist() == [0.0]


def test_identity_names_what_is_not_the_default():
    assert LogprobSignal().identity() == "logprobs"
    assert SelfConsistencySignal().identity() == "self_consistency"
    varied = SelfConsistencySignal(n_draws=5, variants=("Which? {hint}",))
    assert varied.identity() == {
        "name": "self_consistency",
        "n_draws": 5,
        "variants": ["Which? {hint}"],
    }


def test_the_helpers_of_these_tests():
    evidence, steps = lead(LogprobSignal(), question(), lambda r: listing(r, [0.2, 0.8]))
    assert np.exp(evidence.log_proba).tolist() == pytest.approx([0.2, 0.8])
    assert steps[0][0].answers == LABELS
    first_then_last = says("a", "b")
    assert [first_then_last(steps[0][0]).text for _ in range(3)] == ["a", "b", "b"]
