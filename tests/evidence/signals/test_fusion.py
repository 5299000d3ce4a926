from __future__ import annotations

import numpy as np
import pytest
from scripted import lead, listing, question

from skllm_calib.backends import Reply
from skllm_calib.exceptions import BackendError, UnreadableReply
from skllm_calib.signals import (
    FusedSignal,
    LogprobSignal,
    OrderAveragedSignal,
    SelfConsistencySignal,
    SelfReportedSignal,
)

ABC = ("aa", "bb", "cc")


def both(request):
    if request.answers:
        return listing(request, [0.2, 0.8])
    return Reply('{"ham": 0.4, "spam": 0.6}')


PARTS = [LogprobSignal(), SelfReportedSignal(smoothing=1e-9)]


@pytest.mark.parametrize("weights", [None, [1, 1], [3, 1], [0, 2]])
def test_the_pool_is_the_weighted_geometric_mean(weights):
    evidence, steps = lead(FusedSignal(PARTS, weights=weights), question(), both)
    assert [len(step) for step in steps] == [2]
    w = np.array(weights or [1, 1]) / np.sum(weights or [1, 1])
    expected = np.exp(w @ np.log([[0.2, 0.8], [0.4, 0.6]]))
    np.testing.assert_allclose(np.exp(evidence.log_proba), expected / expected.sum())
    assert evidence.details["weights"] == dict(zip(["logprobs", "self_reported"], w, strict=True))
    assert evidence.details["signals"]["self_reported"]["stated"].tolist() == [0.4, 0.6]


def test_a_row_fails_with_one_of_its_signals():
    def half(request):
        return both(request) if request.answers else Reply("who knows")

    with pytest.raises(UnreadableReply):
        lead(FusedSignal(PARTS), question(), half)
    with pytest.raises(BackendError, match="out"):
        lead(FusedSignal(PARTS), question(), lambda _: BackendError("out of order"))


def test_names_and_identity_tell_the_parts_apart():
    fused = FusedSignal([SelfConsistencySignal(), SelfConsistencySignal(n_draws=3)])
    evidence, _ = lead(fused, question(), lambda _: Reply("spam"))
    assert list(evidence.details["signals"]) == ["self_consistency", "self_consistency_#2"]
    assert fused.label == "self_consistency+self_consistency"
    assert fused.identity()["signals"][1] == {"name": "self_consistency", "n_draws": 3}


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")]])
def test_bad_weights_are_named(weights):
    with pytest.raises(ValueError, match="weights="):
        next(FusedSignal(PARTS, weights=weights).ask(question()))
    with pytest.raises(ValueError, match=r"signal=\[\]"):
        next(FusedSignal([]).ask(question()))


def biased(request):
    """Gives each class what it is worth and each place in the list what that is worth."""
    whole = request.messages[0].content
    worth = {"aa": 0.5, "bb": 0.3, "cc": 0.2}
    places = [5.0, 1.0, 1.0]
    order = sorted(ABC, key=whole.index)
    scores = [worth[label] * places[order.index(label)] for label in ABC]
    keyed = [scores[k] for k in range(3)]
    return listing(request, list(np.array(keyed) / sum(keyed)))


@pytest.mark.parametrize("form", ["words", "keys"])
def test_all_orders_take_the_bias_of_places_out_in_full(form):
    about = question(labels=ABC, answer=form)
    alone, _ = lead(LogprobSignal(), about, biased)
    averaged, steps = lead(OrderAveragedSignal(LogprobSignal(), n_orders=3), about, biased)
    assert [len(step) for step in steps] == [3]
    np.testing.assert_allclose(np.exp(averaged.log_proba), [0.5, 0.3, 0.2])
    assert abs(np.exp(alone.log_proba[0]) - 0.5) > 0.2
    assert averaged.details["labels_by_order"] == ["aa", "bb", "cc"]
    assert averaged.details["order_flips"] == 1.0


def test_more_orders_than_classes_are_not_to_be_had():
    signal = OrderAveragedSignal(LogprobSignal(), n_orders=9)
    evidence, steps = lead(signal, question(), lambda r: listing(r, [0.2, 0.8]))
    assert [len(step) for step in steps] == [2]
    assert evidence.details["n_orders"] == 2
    assert evidence.details["order_flips"] == 0.0


def test_identity_holds_the_number_of_orders():
    signal = OrderAveragedSignal(LogprobSignal(), n_orders=3)
    assert signal.identity() == {"name": "order_averaged", "signal": "logprobs", "n_orders": 3}
