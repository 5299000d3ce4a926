"""A process dies at any step of a batch: the next one goes on, and pays nothing twice."""

from __future__ import annotations

import os
import signal
import warnings
from functools import partial

import pytest
from batch_server import BatchServer
from test_batches import PROVIDERS, TEXTS, OpenAI, classifier, counts

from skllm_calib import ResponseCache
from skllm_calib.backends import clear_handles
from skllm_calib.evidence.backends.anthropic.batches import AnthropicBatches
from skllm_calib.evidence.backends.hosted.batches import BatchService
from skllm_calib.evidence.backends.mistral.batches import MistralBatches
from skllm_calib.evidence.backends.openai.batches import OpenAIBatches
from skllm_calib.evidence.batches import ledger
from skllm_calib.evidence.storage.sqlite import SQLiteStorage

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
STEPS = [(SQLiteStorage, "put"), (SQLiteStorage, "change_at"), (BatchService, "call")]
SUBMIT = [(kind, "submit") for kind in (OpenAIBatches, MistralBatches, AnthropicBatches)]
_DIED, _FAILED = 9, 1


@pytest.fixture(autouse=True)
def _hosted(monkeypatch):
    monkeypatch.setattr(ledger, "_SETTLING", 0.2)
    for name in ("OPENAI", "ANTHROPIC", "MISTRAL"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-test")
    yield
    clear_handles()


def child(act):
    """Have a child process act, and return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the server is a thread of ours
        pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(60)  # it stays behind in no case
    try:
        act()
    except BaseException:
        os._exit(_FAILED)
    os._exit(0)


def has_died(pid):
    """Wait for the end of a child process."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, _DIED)
    return code == _DIED


def dying_at(n_step, before, act, steps=STEPS):
    """Act, but die right before or after a step."""
    n_steps = 0

    def mortal(known):
        def step(*args, **options):
            nonlocal n_steps
            n_steps += 1
            if before and n_steps == n_step:
                os._exit(_DIED)
            done = known(*args, **options)
            if not before and n_steps == n_step:
                os._exit(_DIED)
            return done

        return step

    for owner, name in steps:
        setattr(owner, name, mortal(getattr(owner, name)))
    act()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_whoever_comes_next_goes_on_and_pays_nothing_twice(before, tmp_path):
    cache, provider = ResponseCache(tmp_path / "replies.sqlite"), OpenAI()
    n_step = n_deaths = 0
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        texts = list(TEXTS[:2])
        clf.submit_batch(texts)  # two rows are asked at once
        is_over = False
        while not is_over:
            # Another row, which is handed in and collected by processes that die one step later
            # each time, until one lives: so death comes at every step.
            n_step += 1
            texts.append(f"message {len(texts)}")
            for finish in (False, True):
                if finish:
                    server.finish()
                act = partial(dying_at, n_step, before, lambda: clf.submit_batch(texts))
                died = has_died(child(act))
                n_deaths += died
                is_over = finish and not died
            server.finish()
            while not clf.submit_batch(texts).is_done:
                server.finish()
            assert counts(clf.submit_batch(texts)) == (len(texts), 0, 0)
    assert n_deaths > 8
    assert len(server.billed) == len(texts)
    assert set(server.billed.values()) == {1}


@pytest.mark.parametrize("provider", [p for p in PROVIDERS if p.id != "responses"])
def test_a_batch_is_found_whose_name_nobody_has_noted(provider, tmp_path):
    die_with_a_batch(provider, ResponseCache(tmp_path / "replies.sqlite"))


@pytest.mark.cluster
def test_it_is_found_from_another_machine(postgres_server):
    die_with_a_batch(OpenAI(), ResponseCache(postgres_server.new_address()))


def die_with_a_batch(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS[:2])
        assert has_died(child(lambda: dying_at(1, False, lambda: clf.submit_batch(TEXTS), SUBMIT)))
        other = server.make("/v1/other", [{"custom_id": str(i), "params": {}} for i in range(4)])
        assert counts(clf.submit_batch(TEXTS)) == (2, 4, 0)
        other.status = "done"
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
        assert len(server.batches) == 2
    assert set(server.billed.values()) == {1}


def test_processes_that_come_at_the_same_moment_hand_in_together_what_one_would(tmp_path):
    cache = ResponseCache(tmp_path / "replies.sqlite")
    with BatchServer(OpenAI().respond) as server:
        clf = classifier(OpenAI(), server, cache)
        clf.submit_batch(TEXTS[:2])
        for _ in range(2):
            pids = [child(lambda: clf.submit_batch(TEXTS)) for _ in range(3)]
            assert [has_died(pid) for pid in pids] == [False] * 3
            server.finish()
        assert clf.submit_batch(TEXTS).is_done
        assert [len(batch.lines) for batch in server.batches.values()] == [4]
    assert set(server.billed.values()) == {1}
