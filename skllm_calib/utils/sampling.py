"""Random rows of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw"]


def draw(labels: Sequence[str] | NDArray[Any], n: int | None, seed: int) -> list[int]:
    """Draw rows so that the classes keep their shares, each with a row at least if there is room.

    Examples
    --------
    >>> labels = ["ham"] * 90 + ["spam"] * 9 + ["odd"]
    >>> sorted(labels[i] for i in draw(labels, 10, seed=0))
    ['ham', 'ham', 'ham', 'ham', 'ham', 'ham', 'ham', 'ham', 'odd', 'spam']
    """
    if n is None or n >= len(labels):
        return list(range(len(labels)))
    _, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    counts = np.bincount(codes)
    # Rank of a row within its class, over the size of the class: the rows with the lowest values
    # hold every class in proportion. The first row of a class goes before all others.
    rank = np.empty(len(labels))
    for code in range(len(counts)):
        members = shuffled[codes[shuffled] == code]
        rank[members] = (np.arange(len(members)) + 0.5) / counts[code]
        rank[members[0]] = -counts[code]
    order = shuffled[np.argsort(rank[shuffled], kind="stable")]
    return sorted(order[:n].tolist())
