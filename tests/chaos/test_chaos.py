"""A server that fails in every way of `faults`, in short; `make chaos` is the long version."""

from __future__ import annotations

import random

import deaths
import numpy as np
import pytest
import tally as chaos
from faults_of_answers import faults_of
from faulty_server import DURATIONS, Plan, faulty
from healthy import PROFILES
from loopback import needs_responses
from tally import Tally, ask, play

pytest.importorskip("openai")

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
    faults = [fault for fault in faults_of(PROFILES[name]) if fault not in deaths.SLOW]
    with faulty(2 * len(faults), name, share=0) as server:
        texts = list(server.plans)
        for text, fault in zip(texts[1::2], faults, strict=True):
            server.plans[text] = Plan(fault, "always")
        proba = ask(server.url, server.signal, tmp_path / "c.sqlite", texts, timeout=60)
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


@pytest.mark.parametrize("die", [deaths.killed, deaths.interrupted])
def test_a_run_that_is_stopped_at_a_random_moment_loses_nothing(die, tmp_path):
    assert die(tmp_path / "c.sqlite", random.Random()) == set()


def test_processes_that_share_a_cache_ask_once(tmp_path):
    assert deaths.shared(tmp_path / "c.sqlite", random.Random()) == set()


def test_damaged_values_cost_their_own_rows_alone(tmp_path):
    assert deaths.damaged(tmp_path / "c.sqlite", random.Random()) == set()


def test_a_disk_that_is_full_in_the_middle(tmp_path, disks):
    disks.small(tmp_path, "1m")
    assert deaths.disk_full(tmp_path / "c.sqlite", random.Random()) == set()


def test_each_fault_lasts_in_each_way():
    with faulty(1000, "logprobs", share=0.9) as server:
        plans = set(server.plans.values()) - {Plan()}
    faults = faults_of(PROFILES["logprobs"])
    assert plans == {Plan(name, lasts) for name in faults for lasts in DURATIONS}
