from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, listing, question

from skllm_calib.backends import Dropout, Reply
from skllm_calib.exceptions import SignalUnavailable
from skllm_calib.signals import MCDropoutSignal


def passes(*rows):
    def reply(request):
        return Reply("spam", passes=tuple(listing(request, row).distributions for row in rows))

    return reply


def test_the_mean_of_the_passes_and_their_disagreement():
    signal = MCDropoutSignal(n_passes=2, random_state=3)
    evidence, ((request,),) = lead(signal, question(), passes([0.9, 0.1], [0.1, 0.9]))
    assert request.dropout == Dropout("head", 0.1, 2, 3)
    assert request.answers == ("ham", "spam")
    assert np.exp(evidence.log_proba).tolist() == pytest.approx([0.5, 0.5])
    details = evidence.details
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert details["total"] == pytest.approx(np.log(2))
    assert details["aleatoric"] == pytest.approx(entropy)
    assert details["epistemic"] == pytest.approx(np.log(2) - entropy)
    assert details["spread"].tolist() == pytest.approx([0.4, 0.4])


def test_passes_that_agree_know_what_they_do_not_know():
    evidence, _ = lead(MCDropoutSignal(), question(), passes(*[[0.3, 0.7]] * 3))
    assert evidence.details["epistemic"] == pytest.approx(0.0, abs=1e-12)


def test_modules_that_were_trained_with_it_have_a_rate_of_their_own():
    _, ((request,),) = lead(MCDropoutSignal(where="trained"), question(), passes([0.5, 0.5]))
    assert request.dropout == Dropout("trained", 0.0, 30, 0)


def test_a_backend_without_dropout():
    with pytest.raises(SignalUnavailable):
        lead(MCDropoutSignal(), question(), lambda _: SignalUnavailable("hosted"))


@pytest.mark.parametrize("bad", [{"where": "eyes"}, {"rate": 1.0}, {"rate": 0}, {"n_passes": 0}])
def test_bad_parameters_are_named(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        next(MCDropoutSignal(**bad).ask(question()))
