"""What a model charges for tokens: a dated table in ``prices.json``, which users may override.

Only what has a source is in the table. A model that is not in it has no price, and whatever needs
one says so. What a provider charges for writing to its own cache, and the higher prices of very
long prompts, are not in it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from skllm_calib.exceptions import InvalidInput

__all__ = ["ENVIRONMENT", "Price", "Prices", "price_of"]

ENVIRONMENT = "SKLLM_CALIB_PRICES"
"""The environment variable that names a file of prices."""

Prices = Mapping[str, Any] | str | os.PathLike[str]
"""Prices by model, or the path of a JSON file of them."""

_ON_THIS_MACHINE = frozenset({"llama_cpp", "transformers", "testing"})
# What follows the name of a model in those of its dated versions.
_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$")
_NUMBERS = ("input", "output", "cached_input", "decision_output", "batch_discount")
_FORM = (
    'must map models to prices in dollars per million tokens, such as {"my-model": [0.15, 0.60]} '
    'for tokens read and written or {"my-model": {"input": 0.15, "cached_input": 0.075, '
    '"output": 0.60, "batch_discount": 0.5}}, or be the path of a JSON file of these'
)


class Price(NamedTuple):
    """What a model charges, in dollars per million tokens.

    Attributes
    ----------
    input, output : float
        For tokens read and written.
    cached_input : float or None
        For tokens that the provider read before and reuses; None: the same as `input`.
    decision_output : float or None
        For tokens written at a decision endpoint; None: the same as `output`.
    batch_discount : float
        What part of it a batch API takes off, in [0, 1].
    as_of, source : str
        When it was true, and according to whom.
    """

    input: float
    output: float
    cached_input: float | None = None
    decision_output: float | None = None
    batch_discount: float = 0.0
    as_of: str = ""
    source: str = ""

    def cost(
        self,
        prompt_tokens: float,
        completion_tokens: float,
        cached_tokens: float = 0,
        *,
        is_decision: bool = False,
        in_batch: bool = False,
    ) -> float:
        """Return what a request costs, in dollars.

        Parameters
        ----------
        prompt_tokens, completion_tokens : float
            Tokens read and written.
        cached_tokens : float, default=0
            How many of those read the provider reused.
        is_decision : bool, default=False
            Whether a decision endpoint answered.
        in_batch : bool, default=False
            Whether it went through a batch API.

        Examples
        --------
        >>> Price(0.15, 0.60, cached_input=0.075).cost(1_000_000, 0, cached_tokens=400_000)
        0.12
        """
        cached_price = self.input if self.cached_input is None else self.cached_input
        written = self.output
        if is_decision and self.decision_output is not None:
            written = self.decision_output
        dollars = (
            (prompt_tokens - cached_tokens) * self.input
            + cached_tokens * cached_price
            + completion_tokens * written
        ) / 1e6
        return dollars * (1 - self.batch_discount) if in_batch else dollars

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing, as on this machine."""
        return self.input == self.output == 0

    def __str__(self) -> str:
        if self.is_free:
            return "free"
        dated = f", as of {self.as_of}" if self.as_of else ""
        return f"${self.input:g} read, ${self.output:g} written per million tokens{dated}"


_FREE = Price(0.0, 0.0, 0.0, source="a model on this machine")


def price_of(identity: Mapping[str, Any], prices: Prices | None = None) -> Price | None:
    """Return the price of a model, None where none is known.

    Parameters
    ----------
    identity : mapping
        What a backend's ``identity`` returns: "provider", "model" and, behind an address,
        "base_url". The table knows providers by the host of the address, so that another server
        with models of the same names has no price.
    prices : mapping or path or None, default=None
        Prices that go before those of the table, by name of the model or pattern ("my-*"): a pair
        (read, written), or a mapping with "input", "output" and, where they differ,
        "cached_input", "decision_output" and "batch_discount". None takes the file that the
        environment variable ``SKLLM_CALIB_PRICES`` names, if it is set.

    Returns
    -------
    Price or None

    Raises
    ------
    InvalidInput
        If `prices`, or the file, are not of this form.

    Examples
    --------
    >>> openai = {"provider": "openai", "base_url": "https://api.openai.com/v1"}
    >>> price_of({**openai, "model": "gpt-4o-mini-2024-07-18"}).input
    0.15
    >>> price_of({**openai, "model": "no-such-model"}) is None
    True
    >>> price_of({**openai, "model": "no-such-model"}, {"no-such-*": (2, 8)}).output
    8.0
    """
    model = str(identity.get("model"))
    if prices is None:
        prices = os.environ.get(ENVIRONMENT) or None
    if prices is not None and (own := _find(_given(prices), model, identity)) is not None:
        return own
    if identity.get("provider") in _ON_THIS_MACHINE:
        return _FREE
    return _find(_table(), model, identity)


