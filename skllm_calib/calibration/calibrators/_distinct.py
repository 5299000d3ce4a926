"""Distinct values of a score, with rounding errors taken for what they are."""

from __future__ import annotations

import numpy as np

from skllm_calib.log_proba.numerics import Codes, Floats

__all__ = ["RESOLUTION", "distinct_values", "sum_by"]

RESOLUTION = 1e-9
"""Scores this close are equal."""


def distinct_values(x: Floats) -> tuple[Floats, Codes]:
    """Return the distinct values of x (n,) in rising order and which one each entry is.

    Stated confidences of 0.9 arrive as log-odds that differ in the last digit, depending on how a
    row was normalised. Methods that count labels value by value must not take those for many
    values, so entries closer than 1e-9 are one.
    """
    order = np.argsort(x, kind="stable")
    is_new = np.diff(x[order], prepend=-np.inf) > RESOLUTION
    which = np.empty(len(x), dtype=np.intp)
    which[order] = np.cumsum(is_new) - 1
    return x[order][is_new], which


def sum_by(which: Codes, amounts: Floats) -> Floats:
    """Return the sum of the amounts (n,) that belong to each distinct value."""
    return np.bincount(which, amounts).astype(np.float64)
