"""What a run used: requests and tokens, and what the cache answered."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts that add up over rows and runs.

    Attributes
    ----------
    n_requests : int
        Requests answered by the model in this run.
    n_cache_hits : int
        Requests answered from the cache, at no cost.
    prompt_tokens, completion_tokens : int
        Tokens read and written by the model in this run.

    Examples
    --------
    >>> Usage(n_requests=1, prompt_tokens=20) + Usage(n_cache_hits=1)
    Usage(n_requests=1, n_cache_hits=1, prompt_tokens=20, completion_tokens=0)
    """

    n_requests: int = 0
    n_cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.n_requests + other.n_requests,
            self.n_cache_hits + other.n_cache_hits,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )
