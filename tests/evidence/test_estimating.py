from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    OpenAIBackend,
    ResponseCache,
)
from skllm_calib.evidence import estimating
from skllm_calib.evidence.backends.base import Message, Request
from skllm_calib.evidence.money.prices import ENVIRONMENT
from skllm_calib.evidence.money.tokens import TokenCounter, _encoding
from skllm_calib.exceptions import InvalidInput

TEXTS = [f"message number {i}" for i in range(12)]
LABELS = ["ham", "spam"] * 6
PRICES = {"*": (1.0, 2.0)}


@pytest.fixture(autouse=True)
def no_prices_of_the_user(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


def zero_shot(backend, **options):
    return LLMClassifier(
        backend, **{"classes": ["ham", "spam"], "cache": None, "prices": PRICES, **options}
    )


def hosted(**options):
    backend = OpenAIBackend(
        "my-model", base_url="http://127.0.0.1:9/v1", api_key_env="NO_KEY", **options
    )
    return zero_shot(backend, signal="logprobs")


def test_what_is_estimated_is_what_is_used(counted):
    backend = counted()
    clf = zero_shot(backend)
    found = clf.estimate_cost(TEXTS)
    assert not backend.asked
    used = clf.explain(TEXTS)
    assert (found.n_rows, found.n_requests, found.n_cached) == (12, 12, 0)
    read = sum(record["prompt_tokens"] for record in used)
    assert found.prompt_tokens == (read, read)
    assert found.is_exact
    low, high = found.usd
    assert low <= sum(record["usd"] for record in used) <= high


def test_a_text_that_comes_twice_is_asked_once(counted):
    assert zero_shot(counted()).estimate_cost(["a", "b", "a"]).n_requests == 2


def test_what_the_cache_has_is_free(counted, cache):
    clf = zero_shot(counted(), cache=cache)
    clf.predict(TEXTS[:5])
    found = clf.estimate_cost(TEXTS)
    assert (found.n_requests, found.n_cached) == (7, 5)
    assert "5 that are in the cache" in str(found)
    clf.predict(TEXTS)
    found = clf.estimate_cost(TEXTS)
    assert (found.n_requests, found.usd) == (0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("signal", "per_row"),
    [("logprobs", 1), ("self_reported", 1), ("self_consistency", 10), ("p_true", 2)],
)
def test_signals_that_ask_several_times(signal, per_row, counted):
    clf = zero_shot(counted(), signal=signal)
    found = clf.estimate_cost(TEXTS)
    asked = sum(record["n_requests"] for record in clf.explain(TEXTS))
    assert found.n_requests == pytest.approx(asked, rel=0.5)
    assert found.n_requests >= per_row * len(TEXTS) / 2


def test_between_two_bounds_where_nobody_can_count():
    found = hosted().estimate_cost(TEXTS)
    low, high = found.prompt_tokens
    assert 12 * 10 < low < high < 12 * 200
    assert not found.is_exact
    assert found.usd[0] == pytest.approx((low + found.completion_tokens[0] * 2) / 1e6)


def test_a_model_without_a_price_says_so():
    clf = hosted().set_params(prices=None)
    found = clf.estimate_cost(TEXTS)
    assert found.usd is None
    assert found.to_dict()["usd"] is None
    assert "not known: pass prices=" in str(found)
    assert "price not known" in str(found)


def test_before_fit(counted):
    backend = counted()
    clf = zero_shot(backend, classes=None, n_shots=2)
    with pytest.raises(Exception, match="not fitted"):
        clf.estimate_cost(TEXTS)
    before = clf.estimate_cost(TEXTS, LABELS)
    assert not backend.asked
    assert not hasattr(clf, "examples_")
    assert clf.fit(TEXTS, LABELS).estimate_cost(TEXTS) == before


def test_an_unsettled_signal_asks_nothing():
    backend = OpenAIBackend("m", base_url="http://127.0.0.1:9/v1", api_key_env="NO_KEY")
    found = zero_shot(backend).estimate_cost(TEXTS)
    assert found.n_requests == 12
    assert "signal='auto' is not settled" in str(found)


def test_many_rows_are_estimated_from_a_part(counted, monkeypatch):
    monkeypatch.setattr(estimating, "_MOST_ROWS", 50)
    texts = [f"message {i % 10} {i}" for i in range(200)]
    clf = zero_shot(counted())
    found = clf.estimate_cost(texts)
    assert (found.n_rows, found.n_requests) == (200, 200)
    assert "estimated from 50" in str(found)
    monkeypatch.undo()
    assert found.prompt_tokens[0] == pytest.approx(
        clf.estimate_cost(texts).prompt_tokens[0], rel=0.1
    )


def test_rows_that_cannot_be_used_cost_nothing(counted):
    clf = zero_shot(counted(), on_error="nan")
    assert clf.estimate_cost(["a", None, ""]).n_requests == 1


def test_calibrated_and_ensembles_pass_it_on(counted):
    one, two = zero_shot(counted()), zero_shot(counted(), prices={"*": (10.0, 20.0)})
    single = one.estimate_cost(TEXTS)
    assert CalibratedLLMClassifier(one).estimate_cost(TEXTS) == single
    both = LLMEnsembleClassifier([("one", one), ("two", two)])
    assert both.estimate_cost(TEXTS).n_requests == 24
    assert both.estimate_cost(TEXTS).usd[0] == pytest.approx(11 * single.usd[0])
    assert both.set_params(weights=[1, 0]).estimate_cost(TEXTS).n_requests == 12
    fitted = both.set_params(weights="fit")
    assert fitted.estimate_cost(TEXTS, LABELS).n_requests == 24
    assert fitted.fit(TEXTS, LABELS).estimate_cost(TEXTS).n_rows in (12, 24)


def test_it_prints_and_is_json(counted):
    found = zero_shot(counted(), cache=None).estimate_cost(TEXTS)
    assert json.loads(json.dumps(found.to_dict()))["n_requests"] == 12
    assert repr(found) == str(found)
    assert [line.split()[0] for line in str(found).splitlines()[:5]] == [
        "Cost", "requests", "tokens", "tokens", "cost",
    ]  # fmt: skip


def test_bad_prices_are_an_error(counted):
    with pytest.raises(InvalidInput, match="prices"):
        zero_shot(counted(), prices={"*": 1}).estimate_cost(TEXTS)


# ------------------------------------------------------------------------------- tokens


def counter(backend=None):
    backend = backend or OpenAIBackend("gpt-4o-mini", api_key_env="NO_KEY")
    return TokenCounter(backend, {"model": "m", "base_url": "https://api.openai.com/v1"})


@pytest.fixture
def tiktoken(monkeypatch):
    """An encoding with a token per word, in the place of the package."""

    def unknown(model):
        raise KeyError(model)

    words = SimpleNamespace(encode=lambda text, disallowed_special: text.split())
    module = SimpleNamespace(encoding_for_model=unknown, get_encoding=lambda name: words)
    monkeypatch.setitem(sys.modules, "tiktoken", module)
    _encoding.cache_clear()
    yield module
    _encoding.cache_clear()


def test_tiktoken_counts_where_it_is_installed(tiktoken):
    request = Request((Message("user", "one two three " * 1_000),))
    low, high = counter().count(request).prompt
    assert 3_000 < low < high < 3_050


def test_a_vocabulary_that_cannot_be_had_is_as_none(tiktoken):
    def offline(name):
        raise OSError("no network")

    tiktoken.get_encoding = offline
    low, high = counter().count(Request((Message("user", "one two three " * 1_000),))).prompt
    assert low < 3_000 < high


@pytest.mark.parametrize(
    ("text", "n_tokens"),  # as the tokenizer of SmolLM2 has it, a small one of mostly English
    [
        ("Hello, this is plain English text about nothing in particular, only words.", 15),
        ("1234567890 998877 55", 20),
        ("def f(x):\n    return {k: v for k, v in x.items() if v is not None}", 26),
        ("Интернационализация и локализация", 26),
    ],
)
def test_the_bounds_hold_what_tokenizers_count(text, n_tokens):
    request = Request((Message("user", text),))
    backend = OpenAIBackend("m", base_url="http://127.0.0.1:9", api_key_env="NO_KEY")
    low, high = TokenCounter(backend, backend.identity()).count(request).prompt
    assert low <= n_tokens + 6  # of the format of a chat
    assert n_tokens + 10 <= high


def test_room_for_reasoning_counts():
    asked = Request((Message("user", "x"),), max_tokens=10)
    backend = OpenAIBackend("m", reasoning_budget=1_000, api_key_env="NO_KEY")
    assert counter(backend).count(asked).completion == (1, 1_010)


@pytest.mark.local_llm
def test_models_on_this_machine_count_exactly(smollm2):
    clf = zero_shot("smollm2")
    texts = ["Great service!", "The parcel never came.", "Naïve déjà-vu — 100 %"]
    found = clf.estimate_cost(texts)
    used = sum(record["prompt_tokens"] for record in clf.explain(texts))
    assert found.prompt_tokens == (used, used)
    assert np.isclose(found.usd[0], used / 1e6, rtol=0.1)
