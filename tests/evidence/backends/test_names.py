from __future__ import annotations

import pytest

from skllm_calib.backends import (
    AnthropicBackend,
    LlamaCppBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    resolve_model,
)


def test_names_and_backends():
    assert isinstance(resolve_model("smollm2"), LlamaCppBackend)
    assert resolve_model("llamacpp:/some/where.gguf").model == "/some/where.gguf"
    assert resolve_model("openai:gpt-4o:2024").model == "gpt-4o:2024"
    assert isinstance(resolve_model("openai:m"), OpenAIBackend)
    assert resolve_model("testing:mine").name == "mine"
    assert isinstance(resolve_model("anthropic:claude"), AnthropicBackend)
    assert isinstance(resolve_model("mistral:small"), MistralBackend)
    assert resolve_model("transformers:org/name").model == "org/name"
    gemini = resolve_model("gemini:flash")
    assert (gemini.model, gemini.api_key_env) == ("flash", "GEMINI_API_KEY")
    assert gemini.base_url.startswith("https://generativelanguage.googleapis.com/")
    backend = TestingBackend()
    assert resolve_model(backend) is backend


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (None, "say which language model.*smollm2.*llamacpp:PATH.*openai:NAME"),
        ("gpt-4o", "is unknown.*openai:NAME"),
        ("openia:gpt-4o", "Did you mean 'openai'"),
        ("smolm2", "Did you mean 'smollm2'"),
        ("openai:", "is unknown"),
        ("/models/m.gguf", "write 'llamacpp:/models/m.gguf'"),
        ("", "is unknown"),
    ],
)
def test_unknown_names(model, problem):
    with pytest.raises(ValueError, match=problem):
        resolve_model(model)


def test_neither_name_nor_backend():
    with pytest.raises(TypeError, match="model=7"):
        resolve_model(7)
