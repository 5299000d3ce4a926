"""Every signal of the table, and other ways to set them up, keep what a signal promises."""

from __future__ import annotations

import pytest
from signal_contract import SignalContract

from skllm_calib.signals import (
    SIGNALS,
    FusedSignal,
    LogprobSignal,
    MCDropoutSignal,
    OrderAveragedSignal,
    PTrueSignal,
    ReasonedSignal,
    SelfCheckSignal,
    SelfConsistencySignal,
    SelfReportedSignal,
)

# Few passes where the number does not matter, for the sake of time.
DEFAULT = {"mc_dropout": MCDropoutSignal(n_passes=3)}
OTHERS = {
    "guesses": SelfReportedSignal(form="guesses", n_guesses=2),
    "answer": SelfReportedSignal(form="answer", max_tokens=50),
    "orders": SelfConsistencySignal(n_draws=3, variants="orders", stop_early=False),
    "instructions": SelfConsistencySignal(n_draws=3, variants=["Which? {options} {hint}"]),
    "three reasons": SelfCheckSignal(n_draws=3),
    "candidates": PTrueSignal(candidates="all"),
    "label": ReasonedSignal(read="label", max_tokens=20),
    "fused": FusedSignal([LogprobSignal(), PTrueSignal()], weights=[2.0, 1.0]),
    "order averaged": OrderAveragedSignal(SelfReportedSignal(), n_orders=3),
}


class TestEverySignal(SignalContract):
    @pytest.fixture(params=[*SIGNALS, *OTHERS])
    def signal(self, request):
        name = request.param
        return OTHERS[name] if name in OTHERS else DEFAULT.get(name, SIGNALS[name]())
