"""Every signal through every provider: what holds for all, and the table of the documentation.

The hosted providers are reached through their real SDKs, at servers on the loopback address that
speak their documented wire formats.
"""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path

import brain
import loopback
import numpy as np
import pytest
from loopback import Answer, Loopback

from skllm_calib import LLMClassifier, ResponseCache
from skllm_calib.backends import (
    AnthropicBackend,
    LlamaCppBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    TransformersBackend,
)
from skllm_calib.exceptions import BackendError, OffLabelWarning, SignalUnavailable
from skllm_calib.signals import (
    SIGNALS,
    MCDropoutSignal,
    ReasonedSignal,
    SelfCheckSignal,
    SelfConsistencySignal,
    SelfReportedSignal,
)

LABELS = ["ham", "news", "spam"]
TEXTS = ["You won a prize!", "Lunch at one?", "Markets fell today."]
DOCS = Path(__file__).parents[3] / "docs" / "signals.rst"

# -- the wire formats, with one mind behind them ---------------------------------------------------


def chat(body, *, shows_logprobs=True, completion=loopback.completion, position=loopback.position):
    whole = brain.turns(body["messages"])
    form = (body.get("response_format") or {}).get("json_schema") or {}
    schema = form.get("schema") or form.get("schema_definition")
    if body.get("logprobs"):
        if not shows_logprobs:
            message = "logprobs are not supported with reasoning models."
            return loopback.refusal(400, message, param="logprobs", code="unsupported_parameter")
        thought = brain.distribution(whole)
        written = max(thought, key=lambda option: thought[option])
        return completion(written, [position(written, thought)])
    return completion(brain.writing(whole, schema, body.get("temperature")))


def responses(body):
    whole = brain.turns(body["input"])
    schema = ((body.get("text") or {}).get("format") or {}).get("schema")
    part = {"type": "output_text", "annotations": []}
    if "message.output_text.logprobs" in (body.get("include") or []):
        thought = brain.distribution(whole)
        written = max(thought, key=lambda option: thought[option])
        part |= {"text": written, "logprobs": [loopback.position(written, thought)]}
    else:
        part |= {"text": brain.writing(whole, schema, body.get("temperature")), "logprobs": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return Answer(
        200,
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "served-2026-01-01",
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "output": [{**item, "content": [part]}],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 1,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 11,
            },
        },
    )


def decision(body):
    (question,) = body["questions"]
    values = [choice["value"] for choice in question["choices"]]
    whole = body["input"] if isinstance(body["input"], str) else brain.turns(body["input"])
    thought = brain.distribution(whole, values)
    best = max(thought, key=lambda value: thought[value])
    stated = [{"value": value, "probability": p} for value, p in thought.items()]
    answer = {"type": "choice", "choice": best, "confidence": thought[best]}
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    }
    return Answer(
        200,
        {
            "answers": [{**answer, "name": None, "probabilities": stated}],
            "model": "gpt-6-luna",
            "usage": usage,
        },
    )


def openai_server(*, decides=True, **chat_options):
    def respond(body):
        if "questions" in body:
            no_endpoint = loopback.refusal(404, "no such endpoint", code="not_found")
            return (
                decision(body) if decides and isinstance(body["questions"], list) else no_endpoint
            )
        return responses(body) if "input" in body else chat(body, **chat_options)

    return Loopback(respond)


def anthropic_message(body):
    loopback_anthropic = pytest.importorskip("loopback_anthropic")
    whole = brain.turns(body["messages"])
    schema = (body.get("output_config", {}).get("format") or {}).get("schema")
    return loopback_anthropic.message(brain.writing(whole, schema, body.get("temperature")))


def mistral_chat(body):
    import loopback_mistral

    return chat(body, completion=loopback_mistral.completion, position=loopback_mistral.position)


# -- the providers ---------------------------------------------------------------------------------


@contextlib.contextmanager
def at(server, make):
    with server:
        yield make(server)


def openai(server, **options):
    if options.get("api") == "responses":
        pytest.importorskip("openai.resources.responses", reason="an older SDK")
    return OpenAIBackend("gpt-x", base_url=server.base_url, **options)


def anthropic(server):
    pytest.importorskip("anthropic")
    return AnthropicBackend("claude-x", base_url=server.address)


