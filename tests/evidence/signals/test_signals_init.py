from __future__ import annotations

import pytest
from sklearn.base import clone

from skllm_calib.signals import SIGNALS, FusedSignal, LogprobSignal, PTrueSignal, resolve_signal


@pytest.mark.parametrize("name", SIGNALS)
def test_every_name_has_a_signal_of_that_name(name):
    signal = resolve_signal(name)
    assert signal.name == signal.label == name
    assert signal.identity() == name
    assert clone(signal).get_params() == signal.get_params()
    assert repr(signal) == f"{type(signal).__name__}()"


def test_objects_are_taken_as_they_are_and_lists_are_pooled():
    signal = PTrueSignal(candidates="all")
    assert resolve_signal(signal) is signal
    fused = resolve_signal(["logprobs", signal])
    assert isinstance(fused, FusedSignal)
    assert isinstance(fused.signals[0], LogprobSignal)
    assert fused.signals[1] is signal


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("logprob", "Did you mean 'logprobs'?"),
        ("nonsense", "must be one of 'auto', 'logprobs'"),
        (None, "signal=None"),
        (LogprobSignal, "a Signal"),
        (["auto", "logprobs"], "'auto' cannot be one of several"),
        (["logprobs", 3], "signal=3"),
    ],
)
def test_what_is_no_signal_is_named(bad, match):
    with pytest.raises(ValueError, match=match):
        resolve_signal(bad)
