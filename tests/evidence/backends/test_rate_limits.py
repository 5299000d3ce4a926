"""Servers that enforce limits, and what the threads and processes of a run make of them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque

import pytest
from loopback import completion, position, refusal, servers

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.backends import (
    AnthropicBackend,
    Message,
    MistralBackend,
    OpenAIBackend,
    Request,
    clear_handles,
)
from skllm_calib.evidence.limits import limiter as limiter_module
from skllm_calib.evidence.limits import window
from skllm_calib.evidence.limits.limiter import Limiter, Sender
from skllm_calib.exceptions import InvalidInput, RateLimited

BACKENDS = [OpenAIBackend, AnthropicBackend, MistralBackend]
LIMITS = ["requests_per_minute", "tokens_per_minute"]


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, "sk-test-0123456789abcdef")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


@pytest.fixture
def short_minutes(monkeypatch):
    """A minute of the book takes a little more than a second."""
    monkeypatch.setattr(window, "_STEP", 0.2)
    monkeypatch.setattr(window, "_N_STEPS", 9)


class Limited:
    """Answers at most `limit` requests in any second."""

    def __init__(self, limit, *, tells_when=True, has_headers=False, seconds=0.0):
        self.limit, self.tells_when, self.has_headers = limit, tells_when, has_headers
        self.seconds = seconds
        self.arrivals, self.n_refused, self._answered = [], 0, deque()
        self.rows = set()
        self._lock = threading.Lock()

    def __call__(self, body):
        now = time.monotonic()
        with self._lock:
            self.arrivals.append(now)
            self.rows.add(body["messages"][-1]["content"])
            while self._answered and self._answered[0] <= now - 1.0:
                self._answered.popleft()
            if len(self._answered) >= self.limit:
                self.n_refused += 1
                wait = self._answered[0] + 1.0 - now
                headers = {"Retry-After": f"{wait:.3f}"} if self.tells_when else {}
                return refusal(429, "slow down", headers=headers)
            self._answered.append(now)
            remaining = self.limit - len(self._answered)
        time.sleep(self.seconds)
        answer = completion("yes", usage={"prompt_tokens": 5, "completion_tokens": 5})
        if self.has_headers:
            answer.headers = {
                "x-ratelimit-limit-requests": str(self.limit),
                "x-ratelimit-remaining-requests": str(remaining),
            }
        return answer

    def most(self):
        arrivals = sorted(self.arrivals)
        return max(sum(t - 1.0 < s <= t for s in arrivals) for t in arrivals)


def texts(n, first=0):
    return [Request((Message("user", f"{first + i}"),), max_tokens=50) for i in range(n)]


def answers(model, n):
    return [answer for _, answer in model.run(texts(n))]


def test_a_given_limit_holds(serve, short_minutes):
    limited = Limited(20)
    url = serve(limited).base_url
    model = OpenAIBackend("m", base_url=url, requests_per_minute=20, max_concurrency=16)
    assert {a.text for a in answers(model, 30)} == {"yes"}
    assert limited.n_refused == 0
    assert limited.most() <= 20


@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_a_limit_is_learnt_from_headers(serve, short_minutes, transport):
    limited = Limited(20, has_headers=True)
    url = serve(limited).base_url
    model = OpenAIBackend("m", base_url=url, max_concurrency=8, transport=transport)
    assert {a.text for a in answers(model, 30)} == {"yes"}
    assert limited.n_refused == 0


@pytest.mark.parametrize("tells_when", [True, False])
def test_a_storm_of_refusals_costs_no_row(serve, tells_when):
    limited = Limited(60, tells_when=tells_when, seconds=0.02)
    url = serve(limited).base_url
    model = OpenAIBackend("m", base_url=url, max_concurrency=32, max_retries=5)
    assert {a.text for a in answers(model, 120)} == {"yes"}
    assert limited.n_refused < 80


def test_rows_in_a_storm_are_those_of_a_calm(serve):
    def calm(body):
        digest = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()
        p = (1 + digest[0]) / 258
        return completion("A", [position("A", {"A": p, "B": 1 - p})])

    limited = Limited(40, tells_when=False)

    def stormy(body):
        answer = limited(body)
        return calm(body) if answer.status == 200 else answer

    rows = [f"text {i}" for i in range(70)]
    found = []
    for respond in (calm, stormy):
        model = OpenAIBackend("m", base_url=serve(respond).base_url, max_concurrency=64)
        llm = LLMClassifier(model, classes=["ham", "spam"], signal="logprobs")
        found.append(llm.predict_proba(rows))
    assert limited.n_refused > 0
    assert found[0].tolist() == found[1].tolist()
    assert len(set(found[0][:, 0])) > 30


def test_threads_and_estimators_of_a_process_share_a_limit(serve, short_minutes):
    limited = Limited(20)
    url = serve(limited).base_url
    made = [OpenAIBackend("m", base_url=url, requests_per_minute=20) for _ in range(3)]
    threads = [threading.Thread(target=answers, args=(model, 12)) for model in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limited.n_refused == 0
    assert limited.most() <= 20
    assert len(limited.arrivals) == 36


def test_waits_show_in_the_progress(serve, short_minutes, monkeypatch):
    shown = []
    monkeypatch.setattr(limiter_module, "note", shown.append)
    monkeypatch.setattr(limiter_module, "_SOME_SECONDS", 0.3)
    monkeypatch.setattr(limiter_module, "_GLANCE", 0.1)
    refusing = iter([refusal(429, "slow down", headers={"Retry-After": "2"})])
    url = serve(lambda body: next(refusing, completion("yes"))).base_url
    model = OpenAIBackend("m", base_url=url, requests_per_minute=5)
    assert {a.text for a in answers(model, 8)} == {"yes"}
    assert {"waiting 1 s after a refusal", "waiting for the limit of a minute"} <= set(shown)
    assert shown[-1] == ""


def test_tokens_are_limited(serve, short_minutes):
    limited = Limited(1000)
    model = OpenAIBackend("m", base_url=serve(limited).base_url, tokens_per_minute=200)
    assert {a.text for a in answers(model, 12)} == {"yes"}
    assert 1 <= limited.most() <= 20  # of 10 tokens, guessed as more at first


WORKER = """
import sys
from skllm_calib import ResponseCache
from skllm_calib.backends import Message, OpenAIBackend, Request
from skllm_calib.evidence.limits import window
from skllm_calib.evidence.sharing import sharing
window._STEP, window._N_STEPS = 0.2, 9
url, cache, first, n = *sys.argv[1:3], *map(int, sys.argv[3:])
texts = [Request((Message("user", str(first + i)),), max_tokens=50) for i in range(n)]
model = OpenAIBackend("m", base_url=url, requests_per_minute=40)
with sharing(ResponseCache(cache).storage):
    assert {answer.text for _, answer in model.run(texts)} == {"yes"}
