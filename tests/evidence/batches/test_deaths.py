"""A process dies at any step of a batch: the next one goes on, and pays nothing twice."""

from __future__ import annotations

import os
import warnings

import pytest
from batch_server import BatchServer
from test_batches import TEXTS, Anthropic, Mistral, OpenAI, classifier, counts

from skllm_calib import ResponseCache
from skllm_calib.backends import clear_handles
from skllm_calib.evidence.backends.hosted.batches import BatchService
from skllm_calib.evidence.batches import ledger
from skllm_calib.evidence.storage.postgres import PostgresStorage
from skllm_calib.evidence.storage.sqlite import SQLiteStorage

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
STEPS = [
    *(
        (storage, name)
        for storage in (SQLiteStorage, PostgresStorage)
        for name in ("put", "change_at")
    ),
    (BatchService, "call"),
]
_DIED, _FAILED = 9, 1


@pytest.fixture(autouse=True)
def _hosted(monkeypatch):
    monkeypatch.setattr(ledger, "_SETTLING", 0.2)
    for name in ("OPENAI", "ANTHROPIC", "MISTRAL"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-test")
    yield
    clear_handles()


def dying_at(n_step, before, act):
    """Have a child process act, and die right before or after a step; return whether it died."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the server is a thread of ours
        pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, _DIED)
        return code == _DIED
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

    try:
        for owner, name in STEPS:
            setattr(owner, name, mortal(getattr(owner, name)))
        act()
    except BaseException:
        os._exit(_FAILED)
    os._exit(0)


@pytest.mark.parametrize(
    ("provider", "before"),
    [(OpenAI(), True), (OpenAI(), False), (Mistral(), False), (Anthropic(), False)],
    ids=["openai-before", "openai-after", "mistral-after", "anthropic-after"],
)
def test_whoever_comes_next_goes_on_and_pays_nothing_twice(provider, before, tmp_path):
    live_and_die(provider, before, ResponseCache(tmp_path / "replies.sqlite"))


@pytest.mark.cluster
def test_on_other_machines_too(postgres_server):
    live_and_die(OpenAI(), False, ResponseCache(postgres_server.new_address()))


def live_and_die(provider, before, cache):
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
                died = dying_at(n_step, before, lambda: clf.submit_batch(texts))
                n_deaths += died
                is_over = finish and not died
            server.finish()
            while not clf.submit_batch(texts).is_done:
                server.finish()
            assert counts(clf.submit_batch(texts)) == (len(texts), 0, 0)
    assert n_deaths > 8
    assert len(server.billed) == len(texts)
    assert set(server.billed.values()) == {1}
