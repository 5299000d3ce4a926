"""Few-shot examples: which labelled rows the model gets to see in the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["select_examples"]


def select_examples(
    texts: Sequence[str], codes: NDArray[np.intp], n_classes: int, n_shots: int, seed: int
) -> list[int]:
    """Choose `n_shots` rows of each class, one class after the other.

    Parameters
    ----------
    texts : sequence of str of length n_samples
        The rows; empty ones are never chosen.
    codes : ndarray of int of shape (n_samples,)
        Index of the class of each row.
    n_classes : int
        Number of classes; one without rows has no examples.
    n_shots : int
        Examples per class, at most as many as it has different texts.
    seed : int
        Seed of the choice.

    Returns
    -------
    list of int
        Positions in `texts`. The choice depends on the texts, not on their order or on how often
        one is repeated. The class shown last alternates, since models favour what they read last.

    Examples
    --------
    >>> import numpy as np
    >>> select_examples(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), 2, n_shots=1, seed=0)
    [0, 2]
    """
    first_at: dict[tuple[int, str], int] = {}
    for i, (text, code) in enumerate(zip(texts, codes, strict=True)):
        if text.strip():
            first_at.setdefault((int(code), text), i)
    by_class: list[list[int]] = [[] for _ in range(n_classes)]
    for code, text in sorted(first_at, key=lambda pair: _draw(seed, *pair)):
        by_class[code].append(first_at[code, text])
    chosen = []
    for round_ in range(n_shots):
        order = range(n_classes) if round_ % 2 == 0 else range(n_classes - 1, -1, -1)
        chosen += [by_class[code][round_] for code in order if round_ < len(by_class[code])]
    return chosen


def _draw(seed: int, code: int, text: str) -> bytes:
    # A text with an unpaired surrogate is not valid, but no reason to fail either.
    return hashlib.sha256(f"{seed}\0{code}\0{text}".encode(errors="surrogatepass")).digest()
