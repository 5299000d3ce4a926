"""The same model in process and behind HTTP gives the same probabilities, all the way through.

And what else a real server says to the requests of the OpenAI backend.
"""

import importlib.util
import json

import numpy as np
import pytest

from skllm_calib import LlamaCppBackend, LLMClassifier, OpenAIBackend, Prompt
from skllm_calib.backends import Choice, Message, Reply, Request
from skllm_calib.datasets import load_messages
from skllm_calib.exceptions import SignalUnavailable

pytestmark = pytest.mark.local_llm


@pytest.mark.usefixtures("smollm2")
@pytest.mark.parametrize(
    ("classes", "answer"),
    [
        (["negative", "positive"], "words"),
        (["negative", "positive"], "keys"),
        (["not urgent", "urgent", "spam", "spam mail"], "words"),
    ],
)
def test_sdk_and_in_process_agree(classes, answer):
    X = load_messages().data[:3]
    local = LlamaCppBackend("smollm2", n_ctx=1024)
    served = OpenAIBackend("smollm2", base_url=local.http_address(), max_concurrency=1)
    proba = {
        name: LLMClassifier(
            backend, classes=classes, prompt=Prompt(answer=answer), cache=None
        ).predict_proba(X)
        for name, backend in (("local", local), ("served", served))
    }
    # Behind HTTP, how a key goes on ("A customer ...") is known where it is drawn, and only there.
    # In process, what changes no label by three thousandths is left out.
    atol = 0.1 if answer == "keys" else 1e-2
    np.testing.assert_allclose(proba["served"], proba["local"], atol=atol)


TURNS = (
    Message("system", "Classify the message. Answer in JSON: spam or ham."),
    Message("user", "You won a free prize. Click the link now."),
)
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["spam", "ham"]}},
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.fixture
def served(smollm2):
    address = LlamaCppBackend("smollm2", n_ctx=1024).http_address()
    return OpenAIBackend("smollm2", base_url=address, reasoning_budget=0)


def ask(backend, **options):
    ((_, reply),) = backend.run([Request(TURNS, **{"max_tokens": 40, **options})])
    return reply


def test_a_schema_is_kept(served):
    reply = ask(served, schema=json.dumps(SCHEMA))
    assert json.loads(reply.text)["label"] in ("spam", "ham")
    assert reply.refused == ()


def test_a_schema_that_the_server_cannot_read_is_left_out(served):
    reply = ask(served, schema=json.dumps({"$ref": "#/nowhere"}))
    assert isinstance(reply, Reply)
    assert reply.refused == ("schema",)
    assert ask(served, schema=json.dumps(SCHEMA)).refused == ()  # others are still sent


needs_responses = pytest.mark.skipif(
    importlib.util.find_spec("openai.resources.responses") is None, reason="older openai"
)
needs_decisions = pytest.mark.skipif(
    importlib.util.find_spec("openai.resources.decisions") is None, reason="older openai"
)


@needs_responses
def test_text_through_the_responses_api(served):
    reply = ask(served.set_params(api="responses"), max_tokens=20)
    assert reply.text
    assert reply.prompt_tokens > 10


@needs_responses
def test_the_responses_api_of_llama_cpp_lists_nothing(served):
    failure = ask(served.set_params(api="responses"), answers=("A", "B"))
    assert isinstance(failure, SignalUnavailable)
    assert "shows no log-probabilities here" in str(failure)


@needs_decisions
def test_llama_cpp_has_no_decisions(served):
    failure = ask(served, choices=(Choice("spam"), Choice("ham")))
    assert isinstance(failure, SignalUnavailable)
    assert "no decision endpoint" in str(failure)
