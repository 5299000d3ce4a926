"""Rows are a stream: no row waits for another, and none is remembered when it is done."""

from __future__ import annotations

import threading
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest

from skllm_calib import ResponseCache
from skllm_calib.backends import Request, TestingBackend
from skllm_calib.evidence import asking
from skllm_calib.evidence.asking import ask_each, ask_in_batches, ask_rows
from skllm_calib.evidence.backends.base import Answering
from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.exceptions import BackendError, SignalUnavailable
from skllm_calib.signals import Evidence, LogprobSignal, Signal


class Pooled(TestingBackend):
    """Answers one request at a time, in threads, as hosted backends do."""

    answer = staticmethod(lambda request: None)  # called with each request before it is answered
    begun: ClassVar[list[str]] = []

    def answering(self, first):
        Pooled.begun.append("labels" if first.answers else "text")

        def answer(request):
            type(self).answer(request)
            return next(TestingBackend.run(self, [request]))[1]

        return Answering(answer, 4, lambda: None)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(Pooled, "begun", [])


def pooled(monkeypatch, answer):
    monkeypatch.setattr(Pooled, "answer", staticmethod(answer))
    return Pooled()


def bound(backend, cache=None, signal=None):
    return BoundModel(
        backend=backend,
        cache=cache,
        prompt=Prompt("{text}", answer="words").bind(("ham", "spam")),
        signal=signal or LogprobSignal(),
        classes=["ham", "spam"],
    )


def rows(texts):
    return [{"text": text} for text in texts]


def text_of(request):
    return request.messages[0].content


class Steps(Signal):
    """Asks for a text, then for labels."""

    name = "steps"

    def ask(self, question):
        (text,) = yield [Request(question.messages("Think."), max_tokens=3)]
        (labels,) = yield [Request(question.messages(), answers=question.answers)]
        failures = [a for a in (text, labels) if isinstance(a, BackendError)]
        if len(failures) == 2:
            raise failures[0]
        return Evidence(np.log([0.5, 0.5]), details={"failed": [str(f) for f in failures]})


def test_a_row_goes_on_when_its_own_answers_have_come(monkeypatch):
    """The first step of one row is not answered before another row is at its last step."""
    at_the_end = threading.Event()

    def answer(request):
        if "slow" in text_of(request) and not request.answers:
            assert at_the_end.wait(20)
        if "fast" in text_of(request) and request.answers:
            at_the_end.set()

    backend = pooled(monkeypatch, answer)
    slow, fast = ask_rows(bound(backend, signal=Steps()), rows(["slow", "fast"]))
    assert slow.failure is fast.failure is None
    assert Pooled.begun == ["text", "labels"]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("kind", [TestingBackend, Pooled])
def test_as_many_rows_are_open_as_are_needed(monkeypatch, kind, cached, tmp_path):
    monkeypatch.setattr(asking, "_N_OPEN", 64)
    n, n_read, most = 1_000, 0, 0
    cache = ResponseCache(tmp_path / "c.sqlite") if cached else None

    def read():
        nonlocal n_read
        for i in range(n):
            n_read += 1
            yield {"text": f"text {i % 700}"}

    found = Counter()
    records = ask_each(bound(kind(name=tmp_path.name), cache), read())
    for n_done, (i, record) in enumerate(records, start=1):
        most = max(most, n_read - n_done)
        found[i] += 1
        assert record.failure is None
    assert found == dict.fromkeys(range(n), 1)
    assert most <= 64
    assert sum(kind(name=tmp_path.name).asked.values()) == 700  # also those met again much later


def test_no_more_rows_are_read_ahead_than_allowed():
    n_read = 0

    def read():
        nonlocal n_read
        for i in range(100):
            n_read += 1
            yield {"text": f"text {i}"}

    for n_ahead in (1, 10):
        n_read, seen = 0, 0
        for batch in ask_in_batches(bound(TestingBackend()), read(), n_ahead=n_ahead):
            seen += len(batch)
            assert n_read <= batch[0][0] + n_ahead
        assert seen == 100


def test_a_class_that_overrides_run_alone_gets_all_requests(monkeypatch):
    seen = []

    class Watched(Pooled):
        def run(self, requests):
            seen.append(len(requests))
            return super().run(requests)

    ask_rows(bound(Watched()), rows("abc"))
    assert seen == [3]
    assert Pooled.begun == []


def test_what_ends_a_kind_of_requests_leaves_the_other_kinds_alone(monkeypatch):
    def answer(request):
        if request.answers:
            raise StopRunError(SignalUnavailable("hidden"))

    backend = pooled(monkeypatch, answer)
    records = ask_rows(bound(backend, signal=Steps()), rows("abc"))
    assert [r.evidence.details["failed"] for r in records] == [["hidden"]] * 3
    with pytest.raises(SignalUnavailable, match=r"^hidden$"):
        ask_rows(bound(backend), rows("abc"))


def test_a_failure_of_all_rows_is_raised_before_all_are_read(monkeypatch):
    monkeypatch.setattr(asking, "_N_HELD", 20)

    def answer(request):
        raise StopRunError(SignalUnavailable("hidden"))

    def read():
        for i in range(10**6):
            yield {"text": str(i)}

    with pytest.raises(SignalUnavailable, match=r"^hidden$"):
        list(ask_each(bound(pooled(monkeypatch, answer)), read()))


@pytest.mark.parametrize("how", ["closed", "a broken source"])
def test_what_is_under_way_is_kept_when_nobody_wants_more(monkeypatch, tmp_path, how):
    begun = threading.Barrier(4)
    first = threading.Event()

    def answer(request):
        begun.wait(20)
        assert text_of(request) == "0" or first.wait(20)

    def read():
        yield from rows("0123")
        if how != "closed":
            raise ZeroDivisionError

    monkeypatch.setattr(asking, "_GROUP", 4)
    cache = ResponseCache(tmp_path / "c.sqlite")
    records = ask_each(bound(pooled(monkeypatch, answer), cache), read())
    threading.Timer(0.1, first.set).start()
    if how == "closed":
        next(records)
        records.close()
    else:
        with pytest.raises(ZeroDivisionError):
            list(records)
    assert len(cache) == 4


def test_an_error_of_a_thread_is_raised_after_the_others_have_answered(monkeypatch, tmp_path):
    both = threading.Barrier(2)
    cache = ResponseCache(tmp_path / "c.sqlite")

    def answer(request):
        both.wait(20)
        if text_of(request) == "1":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_rows(bound(pooled(monkeypatch, answer), cache), rows("01"))
    assert len(cache) == 1