class _Listed(NamedTuple):
    """The prices of one provider, or of all of them."""

    hosts: tuple[str, ...] | None
    prices: dict[str, Price]


def _find(listed: tuple[_Listed, ...], model: str, identity: Mapping[str, Any]) -> Price | None:
    host = urlsplit(str(identity.get("base_url") or "")).hostname
    for one in listed:
        if one.hosts is not None and host not in one.hosts:
            continue
        for name in (model, _DATE.sub("", model)):
            if name in one.prices:
                return one.prices[name]
        patterns = [pattern for pattern in one.prices if fnmatchcase(model, pattern)]
        if patterns:
            return one.prices[max(patterns, key=len)]
    return None


@lru_cache(maxsize=1)
def _table() -> tuple[_Listed, ...]:
    text = resources.files(__package__).joinpath("prices.json").read_text(encoding="utf-8")
    return _read(json.loads(text), "prices.json")


def _given(prices: Prices) -> tuple[_Listed, ...]:
    if isinstance(prices, Mapping):
        return _read(prices, "prices")
    if not isinstance(prices, str | os.PathLike):
        raise InvalidInput(f"prices={prices!r} {_FORM}", "prices", value=prices)
    path = Path(prices).expanduser()
    try:
        stat = path.stat()
        return _from_file(str(path), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise InvalidInput(
            f"the file of prices {str(prices)!r} cannot be read ({error.strerror}): correct the "
            f"path in prices=, or in the environment variable {ENVIRONMENT}",
            "prices",
            value=str(prices),
        ) from error


@lru_cache(maxsize=16)
def _from_file(path: str, modified: int, size: int) -> tuple[_Listed, ...]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (RecursionError, ValueError) as error:
        raise InvalidInput(f"{path!r} is not JSON ({error}); it {_FORM}", "prices") from error
    return _read(content, path)


def _read(content: Any, where: str) -> tuple[_Listed, ...]:
    """Read prices by model, or a table like ours."""
    if not isinstance(content, Mapping):
        raise InvalidInput(f"{where}: {content!r:.80} {_FORM}", "prices", value=content)
    if "providers" not in content:
        return (_Listed(None, {str(k): _price(v, str(k)) for k, v in content.items()}),)
    try:
        return tuple(_provider(content, one) for one in content["providers"].values())
    except (AttributeError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{where}: 'providers' must map names to objects with 'hosts' and 'models' ({error!r})",
            "prices",
        ) from error


def _provider(content: Mapping[str, Any], provider: Mapping[str, Any]) -> _Listed:
    shared = {"as_of": content.get("as_of", "")}
    shared |= {k: provider[k] for k in ("as_of", "source", "batch_discount") if k in provider}
    models = provider["models"].items()
    prices = {name: _price({**shared, **price}, name) for name, price in models}
    return _Listed(tuple(provider["hosts"]), prices)


def _price(value: Any, model: str) -> Price:
    if isinstance(value, Price):
        return value
    if isinstance(value, tuple | list) and len(value) == 2:
        value = dict(zip(("input", "output"), value, strict=True))
    if not isinstance(value, Mapping) or not {"input", "output"} <= value.keys():
        raise InvalidInput(f"prices[{model!r}]={value!r}: prices {_FORM}", "prices", value=value)
    numbers: dict[str, Any] = {n: value[n] for n in _NUMBERS if value.get(n) is not None}
    for name, number in numbers.items():
        most = 1 if name == "batch_discount" else math.inf
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not (is_number and 0 <= number <= most and math.isfinite(number)):
            raise InvalidInput(
                f"prices[{model!r}]: {name}={number!r} must be a number, 0 or more"
                + (" and at most 1" if most == 1 else ""),
                "prices",
                value=number,
            )
        numbers[name] = float(number)
    as_of, source = (str(value.get(name, "")) for name in ("as_of", "source"))
    return Price(**numbers, as_of=as_of, source=source)
