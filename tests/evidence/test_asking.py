from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.backends import Request, TestingBackend
from skllm_calib.evidence import asking
from skllm_calib.evidence.backends.pool import answer_all
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.sharing import shared_storage
from skllm_calib.evidence.usage import Usage
from skllm_calib.evidence.workers import Worker
from skllm_calib.exceptions import BackendError, SignalUnavailable, StorageError, UnreadableReply
from skllm_calib.signals import Evidence, LogprobSignal, Signal

ANSWERS = ("ham", "spam")


def ask(texts, backend, cache=None, signal=None):
    model = BoundModel(
        backend=backend,
        cache=cache,
        prompt=Prompt("{text}", answer="words").bind(ANSWERS),
        signal=signal or LogprobSignal(),
        classes=list(ANSWERS),
    )
    return asking.ask_rows(model, [{"text": text} for text in texts])


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


def test_a_backend_finds_what_the_workers_of_a_cache_share(cache):
    seen = []

    class Looking(TestingBackend):
        def run(self, requests):
            seen.append(shared_storage())
            yield from super().run(requests)

    ask(["a"], Looking(), cache)
    assert shared_storage() is None
    ask(["a"], Looking())
    assert seen == [cache.storage, None]


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


def test_progress_counts_rows(counted, cache, monkeypatch):
    seen = []
    backend = counted()
    ask(["a"], backend, cache)
    shown = contextlib.nullcontext(lambda *counts: seen.append(counts))
    monkeypatch.setattr(asking, "bar", lambda verbose, unit: shown)
    ask(["a", "b", "c", "c"], backend, cache)
    assert [counts[:2] for counts in seen] == [(1, 4), (2, 4), (4, 4)]
    assert seen[0][2] == ""  # from the cache
    assert seen[-1][2].endswith(" tokens")


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


