"""From the `model` parameter of an estimator to a backend.

:data:`PROVIDERS` has a line for each provider of this library. Another package adds its own with
an entry point of the group ``skllm_calib.backends``; see the page "Add a backend".
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.exceptions import InvalidInput, MissingDependency

__all__ = ["PROVIDERS", "Provider", "backend_classes", "resolve_model"]

ENTRY_POINTS = "skllm_calib.backends"
_GEMINI_ADDRESS = "https://generativelanguage.googleapis.com/v1beta/openai/"


class Provider(NamedTuple):
    """Where the backend of a provider is found and how `model` names it.

    Attributes
    ----------
    target : str
        "module:Class" of the backend; imported when the first model of the provider is named.
    form : str
        How `model` is written, as error messages list it. Without a colon the provider stands
        for one model and takes no name.
    parameter : str
        The parameter of the class that takes what stands behind the colon.
    options : mapping
        Further parameters of the class.
    listed : bool
        Whether error messages list it.
    """

    target: str
    form: str
    parameter: str = "model"
    options: Mapping[str, Any] = {}
    listed: bool = True

    def load(self) -> type[BaseBackend]:
        """Import the class."""
        module, _, name = self.target.partition(":")
        backend: type[BaseBackend] = getattr(import_module(module), name)
        return backend

    def __call__(self, name: str) -> BaseBackend:
        """Return the backend of a model."""
        named = {self.parameter: name} if ":" in self.form else {}
        return self.load()(**named, **self.options)


_HERE = "skllm_calib.evidence.backends"

#: The providers of this library by the name before the colon: each a :class:`Provider`, or in
#: tests any function from the name of a model to a backend.
PROVIDERS: dict[str, Provider | Callable[[str], BaseBackend]] = {
    "smollm2": Provider(
        f"{_HERE}.llama_cpp.backend:LlamaCppBackend", "smollm2", options={"model": "smollm2"}
    ),
    "llamacpp": Provider(f"{_HERE}.llama_cpp.backend:LlamaCppBackend", "llamacpp:PATH.gguf"),
    "transformers": Provider(
        f"{_HERE}.transformers.backend:TransformersBackend", "transformers:NAME or FOLDER"
    ),
    "openai": Provider(f"{_HERE}.openai.backend:OpenAIBackend", "openai:NAME"),
    "anthropic": Provider(f"{_HERE}.anthropic.backend:AnthropicBackend", "anthropic:NAME"),
    "mistral": Provider(f"{_HERE}.mistral.backend:MistralBackend", "mistral:NAME"),
    "gemini": Provider(  # Google's models behind the address that speaks OpenAI's API
        f"{_HERE}.openai.backend:OpenAIBackend",
        "gemini:NAME",
        options={"base_url": _GEMINI_ADDRESS, "api_key_env": "GEMINI_API_KEY"},
    ),
    "testing": Provider(f"{_HERE}.testing:TestingBackend", "testing:NAME", "name", listed=False),
}


def resolve_model(model: str | BaseBackend | None) -> BaseBackend:
    """Return the backend for a `model` parameter.

    Parameters
    ----------
    model : str or BaseBackend
        "provider:name", "smollm2" or a backend. Providers are those of this library and those
        that installed packages add with an entry point of the group ``skllm_calib.backends``. If a
        package adds one under a name of ours, ours is used and a warning names the package.

    Returns
    -------
    BaseBackend

    Raises
    ------
    InvalidInput
        For a provider that is unknown or that two packages add, for a missing name, or None.
    TypeError
        If `model` is neither a string nor a backend, or an entry point makes something else than a
        backend.
    MissingDependency
        If the entry point of another package cannot be imported; the message names the package.

    Examples
    --------
    >>> from skllm_calib.backends import resolve_model
    >>> resolve_model("openai:gpt-4o-mini")
    OpenAIBackend(model='gpt-4o-mini')
    """
    if isinstance(model, BaseBackend):
        return model
    if model is None:
        raise InvalidInput(f"model=None: name a language model: {_choices()}", "model")
    if not isinstance(model, str):
        raise TypeError(f"model={model!r}: must be {_choices()}")
    provider, colon, name = model.partition(":")
    added = _added(provider)
    if added is not None and provider in PROVIDERS:
        warnings.warn(
            f"the package {added.packages} adds a provider {provider!r}, which is built in: the "
            "built-in one is used",
            stacklevel=2,
        )
    make = PROVIDERS.get(provider, added)
    takes_name = not isinstance(make, Provider) or ":" in make.form
    if make is None or bool(name) != takes_name or bool(colon) != takes_name:
        raise InvalidInput(_unknown(model), "model", value=model)
    return make(name)


def backend_classes() -> dict[str, type[BaseBackend]]:
    """Import the backends of this library; return the classes by name."""
    providers = (p for p in PROVIDERS.values() if isinstance(p, Provider))
    return {cls.__name__: cls for cls in (provider.load() for provider in providers)}


class _AddedProvider(NamedTuple):
    """A provider that other packages add; more than one of them is a mistake."""

    name: str
    entry_points: tuple[EntryPoint, ...]

    @property
    def packages(self) -> str:
        return ", ".join(
            sorted(repr(each.dist.name if each.dist else each.module) for each in self.entry_points)
        )

    def __call__(self, name: str) -> BaseBackend:
        entry_point, *others = self.entry_points
        if others:
            raise InvalidInput(
                f"model='{self.name}:{name}': the packages {self.packages} all add a provider "
                f"{self.name!r}: uninstall all but one",
                "model",
                value=f"{self.name}:{name}",
            )
        where = f"the package {self.packages}, which adds the provider {self.name!r},"
        try:
            make = entry_point.load()
        except Exception as error:  # whatever the code of somebody else does
            raise MissingDependency(
                f"{where} cannot be loaded from {entry_point.value!r} "
                f"({type(error).__name__}: {error}): upgrade or reinstall it"
            ) from error
        backend = make(name)
        if not isinstance(backend, BaseBackend):
            raise TypeError(f"{where} made {backend!r}, which is not a BaseBackend")
        return backend


def _added(provider: str) -> _AddedProvider | None:
    """Return a provider that other packages add, if there is one of this name."""
    if provider not in PROVIDERS and provider not in _entry_points(tuple(sys.path)):
        _entry_points.cache_clear()  # it may have been installed since
    return _entry_points(tuple(sys.path)).get(provider)


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, _AddedProvider]:
    """Return what the packages on `path`, which is ``sys.path``, add by name."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry_point in entry_points(group=ENTRY_POINTS):
        found[entry_point.name] = (*found.get(entry_point.name, ()), entry_point)
    return {name: _AddedProvider(name, each) for name, each in found.items()}


def _choices() -> str:
    """List what `model` may be."""
    ours = [p.form for p in PROVIDERS.values() if isinstance(p, Provider) and p.listed]
    added = [f"{name}:NAME" for name in _entry_points(tuple(sys.path)) if name not in PROVIDERS]
    forms = ", ".join(map(repr, [*ours, *added]))
    return f"{forms}, or a backend object such as OpenAIBackend(NAME, base_url=...)"


def _unknown(model: str) -> str:
    """Say that no provider has a model, and what is perhaps meant."""
    if model.endswith(".gguf"):
        return f"model={model!r}: for a GGUF file write 'llamacpp:{model}'"
    provider = model.partition(":")[0]
    known = [name for name in (*PROVIDERS, *_entry_points(tuple(sys.path))) if name != provider]
    close = difflib.get_close_matches(provider, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"model={model!r} is unknown: must be {_choices()}.{hint}"
