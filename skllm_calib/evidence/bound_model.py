"""BoundModel: everything that one call asks with, resolved and bound once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.money.prices import Price, price_of
from skllm_calib.evidence.money.spending import Meter, Spending
from skllm_calib.evidence.money.tokens import TokenCounter
from skllm_calib.evidence.questions import BoundPrompt, Question
from skllm_calib.evidence.signals import OrderAveragedSignal, Signal
from skllm_calib.exceptions import BackendError
from skllm_calib.utils.progress import Verbose

__all__ = ["BoundModel", "Example"]

Example = tuple[Mapping[str, str], int]
"""A row shown in the prompt: its texts by field name, and the index of its class."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundModel:
    """A language model with all that turns a row into log-probabilities.

    An estimator makes one at the start of each public call, from its parameters and what ``fit``
    found. Nothing that is called with it looks at the estimator again.

    Attributes
    ----------
    backend : BaseBackend
        Answers.
    cache : ResponseCache or None
        Where replies are looked up and kept.
    prompt : BoundPrompt
        The prompt with its labels.
    signal : Signal
        Says what to ask about a row, and reads the replies.
    signal_reason : str
        Why this signal.
    classes : list
        The labels, in the order of the columns.
    columns : tuple of str
        Names of the columns, if the rows are those of a table.
    examples : sequence of (mapping, int)
        Rows shown in the prompt, each with the index of its class.
    n_orders : int
        In how many orders of the options each row is asked about.
    prior : str or ndarray or None
        The `prior_correction`, as :func:`~skllm_calib.evidence.priors.check_prior` returns it.
    label_bias : ndarray of shape (n_classes,) or None
        What to subtract from the log-probabilities.
    max_off_label : float
        Largest part of the evidence on a row that may fall on no label.
    on_error : {"raise", "nan"}
        What to do about rows without an answer.
    verbose : int or "auto"
        Whether to show progress.
    spending : Spending
        What requests cost, what may be spent, and who is told what was.
    paid_failures : dict of str to BackendError
        By the keys of requests, failures that the server charged for: not asked again in this call.
    began : float
        When this call began, as ``time.time()``: replies kept since then are of this call, and no
        row is asked about again in it.
    """

    backend: BaseBackend
    cache: ResponseCache | None
    prompt: BoundPrompt
    signal: Signal
    classes: list[Any]
    signal_reason: str = ""
    columns: tuple[str, ...] = ()
    examples: Sequence[Example] = ()
    n_orders: int = 1
    prior: str | NDArray[np.float64] | None = None
    label_bias: NDArray[np.float64] | None = None
    max_off_label: float = 1.0
    on_error: Literal["raise", "nan"] = "raise"
    verbose: Verbose = 0
    spending: Spending = field(default_factory=Spending)
    paid_failures: dict[str, BackendError] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of the backend changes an answer: part of every cache key."""
        return self.backend.identity()

    @cached_property
    def price(self) -> Price | None:
        """What the model charges, None where that is not known."""
        return price_of(self.identity, self.spending.prices)

    @cached_property
    def counter(self) -> TokenCounter:
        """Counts the tokens of requests."""
        return TokenCounter(self.backend, self.identity)

    def meter(self) -> Meter:
        """Return what watches over the budget of a call, and counts what it uses."""
        storage = None if self.cache is None else self.cache.storage
        return Meter(self.spending, self.price, self.counter, storage)

    @cached_property
    def averaged_signal(self) -> Signal:
        """The signal, read in several orders of the options if these are wanted."""
        if self.n_orders == 1:
            return self.signal
        return OrderAveragedSignal(self.signal, n_orders=self.n_orders)

    def question(self, fields: Mapping[str, str]) -> Question:
        """Return what is asked about a row."""
        return Question(self.prompt, fields, self.examples)

    def fingerprint(self) -> dict[str, Any]:
        """Return in plain values what the probabilities depend on."""
        found = {
            "backend": self.identity,
            "prompt": _prompt_digest(self.prompt, self.columns),
            "examples": _digest(self.examples),
            "classes": self.classes,
            "signal": self.averaged_signal.identity(),
        }
        if self.prior is not None:
            prior = self.prior
            found["prior_correction"] = prior if isinstance(prior, str) else prior.tolist()
        return found


@lru_cache(maxsize=128)  # asked for at every call of a calibrated classifier
def _prompt_digest(prompt: BoundPrompt, columns: tuple[str, ...]) -> str:
    return _digest(prompt.render(dict.fromkeys(("text", *columns), "")))


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
