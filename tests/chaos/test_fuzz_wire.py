"""Replies that are nearly right, over a socket and through the real SDKs, to a row or an error."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import math
import warnings

import numpy as np
import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("openai")

import loopback as openai_form
import loopback_anthropic as anthropic_form
import loopback_mistral as mistral_form
from fuzzing import JUNK, check_row, fuzz_wire, nearly, written, wrongly_typed
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, Loopback, needs_responses

from skllm_calib import LLMClassifier
from skllm_calib.backends import OpenAIBackend, clear_handles
from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend
from skllm_calib.evidence.backends.mistral.backend import MistralBackend
from skllm_calib.exceptions import SkllmCalibError
from skllm_calib.signals import ReasonedSignal, SelfCheckSignal, SelfConsistencySignal

CLASSES = ["ham", "other", "spam"]
TRUTH = {"A": 0.6, "B": 0.3, "C": 0.1}
LISTED = {"A": 0.582, "B": 0.291, "C": 0.097, "The": 0.02, "It": 0.01}
OFF = {"I": 0.6, "The": 0.2, "It": 0.1}
STATED = json.dumps(TRUTH)
NO_NUMBER = '{"reason": "none of these"}'


def has(package):
    return importlib.util.find_spec(package) is not None


needs_anthropic = pytest.mark.skipif(not has("anthropic"), reason="needs anthropic")
needs_mistral = pytest.mark.skipif(not has("mistralai"), reason="needs mistralai")


class Wire:
    """A server that sends what it is told to, and a model behind it that nobody has asked yet."""

    def __init__(self, cache):
        self.cache = cache
        self.raw, self.status, self.api = b"", 200, ""
        self.server = Loopback(self.respond)
        self.numbers = itertools.count()

    def respond(self, body):
        if self.api == "systemone" and "state" not in body:
            return openai_form.refusal(404, "no such address")
        return Answer(self.status, self.raw)

    def backend(self, api):
        name = f"m{next(self.numbers)}"  # what is known of a model is that of another one
        if api == "anthropic":
            return AnthropicBackend(name, base_url=self.server.address, max_retries=0)
        if api == "mistral":
            return MistralBackend(name, base_url=self.server.address, max_retries=0)
        api = api if api == "responses" else "chat"
        return OpenAIBackend(name, base_url=self.server.base_url, max_retries=0, api=api)

    def explain(self, api, signal, raw, status=200, **settings):
        """Return the row of a text and what is known of it; a failed run is a row of NaN."""
        self.raw, self.status, self.api = raw, status, api
        settings = {"cache": None, "on_error": "nan", "signal": signal, **settings}
        clf = LLMClassifier(self.backend(api), classes=CLASSES, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                (proba,) = clf.predict_proba(["some text"])
                return proba, clf
            except SkllmCalibError:
                return np.full(len(CLASSES), np.nan), clf

    def row(self, *args, **settings):
        return self.explain(*args, **settings)[0]


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI", "ANTHROPIC", "MISTRAL"):
            patch.setenv(f"{name}_API_KEY", "sk-test-fuzz")
        for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        clear_handles()
        wire = Wire(tmp_path_factory.mktemp("wire") / "c.sqlite")
        with wire.server:
            yield wire
            clear_handles()


def labels(listed, best, form=openai_form):
    entries = [form.position(token, listed) for token in (best,)]
    return form.completion(best, entries).body


def llama_cpp(body):
    """A chat completion as llama.cpp sends it: tokens have numbers."""
    for position in body["choices"][0]["logprobs"]["content"]:
        for entry in (position, *position["top_logprobs"]):
            entry["id"] = sum(entry["bytes"])
    return body


def response(text, positions=()):
    return openai_form.response(openai_form.output_text(text, positions)).body


def chosen(probabilities):
    return openai_form.decision(openai_form.chosen(probabilities)).body


def systemone(probabilities):
    return openai_form.systemone(probabilities).body


def renamed(probabilities):
    return dict(zip(CLASSES, probabilities.values(), strict=True))


OTHERS = {"x": 0.5, "y": 0.25, "z": 0.25}
# By API and signal: replies with the truth, and replies without an answer.
REPLIES = {
    ("chat", "logprobs"): (
        [labels(LISTED, "A"), labels(LISTED, "B"), llama_cpp(labels(LISTED, "A"))],
        [labels(OFF, "I"), openai_form.completion("I").body],
    ),
    ("responses", "logprobs"): (
        [response("A", [openai_form.position("A", LISTED)])],
        [response("I", [openai_form.position("I", OFF)])],
    ),
    ("mistral", "logprobs"): (
        [labels(LISTED, "A", mistral_form)],
        [labels(OFF, "I", mistral_form)],
    ),
    ("chat", "decisions"): ([chosen(renamed(TRUTH))], [chosen(OTHERS)]),
    ("systemone", "decisions"): ([systemone(renamed(TRUTH))], [systemone(OTHERS)]),
    ("chat", "self_reported"): (
        [openai_form.completion(STATED).body],
        [openai_form.completion(NO_NUMBER).body],
    ),
    ("responses", "self_reported"): ([response(STATED)], [response(NO_NUMBER)]),
    ("anthropic", "self_reported"): (
        [anthropic_form.message(STATED).body, anthropic_form.message(STATED, thinking="Hm").body],
        [anthropic_form.message(NO_NUMBER).body],
    ),
    ("mistral", "self_reported"): (
        [
            mistral_form.completion(STATED).body,
            mistral_form.completion([mistral_form.thinking("Hm"), mistral_form.said(STATED)]).body,
        ],
        [mistral_form.completion(NO_NUMBER).body],
    ),
}
NEEDED = {"anthropic": needs_anthropic, "mistral": needs_mistral, "responses": needs_responses}
every_form = pytest.mark.parametrize(
    ("api", "signal"),
    [
        pytest.param(api, signal, marks=NEEDED.get(api, ()), id=f"{api}-{signal}")
        for api, signal in REPLIES
    ],
)


@every_form
def test_a_reply_that_is_right(wire, api, signal):
    for body in REPLIES[api, signal][0]:
        row = wire.row(api, signal, written(body))
        np.testing.assert_allclose(row, list(TRUTH.values()), atol=0.01)
    for body in REPLIES[api, signal][1]:
        assert np.isnan(wire.row(api, signal, written(body))).all()


@every_form
@fuzz_wire
@given(data=st.data())
def test_a_reply_that_is_nearly_right_is_a_row_or_an_error(wire, api, signal, data):
    has_answer = data.draw(st.booleans())
    body = data.draw(nearly(REPLIES[api, signal][0 if has_answer else 1]))
    has_row = check_row(wire.row(api, signal, written(body)))
    assert has_answer or not has_row


@every_form
@fuzz_wire
@given(data=st.data())
def test_a_value_of_another_type_is_never_another_number(wire, api, signal, data):
    if signal == "self_reported":
        body = data.draw(wrongly_typed(REPLIES[api, signal][0], ("content", "output")))
    else:
        body = data.draw(wrongly_typed(REPLIES[api, signal][0]))
    row, clf = wire.explain(api, signal, written(body))
    if check_row(row) and not np.allclose(row, list(TRUTH.values()), atol=0.02):
        (record,) = clf.explain(["some text"])
        assert signal == "logprobs"
        for name, p in zip(CLASSES, list(LISTED.values())[:3], strict=True):
            low, high = (record[f"label_mass_{side}"][name] for side in ("low", "high"))
            assert low - 1e-3 <= p <= high + 1e-3, (row, record)


def first_listed(body):
    return body["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]


def best_option(body):
    return body["answers"][0]["probabilities"][0]


# What was found so: a change in a right reply, after which there was another error, or a wrong row.
FOUND = {
    "a log-probability is a text": lambda body: first_listed(body).update(logprob="high"),
    "a log-probability is null, later ones are not": (
        lambda body: first_listed(body).update(logprob=None)
    ),
    "a log-probability is missing": lambda body: first_listed(body).pop("logprob"),
    "a log-probability has 400 digits": lambda body: first_listed(body).update(logprob=10**400),
    "a token is a number": (
        lambda body: body["choices"][0]["logprobs"]["content"][0]["top_logprobs"].insert(0, 5)
    ),
    "the bytes of a token are one number": lambda body: first_listed(body).update(bytes=10**12),
    "a list of tokens is a text": (
        lambda body: body["choices"][0]["logprobs"]["content"][0].update(top_logprobs="AB")
    ),
    "numbers with 5000 digits": lambda body: body.update(created="@digits@"),
    "lists in lists": lambda body: body.update(created="@nested@"),
}
FOUND_IN_DECISIONS = {
    "a probability is true": lambda body: best_option(body).update(probability=True),
    "a probability has 400 digits": lambda body: best_option(body).update(probability=10**400),
    "a probability is null, and much is left": (
        lambda body: best_option(body).update(probability=None)
    ),
    "an option is missing, and much is left": lambda body: body["answers"][0]["probabilities"].pop(
        0
    ),
    "probabilities sum to 1.4": lambda body: best_option(body).update(probability=1.0),
    "an option has two probabilities": lambda body: body["answers"][0]["probabilities"].append(
        {"value": "ham", "probability": 0.1}
    ),
}


@pytest.mark.parametrize(
    ("signal", "change"),
    [("logprobs", name) for name in FOUND] + [("decisions", name) for name in FOUND_IN_DECISIONS],
)
def test_what_was_found_is_a_failed_row(wire, signal, change):
    body = copy.deepcopy(REPLIES["chat", signal][0][1 if signal == "logprobs" else 0])
    (FOUND | FOUND_IN_DECISIONS)[change](body)
    assert np.isnan(wire.row("chat", signal, written(body))).all()


def test_counts_of_tokens_that_are_none_cost_no_row(wire):
    for api, signal in (("chat", "logprobs"), ("systemone", "decisions")):
        for count in ("many", 10**400, math.inf, [], True):
            body = copy.deepcopy(REPLIES[api, signal][0][0])
            body["usage"] = {"prompt_tokens": count, "input_tokens": count}
            row, clf = wire.explain(api, signal, written(body), cache=wire.cache)
            assert check_row(row)
            n_asked = len(wire.server.seen)
            clf.predict_proba(["some text"])
            assert len(wire.server.seen) == n_asked  # it was kept


CHAT = [*REPLIES["chat", "logprobs"][0], openai_form.completion("A").body]


@pytest.mark.parametrize(
    "signal",
    [
        "p_true",
        SelfConsistencySignal(n_draws=2),
        SelfCheckSignal(n_draws=2),
        ReasonedSignal(),
        ReasonedSignal(read="label"),
    ],
    ids=lambda signal: signal if isinstance(signal, str) else repr(signal)[:22],
)
@fuzz_wire
@given(body=nearly(CHAT))
def test_signals_of_several_questions(wire, signal, body):
    check_row(wire.row("chat", signal, written(body)))


ERRORS = [
    openai_form.refusal(400, "max_tokens is below minimum value, must be >= 16").body,
    openai_form.refusal(400, "context length is 8192 tokens, the prompt has 9000 tokens").body,
    anthropic_form.refusal(400, "prompt is too long: 9000 tokens > 8192 maximum").body,
    mistral_form.forbidden("random_seed").body,
    {"detail": [{"loc": ["body", "temperature"], "msg": "no", "type": "x"}]},
    [{"error": {"code": 400, "message": "no", "details": [{"reason": "API_KEY_INVALID"}]}}],
]


@pytest.mark.parametrize(
    "api",
    ["chat", *(pytest.param(api, marks=NEEDED[api]) for api in ("anthropic", "mistral"))],
)
@fuzz_wire
@given(
    body=st.one_of(nearly(ERRORS), JUNK),
    status=st.sampled_from([200, 400, 401, 403, 404, 413, 422, 500, 501, 503]),
)
def test_errors_that_are_nearly_right(wire, api, body, status):
    assert np.isnan(wire.row(api, "self_reported", written(body), status)).all()


@fuzz_wire
@given(data=st.data())
def test_bytes_that_are_nearly_right(wire, data):
    raw = bytearray(written(data.draw(st.sampled_from(REPLIES["chat", "logprobs"][0]))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    check_row(wire.row("chat", "logprobs", bytes(raw)))