def test_an_interrupt_while_a_reply_is_kept_loses_none(cache, monkeypatch):
    class Hosted(TestingBackend):
        def run(self, requests):
            yield from answer_all(lambda request: next(super(Hosted, self).run([request]))[1],
                                  requests, 2)  # fmt: skip

    interrupts = [KeyboardInterrupt()]
    keep = Worker.keep

    def interrupted(worker, key, value):
        time.sleep(0.3)  # meanwhile the others arrive
        if interrupts:
            raise interrupts.pop()
        keep(worker, key, value)

    monkeypatch.setattr(Worker, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(["a", "b", "c"], Hosted(), cache)
    assert len(cache) == 3


# -- workers that need the same question at the same moment ----------------------------------------


class Gate:
    """Holds the first question back until it is opened."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()


class Slow(TestingBackend):
    gate = Gate()

    def run(self, requests):
        if not Slow.gate.reached.is_set():
            Slow.gate.reached.set()
            assert Slow.gate.opened.wait(20)
            if self.fail_on == ("first",):
                raise BackendError("out of order")
        yield from super().run(requests)


@pytest.fixture
def llm(tmp_path, request, monkeypatch):
    monkeypatch.setattr(Slow, "gate", Gate())
    backend = Slow(name=request.node.nodeid)
    return LLMClassifier(backend, classes=["a", "b"], cache=ResponseCache(tmp_path / "c.sqlite"))


def both(llm, X1, X2):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(llm.predict_proba, X1)
        assert Slow.gate.reached.wait(20)
        second = pool.submit(llm.predict_proba, X2)
        threading.Timer(0.2, Slow.gate.opened.set).start()
        return first, second


def test_who_comes_second_waits_for_the_reply(llm):
    first, second = both(llm, ["x", "y"], ["y", "z"])
    assert first.result()[1].tolist() == second.result()[0].tolist()
    assert sorted(llm.model.asked.values()) == [1, 1, 1]


def test_what_the_first_does_not_get_the_second_asks(llm):
    llm.model.fail_on = ("first",)
    first, second = both(llm, ["x", "y"], ["y", "z"])
    with pytest.raises(BackendError):
        first.result()
    assert second.result().shape == (2, 2)
    assert sorted(llm.model.asked.values()) == [1, 1]


def test_claims_are_gone_in_the_end(llm):
    Slow.gate.reached.set()
    llm.predict(["x", "y"])
    with sqlite3.connect(llm.cache.path) as connection:
        for table in ("claims", "owners"):
            assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
    connection.close()


def test_a_damaged_reply_is_asked_again(counted, cache):
    backend = counted()
    whole = ask(["a", "b"], backend, cache)
    with sqlite3.connect(cache.path) as connection:
        connection.execute(
            "UPDATE replies SET value = '{}' WHERE key = (SELECT MIN(key) FROM replies)"
        )
    connection.close()
    with pytest.warns(UserWarning, match=r"1 replies in the response cache .* were damaged"):
        again = ask(["a", "b"], backend, cache)
    assert [r.usage.n_requests for r in again].count(1) == 1
    for one, other in zip(whole, again, strict=True):
        assert one.evidence.log_proba.tolist() == other.evidence.log_proba.tolist()
    assert [r.usage.n_requests for r in ask(["a", "b"], backend, cache)] == [0, 0]
    assert sum(backend.asked.values()) == 3


def test_a_cache_on_a_read_only_disk(counted, cache, disks):
    backend = counted()
    whole = ask(["a", "b"], backend, cache)
    disks.make_read_only(cache.path.parent)
    again = ask(["a", "b"], backend, ResponseCache(cache.path))
    assert [r.usage for r in again] == [Usage(n_cache_hits=1)] * 2
    for one, other in zip(whole, again, strict=True):
        assert one.evidence.log_proba.tolist() == other.evidence.log_proba.tolist()
    with pytest.raises(StorageError, match=r"(?i)replies.sqlite' cannot .*read-only"):
        ask(["a", "c"], backend, ResponseCache(cache.path))
    assert sum(backend.asked.values()) == 2  # nothing was paid for that could not be kept


def test_a_reply_is_safe_before_it_counts(counted, cache):
    seen = []

    class Watched(TestingBackend):
        def run(self, requests):
            for n, answer in enumerate(super().run(requests)):
                yield answer
                keys = [request.key(self.identity()) for request in requests]
                seen.append((n + 1, len(ResponseCache(cache.path).get_many(keys))))

    ask([f"t{i}" for i in range(5)], Watched(), cache)
    assert seen == [(n, n) for n in range(1, 6)]


# -- dialogues of several steps --------------------------------------------------------------------


class Twice(Signal):
    """Asks the same thing again, then something new; one row stops after the first step."""

    name = "twice"

    def ask(self, question):
        first = Request(question.messages(), answers=question.answers)
        (a,) = yield [first]
        if "short" not in question.fields["text"]:
            (b, _) = yield [first, Request(question.messages("Are you sure?"), max_tokens=3)]
            assert b is a
            yield []  # a step that needs nothing
        return Evidence(np.log([0.5, 0.5]))


def test_rows_take_their_steps_side_by_side_and_nothing_is_asked_twice(cache):
    batches = []

    class Noted(TestingBackend):
        def run(self, requests):
            batches.append(len(requests))
            yield from super().run(requests)

    records = ask(["a", "b", "short"], Noted(), cache, signal=Twice())
    assert batches == [3, 2]
    assert [len(r.replies) for r in records] == [3, 3, 1]
    assert [r.usage.n_requests for r in records] == [2, 2, 1]
    assert [r.usage.n_cache_hits for r in records] == [1, 1, 0]
    assert all(r.failure is None for r in records)
    again = ask(["a", "b", "short"], Noted(), cache, signal=Twice())
    assert batches == [3, 2]
    assert [r.usage.n_requests for r in again] == [0, 0, 0]


def test_a_failure_in_a_later_step_is_that_row_s_own(cache):
    class Picky(TestingBackend):
        def run(self, requests):
            for i, request in enumerate(requests):
                if "sure" in request.messages[-1].content and "bad" in request.messages[0].content:
                    yield i, BackendError("not that one")
                else:
                    yield i, next(iter(super().run([request])))[1]

    class Strict(Twice):
        def ask(self, question):
            evidence = yield from super().ask(question)
            (last,) = yield [Request(question.messages("Are you sure?"), max_tokens=3)]
            if isinstance(last, BackendError):
                raise last
            return evidence

    good, bad = ask(["good", "bad"], Picky(), cache, signal=Strict())
    assert good.failure is None
    assert str(bad.failure) == "not that one"
    assert len(bad.replies) == 2  # what was answered before is shown


class Mixed(Signal):
    """Asks for log-probabilities and for text at once, and does with the one that is there."""

    name = "mixed"

    def ask(self, question):
        labels, text = yield [
            Request(question.messages(), answers=question.answers),
            Request(question.messages(), max_tokens=3),
        ]
        if isinstance(text, BackendError):
            raise text
        known = not isinstance(labels, BackendError)
        return Evidence(np.log([0.5, 0.5]), details={"known": known})


class Hiding(TestingBackend):
    """Ends a run at the first request for log-probabilities, as hosted models do."""

    def run(self, requests):
        for i, request in enumerate(requests):
            if request.answers:
                raise SignalUnavailable("hidden")
            yield i, next(iter(super().run([request])))[1]


def test_what_ends_a_run_of_one_kind_leaves_the_other_kinds_alone(cache):
    records = ask(["a", "b"], Hiding(), cache, signal=Mixed())
    assert [r.failure for r in records] == [None, None]
    assert [r.evidence.details["known"] for r in records] == [False, False]
    assert len(cache) == 2


def test_what_makes_every_row_fail_is_raised(cache):
    with pytest.raises(SignalUnavailable, match=r"^hidden$"):
        ask(["a", "b"], Hiding(), cache)