def mistral(server):
    pytest.importorskip("mistralai")
    return MistralBackend("mistral-x", base_url=server.address)


@contextlib.contextmanager
def in_process():
    yield LlamaCppBackend()


@contextlib.contextmanager
def over_http():
    address = LlamaCppBackend().http_address()
    yield OpenAIBackend("smollm2", base_url=address, reasoning_budget=0)


@contextlib.contextmanager
def transformers():
    pytest.importorskip("torch")
    yield TransformersBackend()


PROVIDERS = {
    "OpenAI Chat": lambda: at(openai_server(), openai),
    "OpenAI Responses": lambda: at(openai_server(), lambda s: openai(s, api="responses")),
    "log-probs hidden": lambda: at(openai_server(decides=False, shows_logprobs=False), openai),
    "Anthropic": lambda: at(Loopback(anthropic_message), anthropic),
    "Mistral": lambda: at(Loopback(mistral_chat), mistral),
    "llama.cpp": in_process,
    "llama.cpp HTTP": over_http,
    "transformers": transformers,
}
REAL = ("llama.cpp", "llama.cpp HTTP", "transformers")
# What keeps a real model busy for seconds, not minutes.
SHORT = {
    "self_reported": SelfReportedSignal(max_tokens=48),
    "self_check": SelfCheckSignal(n_draws=1, max_tokens=8),
    "self_consistency": SelfConsistencySignal(n_draws=3, max_tokens=4),
    "reasoned": ReasonedSignal(max_tokens=8),
    "mc_dropout": MCDropoutSignal(n_passes=4),
}
# A small model is not always to be understood: its rows may fail, and say so.
QUIET = ("self_reported", "self_check", "self_consistency")


def table():
    """Read the table of the documentation: what each cell says, by signal and provider."""
    text = DOCS.read_text(encoding="utf-8")
    block = text.split(".. csv-table:: Signals by provider")[1].split("\n\n")
    header = next(line for line in block[0].splitlines() if ":header:" in line)
    names = next(csv.reader([header.split(":header:")[1].strip()], skipinitialspace=True))
    rows = list(csv.reader((line.strip() for line in block[1].splitlines()), skipinitialspace=True))
    return {
        (row[0].strip("`"), name): cell
        for row in rows
        if row
        for name, cell in zip(names[1:], row[1:], strict=True)
    }


TABLE = table()
CELLS = [
    pytest.param(
        provider,
        signal,
        id=f"{provider}-{signal}",
        marks=[pytest.mark.local_llm] if provider in REAL else [],
    )
    for provider in PROVIDERS
    for signal in SIGNALS
]


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, "sk-test")


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


def test_the_table_is_complete():
    assert set(TABLE) == {(signal, provider) for signal in SIGNALS for provider in PROVIDERS}
    assert set(TABLE.values()) <= {"yes", "no", "label"}


@pytest.mark.parametrize(("provider", "signal"), CELLS)
def test_a_cell_of_the_table(provider, signal, cache):
    said = TABLE.get((signal, provider))  # None: not documented yet, so it may also fail
    if signal == "decisions" and said == "yes":
        pytest.importorskip("openai.resources.decisions", reason="an older SDK")
    with PROVIDERS[provider]() as backend:
        asked = SHORT.get(signal, signal) if provider in REAL else signal
        texts = TEXTS[:2] if provider in REAL else TEXTS
        on_error = "nan" if provider in REAL and signal in QUIET else "raise"
        clf = LLMClassifier(backend, classes=LABELS, signal=asked, cache=cache, on_error=on_error)
        if provider in REAL:  # a tiny model, which hardly ever writes these labels
            clf.set_params(max_off_label=1.0)
        if said == "no":
            with pytest.raises(SignalUnavailable, match=r"self_reported|mc_dropout|logprobs"):
                clf.predict_proba(texts)
            return
        with warnings_of_failed_rows(on_error):
            try:
                proba = clf.predict_proba(texts)
            except BackendError:
                if said is None:
                    return
                raise
            answered = np.isfinite(proba).all(axis=1)
            check_rows(proba[answered])
            n_kept = len(cache)
            again = clf.predict_proba(texts[::-1])[::-1]
        # From the cache, in any order; what failed is requested again.
        np.testing.assert_array_equal(again[answered], proba[answered])
        assert len(cache) == n_kept or not answered.all()
        for record, row, fine in zip(clf.explain(texts), proba, answered, strict=True):
            assert record["signal"] == signal
            if not fine:  # requested again, a model without a seed may answer
                assert record["failure"] or provider in REAL
                continue
            assert record["failure"] is None
            assert record["model"]
            assert record["n_requests"] >= 1
            assert record["cached"]
            assert record["prompt_tokens"] > 0
            assert list(record["log_proba"]) == LABELS
            np.testing.assert_allclose(list(record["log_proba"].values()), np.log(row))
            if signal == "reasoned":
                assert record["read"] == ("label" if said == "label" else "logprobs")
            json.dumps(record)  # plain values, to be kept in any log


