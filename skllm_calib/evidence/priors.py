"""Label bias, estimated without labels: towards which classes a model leans whatever the text.

All methods here give one vector that is subtracted from the log-probabilities of every row. It is
estimated in ``fit`` and never from the rows to predict: the same row always has the same result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.failures import report_failures
from skllm_calib.evidence.scoring import score_rows
from skllm_calib.evidence.text_input import TextRows
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_known
from skllm_calib.log_proba.numerics import log_normalise

__all__ = ["check_prior", "estimate_bias", "fit_label_bias", "reference_texts"]

Prior = str | NDArray[np.float64]

_METHODS = ("contextual", "domain", "batch")
_CONTENT_FREE = ("N/A", "[MASK]", "")  # as in Zhao et al. (2021)
# How many texts of random words show the bias of a domain, as Fei et al. (2023) use.
_N_DOMAIN_TEXTS = 20
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_CLOSE = 1e-10


def check_prior(prior: str | Mapping[Any, float] | ArrayLike, labels: Sequence[Any]) -> Prior:
    """Return the name of a method, or the class prior given, in the order of the classes.

    Raises
    ------
    ValueError
        If it is neither, or the probabilities are not positive or do not sum to one.
    """
    if isinstance(prior, str) and prior in _METHODS:
        return prior
    if isinstance(prior, Mapping):
        check_known(prior, labels, "prior_correction")
        missing = [label for label in labels if label not in prior]
        if missing:
            raise InvalidInput(
                f"prior_correction has no probability for the class {missing[0]!r}",
                "prior_correction",
                value=missing[0],
            )
        prior = [prior[label] for label in labels]
    try:
        proba = np.asarray(prior, dtype=np.float64)
    except (TypeError, ValueError):
        proba = np.empty(0)
    if proba.shape != (len(labels),):
        raise InvalidInput(
            f"prior_correction={prior!r}: must be {', '.join(map(repr, _METHODS))}, one "
            f"probability for each of the {len(labels)} classes (a dict, or numbers in the order "
            "of classes_), or None",
            "prior_correction",
            value=prior,
        )
    if not (proba > 0).all() or not abs(proba.sum() - 1) < 1e-6:
        raise InvalidInput(
            f"prior_correction={prior!r}: the probabilities of the classes must be greater than 0 "
            "and sum to 1",
            "prior_correction",
            value=prior,
        )
    out: NDArray[np.float64] = proba / proba.sum()
    return out


def fit_label_bias(
    model: BoundModel, rows: TextRows, weight: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Ask the model about reference texts or rows, and return its label bias.

    Parameters
    ----------
    model : BoundModel
        With a `prior`.
    rows : TextRows
        The rows of ``fit``.
    weight : ndarray of shape (n_samples,)
        Weight of each row; those of weight 0 are left out.
    seed : int
        Seed of the random texts.

    Returns
    -------
    ndarray of shape (n_classes,)
        As :func:`estimate_bias` returns it.
    """
    prior = model.prior
    assert prior is not None
    used = [text for text, w in zip(rows.texts, weight, strict=True) if w]
    texts = reference_texts(prior, used, seed)
    if texts is None:
        positions = [i for i, fields in enumerate(rows.fields) if fields and weight[i]]
        asked, weight = [rows.fields[i] for i in positions], weight[positions]
    else:
        positions, weight = list(range(len(texts))), np.ones(len(texts))
        asked = [dict.fromkeys(("text", *rows.columns), text) for text in texts]
        # A text without content may well make a model ask back; its bias shows all the same.
        model = replace(model, max_off_label=1.0)
    scored = score_rows(model, asked, len(asked), positions=positions)
    report_failures(scored.outcomes, model)
    return estimate_bias(prior, scored.log_proba, weight)


def reference_texts(prior: Prior, texts: Sequence[str], seed: int) -> list[str] | None:
    """Return the texts whose answers show the bias of a model; None means the rows themselves."""
    if isinstance(prior, str) and prior == "contextual":
        return list(_CONTENT_FREE)
    if isinstance(prior, str) and prior == "domain":
        return _domain_texts({text for text in texts if text.strip()}, seed)
    return None


def estimate_bias(
    prior: Prior, log_proba: NDArray[np.float64], weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return what to subtract, from the scores of the reference texts; rows of NaN are left out.

    Parameters
    ----------
    prior : str or ndarray of shape (n_classes,)
        As :func:`check_prior` returns it.
    log_proba : ndarray of shape (n_texts, n_classes)
        Scores of the reference texts.
    weight : ndarray of shape (n_texts,) or None, default=None
        Weight of each text, more than 0; None for equal weights.

    Returns
    -------
    ndarray of shape (n_classes,)
        Natural logarithms of odds, with mean 0.

    Raises
    ------
    ValueError
        If no text could be scored.
    """
    usable = np.isfinite(log_proba).all(axis=1)
    if not usable.any():
        raise InvalidInput(
            "no row could be scored, so the label bias of the model is not known", "X"
        )
    rows = log_proba[usable]
    counts = np.ones(len(rows)) if weight is None else weight[usable]
    log_weight = np.log(counts / counts.sum())[:, np.newaxis]
    if isinstance(prior, str):
        bias = _log_mean(rows, log_weight)
    else:
        bias = _matched(rows, log_weight, prior)
    out: NDArray[np.float64] = bias - bias.mean()
    return out


def _domain_texts(texts: Set[str], seed: int) -> list[str]:
    """Return texts of random words of a domain, each of average length.

    They depend on the texts, not on their order or on how often one is repeated.
    """
    words = [word for text in sorted(texts) for word in _WORD.findall(text)]
    if not words:
        return list(_CONTENT_FREE)
    length = max(1, round(len(words) / max(1, len(texts))))
    content = "\0".join(words).encode(errors="surrogatepass")
    digest = hashlib.sha256(str(seed).encode() + b"\0" + content).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = rng.integers(len(words), size=(_N_DOMAIN_TEXTS, length))
    return [" ".join(words[i] for i in row) for row in drawn]


def _log_mean(rows: NDArray[np.float64], log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the weighted mean probability of each class."""
    out: NDArray[np.float64] = np.logaddexp.reduce(rows + log_weight, axis=0)
    return out


def _matched(
    rows: NDArray[np.float64], log_weight: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what to subtract so that the mean probability of each class is its prior.

    Unique up to a constant: the problem is a convex one. Found by scaling the columns in turn
    with the rows, as in matrix balancing.
    """
    bias = np.zeros(len(prior))
    for _ in range(10_000):
        step = _log_mean(log_normalise(rows - bias), log_weight) - np.log(prior)
        bias = bias + step
        if np.abs(step).max() < _CLOSE:
            break
    return bias
