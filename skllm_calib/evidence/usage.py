"""What a run used: requests and tokens, what they cost, and what the cache answered."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from skllm_calib.utils.layout import dollars

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts that add up over rows and runs.

    Attributes
    ----------
    n_requests : int
        Requests answered by the model, failures that were charged for included.
    n_cache_hits : int
        Requests answered from the cache, at no cost.
    prompt_tokens, completion_tokens : int
        Tokens read and written by the model.
    cached_tokens : int
        How many of those read the provider reused from an earlier request, at a lower price.
    n_batched : int
        How many of the requests went through a batch API, at its discount.
    usd : float
        What the requests cost, in dollars, as far as their prices are known.
    n_unpriced : int
        How many of the requests are of a model whose price is not known.

    Examples
    --------
    >>> usage = Usage(n_requests=1, prompt_tokens=20, usd=0.01) + Usage(n_cache_hits=1)
    >>> usage
    Usage(n_requests=1, n_cache_hits=1, prompt_tokens=20, usd=0.01)
    >>> print(usage)
    20 tokens, $0.010
    """

    n_requests: int = 0
    n_cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    n_batched: int = 0
    usd: float = 0.0
    n_unpriced: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, self._values(), other._values()))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*map(operator.sub, self._values(), other._values()))

    def _values(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self.__slots__)

    @property
    def n_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain values; "usd" is None where not all of it is known."""
        known = {"usd": None if self.n_unpriced else self.usd}
        return {**asdict(self), **known}

    def __str__(self) -> str:
        tokens = f"{self.n_tokens:,} tokens" if self.n_tokens else ""
        return ", ".join(filter(None, (tokens, dollars(self.usd) if self.usd else "")))

    def __repr__(self) -> str:
        counts = zip(self.__slots__, self._values(), strict=True)
        shown = [f"{name}={n:.6g}" if name == "usd" else f"{name}={n}" for name, n in counts if n]
        return f"Usage({', '.join(shown)})"