"""


def worker(url, cache, first, n):
    args = [sys.executable, "-c", WORKER, url, str(cache.path), str(first), str(n)]
    return subprocess.Popen(args)


def several_processes(serve, cache):
    limited = Limited(40)
    url = serve(limited).base_url
    victim = worker(url, cache, 1000, 10_000)
    other = worker(url, cache, 0, 80)
    while not {4, 1} <= {len(row) for row in limited.rows}:  # until both send
        time.sleep(0.02)
        assert victim.poll() is other.poll() is None
    victim.kill()
    victim.wait()
    assert other.wait(60) == 0
    assert limited.n_refused == 0
    assert limited.most() <= 40


def test_processes_on_one_cache_share_a_limit(serve, tmp_path):
    several_processes(serve, ResponseCache(tmp_path / "replies.sqlite"))


@pytest.mark.cluster
def test_workers_on_one_database_share_a_limit(serve, postgres_server):
    several_processes(serve, ResponseCache(postgres_server.new_address()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0.5, True, float("nan"), float("inf"), "5"])
def test_limits_that_are_none(backend, name, value):
    with pytest.raises(InvalidInput, match=f"{name}=.*must be 1 or more") as told:
        backend("m", base_url="http://127.0.0.1:9", **{name: value}).run(texts(1))
    assert told.value.parameter == name


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits_change_no_answer(backend):
    limited = backend("m", requests_per_minute=5, tokens_per_minute=500)
    assert limited.identity() == backend("m").identity()


def test_a_server_that_wants_to_be_left_alone_for_long_is_by_all_rows(serve):
    server = serve(lambda body: refusal(429, "come tomorrow", headers={"Retry-After": "86400"}))
    failures = answers(OpenAIBackend("m", base_url=server.base_url), 100)
    assert len(failures) == 100
    assert all(type(failure) is RateLimited for failure in failures)
    assert len(server.seen) <= 12  # three rows, and what was under way


def test_one_row_that_is_refused_for_long_costs_no_other(serve):
    def reply(body):
        if body["messages"][0]["content"] == "1":
            return refusal(429, "come tomorrow", headers={"Retry-After": "86400"})
        return completion("fine")

    server = serve(reply)
    found = OpenAIBackend("m", base_url=server.base_url).run(texts(30))
    assert [i for i, answer in found if isinstance(answer, RateLimited)] == [1]


def test_waiting_is_no_part_of_the_timeout(serve, monkeypatch):
    enter = Limiter.enter

    def enter_late(*args):
        time.sleep(2.2)
        return enter(*args)

    monkeypatch.setattr(Limiter, "enter", enter_late)
    url = serve(Limited(1000)).base_url
    (answer,) = answers(OpenAIBackend("m", base_url=url, timeout=2, max_retries=0), 1)
    assert answer.text == "yes"


def test_an_interrupt_ends_a_wait(serve):
    url = serve(Limited(1000)).base_url
    model = OpenAIBackend("m", base_url=url, requests_per_minute=5)
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    got, began = [], time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        got.extend(i for i, _ in model.run(texts(20)))
    assert time.monotonic() - began < 5
    clear_handles()


@pytest.mark.cluster
def test_a_database_that_restarts_is_waited_for(postgres_server):
    limiter, sender = Limiter("account"), Sender((1000, None), 4)
    limiter.join(sender, ResponseCache(postgres_server.new_address()).storage)
    assert limiter.enter(sender, 0.0) is not None
    postgres_server.stop()
    back = threading.Timer(0.5, postgres_server.start)
    back.start()
    time.sleep(0.4)  # its share has ended
    try:
        assert limiter.enter(sender, 0.0) is not None
    finally:
        back.join()
