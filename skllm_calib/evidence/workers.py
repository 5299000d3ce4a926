"""Worker: asks for what a cache does not know, while others may need the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.storage.base import understood

__all__ = ["Worker"]

T = TypeVar("T")


class Worker(Generic[T]):
    """Claims keys, asks for them elsewhere, and keeps each reply as it arrives.

    Parameters
    ----------
    cache : ResponseCache
        Where the replies are kept.
    read : callable
        Makes an object of a kept value; raises ValueError if the value is damaged.
    """

    def __init__(self, cache: ResponseCache, read: Callable[[str], T]) -> None:
        self._cache = cache
        self._read = read
        self._claims = cache.storage.claims()

    def known(self, keys: Sequence[str]) -> dict[str, T]:
        """Return those of `keys` that are known; a damaged value is not."""
        found, _ = understood(self._cache.get_many(keys), self._read)
        return found

    def claim(self, keys: Sequence[str]) -> tuple[dict[str, T], list[str]]:
        """Claim the keys that are not known and that nobody else is asking for.

        Damaged values are removed, with a warning: they are asked for again.

        Parameters
        ----------
        keys : sequence of str

        Returns
        -------
        known : dict of str to object
            What is known by now.
        mine : list of str
            Keys to ask for, and then to :meth:`release`; others ask for the rest.
        """
        known, mine, n_damaged = self._claims.claim(keys, self._read)
        if n_damaged:
            warnings.warn(
                f"{n_damaged} replies in the response cache {str(self._cache.path)!r} were "
                "damaged: they are removed and asked for again",
                UserWarning,
                stacklevel=2,
            )
        return cast(dict[str, T], known), mine

    def keep(self, key: str, value: str) -> None:
        """Save a reply; when it returns, the reply survives the death of this process."""
        self._claims.keep(key, value)

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give up claims, None for all; what was kept is there for everybody."""
        self._claims.release(keys)
