"""The rows that a rule looks at, in one plain form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.validation import FIT_NAMES, check_input

__all__ = ["Codes", "Floats", "Rows", "read_rows", "top_label"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class Rows(NamedTuple):
    """Rows that have been read: (n, K), (n,) or None without labels, and (K,).

    ``proba`` is NaN throughout in rows that could not be scored; ``codes`` is the column of each
    true label.
    """

    proba: Floats
    codes: Codes | None
    classes: NDArray[Any]


def top_label(proba: Floats) -> tuple[Floats, Codes]:
    """Return the largest probability of each row and its class; -1 and 0 for unscored rows."""
    scored = np.where(np.isnan(proba), -1.0, proba)
    return scored.max(axis=1), scored.argmax(axis=1)


def read_rows(
    y: ArrayLike | None,
    proba: ArrayLike,
    sample_weight: ArrayLike | None,
    classes: ArrayLike | None,
    seed: int,
) -> Rows:
    """Read what ``fit`` gets, and turn a weighted sample into an unweighted one."""
    checked = check_input(
        y,
        proba,
        labels=classes,
        sample_weight=sample_weight,
        names=FIT_NAMES,
        allow_unlabelled=y is None,
        allow_unscored=True,
    )
    keep = _thinned(checked.weight, seed)
    return Rows(checked.proba[keep], None if y is None else checked.codes[keep], checked.classes)


def _thinned(weight: Floats, seed: int) -> NDArray[np.bool_]:
    """Keep each row with a probability proportional to its weight.

    What is left is a plain sample of the population that the weights describe, so the exact bounds
    hold for it. No exact bound is known for the weighted counts themselves.
    """
    chance = weight / weight.max()
    if chance.min() == 1:
        return np.ones(chance.size, dtype=bool)
    return np.asarray(np.random.default_rng(seed).random(chance.size) < chance)
