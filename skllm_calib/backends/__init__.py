"""Backends: one file a provider, all with one contract (see :class:`BaseBackend`)."""

from skllm_calib.backends.anthropic import AnthropicBackend
from skllm_calib.backends.base import BaseBackend, Choice, Dropout, Message, Reply, Request
from skllm_calib.backends.llama_cpp import LlamaCppBackend
from skllm_calib.backends.mistral import MistralBackend
from skllm_calib.backends.names import resolve_model
from skllm_calib.backends.openai import OpenAIBackend
from skllm_calib.backends.registry import clear_handles
from skllm_calib.backends.testing import TestingBackend
from skllm_calib.backends.transformers import TransformersBackend

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
