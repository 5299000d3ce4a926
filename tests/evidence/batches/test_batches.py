"""Batches of three providers, through their real SDKs, from handing in to the probabilities."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import loopback
import loopback_anthropic
import loopback_mistral
import numpy as np
import pytest
from batch_server import BatchServer, text_of
from loopback import needs_responses

from skllm_calib import Budget, CalibratedLLMClassifier, LLMClassifier, ResponseCache
from skllm_calib.backends import (
    AnthropicBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    clear_handles,
)
from skllm_calib.cli import main
from skllm_calib.evidence.backends.hosted.batches import Limits
from skllm_calib.evidence.batches import ledger
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BudgetExceeded,
    InvalidInput,
    RateLimited,
)
from skllm_calib.utils.tables import read_table

TEXTS = [f"message {i}" for i in range(6)]
PROBA = [0.7, 0.3]


class OpenAI:
    name = "openai"
    refusal = staticmethod(loopback.refusal)
    signal = "logprobs"

    def backend(self, server: BatchServer, **options: Any) -> Any:
        return OpenAIBackend("m", base_url=f"{server.address}/v1", **options)

    def respond(self, body: dict[str, Any]) -> Any:
        return loopback.ChatModel({"": {"A": 0.7, "B": 0.3}})(body)


class Responses(OpenAI):
    def backend(self, server: BatchServer, **options: Any) -> Any:
        return super().backend(server, api="responses", **options)

    def respond(self, body: dict[str, Any]) -> Any:
        listed = loopback.position("A", {"A": 0.7, "B": 0.3})
        return loopback.response(loopback.output_text("A", [listed]))


class Mistral:
    name = "mistral"
    refusal = staticmethod(loopback_mistral.refusal)
    signal = "logprobs"

    def backend(self, server: BatchServer, **options: Any) -> Any:
        return MistralBackend("m", base_url=server.address, **options)

    def respond(self, body: dict[str, Any]) -> Any:
        assert body["model"] == "m"
        return loopback_mistral.ChatModel({"": {"A": 0.7, "B": 0.3}})(body)


class Anthropic:
    name = "anthropic"
    refusal = staticmethod(loopback_anthropic.refusal)
    signal = "self_reported"

    def backend(self, server: BatchServer, **options: Any) -> Any:
        return AnthropicBackend("m", base_url=server.address, **options)

    def respond(self, body: dict[str, Any]) -> Any:
        return loopback_anthropic.message('{"A": 0.7, "B": 0.3}')


def needs(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(found is None, reason=f"{package} is not installed")


PROVIDERS = [
    pytest.param(OpenAI(), id="openai"),
    pytest.param(Responses(), id="responses", marks=needs_responses),
    pytest.param(Mistral(), id="mistral", marks=needs("mistralai")),
    pytest.param(Anthropic(), id="anthropic", marks=needs("anthropic")),
]


@pytest.fixture(params=PROVIDERS)
def provider(request, monkeypatch):
    for name in ("OPENAI", "ANTHROPIC", "MISTRAL"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-test")
    yield request.param
    clear_handles()


only_openai = pytest.mark.parametrize("provider", PROVIDERS[:1], indirect=True)


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


def classifier(provider, server, cache, **options):
    backend = provider.backend(server, **options.pop("backend", {}))
    options = {"signal": provider.signal, **options}
    return LLMClassifier(backend, classes=["ham", "spam"], cache=cache, **options)


def counts(status):
    return status.n_done, status.n_waiting, status.n_failed


def test_rows_are_handed_in_collected_and_read_from_the_cache(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        status = clf.submit_batch(TEXTS)
        assert counts(status) == (2, 4, 0)
        assert status.ids == ("batch_0",)
        assert clf.submit_batch(TEXTS) == status  # handed in once
        server.finish()
        clear_handles()  # as in another process, with another estimator and other rows
        again = classifier(provider, server, cache)
        status = again.submit_batch([*TEXTS[3:], TEXTS[0]])
        assert status.is_done
        assert status.usage.n_requests == 3
        assert again.submit_batch(TEXTS).is_done
        assert len(server.batches) == 1
        server.calls.clear()
        np.testing.assert_allclose(again.predict_proba(TEXTS), [PROBA] * 6, atol=0.01)
        assert server.calls == []
    assert len(server.billed) == 6
    assert set(server.billed.values()) == {1}
    assert len(cache) == 6


@only_openai
def test_what_a_batch_costs_and_may_cost(provider, cache):
    prices = {"m": {"input": 100.0, "output": 100.0, "batch_discount": 0.5}}
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache, prices=prices, budget=Budget(usd=0.01))
        with pytest.raises(BudgetExceeded, match="the batch may take up to"):
            clf.submit_batch(TEXTS)
        assert not server.batches
        clf.set_params(budget=Budget(usd=1.0))
        clf.submit_batch(TEXTS)
        at_once = clf.usage_
        assert (at_once.n_requests, at_once.n_batched) == (2, 0)
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
        assert (clf.usage_.n_requests, clf.usage_.n_batched) == (6, 4)
        assert (clf.usage_ - at_once).usd == pytest.approx(at_once.usd)  # twice as many, half price
        assert clf.budget.spent["usd"] == pytest.approx(clf.usage_.usd)


def test_what_expired_is_handed_in_again_and_nothing_else(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        late = {server.batches["batch_0"].lines[i]["custom_id"] for i in (1, 2)}
        server.finish(expires=lambda line: line["custom_id"] in late)
        assert counts(clf.submit_batch(TEXTS)) == (4, 2, 0)
        assert [len(batch.lines) for batch in server.batches.values()] == [4, 2]
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
    assert set(server.billed.values()) == {1}


def test_what_always_expires_fails_in_the_end(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache, backend={"max_retries": 1})
        for _ in range(3):
            status = clf.submit_batch(TEXTS)
            server.finish(expires=lambda line: True)
        assert counts(status) == (2, 0, 4)
        assert "status 408 after every retry" in status.failure
        assert len(server.batches) == 2


def test_a_line_that_fails_is_the_failure_of_its_row(provider, cache):
    def respond(body):
        if "message 4" in text_of(body):
            return provider.refusal(400, "prompt is too long: 9000 tokens > 8000 maximum")
        return provider.respond(body)

    with BatchServer(respond) as server:
        clf = classifier(provider, server, cache, on_error="nan")
        clf.submit_batch(TEXTS)
        server.finish()
        status = clf.submit_batch(TEXTS)
        assert counts(status) == (5, 0, 1)
        assert "too long" in status.failure
        assert clf.submit_batch(TEXTS) == status
        assert len(server.batches) == 1
        with pytest.warns(UserWarning, match=r"row 4: .* too long"):
            proba = clf.predict_proba(TEXTS)
        assert np.isnan(proba).any(axis=1).tolist() == [False] * 4 + [True, False]
        # Failures of batches are cleared as others are; then the row is handed in once more.
        cache.clear_failures()
        assert counts(clf.submit_batch(TEXTS)) == (5, 1, 0)


def test_a_batch_that_is_refused_as_a_whole_is_an_error(provider, cache):
    if isinstance(provider, Anthropic):
        pytest.skip("Anthropic refuses such a batch at once")
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        server.refusal = {"code": "bad", "message": "This model has no batches", "line": 1}
        clf.submit_batch(TEXTS)
        with pytest.raises(BackendError, match=r"batch_0 was refused.*This model has no batches"):
            clf.submit_batch(TEXTS)
        server.refusal = None
        assert counts(clf.submit_batch(TEXTS)) == (2, 4, 0)
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
    assert set(server.billed.values()) == {1}


def test_a_refused_parameter_is_learned_before_a_batch_is_handed_in(provider, cache):
    name = {OpenAI: "max_tokens", Mistral: "temperature"}.get(type(provider), "temperature")

    def respond(body):
        if name in body:
            return provider.refusal(400, f"`{name}` is not supported with this model.")
        return provider.respond(body)

    with BatchServer(respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        lines = [line.get("body") or line["params"] for line in server.batches["batch_0"].lines]
        assert not any(name in body for body in lines)
        server.finish()
        clear_handles()  # another process has not learned it itself
        assert clf.submit_batch(TEXTS).is_done
    assert set(server.billed.values()) == {1}


@only_openai
def test_what_one_row_is_refused_takes_a_round_more(provider, cache):
    def respond(body):
        if "message 5" in text_of(body) and "temperature" in body:
            return provider.refusal(400, "temperature is not supported", param="temperature")
        return provider.respond(body)

    with BatchServer(respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        server.finish()
        assert counts(clf.submit_batch(TEXTS)) == (5, 1, 0)
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
        assert "temperature" in clf.explain(TEXTS)[5]["notes"][0]
    assert set(server.billed.values()) == {1}


@only_openai
def test_a_dialogue_of_two_steps_takes_two_batches(provider, cache):
    def respond(body):
        if body.get("logprobs"):
            return provider.respond(body)
        return loopback.completion("It says so.")

    with BatchServer(respond) as server:
        clf = classifier(provider, server, cache, signal="reasoned")
        for n_batches in (1, 2):
            assert counts(clf.submit_batch(TEXTS)) == (2, 4, 0)
            assert len(server.batches) == n_batches
            server.finish()
        assert clf.submit_batch(TEXTS).is_done
        np.testing.assert_allclose(clf.predict_proba(TEXTS), [PROBA] * 6, atol=0.01)
    assert len(server.live) == 4
    assert set(server.billed.values()) == {1}


@only_openai
def test_draws_of_one_question_are_lines_of_their_own(provider, cache):
    with BatchServer(lambda body: loopback.completion("A")) as server:
        clf = classifier(provider, server, cache, signal="self_consistency")
        while not clf.submit_batch(TEXTS).is_done:  # it draws more where that may tell more
            server.finish()
        n_draws = len(server.live) + sum(len(batch.lines) for batch in server.batches.values())
        assert n_draws == len(cache)
        assert set(server.billed.values()) == {n_draws // 6}
        assert n_draws > 6


@only_openai
@pytest.mark.parametrize("limits", [Limits(3, 10**6), Limits(100, 1500)])
def test_batches_are_as_large_as_the_provider_takes(provider, cache, limits, monkeypatch):
    from skllm_calib.evidence.backends.openai.batches import OpenAIBatches

    monkeypatch.setattr(OpenAIBatches, "limits", limits)
    texts = [f"message {i}" for i in range(10)]
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        status = clf.submit_batch(texts)
        sizes = [len(batch.lines) for batch in server.batches.values()]
        assert sum(sizes) == 8
        assert len(sizes) == len(status.ids) > 2
        for file in server.files.values():
            assert len(file.splitlines()) <= limits.n_lines
            assert len(file) <= limits.n_bytes
        server.finish()
        assert clf.submit_batch(texts).is_done
    assert set(server.billed.values()) == {1}


@only_openai
def test_where_the_provider_has_no_room_rows_wait_for_what_is_under_way(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        server.refusal = {"code": "token_limit_exceeded", "message": "Enqueued token limit"}
        more = [*TEXTS, "message 6"]
        clf.submit_batch(more)
        status = clf.submit_batch(more)
        assert counts(status) == (2, 5, 0)
        assert len(server.batches) == 2
        server.refusal = None
        server.finish()
        assert counts(clf.submit_batch(more)) == (6, 1, 0)
        server.finish()
        assert clf.submit_batch(more).is_done
        server.refusal = {"code": "token_limit_exceeded", "message": "Enqueued token limit"}
        clf.submit_batch(["message 8"])
        with pytest.raises(RateLimited, match="Enqueued token limit"):
            clf.submit_batch(["message 8"])
    assert set(server.billed.values()) == {1}


@only_openai
def test_a_mistake_that_all_rows_share_is_seen_before_a_batch(provider, cache):
    with BatchServer(lambda body: loopback.refusal(401, "Incorrect API key")) as server:
        with pytest.raises(AuthenticationFailed):
            classifier(provider, server, cache).submit_batch(TEXTS)
        assert not server.files
        assert not server.batches


@only_openai
def test_what_has_no_batches_says_so(provider, cache):
    clf = LLMClassifier(TestingBackend(), classes=["ham", "spam"], cache=cache)
    with pytest.raises(InvalidInput, match="OpenAI, Anthropic and Mistral") as caught:
        clf.submit_batch(TEXTS)
    assert caught.value.parameter == "model"
    with BatchServer(provider.respond) as server:
        server.has_batches = False  # a server of one's own
        clf = classifier(provider, server, cache)
        with pytest.raises(BackendError, match=r"has no batches.*predict_proba"):
            clf.submit_batch(TEXTS)
        azure = classifier(provider, server, cache, backend={"api_version": "2026-01-01"})
        with pytest.raises(InvalidInput, match="Azure") as caught:
            azure.submit_batch(TEXTS)
        assert caught.value.parameter == "api_version"
        with pytest.raises(InvalidInput) as caught:
            classifier(provider, server, None).submit_batch(TEXTS)
        assert caught.value.parameter == "cache"
        with pytest.raises(InvalidInput) as caught:
            clf.submit_batch(TEXTS, wait=-1)
        assert caught.value.parameter == "wait"


@only_openai
def test_wait_looks_until_all_is_done(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        server.n_looks = 3
        assert clf.submit_batch(TEXTS, wait=0.01).is_done
        looks = [call for call in server.calls if call.startswith("GET")]
        assert looks[:4] == ["GET /v1/batches/batch_0"] * 4  # the rows are read after three
        assert [call.rpartition("/")[2] for call in looks[4:]] == ["content"]


@only_openai
def test_an_answer_without_a_label_is_not_asked_for_at_every_look(provider, cache):
    with BatchServer(lambda body: loopback.completion("no label")) as server:
        clf = classifier(provider, server, cache, signal="self_reported", on_error="nan")
        clf.submit_batch(TEXTS)
        server.finish()
        for _ in range(2):
            assert counts(clf.submit_batch(TEXTS)) == (0, 0, 6)
        assert len(server.batches) == 1


@only_openai
def test_a_calibrated_classifier_hands_in_what_its_estimator_asks(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = CalibratedLLMClassifier(classifier(provider, server, cache), method="temperature")
        clf.submit_batch(TEXTS)
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
        server.calls.clear()
        with pytest.warns(UserWarning, match="very few"):
            clf.fit(TEXTS, ["ham", "spam"] * 3)
        assert server.calls == []
        assert counts(clf.submit_batch([*TEXTS, "message 6"])) == (6, 1, 0)


@only_openai
def test_replies_of_batches_are_known_as_such(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        server.finish()
        clf.submit_batch(TEXTS)
    with cache.storage._file.reading() as connection:
        values = connection.execute("SELECT key, value FROM replies").fetchall()
    replies = [json.loads(value) for key, value in values if "-" not in key]
    assert [reply.get("batched", False) for reply in replies].count(True) == 4
    # Lines that were read to the end are gone; what the model takes stays known.
    assert [key.rpartition("-")[0] for key, _ in values if "-" in key] == ["batch-facts"]


@only_openai
def test_an_emptied_cache_knows_of_no_batch(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        cache.clear()
        assert len(cache) == 0
        clf.submit_batch(TEXTS)
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
    assert len(server.batches) == 2


@only_openai
def test_the_command_line_hands_in_and_collects(provider, tmp_path, capsys):
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("text\n" + "\n".join(TEXTS) + '\n""\n')
    with BatchServer(provider.respond) as server:
        argv = ["predict", str(rows), "--text", "text", "--model", "openai:m", "--batch"]
        argv += ["--classes", "ham,spam", "--base-url", f"{server.address}/v1", "--out", str(out)]
        argv += ["--signal", "logprobs"]
        assert main(argv) == 0
        err = capsys.readouterr().err
        assert "2 of 7 rows are done, 1 failed, 4 wait for a batch (batch_0)" in err
        assert not out.exists()
        server.finish()
        assert main(argv) == 0
        assert len(read_table(out).rows) == 7
    assert set(server.billed.values()) == {1}


@only_openai
def test_a_batch_that_the_provider_has_removed(provider, cache, monkeypatch):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        server.batches.clear()
        with pytest.raises(BackendError, match=r"batch_0 is not found.*the key"):
            clf.submit_batch(TEXTS)
        monkeypatch.setattr(ledger, "_KEPT_FOR", 0.0)  # after a month it is asked again
        assert counts(clf.submit_batch(TEXTS)) == (2, 4, 0)
        server.finish()
        assert clf.submit_batch(TEXTS).is_done
    assert set(server.billed.values()) == {1}


@only_openai
def test_lines_that_are_none_change_nothing(provider, cache):
    with BatchServer(provider.respond) as server:
        clf = classifier(provider, server, cache)
        clf.submit_batch(TEXTS)
        server.finish()
        keep = server.keep
        (first, *_) = [line["custom_id"] for line in server.batches["batch_0"].lines]
        odd = [
            b"{",
            b"[1]",
            b'{"custom_id": "other", "response": {"status_code": 200, "body": {}}}',
        ]
        odd += [json.dumps({"custom_id": first, "response": r}).encode() for r in ("x", None)]
        server.keep = lambda content: keep(b"\n".join([content, b"", *odd]))
        assert clf.submit_batch(TEXTS).is_done
        np.testing.assert_allclose(clf.predict_proba(TEXTS), [PROBA] * 6, atol=0.01)
    assert set(server.billed.values()) == {1}
