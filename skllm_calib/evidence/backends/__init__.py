"""Backends: who answers. One folder per provider, all with one contract (``BaseBackend``).

The classes in the table ``PROVIDERS`` are names of this package, imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.backends.base import BaseBackend, Choice, Dropout, Message, Reply, Request
from skllm_calib.evidence.backends.handles import clear_handles
from skllm_calib.evidence.backends.providers import PROVIDERS, Provider, resolve_model

if TYPE_CHECKING:  # what type checkers and editors cannot see in the table
    from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend as AnthropicBackend
    from skllm_calib.evidence.backends.llama_cpp.backend import LlamaCppBackend as LlamaCppBackend
    from skllm_calib.evidence.backends.mistral.backend import MistralBackend as MistralBackend
    from skllm_calib.evidence.backends.openai.backend import OpenAIBackend as OpenAIBackend
    from skllm_calib.evidence.backends.testing import TestingBackend as TestingBackend
    from skllm_calib.evidence.backends.transformers.backend import (
        TransformersBackend as TransformersBackend,
    )

_CLASSES = {
    provider.target.partition(":")[2]: provider
    for provider in PROVIDERS.values()
    if isinstance(provider, Provider)
}

__all__ = [
    "PROVIDERS",
    "AnthropicBackend",
    "BaseBackend",
    "Choice",
    "Dropout",
    "LlamaCppBackend",
    "Message",
    "MistralBackend",
    "OpenAIBackend",
    "Provider",
    "Reply",
    "Request",
    "TestingBackend",
    "TransformersBackend",
    "clear_handles",
    "resolve_model",
]
__all__ += [name for name in _CLASSES if name not in __all__]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return _CLASSES[name].load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
