"""A server that fails in every way of `faults`, in short; `make chaos` is the long version."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tally as chaos
from faults_of_answers import faults_of
from faulty_server import DURATIONS, Plan, faulty
from healthy import PROFILES
from loopback import needs_responses
from tally import Tally, ask, play

pytest.importorskip("openai")

SLOW = {"body_drips", "stalls", "stalls_in_the_middle"}
MOMENT = 0.5  # seconds after which what was sent has arrived
every_profile = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_responses if profile.api == "responses" else ())
        for name, profile in PROFILES.items()
    ],
)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-chaos")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.parametrize("name", ["logprobs", "self_reported"])
def test_a_server_that_fails_in_all_ways_breaks_no_promise(name, tmp_path):
    tally = Tally()
    with faulty(100, name, seed=14) as server:
        play(server, tmp_path / "c.sqlite", tally)
    assert tally.broken == {}, tally
    assert (tally.rows, tally.struck) == (100, 30)
    assert tally.healed > 5
    n_that_stay = sum(plan.lasts == "always" for plan in server.plans.values())
    assert tally.failed_for_good <= n_that_stay < 20


@every_profile
def test_every_kind_of_fault_costs_its_own_row_only(name, tmp_path):
    """Each fault once, for good, but for those that take their time."""
    faults = [fault for fault in faults_of(PROFILES[name]) if fault not in SLOW]
    with faulty(2 * len(faults), name, share=0) as server:
        texts = list(server.plans)
        for text, fault in zip(texts[1::2], faults, strict=True):
            server.plans[text] = Plan(fault, "always")
        proba = ask(server.url, server.signal, tmp_path / "c.sqlite", texts)
        truth = np.array([server.healthy(text).row for text in texts])
        readable = [server.shows_truth(text) for text in texts]
    np.testing.assert_allclose(proba[::2], truth[::2], atol=chaos.CLOSE)
    for fault, shows, row, right in zip(
        faults, readable[1::2], proba[1::2], truth[1::2], strict=True
    ):
        if shows and not np.isnan(row).any():
            np.testing.assert_allclose(row, right, atol=chaos.CLOSE, err_msg=fault)
        else:
            assert np.isnan(row).all(), fault


def test_the_tally_sees_what_it_counts(tmp_path):
    """A client that guesses, forgets and asks again is found out."""

    def guesses(url, signal_name, cache, texts):
        ask(url, signal_name, None, texts)
        proba = np.full((len(texts), 3), np.nan)
        proba[: len(texts) // 2] = [0.98, 0.01, 0.01]
        return proba

    tally = Tally()
    with faulty(40, "logprobs", share=0.25) as server:
        for text, plan in list(server.plans.items()):
            if plan.fault:
                server.plans[text] = Plan("status_400", "always")
        play(server, tmp_path / "c.sqlite", tally, guesses)
    assert set(tally.broken) == {"not_healed", "wrong", "invented", "lost", "paid_twice"}
    assert tally.paid_twice == 30 + 4  # four rows with a fault were given a number
    assert tally.wrong + tally.invented == 20  # half of the rows, in both runs


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_at_a_random_moment_loses_nothing(death, tmp_path):
    n_rows, cache = 300, tmp_path / "c.sqlite"
    with faulty(n_rows, "logprobs", seed=3) as server:
        server.delay = 0.1
        plans = server.plans.items()
        server.plans.update({text: Plan() for text, plan in plans if plan.fault in SLOW})
        child = subprocess.Popen(
            [
                *(sys.executable, chaos.__file__, "--ask", server.url),
                *("--rows", str(n_rows), "--cache", str(cache)),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            stop_at = random.randint(100, 180)
            until = time.monotonic() + 60
            while server.n_answered < stop_at and time.monotonic() < until:
                time.sleep(0.01)
            assert child.poll() is None
            stopped = time.monotonic()
            child.send_signal(death)
            child.wait(20)
        finally:
            child.kill()
            child.wait()
        assert server.n_answered < n_rows - 60, "stopped too late to tell anything"
        arrived = {
            text: history.n_requests
            for text, history in server.histories.items()
            if history.answered and history.answered < stopped - MOMENT
        }
        assert arrived
        server.delay = 0.0
        server.is_first_run = False
        proba = ask(server.url, server.signal, cache, list(server.plans))
        again = [text for text, n in arrived.items() if server.histories[text].n_requests > n]
        assert again == []
        assert chaos.verdicts(server, proba) == set()


def test_each_fault_lasts_in_each_way():
    with faulty(1000, "logprobs", share=0.9) as server:
        plans = set(server.plans.values()) - {Plan()}
    faults = faults_of(PROFILES["logprobs"])
    assert plans == {Plan(name, lasts) for name in faults for lasts in DURATIONS}
