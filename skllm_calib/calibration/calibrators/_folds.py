"""Folds for cross-validating calibrators, which do not depend on the order of the rows."""

from __future__ import annotations

import numpy as np

from skllm_calib.log_proba.numerics import Codes, Floats

__all__ = ["merge_copies", "n_parts", "spread_over_folds"]


def merge_copies(log_proba: Floats, codes: Codes, weight: Floats) -> tuple[Floats, Codes, Floats]:
    """Put equal rows with equal labels together, adding up their weights."""
    key = np.column_stack([codes, log_proba.round(10)])
    _, first, copy_of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    total = np.zeros(len(first))
    np.add.at(total, copy_of.ravel(), weight)
    return log_proba[first], codes[first], total


def n_parts(weight: Floats, n_folds: int) -> Codes:
    """Return into how many folds each row goes: as many as it counts for, at most all."""
    return np.clip(np.floor(weight + 1e-9), 1, n_folds).astype(np.intp)


def spread_over_folds(codes: Codes, weight: Floats, n_folds: int, seed: int) -> tuple[Codes, Codes]:
    """Deal the rows out like cards, class by class, shuffled within each class.

    Returns
    -------
    part : ndarray of int of shape (n_parts,)
        The row that each part belongs to; a row of weight three has three parts.
    fold : ndarray of int of shape (n_parts,)
        The fold of each part; those of one row are in different ones.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    part = np.repeat(by_class, n_parts(weight, n_folds)[by_class])
    return part, np.arange(len(part)) % n_folds
