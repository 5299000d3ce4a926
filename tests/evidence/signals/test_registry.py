from __future__ import annotations

import subprocess
import sys

import pytest
from sklearn.base import clone

from skllm_calib import signals
from skllm_calib.evidence.signals.registry import SignalRegistry
from skllm_calib.persistence import TRUSTED_TYPES
from skllm_calib.signals import (
    SIGNALS,
    FusedSignal,
    LogprobSignal,
    PTrueSignal,
    resolve_signal,
)


@pytest.mark.parametrize("name", SIGNALS)
def test_every_name_has_a_signal_of_that_name(name):
    signal = resolve_signal(name)
    assert signal.name == signal.label == name
    assert signal.identity() == name
    assert clone(signal).get_params() == signal.get_params()
    assert repr(signal) == f"{type(signal).__name__}()"


@pytest.mark.parametrize("name", SIGNALS)
def test_its_class_is_public_and_may_be_loaded(name):
    cls = SIGNALS[name]
    assert cls.__name__ in signals.__all__
    assert getattr(signals, cls.__name__) is cls
    assert f"{cls.__module__}.{cls.__qualname__}" in TRUSTED_TYPES


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


class Mine(LogprobSignal):
    name = "mine"


def test_a_signal_is_added_as_a_class_or_by_its_address():
    registry = SignalRegistry({"mine": f"{__name__}:Mine"})
    assert (list(registry), len(registry)) == (["mine"], 1)
    assert registry.class_names == {"Mine": "mine"}
    assert registry["mine"] is Mine
    del registry["mine"]
    assert "mine" not in registry
    registry["mine"] = Mine
    assert registry["mine"] is Mine
    assert registry.class_names == {"Mine": "mine"}


def test_one_that_is_added_is_found_by_name(monkeypatch):
    monkeypatch.setitem(SIGNALS, "mine", Mine)
    assert isinstance(resolve_signal("mine"), Mine)
    with pytest.raises(ValueError, match=r"'mine', a Signal.* mean 'mine'\?"):
        resolve_signal("mines")


def test_what_cannot_be_added_is_named():
    with pytest.raises(TypeError, match="signal 'mine' is <class 'int'>: must be a subclass"):
        SIGNALS["mine"] = int
    with pytest.raises(ValueError, match=r"Mine\.name is 'mine': must be 'yours'"):
        SIGNALS["yours"] = Mine
    with pytest.raises(ValueError, match=r"Mine\.name is 'mine': must be 'yours'"):
        SignalRegistry({"yours": f"{__name__}:Mine"})["yours"]
    with pytest.raises(AttributeError, match="has no attribute 'NoSignal'"):
        _ = signals.NoSignal


def test_signals_are_imported_when_they_are_used():
    code = (
        "import sys, skllm_calib.signals as s; name = 'skllm_calib.evidence.signals.mc_dropout'; "
        "print(name in sys.modules, s.MCDropoutSignal.name, name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "mc_dropout", "True"]
