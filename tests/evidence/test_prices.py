from __future__ import annotations

import datetime
import json
import math
from importlib import resources

import pytest

from skllm_calib.backends import (
    AnthropicBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    resolve_model,
)
from skllm_calib.evidence.money.prices import ENVIRONMENT, Price, price_of
from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils.layout import dollars

TABLE = json.loads(
    resources.files("skllm_calib.evidence.money").joinpath("prices.json").read_text("utf-8")
)
MODELS = [
    (name, provider, model, price)
    for name, provider in TABLE["providers"].items()
    for model, price in provider["models"].items()
]


@pytest.fixture(autouse=True)
def no_prices_of_the_user(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def openai(model, **more):
    return {"provider": "openai", "model": model, "base_url": "https://api.openai.com/v1", **more}


@pytest.mark.parametrize(("name", "provider", "model", "price"), MODELS)
def test_the_table(name, provider, model, price):
    assert datetime.date.fromisoformat(TABLE["as_of"])
    assert provider["source"]
    assert 0 < price["input"] <= price["output"]
    assert 0 < price.get("cached_input", price["input"]) <= price["input"]
    found = price_of({"model": model, "base_url": f"https://{provider['hosts'][0]}/v1"})
    assert (found.input, found.output) == (price["input"], price["output"])
    assert found.batch_discount == provider["batch_discount"]
    assert found.as_of == TABLE["as_of"]


@pytest.mark.parametrize(
    "backend",
    [
        OpenAIBackend("gpt-4o-mini", api_key_env="NO_KEY"),
        OpenAIBackend("gpt-4o-mini-2024-07-18", api_key_env="NO_KEY"),
        AnthropicBackend("claude-haiku-4-5-20251001"),
        MistralBackend("mistral-small-latest"),
        resolve_model("gemini:gemini-2.5-flash-lite"),
    ],
    ids=lambda backend: backend.model,
)
def test_backends_of_providers_have_a_price(backend, monkeypatch):
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "MISTRAL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert price_of(backend.identity()).input > 0


@pytest.mark.parametrize(
    "identity",
    [
        openai("no-such-model"),
        openai("gpt-4o-mini-audio-preview"),
        openai("gpt-4o-mini", base_url="http://localhost:8000/v1"),
        openai("gpt-4o-mini", base_url="https://mine.openai.azure.com"),
        {"provider": "somebody", "model": "gpt-4o-mini"},
    ],
)
def test_what_is_not_in_the_table_has_no_price(identity):
    assert price_of(identity) is None


def test_models_on_this_machine_are_free():
    assert price_of(TestingBackend().identity()).is_free
    assert price_of({"provider": "llama_cpp", "model": "gguf:1"}).cost(10, 10) == 0


def test_cost():
    price = Price(2.0, 8.0, cached_input=0.5, decision_output=0.0, batch_discount=0.5)
    assert price.cost(1_000_000, 500_000) == pytest.approx(2 + 4)
    assert price.cost(1_000_000, 500_000, 400_000) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 4)
    assert price.cost(1_000_000, 500_000, is_decision=True) == pytest.approx(2)
    assert price.cost(1_000_000, 500_000, in_batch=True) == pytest.approx(3)
    assert Price(2.0, 8.0).cost(10, 0, 10) == Price(2.0, 8.0).cost(10, 0)


@pytest.mark.parametrize("given", [(1, 2), [1.0, 2.0], {"input": 1, "output": 2}, Price(1.0, 2.0)])
def test_prices_of_the_user_go_first(given, tmp_path, monkeypatch):
    found = price_of(openai("gpt-4o-mini"), {"gpt-4o-mini": given})
    assert (found.input, found.output) == (1.0, 2.0)
    assert price_of(openai("gpt-4o"), {"gpt-4o-mini": given}).input == 2.5
    assert price_of({"provider": "x", "model": "my-7b"}, {"my-*": given, "*": (5, 5)}).input == 1
    if not isinstance(given, Price):
        path = tmp_path / "prices.json"
        path.write_text(json.dumps({"gpt-4o-mini": given}))
        assert price_of(openai("gpt-4o-mini"), path) == found
        monkeypatch.setenv(ENVIRONMENT, str(path))
        assert price_of(openai("gpt-4o-mini")) == found
        assert price_of(openai("gpt-4o-mini"), {"another": (3, 4)}).input == 0.15
        path.write_text(json.dumps({"gpt-4o-mini": [10, 20]}))
        assert price_of(openai("gpt-4o-mini")).input == 10


def test_a_file_may_be_a_table_like_ours(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({**TABLE, "as_of": "2030-01-01"}))
    assert price_of(openai("gpt-4o-mini"), path).as_of == "2030-01-01"


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        (3, "prices=3"),
        ({"m": 3}, r"prices\['m'\]=3"),
        ({"m": (1, 2, 3)}, r"\(1, 2, 3\)"),
        ({"m": (1, -2)}, "output=-2"),
        ({"m": (1, math.nan)}, "output=nan"),
        ({"m": ("1", 2)}, "input='1'"),
        ({"m": {"input": 1}}, "'input': 1"),
        ({"m": {"input": 1, "output": 1, "batch_discount": 50}}, "batch_discount=50"),
        ("/no/such/file.json", "cannot be read"),
    ],
)
def test_bad_prices(prices, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        price_of(openai("m"), prices)
    assert caught.value.parameter == "prices"


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"m": "x"}', '{"providers": 3}', '{"providers": {"x": {}}}']
)
def test_bad_files_of_prices(text, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"prices"):
        price_of(openai("m"), path)


@pytest.mark.parametrize(
    ("usd", "said"), [(0, "$0.00"), (1.5, "$1.50"), (0.012, "$0.012"), (0.00045, "$0.00045")]
)
def test_dollars(usd, said):
    assert dollars(usd) == said
