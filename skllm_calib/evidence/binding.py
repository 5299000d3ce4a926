"""From the parameters of a classifier, and what it has learned, to what a call works with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.backends.providers import resolve_model
from skllm_calib.evidence.bound_model import BoundModel, Example
from skllm_calib.evidence.cache import resolve_cache
from skllm_calib.evidence.failures import resolve_max_off_label
from skllm_calib.evidence.money.budget import resolve_budget
from skllm_calib.evidence.money.spending import Spending
from skllm_calib.evidence.priors import check_prior
from skllm_calib.evidence.probing import Chosen, first_available
from skllm_calib.evidence.prompts import resolve_prompt
from skllm_calib.evidence.signals import resolve_signal
from skllm_calib.log_proba.labels import check_known, label_wording
from skllm_calib.log_proba.parameters import check_count
from skllm_calib.utils.progress import check_verbose
from skllm_calib.utils.totals import add_to_total

__all__ = ["Known", "bind_model"]


class Known(NamedTuple):
    """What a classifier knows besides its parameters.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    named : ndarray of shape (n_classes,)
        Those that the model is asked for; `classes` may be their positions.
    examples : sequence of (mapping, int)
        Rows to show, each with the index of its class.
    settled : tuple of (str, str) or None
        The signal that ``fit`` settled for "auto", and why.
    label_bias : ndarray of shape (n_classes,) or None
    """

    classes: NDArray[Any]
    named: NDArray[Any]
    examples: Sequence[Example] = ()
    settled: tuple[str, str] | None = None
    label_bias: NDArray[np.float64] | None = None


def bind_model(clf: Any, known: Known, columns: Sequence[str], *, ask: bool = True) -> BoundModel:
    """Resolve all parameters of a classifier, once for a call.

    Parameters
    ----------
    clf : LLMClassifier
        Only its parameters are looked at.
    known : Known
    columns : sequence of str
        Names of the columns, if the rows are those of a table.
    ask : bool, default=True
        As in :func:`~skllm_calib.evidence.probing.first_available`.
    """
    classes, labels = known.classes.tolist(), known.named.tolist()
    notes = clf.label_descriptions or {}
    check_known(notes, labels, "label_descriptions")
    backend, cache = resolve_model(clf.model), resolve_cache(clf.cache)
    prompt = resolve_prompt(clf.prompt).bind(
        label_wording(labels, clf.label_texts),
        [notes.get(label) for label in labels],
        answer_form=backend.answer_form,
        columns=columns,
    )
    spending = Spending(clf.prices, resolve_budget(clf.budget), partial(add_to_total, clf))
    chosen = _settled(clf.signal, known.settled) or first_available(
        *(backend, cache, prompt, classes),
        columns=columns,
        examples=known.examples,
        spending=spending,
        ask=ask,
    )
    prior = clf.prior_correction
    return BoundModel(
        backend=backend,
        cache=cache,
        prompt=prompt,
        signal=chosen.signal,
        signal_reason=chosen.reason,
        n_orders=check_count(clf.order_averaging, "order_averaging"),
        classes=classes,
        columns=tuple(columns),
        examples=known.examples,
        prior=None if prior is None else check_prior(prior, labels),
        label_bias=known.label_bias,
        max_off_label=resolve_max_off_label(clf.max_off_label, prompt.form),
        on_error=clf.on_error,
        verbose=check_verbose(clf.verbose),
        spending=spending,
    )


def _settled(signal: Any, settled: tuple[str, str] | None) -> Chosen | None:
    """Return the evidence to read; for "auto" what ``fit`` settled, None before it has."""
    if not isinstance(signal, str) or signal != "auto":
        return Chosen(resolve_signal(signal), "it was asked for")
    return None if settled is None else Chosen(resolve_signal(settled[0]), settled[1])
