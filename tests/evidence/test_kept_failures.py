"""Failures that the server charged for are paid once."""

from __future__ import annotations

import pickle
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.backends import TestingBackend
from skllm_calib.evidence.asking import ask_rows
from skllm_calib.evidence.backends.base import Reply
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.kept_failures import read_failure, write_failure
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.exceptions import BackendUnavailable, Refused, UnreadableReply
from skllm_calib.signals import LogprobSignal

asked: Counter[str] = Counter()


class Moody(TestingBackend):
    """Answers, refuses for money, writes nonsense for money, or is away, by the text."""

    def run(self, requests):
        for i, request in enumerate(requests):
            text = request.messages[-1].content
            kind = next((k for k in ("refuse", "nonsense", "away", "free") if k in text), "good")
            asked[kind] += 1
            if kind == "good":
                yield i, next(super().run([request]))[1]
                continue
            kinds = {"refuse": Refused, "away": BackendUnavailable}
            failure = kinds.get(kind, UnreadableReply)(f"{kind}: as it is")
            failure.is_billed = kind in ("refuse", "nonsense")
            yield i, failure


@pytest.fixture(autouse=True)
def none_asked():
    asked.clear()


TEXTS = ["good", "refuse", "nonsense", "away", "free"]


def predict(cache):
    llm = LLMClassifier(Moody(), classes=["ham", "spam"], cache=cache, on_error="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return llm.predict_proba(TEXTS)


def test_kept_failures_are_paid_once_and_can_be_asked_again(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite", keep_failures=True)
    first = predict(cache)
    assert np.isnan(first[1:]).all()
    np.testing.assert_array_equal(predict(pickle.loads(pickle.dumps(cache))), first)
    assert asked == {"good": 1, "refuse": 1, "nonsense": 1, "away": 2, "free": 2}
    assert len(cache) == cache.stats().n_replies == 1
    predict(ResponseCache(tmp_path / "c.sqlite"))  # keeps none, and reads none
    assert (asked["refuse"], asked["nonsense"]) == (2, 2)
    assert cache.clear_failures() == 2
    predict(cache)
    assert (asked["good"], asked["refuse"], asked["nonsense"]) == (1, 3, 3)
    assert cache.clear() == 1
    assert cache.clear_failures() == 0


def test_by_default_no_failure_is_kept(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    predict(cache)
    predict(cache)
    assert asked == {"good": 1, "refuse": 2, "nonsense": 2, "away": 2, "free": 2}
    assert "keep_failures" not in repr(cache)


@pytest.mark.parametrize("cached", [True, False])
def test_in_one_call_a_failure_is_paid_once_without_being_kept(tmp_path, cached):
    cache = ResponseCache(tmp_path / "c.sqlite") if cached else None
    model = BoundModel(
        backend=Moody(),
        cache=cache,
        prompt=Prompt("{text}", answer="words").bind(["ham", "spam"]),
        signal=LogprobSignal(),
        classes=["ham", "spam"],
    )
    for _ in range(3):
        ask_rows(model, [{"text": text} for text in TEXTS])
    assert asked["refuse"] == asked["nonsense"] == 1
    assert asked["away"] == asked["free"] == 3


class Slow(Moody):
    """Takes its time, so that another worker waits for it."""

    started = threading.Event()

    def run(self, requests):
        self.started.set()
        time.sleep(0.3)
        return super().run(requests)


@pytest.mark.parametrize("keep", [True, False])
def test_two_workers_pay_once_for_a_failure(tmp_path, keep):
    Slow.started.clear()
    caches = [ResponseCache(tmp_path / "c.sqlite", keep_failures=keep) for _ in range(2)]
    models = [
        BoundModel(
            backend=Slow(),
            cache=cache,
            prompt=Prompt("{text}", answer="words").bind(["ham", "spam"]),
            signal=LogprobSignal(),
            classes=["ham", "spam"],
        )
        for cache in caches
    ]
    rows = [{"text": text} for text in TEXTS]
    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask_rows, models[0], rows)
        assert Slow.started.wait(10)
        second = threads.submit(ask_rows, models[1], rows)
        both = [[type(r.failure) for r in future.result()] for future in (first, second)]
    assert both[0] == both[1]
    assert asked == {"good": 1, "refuse": 1, "nonsense": 1, "away": 2, "free": 2}


def test_a_reply_that_came_later_counts(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite", keep_failures=True)
    cache.set_many({"failure-a": write_failure(Refused("no")), "a": "{}", "failure-b": "x"})
    assert cache.get_failures(["a", "b", "c"]) == {"b": "x"}
    assert clone(cache) is cache


@pytest.mark.parametrize("kind", [Refused, UnreadableReply])
def test_a_kept_failure_says_how_to_ask_again(kind):
    failure = read_failure(write_failure(kind("the model declined: no")))
    assert type(failure) is kind
    assert failure.is_billed
    assert "the model declined: no" in str(failure)
    assert "clear_failures" in str(failure)


@pytest.mark.parametrize("damaged", ["", "x", "[]", '["Exit", "x"]', "{}", "3", '["Refused"]'])
def test_a_damaged_failure_is_none(damaged):
    assert read_failure(damaged) is None


class Recovers(TestingBackend):
    """Writes nonsense about each text so many times, then answers."""

    n_bad = 1

    def run(self, requests):
        for i, request in enumerate(requests):
            text = request.messages[-1].content
            asked[text] += 1
            bad = "bad" in text and asked[text] <= self.n_bad
            yield i, Reply("As I see it, no.") if bad else next(super().run([request]))[1]


def ask_recovering(cache, texts=("good", "bad"), **settings):
    backend = Recovers({"good": {"A": 1.0}, "bad": {"A": 1.0}})
    llm = LLMClassifier(
        backend, classes=["ham", "spam"], signal="self_reported", cache=cache, **settings
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.isnan(llm.set_params(on_error="nan").predict_proba(list(texts))).any(axis=1)


@pytest.mark.parametrize("settings", [{}, {"order_averaging": 2}])
def test_a_reply_without_an_answer_is_asked_again_in_the_next_run(tmp_path, settings):
    cache = ResponseCache(tmp_path / "c.sqlite")
    assert ask_recovering(cache, **settings).tolist() == [False, True]
    n_asked = sum(asked.values())
    assert ask_recovering(cache, **settings).tolist() == [False, False]
    assert sum(asked.values()) == n_asked * 3 / 2  # that row alone
    assert ask_recovering(cache, **settings).tolist() == [False, False]
    assert sum(asked.values()) == n_asked * 3 / 2


def test_it_is_asked_again_once_per_run_and_never_where_failures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Recovers, "n_bad", 99)
    cache = ResponseCache(tmp_path / "c.sqlite")
    for n in range(1, 4):
        assert ask_recovering(cache, ["bad", "bad"]).all()
        assert sum(asked.values()) == n
    keeping = ResponseCache(tmp_path / "c.sqlite", keep_failures=True)
    assert ask_recovering(keeping, ["bad"]).all()
    assert sum(asked.values()) == 3
    keeping.clear_failures()


def test_what_another_worker_has_asked_again_stays(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    cache.set_many({"a": "{}"})
    moment = time.time()
    assert cache.remove_earlier(["a"], moment - 60)
    assert len(cache) == 1
    assert cache.remove_earlier(["a", "b"], moment + 60)
    assert len(cache) == 0


def test_a_read_only_disk_still_serves_what_was_answered(tmp_path, disks):
    cache = ResponseCache(tmp_path / "c.sqlite")
    ask_recovering(cache)
    disks.make_read_only(tmp_path)
    assert ask_recovering(cache).tolist() == [False, True]
    assert sum(asked.values()) == 2
