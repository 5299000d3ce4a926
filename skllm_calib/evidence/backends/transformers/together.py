"""Several prompts in one forward pass: what they share is read once, the rest side by side.

A matrix product does not add up in the same order alone and in company, so that the last digits of
a row's numbers depend on its company.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from skllm_calib.evidence.backends.transformers.labels import Path, Walk

__all__ = ["SideBySide", "copies", "is_plain", "n_shared", "repeatable"]

# Reads some more tokens in each row: (rows, cache, mask, positions) to log-probabilities and cache.
_Step = Callable[[Sequence[Sequence[int]], Any, list[list[int]], list[list[int]]], tuple[Any, Any]]


class SideBySide:
    """Prompts with a common beginning, and what may be written behind each.

    Parameters
    ----------
    step : callable
        Reads on with the model.
    tails : sequence of sequence of int
        What follows on the common beginning in each prompt.
    start : int
        Tokens of the common beginning.
    cache : object
        The model's memory of it; it is left as it is.
    """

    def __init__(self, step: _Step, tails: Sequence[Sequence[int]], start: int, cache: Any) -> None:
        self._step, self._start = step, start
        self._width = max(map(len, tails))
        # Shorter ones are filled up in front, so that all end at the same place.
        self._gaps = [self._width - len(tail) for tail in tails]
        rows = [[tail[0]] * gap + list(tail) for gap, tail in zip(self._gaps, tails, strict=True)]
        self._at_end, self._cache = self._read(rows, copies(cache, len(rows)), self._gaps, 0)

    def follow(self, walks: Sequence[Walk], most: int) -> None:
        """Read on until no walk wants more, at most so many beginnings of labels at a time."""
        while wanted := [(path, row) for row, walk in enumerate(walks) for path in walk.wanted]:
            wanted.sort(key=lambda pair: (len(pair[0]), pair))
            for length, group in itertools.groupby(wanted, key=lambda pair: len(pair[0])):
                same = list(group)
                for i in range(0, len(same), most):
                    for path, row, logprobs in self._ahead(same[i : i + most], length):
                        walks[row].see(path, logprobs)
            for walk in walks:
                walk.look_further()

    def _ahead(
        self, pairs: Sequence[tuple[Path, int]], length: int
    ) -> Iterator[tuple[Path, int, Any]]:
        paths, rows = [path for path, _ in pairs], [row for _, row in pairs]
        if not length:
            logprobs = self._at_end[rows]
        else:
            cache = copy.deepcopy(self._cache)
            cache.batch_select_indices(rows)
            logprobs, _ = self._read(paths, cache, [self._gaps[row] for row in rows], self._width)
        return zip(paths, rows, logprobs, strict=True)

    def _read(
        self, rows: Sequence[Sequence[int]], cache: Any, gaps: Sequence[int], behind: int
    ) -> tuple[Any, Any]:
        """Read on in each row, of which so many tokens behind the common beginning are known."""
        end = behind + len(rows[0])
        mask = [[1] * self._start + [0] * gap + [1] * (end - gap) for gap in gaps]
        positions = [[self._start + max(0, t - gap) for t in range(behind, end)] for gap in gaps]
        return self._step(rows, cache, mask, positions)


def n_shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return with how many tokens all prompts begin; each keeps one of its own at least."""
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if len({p[i] for p in prompts}) > 1), most)


def is_plain(cache: Any) -> bool:
    """Tell whether a memory keeps every token at its place, so that gaps can be left out of it."""
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer).__name__ == "DynamicLayer" for layer in layers)


def repeatable(cache: Any) -> bool:
    """Tell whether several rows can go on from one memory."""
    return all(
        hasattr(layer, "batch_repeat_interleave") for layer in getattr(cache, "layers", [None])
    )


def copies(cache: Any, n: int = 1) -> Any:
    """Return a memory for `n` rows that go on from one; the model changes what it is given."""
    cache = copy.deepcopy(cache)
    if n > 1:
        cache.batch_repeat_interleave(n)
    return cache
