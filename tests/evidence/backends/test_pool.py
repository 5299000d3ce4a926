from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from skllm_calib.backends import Message, Reply, Request
from skllm_calib.evidence.backends.pool import answer_all
from skllm_calib.exceptions import BackendError


def requests(n):
    return [Request((Message("user", str(i)),)) for i in range(n)]


def text_of(request):
    return request.messages[0].content


def test_every_request_is_answered_and_failures_are_answers():
    def answer(request):
        if text_of(request) == "3":
            raise BackendError("no")
        return Reply(text_of(request))

    answers = dict(answer_all(answer, requests(20), 4))
    assert sorted(answers) == list(range(20))
    assert isinstance(answers.pop(3), BackendError)
    assert all(reply.text == str(i) for i, reply in answers.items())


def test_as_many_at_a_time_as_allowed():
    together = threading.Barrier(4)  # breaks unless four are under way at once
    lock, at_once, most = threading.Lock(), [0], [0]

    def answer(request):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        together.wait(60)
        with lock:
            at_once[0] -= 1
        return Reply("")

    assert len(list(answer_all(answer, requests(8), 4))) == 8
    assert most == [4]


def test_other_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        list(answer_all(lambda request: 1 / 0, requests(2), 1))


def test_what_has_not_begun_is_dropped(monkeypatch):
    seen, go_on = [], threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def shut(pool, **options):
        shutdown(pool, wait=False, cancel_futures=True)
        go_on.set()  # only now may the one under way end
        shutdown(pool, **options)

    def answer(request):
        seen.append(request)
        if len(seen) > 1:
            go_on.wait(60)
        return Reply("")

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut)
    answers = answer_all(answer, requests(100), 1)
    next(answers)
    answers.close()
    assert len(seen) <= 2


def test_none_at_all():
    assert list(answer_all(lambda request: Reply(""), [], 0)) == []
