"""Backends: who answers. One folder per provider, all with one contract (``BaseBackend``).

The classes in the table ``PROVIDERS`` are names of this package, imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.backends.base import BaseBackend, Choice, Dropout, Message, Reply, Request
from skllm_calib.evidence.backends.handles import clear_handles, get_handle
from skllm_calib.evidence.backends.pool import answer_all
from skllm_calib.evidence.backends.providers import PROVIDERS, Provider, resolve_model
from skllm_calib.evidence.label_tokens import LabelTree, Token

if TYPE_CHECKING:  # what type checkers and editors cannot see in the table
    from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend as AnthropicBackend
    from skllm_calib.evidence.backends.llama_cpp.backend import LlamaCppBackend as LlamaCppBackend
    from skllm_calib.evidence.backends.mistral.backend import MistralBackend as MistralBackend
    from skllm_calib.evidence.backends.openai.backend import OpenAIBackend as OpenAIBackend
    from skllm_calib.evidence.backends.testing import TestingBackend as TestingBackend
    from skllm_calib.evidence.backends.transformers.backend import (
        TransformersBackend as TransformersBackend,
    )


def _classes() -> dict[str, Provider]:
    table = (provider for provider in PROVIDERS.values() if isinstance(provider, Provider))
    return {provider.target.partition(":")[2]: provider for provider in table}


__all__ = [
    "PROVIDERS",
    "AnthropicBackend",
    "BaseBackend",
    "Choice",
    "Dropout",
    "LabelTree",
    "LlamaCppBackend",
    "Message",
    "MistralBackend",
    "OpenAIBackend",
    "Provider",
    "Reply",
    "Request",
    "TestingBackend",
    "Token",
    "TransformersBackend",
    "answer_all",
    "clear_handles",
    "get_handle",
    "resolve_model",
]
__all__ += [name for name in _classes() if name not in __all__]


def __getattr__(name: str) -> Any:
    if name in (classes := _classes()):
        return classes[name].load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
