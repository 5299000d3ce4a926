"""The same model in process and behind HTTP gives the same probabilities, all the way through."""

import numpy as np
import pytest

from skllm_calib import LlamaCppBackend, LLMClassifier, OpenAIBackend, Prompt
from skllm_calib.datasets import load_messages

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
    X = load_messages().data[:6]
    local = LlamaCppBackend("smollm2", n_ctx=1024)
    served = OpenAIBackend("smollm2", base_url=local.http_address(), max_concurrency=1)
    proba = {
        name: LLMClassifier(
            backend, classes=classes, prompt=Prompt(answer=answer), cache=None
        ).predict_proba(X)
        for name, backend in (("local", local), ("served", served))
    }
    np.testing.assert_allclose(proba["served"], proba["local"], atol=1e-3)
