from __future__ import annotations

import _thread
import threading
import time

import pytest

from skllm_calib.backends import Message, Reply, Request
from skllm_calib.evidence.backends.pool import RunEndedError, answer_all
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


def test_no_more_is_begun_than_can_be_kept():
    begun = []

    def answer(request):
        begun.append(text_of(request))
        return Reply(text_of(request))

    answers = answer_all(answer, requests(40), 4)
    next(answers)
    time.sleep(0.05)  # what arrives meanwhile would be lost if the process were killed now
    assert len(begun) <= 8
    assert len(list(answers)) == 39
    assert len(begun) == 40


def test_other_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        list(answer_all(lambda request: 1 / 0, requests(2), 1))


def test_what_has_not_begun_is_dropped():
    seen, ended = [], threading.Event()

    def answer(request):
        seen.append(request)
        if len(seen) > 1:
            assert ended.wait(60)
        return Reply("")

    answers = answer_all(answer, requests(100), 1, end=ended.set)
    next(answers)
    answers.close()
    assert len(seen) <= 2


@pytest.mark.parametrize("thrown", [False, True])
def test_an_interrupt_yields_what_has_arrived(thrown):
    """Whether it comes while the answers are waited for, or while one of them is used."""
    four, ended = threading.Barrier(5), threading.Event()

    def answer(request):
        n = int(text_of(request))
        if n < 4:
            four.wait(60)
            return Reply(text_of(request))
        assert ended.wait(60)
        raise RunEndedError

    answers = answer_all(answer, requests(100), 6, end=ended.set)
    if thrown:
        threading.Thread(target=four.wait).start()
        arrived = [next(answers), answers.throw(KeyboardInterrupt())]
        with pytest.raises(KeyboardInterrupt):
            arrived.extend(answers)
    else:
        arrived = []
        threading.Thread(target=lambda: (four.wait(), _thread.interrupt_main())).start()
        with pytest.raises(KeyboardInterrupt):
            arrived.extend(answers)
    assert {i for i, _ in arrived} == {0, 1, 2, 3}


def test_a_reply_that_is_being_read_at_an_interrupt_is_kept():
    begun, ended = threading.Barrier(4), threading.Event()

    def answer(request):
        begun.wait(60)
        if ended.wait(60 if text_of(request) == "2" else 0.05):
            raise RunEndedError
        return Reply(text_of(request))

    threading.Thread(target=lambda: (begun.wait(), _thread.interrupt_main())).start()
    arrived = []
    with pytest.raises(KeyboardInterrupt):
        arrived.extend(answer_all(answer, requests(3), 3, end=ended.set))
    assert {i for i, _ in arrived} == {0, 1}


def test_threads_that_do_not_end_are_left_alone():
    for_ever = threading.Event()
    answers = answer_all(lambda request: for_ever.wait(60) or Reply(""), requests(3), 3)
    threading.Timer(0.2, _thread.interrupt_main).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(answers)
    assert time.monotonic() - began < 2
    workers = [t for t in threading.enumerate() if t.name == "skllm-calib worker"]
    assert workers
    assert all(thread.daemon for thread in workers)
    for_ever.set()


def test_what_is_under_way_is_answered_before_an_error_ends_the_run():
    both, told = threading.Barrier(2), threading.Event()

    def answer(request):
        both.wait(60)
        if text_of(request) == "1":
            told.set()
            raise ZeroDivisionError
        assert told.wait(60)
        time.sleep(0.1)
        return Reply("paid for")

    answers = answer_all(answer, requests(50), 2)
    assert next(answers) == (0, Reply("paid for"))
    with pytest.raises(ZeroDivisionError):
        next(answers)


def test_none_at_all():
    assert list(answer_all(lambda request: Reply(""), [], 0)) == []
