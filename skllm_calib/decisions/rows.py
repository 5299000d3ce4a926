"""The rows that a policy is fitted on or decides about, in one plain form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.labels import check_classes
from skllm_calib.log_proba.validation import (
    check_input,
    check_proba,
    check_weight,
    two_columns,
)

__all__ = ["Codes", "Floats", "Rows", "read_proba", "read_rows", "top_label"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class Rows(NamedTuple):
    """Checked input of ``fit``: (n, K), (n,) or None without labels, and (K,)."""

    proba: Floats
    codes: Codes | None
    classes: NDArray[Any]


def top_label(proba: Floats) -> tuple[Floats, Codes]:
    """Return the largest probability of each row and its class; -1 and 0 for unscored rows."""
    scored = np.where(np.isnan(proba), -1.0, proba)
    return scored.max(axis=1), scored.argmax(axis=1)


def read_proba(proba: ArrayLike, classes: NDArray[Any] | None = None) -> Floats:
    """Return an (n, K) matrix; rows that could not be scored are NaN throughout."""
    rows = np.asarray(proba)
    if rows.dtype.kind == "f" and rows.ndim in (1, 2):
        rows = two_columns(rows.astype(np.float64)) if rows.ndim == 1 else rows
        unscored = np.asarray(np.isnan(rows).any(axis=1))
    else:
        unscored = np.zeros(len(rows) if rows.ndim else 0, dtype=bool)
    if unscored.any():
        stand_in = np.eye(1, rows.shape[1], dtype=rows.dtype)
        rows = np.where(unscored[:, None], stand_in, rows)
    try:
        checked = check_proba(rows)
    except ValueError as error:
        raise ValueError(_renamed(error)) from None
    n_classes = None if classes is None else classes.size
    if n_classes is not None and checked.shape[1] != n_classes:
        raise ValueError(
            f"proba describes {checked.shape[1]} classes, but the policy was fitted with "
            f"{n_classes}. A single row is a matrix of shape (1, {n_classes})."
        )
    if unscored.any():
        checked = np.where(unscored[:, None], np.nan, checked)
    return checked


def read_rows(
    y: ArrayLike | None,
    proba: ArrayLike,
    sample_weight: ArrayLike | None,
    classes: ArrayLike | None,
    seed: int,
) -> Rows:
    """Validate what ``fit`` gets, and turn a weighted sample into an unweighted one."""
    rows = read_proba(proba)
    n_rows, n_classes = rows.shape
    codes = None
    try:
        if y is None:
            names = np.arange(n_classes) if classes is None else check_classes(classes)
            if names.size != n_classes:
                raise ValueError(f"classes lists {names.size}, but proba describes {n_classes}.")
        else:
            stand_in = np.where(np.isnan(rows), 1 / n_classes, rows)
            checked = check_input(y, stand_in, labels=classes)
            codes, names = checked.codes, checked.classes
    except ValueError as error:
        raise ValueError(_renamed(error)) from None
    keep = _thinned(check_weight(sample_weight, n_rows), seed)
    return Rows(rows[keep], None if codes is None else codes[keep], names)


def _thinned(weight: Floats, seed: int) -> NDArray[np.bool_]:
    """Keep each row with a probability proportional to its weight.

    What is left is a plain sample of the population that the weights describe, so the exact bounds
    hold for it. No exact bound is known for the weighted counts themselves.
    """
    share = weight / weight.max()
    if share.min() == 1:
        return np.ones(share.size, dtype=bool)
    return np.asarray(np.random.default_rng(seed).random(share.size) < share)


def _renamed(error: ValueError) -> str:
    """Call the input what ``fit`` calls it; the checks of the metrics have other names."""
    text = str(error).replace("y_true", "y").replace("y_proba", "proba")
    return text.replace("labels lists", "classes lists").replace("labels=", "classes=")
