from __future__ import annotations

import pytest

from skllm_calib import ResponseCache
from skllm_calib.backends import Message, TestingBackend
from skllm_calib.evidence import collect
from skllm_calib.exceptions import BackendError, UnreadableReply
from skllm_calib.signals import LogprobSignal
from skllm_calib.usage import Usage

ANSWERS = ("ham", "spam")


def ask(texts, backend, cache=None, **options):
    conversations = [(Message("user", text),) for text in texts]
    return collect(conversations, ANSWERS, LogprobSignal(), backend, cache, **options)


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


class Backwards(TestingBackend):
    """Answers in reverse, as a concurrent backend may."""

    def run(self, requests):
        yield from reversed(list(super().run(requests)))


class Forgetful(TestingBackend):
    def run(self, requests):
        yield from list(super().run(requests))[1:]


def test_records_are_in_the_order_of_the_rows():
    texts = [f"text {i}" for i in range(5)]
    rows, reverse = ask(texts, TestingBackend()), ask(texts, Backwards())
    for a, b in zip(rows, reverse, strict=True):
        assert a.evidence.log_proba.tolist() == b.evidence.log_proba.tolist()
    assert rows[0].model == "testing-test"


def test_the_same_row_is_asked_once(counted, cache):
    backend = counted()
    first, second, third = ask(["a", "a", "b"], backend, cache)
    assert sum(backend.asked.values()) == 2
    assert first.evidence.log_proba.tolist() == second.evidence.log_proba.tolist()
    assert first.usage.n_requests == third.usage.n_requests == 1
    assert second.usage == Usage(n_cache_hits=1)
    assert [r.usage for r in ask(["a", "b"], backend, cache)] == [Usage(n_cache_hits=1)] * 2
    assert sum(backend.asked.values()) == 2


def test_failures_are_records_and_not_kept(counted, cache):
    records = ask(["good", "bad", "fine"], counted(fail_on=("bad",)), cache)
    assert [r.failure is None for r in records] == [True, False, True]
    assert isinstance(records[1].failure, BackendError)
    assert records[1].evidence is None
    assert records[1].model == ""
    assert len(cache) == 2


def test_a_reply_that_never_comes():
    first, second = ask(["a", "b"], Forgetful())
    assert isinstance(first.failure, UnreadableReply)
    assert second.failure is None


def test_progress_counts_what_is_known(counted, cache):
    seen = []
    backend = counted()
    ask(["a"], backend, cache)
    ask(["a", "b", "c", "c"], backend, cache, progress=lambda *p: seen.append(p))
    assert seen[0] == (1, 3)
    assert seen[-1] == (3, 3)


def test_an_interrupt_keeps_what_was_answered(cache):
    class Interrupted(TestingBackend):
        def run(self, requests):
            for n, answer in enumerate(super().run(requests)):
                if n == 3:
                    raise KeyboardInterrupt
                yield answer

    with pytest.raises(KeyboardInterrupt):
        ask([f"t{i}" for i in range(9)], Interrupted(), cache)
    assert len(cache) == 3
