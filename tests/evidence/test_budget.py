from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from loopback import completion, position, servers
from sklearn.base import clone

from skllm_calib import (
    Budget,
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    OpenAIBackend,
    ResponseCache,
)
from skllm_calib.backends import TestingBackend
from skllm_calib.evidence.money.budget import _LEASE, Amount, _Ledger
from skllm_calib.evidence.money.prices import ENVIRONMENT
from skllm_calib.exceptions import BudgetExceeded, FailedRowsWarning, InvalidInput, Refused
from skllm_calib.persistence import from_json, to_json

TEXTS = [f"message number {i}" for i in range(60)]
LABELS = ["ham", "spam"] * 30
PRICES = {"*": (1_000.0, 2_000.0)}  # a tenth of a cent for a token read, two for one written


@pytest.fixture(autouse=True)
def no_prices_of_the_user(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def zero_shot(backend, cache=None, **options):
    options = {"classes": ["ham", "spam"], "prices": PRICES, "on_error": "nan", **options}
    return LLMClassifier(backend, cache=cache, **options)


def answer(n_read=30, n_written=1):
    """What a hosted model says that is sure of its answer."""
    counts = {"prompt_tokens": n_read, "completion_tokens": n_written}
    return completion("A", [position("A", {"A": 0.9, "B": 0.1})], usage=counts)


def n_answered(clf, texts=TEXTS):
    """Predict, and return how many rows got an answer; without any, the error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedRowsWarning)
        try:
            return int((~np.isnan(clf.predict_proba(texts)).any(axis=1)).sum())
        except BudgetExceeded:
            return 0


def unlimited(backend, texts=TEXTS):
    clf = zero_shot(backend)
    clf.predict(texts)
    return clf.usage_


# ------------------------------------------------------------------------------- the limit


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_it_is_hard_and_a_larger_one_goes_on(unit, counted, cache):
    whole = unlimited(counted())
    most = whole.usd / 3 if unit == "usd" else whole.n_tokens // 3
    backend, budget = counted(), Budget(**{unit: most})
    clf = zero_shot(backend, cache, budget=budget)
    n = n_answered(clf)
    used = clf.usage_
    assert 15 <= n <= 20
    assert backend.asked.total() == n == used.n_requests
    spent = used.usd if unit == "usd" else used.n_tokens
    assert 0.8 * most < spent <= most
    assert budget.spent[unit] == pytest.approx(spent)

    again = zero_shot(backend, cache, budget=Budget(**{unit: 3 * most}))
    again.predict(TEXTS)  # all rows are there
    assert set(backend.asked.values()) == {1}
    assert again.usage_.n_requests == 60 - n
    assert again.usage_.n_cache_hits == n


def test_the_error_says_how_much_and_how_to_go_on(counted, cache):
    most = unlimited(counted()).n_tokens // 2
    clf = zero_shot(counted(), cache, budget=Budget(tokens=most), on_error="raise")
    with pytest.raises(BudgetExceeded, match=r"\d+ of 60 rows failed.*larger budget") as caught:
        clf.predict(TEXTS)
    assert f"of {most} tokens spent" in str(caught.value)
    with pytest.raises(BudgetExceeded, match="cache=None"):
        zero_shot(counted(), budget=Budget(tokens=1)).predict(TEXTS)


def test_what_the_cache_has_is_free_also_when_nothing_is_left(counted, cache):
    backend = counted()
    zero_shot(backend, cache).predict(TEXTS[:10])
    clf = zero_shot(backend, cache, budget=Budget(tokens=1))
    assert n_answered(clf) == 10
    assert clf.usage_.n_requests == 0


def test_failures_that_were_charged_for_count(counted):
    def refuse(request):
        failure = Refused("no")
        failure.is_billed, failure.billed_tokens = True, (50, 10, 0)
        return failure

    backend = counted(refuse)
    clf = zero_shot(backend, budget=Budget(tokens=3_000))
    assert n_answered(clf) == 0
    # Those that were sent before the first said that it took more than was estimated.
    assert clf.usage_.n_tokens == 60 * backend.asked.total()
    assert 2_400 < clf.usage_.n_tokens <= 3_000


def test_failures_that_cost_nothing_do_not(counted):
    clf = zero_shot(counted(fail_on=("message",)), budget=Budget(tokens=100))
    with pytest.warns(FailedRowsWarning, match="told to fail"):
        clf.predict(TEXTS)
    assert clf.budget.spent == {"usd": 0.0, "tokens": 0.0}


def test_a_reply_that_counts_no_tokens_takes_what_was_estimated(serve):
    server = serve(lambda body: answer(0, 0))
    backend = OpenAIBackend("m", base_url=server.base_url, max_concurrency=4)
    clf = zero_shot(backend, signal="logprobs", budget=Budget(tokens=1_500))
    n = n_answered(clf)
    assert 0 < n < 30
    assert clf.usage_.n_tokens == 0
    assert clf.budget.spent["tokens"] <= 1_500


@pytest.mark.parametrize("n_at_once", [1, 16])
def test_what_the_server_bills_stays_below(n_at_once, serve, cache):
    billed = []

    def respond(body):
        n_read = 40 + len(body["messages"][-1]["content"]) % 7
        billed.append(n_read * 1_000 / 1e6 + 2_000 / 1e6)
        return answer(n_read)

    server = serve(respond)
    backend = OpenAIBackend("m", base_url=server.base_url, max_concurrency=n_at_once)
    clf = zero_shot(backend, cache, signal="logprobs", budget=Budget(1.0))
    n = n_answered(clf)
    assert len(billed) == n
    assert 0.7 < sum(billed) <= 1.0
    assert clf.usage_.usd == pytest.approx(sum(billed))
    clf.set_params(budget=Budget(100.0)).predict(TEXTS)
    assert len(billed) == len(TEXTS)


# ------------------------------------------------------------------------------- prices


def test_dollars_need_a_price(serve):
    server = serve(lambda body: pytest.fail("nothing may be sent"))
    backend = OpenAIBackend("m", base_url=server.base_url)
    clf = zero_shot(backend, signal="logprobs", prices=None, budget=5.0)
    with pytest.raises(InvalidInput, match=r"price of this model is not known: pass prices=") as e:
        clf.predict(TEXTS)
    assert e.value.parameter == "budget"
    assert not server.seen
    assert zero_shot(backend, signal="logprobs", prices=None, budget=5.0).estimate_cost(["x"])


def test_models_on_this_machine_spend_no_dollars(counted):
    clf = zero_shot(counted(), prices=None, budget=0.01, on_error="raise")
    assert len(clf.predict(TEXTS)) == 60
    assert clf.usage_.usd == 0


# ------------------------------------------------------------------------------- sharing


def test_clones_copies_and_pickles_spend_from_one():
    budget = Budget(usd=5.0, tokens=100)
    llm = LLMClassifier(TestingBackend(), budget=budget)
    assert clone(llm).budget is budget
    assert copy.deepcopy(budget) is budget
    other = pickle.loads(pickle.dumps(budget))
    assert other == budget
    assert hash(other) == hash(budget)
    assert other.reserve(Amount(3.0, 10))
    assert not budget.reserve(Amount(3.0, 10))
    assert budget.reserve(Amount(1.0, 90))
    assert Budget(5.0) != Budget(5.0)
    assert Budget(5.0, name="a") == Budget(5.0, name="a") != Budget(6.0, name="a")
    kept = from_json(to_json(llm))
    assert kept.budget == budget


def test_a_name_holds_for_later_runs_too(counted, cache):
    whole, backend = unlimited(counted()).n_tokens, counted()

    def run(n_tokens, name="x"):
        clf = zero_shot(backend, cache, budget=Budget(tokens=n_tokens, name=name))
        return n_answered(clf), clf.usage_.n_requests

    n, n_asked = run(whole // 4)
    assert n == n_asked > 10
    assert run(whole // 4) == (n, 0)
    more, n_asked = run(whole // 2)
    assert n_asked == more - n > 10
    assert run(whole, "another")[0] == 60


def test_sharing_takes_few_transactions(counted, cache, monkeypatch):
    n_changes = []
    change = type(cache.storage).change
    monkeypatch.setattr(type(cache.storage), "change", lambda *a: n_changes.append(1) or change(*a))
    texts = [f"message {i}" for i in range(400)]
    zero_shot(counted(), cache, budget=Budget(tokens=10**6, name="x")).predict(texts)
    assert len(n_changes) <= 400 / _LEASE * 2 + 2


def test_a_number_is_for_one_call(counted):
    whole = unlimited(counted()).usd
    clf = zero_shot(counted(), budget=whole / 2)
    assert n_answered(clf) == n_answered(clf) > 20


def test_one_call_of_a_calibrated_classifier_or_ensemble_is_one(counted):
    whole = unlimited(counted()).usd
    llm = zero_shot(counted(), budget=whole * 0.6, prior_correction="batch", on_error="raise")
    with pytest.raises(BudgetExceeded):  # the rows, once for the correction and once for it all
        CalibratedLLMClassifier(llm).fit(TEXTS, LABELS)
    for n_jobs in (None, 2):
        members = [(str(i), zero_shot(counted(), budget=whole * 1.2)) for i in range(2)]
        both = LLMEnsembleClassifier(members, n_jobs=n_jobs)
        n_answered(both)
        assert whole < both.usage_.usd <= whole * 1.2


def ask_all(clf):
    with contextlib.suppress(BudgetExceeded):
        clf.explain(TEXTS)


def test_threads_share(counted):
    whole = unlimited(counted()).n_tokens
    budget = Budget(tokens=whole * 2)
    clfs = [zero_shot(counted(), budget=budget) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask_all, clfs))
    used = sum(clf.usage_.n_tokens for clf in clfs)
    assert 0.9 * whole * 2 < used <= whole * 2


def test_members_of_a_streamed_ensemble_share_and_do_not_wait_for_each_other(serve):
    server = serve(lambda body: answer(120))
    backend = OpenAIBackend("m", base_url=server.base_url, max_concurrency=4)
    llm = zero_shot(backend, signal="logprobs", budget=15.0)
    both = LLMEnsembleClassifier.over(llm, order_averaging=[1, 2])
    with pytest.warns(FailedRowsWarning):
        n = sum(bool(np.isfinite(row).all()) for row in both.predict_proba_iter(TEXTS))
    assert 0 < n < 60
    assert 10 < both.usage_.usd <= 15


def test_whoever_gets_a_pickle_spends_from_the_same(cache):
    budget = Budget(tokens=1_000)
    budget.settle(Amount(), Amount(0.0, 300.0))  # before anybody else had it
    other = pickle.loads(pickle.dumps(budget))
    other._own = _Ledger(other._key)  # as in another process
    assert budget.reserve(Amount(0, 300), cache.storage)
    assert not other.reserve(Amount(0, 500), cache.storage)
    assert other.spent["tokens"] >= 600
    assert other.reserve(Amount(0, 300), cache.storage)
    budget.settle(Amount(0, 300), Amount(0, 200))
    budget.give_back(cache.storage)
    assert other.reserve(Amount(0, 150), cache.storage)
    assert not other.reserve(Amount(0, 100), cache.storage)


RUN = """
import sys, time, warnings
from skllm_calib import Budget, LLMClassifier, OpenAIBackend
warnings.simplefilter("ignore")
backend = OpenAIBackend("m", base_url=sys.argv[1], max_concurrency=4)
clf = LLMClassifier(backend, classes=["ham", "spam"], cache=sys.argv[2], on_error="nan",
                    signal="logprobs", budget=Budget(tokens=20_000, name="job"))
clf.predict([f"message number {i}" for i in range(300)])
"""


def test_processes_share_also_when_one_is_killed(serve, cache):
    billed = []

    def respond(body):
        time.sleep(0.01)
        billed.append(body["messages"][-1]["content"])
        return answer(99)

    server = serve(respond)
    arguments = [sys.executable, "-c", RUN, server.base_url, str(cache.path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    children = [subprocess.Popen(arguments, env=environment) for _ in range(2)]
    while len(billed) < 20:
        assert children[0].poll() is None
        time.sleep(0.01)
    children[0].send_signal(signal.SIGKILL)
    assert [child.wait() for child in children][1] == 0
    n_before = len(billed)
    backend = OpenAIBackend("m", base_url=server.base_url, max_concurrency=4)
    budget = Budget(tokens=20_000, name="job")
    texts = [f"message number {i}" for i in range(300)]
    n = n_answered(zero_shot(backend, cache, signal="logprobs", budget=budget), texts)
    assert n >= len(set(billed)) - 4  # what was under way when it was killed
    assert len(set(billed)) >= len(billed) - 4
    assert 120 < len(billed) <= 200
    # What the other had set aside is given back: hardly anything is left for this run.
    assert len(billed) - n_before <= 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_holds_nothing_of_its_parents(cache):
    budget = Budget(tokens=1_000, name="fork")
    assert budget.reserve(Amount(0, 10), cache.storage)  # and a lease beside it
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = budget._ledger._lease
        os.write(writing, str(held.tokens).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert float(os.read(reading, 100)) == 0.0
    os.close(reading)
    os.close(writing)


def test_what_was_under_way_at_an_interrupt_counts(serve):
    release = threading.Event()

    def respond(body):
        release.wait(1)
        return answer()

    server = serve(respond)
    backend = OpenAIBackend("m", base_url=server.base_url, max_concurrency=4)
    budget = Budget(tokens=10**6)
    clf = zero_shot(backend, signal="logprobs", budget=budget)

    def interrupt():
        while len(server.seen) < 4:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        clf.predict(TEXTS)
    release.set()
    high = clf.estimate_cost(TEXTS[:4])
    most = high.prompt_tokens[1] + high.completion_tokens[1]
    assert 0.9 * most < budget.spent["tokens"] < 1.2 * most


# ------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no limit"),
        ({"usd": 0}, "usd=0"),
        ({"usd": -1.0}, "usd=-1.0"),
        ({"usd": float("inf")}, "usd=inf"),
        ({"tokens": True}, "tokens=True"),
        ({"tokens": "5"}, "tokens='5'"),
        ({"usd": 1, "name": ""}, "name=''"),
        ({"usd": 1, "name": 3}, "name=3"),
    ],
)
def test_what_is_no_budget(options, said):
    with pytest.raises(InvalidInput, match=said):
        Budget(**options)


@pytest.mark.parametrize("budget", [0, -5, "5", True])
def test_what_is_no_budget_of_a_classifier(budget, counted):
    with pytest.raises(InvalidInput, match="budget=") as caught:
        zero_shot(counted(), budget=budget).predict(TEXTS)
    assert caught.value.parameter == "budget"


def test_how_it_looks():
    assert repr(Budget(5.0, name="x")) == "Budget(usd=5.0, name='x')"
    assert str(Budget(5.0, tokens=2_000_000)) == "$5.00 and 2,000,000 tokens"