@contextlib.contextmanager
def warnings_of_failed_rows(on_error):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OffLabelWarning)
        if on_error == "nan":
            warnings.simplefilter("ignore")
        yield


def check_rows(proba):
    assert proba.shape[1] == len(LABELS)
    assert (proba > 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)


HOSTED = [name for name in PROVIDERS if name not in REAL]


@pytest.mark.parametrize("provider", HOSTED)
def test_providers_that_show_the_same_thing_agree(provider, cache):
    """One mind behind all of them: what differs is how it is read."""
    direct = LLMClassifier(TestingBackend(), classes=LABELS)
    for signal in ("logprobs", "self_reported"):
        if TABLE[signal, provider] != "yes":
            continue
        with PROVIDERS[provider]() as backend:
            clf = LLMClassifier(backend, classes=LABELS, signal=signal, cache=cache)
            proba = clf.predict_proba(TEXTS)
            wholes = [brain.turns(turns) for turns in clf.render(TEXTS)]
        if signal == "logprobs":
            expected = [list(brain.distribution(whole).values()) for whole in wholes]
            np.testing.assert_allclose(proba, expected, atol=1e-6)
        else:
            assert proba.shape == (3, len(direct.classes))


@pytest.mark.parametrize("provider", HOSTED)
def test_draws_are_asked_one_by_one_and_kept_one_by_one(provider, cache):
    with PROVIDERS[provider]() as backend:
        signal = SelfConsistencySignal(n_draws=5, stop_early=False)
        clf = LLMClassifier(backend, classes=LABELS, signal=signal, cache=cache)
        first = clf.explain(TEXTS)
        assert len(cache) == 5 * len(TEXTS)
        assert [record["n_draws"] for record in first] == [5] * 3
        assert [r["votes"] for r in clf.explain(TEXTS)] == [r["votes"] for r in first]
        more = clf.set_params(signal__n_draws=7).explain(TEXTS)
        assert len(cache) == 7 * len(TEXTS)  # five of each are known
        assert [record["n_draws"] for record in more] == [7] * 3


@pytest.mark.parametrize("provider", HOSTED)
def test_several_signals_and_several_orders(provider, cache):
    with PROVIDERS[provider]() as backend:
        signals = ["self_reported", "self_consistency"]
        clf = LLMClassifier(
            backend, classes=LABELS, signal=signals, order_averaging=3, cache=cache
        ).fit(TEXTS)
        check_rows(clf.predict_proba(TEXTS))
        assert clf.signal_ == "self_reported+self_consistency"
        (record,) = clf.explain(TEXTS[:1])
        assert set(record["signals"]) == set(signals)
        assert record["n_orders"] == 3
        assert 0.0 <= clf.order_flip_rate(TEXTS) <= 1.0


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("OpenAI Chat", "logprobs"),
        ("OpenAI Responses", "logprobs"),
        ("log-probs hidden", "self_reported"),
        ("Anthropic", "self_reported"),
        ("Mistral", "logprobs"),
    ],
)
def test_auto_takes_the_best_that_is_shown(provider, expected, cache):
    with PROVIDERS[provider]() as backend:
        clf = LLMClassifier(backend, classes=LABELS, cache=cache).fit(TEXTS)
        assert clf.signal_ == expected
        check_rows(clf.predict_proba(TEXTS))
        if expected != "logprobs":
            assert "'logprobs' is not available" in clf.signal_reason_
