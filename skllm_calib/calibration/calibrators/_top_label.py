"""The most probable class against all others: taking its log-odds out, putting others in.

With many classes a few hundred labels can say how often the first choice is right, not how often
each class is. Methods for two classes therefore treat more of them so: the confidence in the top
class is calibrated, and the other classes share what is left in the proportions they had.
"""

from __future__ import annotations

import numpy as np

from skllm_calib.log_proba.numerics import (
    Codes,
    Floats,
    log_normalise,
    one_vs_rest_log_odds,
)

__all__ = ["binary_log_odds", "replace_top_log_odds", "split_problem", "top_log_odds"]

_MARGIN = 1e-9


def binary_log_odds(log_proba: Floats) -> Floats:
    """Return the log-odds (n,) of the second of two classes."""
    return np.asarray(log_proba[:, 1] - log_proba[:, 0])


def top_log_odds(log_proba: Floats) -> tuple[Codes, Floats]:
    """Return the most probable class of every row and its log-odds against the others."""
    top = log_proba.argmax(axis=1)
    return top, one_vs_rest_log_odds(log_proba)[np.arange(len(top)), top]


def split_problem(log_proba: Floats, codes: Codes) -> tuple[Floats, Floats]:
    """Return one score per row (n,) and whether what it stands for came true, 0.0 or 1.0 (n,).

    With two classes that is the second class, with any other number the top class.
    """
    if log_proba.shape[1] == 2:
        return binary_log_odds(log_proba), (codes == 1).astype(np.float64)
    top, odds = top_log_odds(log_proba)
    return odds, (codes == top).astype(np.float64)


def replace_top_log_odds(log_proba: Floats, odds: Floats) -> Floats:
    """Give the top class of every row new log-odds (n,); the others keep their proportions.

    The top class stays the top class: where the new log-odds would put it below the second, it
    stops just above it.
    """
    n_rows, n_classes = log_proba.shape
    if n_classes == 1:
        return np.zeros_like(log_proba)
    rows = np.arange(n_rows)
    top = log_proba.argmax(axis=1)
    others = log_proba.copy()
    others[rows, top] = -np.inf
    others = log_normalise(others)
    odds = np.maximum(odds, others.max(axis=1) + _MARGIN)
    out = others - np.logaddexp(0.0, odds)[:, None]
    out[rows, top] = -np.logaddexp(0.0, -odds)
    return np.asarray(out)
