from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, question, says

from skllm_calib.backends import Reply
from skllm_calib.exceptions import BackendUnavailable, Refused, UnreadableReply
from skllm_calib.signals import SelfConsistencySignal

ABC = ("aa", "bb", "cc")


def draws(steps):
    return [request.draw for step in steps for request in step]


def test_votes_become_smoothed_shares():
    signal = SelfConsistencySignal(n_draws=4, stop_early=False)
    evidence, steps = lead(signal, question(), says("spam", "ham", "Spam.", "spam"))
    np.testing.assert_allclose(np.exp(evidence.log_proba), [1.5 / 5, 3.5 / 5])
    assert evidence.details["votes"].tolist() == [1, 3]
    assert evidence.details["n_draws"] == 4
    assert draws(steps) == [0, 1, 2, 3]
    assert all(r.temperature == 1.0 and not r.answers for step in steps for r in step)


def test_draws_that_name_nothing_count_for_none():
    signal = SelfConsistencySignal(n_draws=4, stop_early=False)
    answers = iter([Reply("spam"), Reply("hm"), Refused("no"), Reply("spam")])
    evidence, _ = lead(signal, question(), lambda _: next(answers))
    assert evidence.off_label == pytest.approx(0.5)
    assert evidence.details["votes"].tolist() == [0, 2]


def test_a_draw_that_was_cut_is_no_vote():
    """What is left of a label may be another one."""
    names = question(labels=("not", "not spam"))
    signal = SelfConsistencySignal(n_draws=4, stop_early=False)
    answers = iter([Reply("not spam"), Reply("not", cut=True), Reply("not spam"), Reply("not")])
    evidence, _ = lead(signal, names, lambda _: next(answers))
    assert evidence.details["votes"].tolist() == [1, 2]
    assert evidence.off_label == pytest.approx(0.25)


def test_no_vote_at_all_is_a_failure():
    with pytest.raises(UnreadableReply, match=r"none of 10 answers is a label; the first is 'hm'"):
        lead(SelfConsistencySignal(), question(), says("hm"))


def test_what_the_backend_advises_is_passed_on():
    cut_off = UnreadableReply("all of max_tokens was used: allow more")
    with pytest.raises(UnreadableReply, match="allow more"):
        lead(SelfConsistencySignal(), question(), lambda _: cut_off)
    with pytest.raises(Refused):
        lead(SelfConsistencySignal(), question(), lambda _: Refused("no"))


@pytest.mark.parametrize("failure", [BackendUnavailable("down"), UnreadableReply("no choices")])
def test_a_draw_that_could_not_be_obtained_fails_the_row(failure):
    """It says nothing about the model, and is not a vote for no label."""
    answers = iter([Reply("spam"), failure, Reply("spam"), Reply("spam")])
    signal = SelfConsistencySignal(n_draws=4, stop_early=False)
    with pytest.raises(type(failure)):
        lead(signal, question(), lambda _: next(answers))


@pytest.mark.parametrize(
    ("answers", "n_draws"),
    [
        (["aa"], 6),  # 6 of 10: the other four cannot overtake it
        (["aa", "bb"] * 5, 10),
        (["aa", "aa", "aa", "aa", "aa", "bb", "aa"], 7),
    ],
)
def test_it_stops_when_the_leader_cannot_be_overtaken(answers, n_draws):
    evidence, steps = lead(SelfConsistencySignal(), question(labels=ABC), says(*answers))
    assert evidence.details["n_draws"] == n_draws
    assert draws(steps) == list(range(n_draws))
    full = SelfConsistencySignal(stop_early=False)
    complete, _ = lead(full, question(labels=ABC), says(*answers))
    assert complete.log_proba.argmax() == evidence.log_proba.argmax()


def test_stopping_early_never_changes_the_answer():
    rng = np.random.default_rng(0)
    for _ in range(200):
        texts = [ABC[k] for k in rng.choice(3, size=10, p=rng.dirichlet([1, 1, 1]))]
        early, _ = lead(SelfConsistencySignal(), question(labels=ABC), says(*texts))
        late, _ = lead(SelfConsistencySignal(stop_early=False), question(labels=ABC), says(*texts))
        tie = np.sort(late.log_proba)[-1] == np.sort(late.log_proba)[-2]
        assert tie or early.log_proba.argmax() == late.log_proba.argmax()


def test_models_without_a_temperature_are_asked_in_other_orders():
    def answer(request):
        return Reply("spam", refused=("temperature",))

    signal = SelfConsistencySignal(n_draws=4, stop_early=False)
    evidence, steps = lead(signal, question(answer="words"), answer)
    listed = [r.messages[0].content for step in steps for r in step]
    assert ["ham or spam" in text for text in listed] == [True, False, True, False]
    assert evidence.details["variants"] == "orders"


def test_option_keys_are_read_in_the_order_that_was_shown():
    signal = SelfConsistencySignal(n_draws=2, variants="orders", stop_early=False)
    evidence, _ = lead(signal, question(answer="keys"), says("A", "A"))
    assert evidence.details["votes"].tolist() == [1, 1]  # A is ham first, then spam


def test_other_instructions_are_taken_in_turn():
    signal = SelfConsistencySignal(n_draws=4, variants=["Which? {hint}"], stop_early=False)
    evidence, steps = lead(signal, question(), says("spam"))
    heads = [r.messages[0].content[:6] for step in steps for r in step]
    assert heads == ["Classi", "Which?"] * 2
    assert evidence.details["variants"] == "instructions"


@pytest.mark.parametrize("bad", [{"n_draws": 0}, {"smoothing": 0}, {"variants": "moods"}])
def test_bad_parameters_are_named(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        next(SelfConsistencySignal(**bad).ask(question()))
