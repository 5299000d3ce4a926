"""Backends: one file a provider, all with one contract (see :class:`BaseBackend`)."""

from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend
from skllm_calib.evidence.backends.base import BaseBackend, Choice, Dropout, Message, Reply, Request
from skllm_calib.evidence.backends.llama_cpp.backend import LlamaCppBackend
from skllm_calib.evidence.backends.mistral.backend import MistralBackend
from skllm_calib.evidence.backends.names import resolve_model
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.evidence.backends.registry import clear_handles
from skllm_calib.evidence.backends.testing import TestingBackend
from skllm_calib.evidence.backends.transformers.backend import TransformersBackend

__all__ = [
    "AnthropicBackend",
    "BaseBackend",
    "Choice",
    "Dropout",
    "LlamaCppBackend",
    "Message",
    "MistralBackend",
    "OpenAIBackend",
    "Reply",
    "Request",
    "TestingBackend",
    "TransformersBackend",
    "clear_handles",
    "resolve_model",
]
