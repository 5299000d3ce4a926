"""Folds: which rows are held out together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from skllm_calib.exceptions import InvalidInput

__all__ = ["N_FOLDS", "Split", "deal_folds", "n_parts", "stratified_folds"]

N_FOLDS = 5
Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def stratified_folds(y: NDArray[Any], n_folds: int = N_FOLDS, seed: int = 0) -> list[Split]:
    """Split rows with features into folds that keep the class shares as far as counts allow.

    The folds are those of :class:`sklearn.model_selection.StratifiedKFold`; where every class has
    fewer rows than there are folds, those of ``KFold``.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    n_folds : int, default=5
        Number of folds; at most one per row.
    seed : int, default=0
        Seed of the shuffle.

    Returns
    -------
    list of (train, test)
        Positions of the rows.

    Raises
    ------
    InvalidInput
        If there is only one row.
    """
    n_folds = min(n_folds, len(y))
    if n_folds < 2:
        raise InvalidInput(
            "n_samples = 1 is not enough to cross-fit: pass more labelled rows", "y", value=len(y)
        )
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if counts.max() < n_folds:
        splitter = KFold(n_folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of classes with fewer rows than folds; those are dealt with row by row.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(codes, codes))


def deal_folds(
    codes: NDArray[Any],
    n_folds: int,
    seed: int | np.random.Generator,
    parts: NDArray[np.intp] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Deal rows of log-probabilities out like cards, class by class, shuffled within each class.

    Every fold has the class shares to within one row, whatever their counts, and a row that counts
    for several can be dealt in parts.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Class numbers.
    n_folds : int
        Number of folds.
    seed : int or Generator
        Seed of the shuffle.
    parts : ndarray of shape (n_samples,), default=None
        Into how many folds each row goes, as of `n_parts`; one when None.

    Returns
    -------
    part : ndarray of int of shape (n_parts,)
        The row that each part belongs to.
    fold : ndarray of int of shape (n_parts,)
        The fold of each part; those of one row are in different ones.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    part = shuffled[np.argsort(codes[shuffled], kind="stable")]
    if parts is not None:
        part = np.repeat(part, parts[part])
    return part, np.arange(len(part)) % n_folds


def n_parts(weight: NDArray[np.float64], n_folds: int) -> NDArray[np.intp]:
    """Return into how many folds each row goes: as many as it counts for, at most all."""
    return np.clip(np.floor(weight + 1e-9), 1, n_folds).astype(np.intp)
