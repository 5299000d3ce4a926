"""From the `model` parameter of an estimator to a backend."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from skllm_calib.evidence.backends.anthropic.backend import AnthropicBackend
from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.backends.llama_cpp.backend import LlamaCppBackend
from skllm_calib.evidence.backends.mistral.backend import MistralBackend
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.evidence.backends.testing import TestingBackend
from skllm_calib.evidence.backends.transformers.backend import TransformersBackend

__all__ = ["resolve_model"]

# Google's models behind the address that speaks OpenAI's API.
_GEMINI_ADDRESS = "https://generativelanguage.googleapis.com/v1beta/openai/"
_PROVIDERS: dict[str, Callable[[str], BaseBackend]] = {
    "anthropic": AnthropicBackend,
    "gemini": lambda name: OpenAIBackend(
        name, base_url=_GEMINI_ADDRESS, api_key_env="GEMINI_API_KEY"
    ),
    "llamacpp": LlamaCppBackend,
    "mistral": MistralBackend,
    "openai": OpenAIBackend,
    "testing": lambda name: TestingBackend(name=name),
    "transformers": TransformersBackend,
}
_CHOICES = (
    "'smollm2' (a small model on this machine), 'llamacpp:PATH.gguf', 'transformers:NAME or "
    "FOLDER', 'openai:NAME' (for example 'openai:gpt-4o-mini'), 'anthropic:NAME', 'mistral:NAME', "
    "'gemini:NAME', or a backend object such as OpenAIBackend(NAME, base_url=...)"
)


def resolve_model(model: str | BaseBackend | None) -> BaseBackend:
    """Return the backend for a `model` parameter.

    Parameters
    ----------
    model : str or BaseBackend
        "smollm2", "provider:name", or a backend.

    Returns
    -------
    BaseBackend

    Raises
    ------
    ValueError
        For a name that no backend has, or None.
    TypeError
        For what is neither a name nor a backend.

    Examples
    --------
    >>> from skllm_calib.backends import resolve_model
    >>> resolve_model("openai:gpt-4o-mini")
    OpenAIBackend(model='gpt-4o-mini')
    """
    if isinstance(model, BaseBackend):
        return model
    if model is None:
        raise ValueError(f"model=None: say which language model to ask: {_CHOICES}")
    if not isinstance(model, str):
        raise TypeError(f"model={model!r}: must be {_CHOICES}")
    if model == "smollm2":
        return LlamaCppBackend("smollm2")
    provider, colon, name = model.partition(":")
    if colon and name and provider in _PROVIDERS:
        return _PROVIDERS[provider](name)
    if model.endswith(".gguf"):
        raise ValueError(f"model={model!r}: for a GGUF file write 'llamacpp:{model}'")
    close = difflib.get_close_matches(provider, ["smollm2", *_PROVIDERS], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"model={model!r} is unknown: must be {_CHOICES}.{hint}")
