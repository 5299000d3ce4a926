"""What a run will take and cost, before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.testing import TestingBackend
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.money.prices import ENVIRONMENT, Price
from skllm_calib.evidence.money.tokens import Range
from skllm_calib.evidence.signals.base import Answered, Dialogue
from skllm_calib.exceptions import BackendError
from skllm_calib.utils.layout import dollars

__all__ = ["CostEstimate", "estimate_cost"]

# More rows than this are estimated from a random part of them.
_MOST_ROWS = 10_000
_TOGETHER = 250  # rows whose keys are looked up in the cache at once


@dataclass(frozen=True)
class CostEstimate:
    """What a run will take and cost. Estimates of several models add up.

    Attributes
    ----------
    n_rows : int
        Rows, several times where several models read them.
    n_requests : int
        Requests that will be paid for. Where a signal asks again after an answer, as many as it
        usually does.
    n_cached : int
        Requests that the cache answers, at no cost.
    prompt_tokens, completion_tokens : tuple of (float, float)
        Tokens read and written, at least and at most.
    usd : tuple of (float, float) or None
        Dollars, at least and at most; None where the price of a model is not known.
    usd_in_batch : tuple of (float, float) or None
        The same through a batch API.
    is_exact : bool
        Whether a tokenizer counted the tokens that are read.
    prices : tuple of str
        The models, with what they charge.
    notes : tuple of str
        What the estimate leaves open.

    Examples
    --------
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import OpenAIBackend
    >>> clf = LLMClassifier("openai:gpt-4o-mini", classes=["ham", "spam"], cache=None)
    >>> estimate = clf.set_params(signal="logprobs").estimate_cost(["You won a prize!"] * 2)
    >>> print(estimate)
    Cost estimate for 2 rows
      requests        1
      tokens read     ... to ...
      tokens written  1 to 4
      cost            $0.0000... to $0.0000... (through a batch API $0.0000... to $0.0000...)
      gpt-4o-mini     $0.15 read, $0.6 written per million tokens, as of ...
    >>> estimate.to_dict()["n_requests"]
    1
    """

    n_rows: int
    n_requests: int
    n_cached: int
    prompt_tokens: Range
    completion_tokens: Range
    usd: Range | None
    usd_in_batch: Range | None
    is_exact: bool = False
    prices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: CostEstimate) -> CostEstimate:
        return CostEstimate(
            self.n_rows + other.n_rows,
            self.n_requests + other.n_requests,
            self.n_cached + other.n_cached,
            _sum(self.prompt_tokens, other.prompt_tokens),
            _sum(self.completion_tokens, other.completion_tokens),
            _sum_known(self.usd, other.usd),
            _sum_known(self.usd_in_batch, other.usd_in_batch),
            self.is_exact and other.is_exact,
            tuple(dict.fromkeys((*self.prices, *other.prices))),
            tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def __str__(self) -> str:
        requests = f"{self.n_requests:,}"
        if self.n_cached:
            requests += f", and {self.n_cached:,} that are in the cache, at no cost"
        pairs = [
            ("requests", requests),
            ("tokens read", _tokens(self.prompt_tokens)),
            ("tokens written", _tokens(self.completion_tokens)),
            ("cost", self._cost()),
            *(tuple(price.split(": ", 1)) for price in self.prices),
        ]
        width = max(len(name) for name, _ in pairs)
        lines = [f"  {name:<{width}}  {value}" for name, value in pairs]
        notes = [f"  {note}" for note in self.notes]
        return "\n".join([f"Cost estimate for {self.n_rows:,} rows", *lines, *notes])

    __repr__ = __str__

    def _cost(self) -> str:
        if self.usd is None:
            return f"not known: pass prices=, or a file of prices in {ENVIRONMENT}"
        if self.usd_in_batch in (None, self.usd):
            return _dollars(self.usd)
        return f"{_dollars(self.usd)} (through a batch API {_dollars(self.usd_in_batch)})"


def estimate_cost(
    model: BoundModel, rows: Sequence[Mapping[str, str]], notes: Sequence[str] = ()
) -> CostEstimate:
    """Estimate what it takes to ask about rows, and ask nothing.

    What follows an answer is found out with made-up answers where the cache has no real one.

    Parameters
    ----------
    model : BoundModel
    rows : sequence of mapping
        The texts of each row by field name.
    notes : sequence of str, default=()
        What to tell with the estimate.
    """
    n_rows, factor, said = len(rows), 1.0, list(notes)
    if n_rows > _MOST_ROWS:
        chosen = np.random.default_rng(0).choice(n_rows, _MOST_ROWS, replace=False)
        rows, factor = [rows[i] for i in sorted(chosen)], n_rows / _MOST_ROWS
        said.append(f"estimated from {_MOST_ROWS:,} of the rows")
    price = model.price
    counts = _Counts(model)
    for start in range(0, len(rows), _TOGETHER):
        counts.walk(rows[start : start + _TOGETHER])
    if counts.asks_for_text and not getattr(model.backend, "reasoning_budget", None):
        said.append("the tokens of hidden reasoning, where a model reasons, are not included")
    usd = None if price is None else _cost(counts, price)
    in_batch = None if price is None else _cost(counts, price, in_batch=True)
    name = model.identity.get("model") or model.identity.get("provider")
    return CostEstimate(
        n_rows,
        round(factor * counts.n_requests),
        round(factor * counts.n_cached),
        _scaled(counts.prompt, factor),
        _scaled(counts.completion, factor),
        None if usd is None else _scaled(usd, factor),
        None if in_batch is None else _scaled(in_batch, factor),
        counts.is_exact,
        (f"{name}: {'price not known' if price is None else price}",),
        tuple(said),
    )


@dataclass
class _Row:
    """The dialogue about a row, as far as it is played through."""

    dialogue: Dialogue
    wanted: list[Request] = field(default_factory=list)
    written: int = 0  # tokens of made-up answers, which later requests may show

    def step(self, answers: list[Answered] | None) -> None:
        try:
            wanted = next(self.dialogue) if answers is None else self.dialogue.send(answers)
            while not wanted:
                wanted = self.dialogue.send([])
            self.wanted = wanted
        except (StopIteration, BackendError):
            self.wanted = []


class _Counts:
    """Plays dialogues through, and counts what they ask for."""

    def __init__(self, model: BoundModel) -> None:
        self._model = model
        self._counter = model.counter
        self._stand_in = TestingBackend(name="cost estimate")
        self._seen: set[str] = set()
        self.n_requests = self.n_cached = 0
        self.prompt: Range = (0, 0)
        self.completion: Range = (0, 0)
        self.decisions: Range = (0, 0)  # what of it decision endpoints write
        self.is_exact = True
        self.asks_for_text = False

    def walk(self, rows: Sequence[Mapping[str, str]]) -> None:
        signal = self._model.averaged_signal
        dialogues = [_Row(signal.ask(self._model.question(fields))) for fields in rows]
        for row in dialogues:
            row.step(None)
        while waiting := [row for row in dialogues if row.wanted]:
            keys = [[r.key(self._model.identity) for r in row.wanted] for row in waiting]
            known = self._known([key for of_row in keys for key in of_row])
            for row, of_row in zip(waiting, keys, strict=True):
                asked = zip(of_row, row.wanted, strict=True)
                row.step([self._answer(key, request, row, known) for key, request in asked])
        self._stand_in.forget()

    def _known(self, keys: list[str]) -> dict[str, Reply]:
        cache, found = self._model.cache, {}
        for key, text in (cache.storage.get(keys) if cache is not None else {}).items():
            try:
                found[key] = Reply.from_json(text)
            except ValueError:  # a damaged one is asked for again
                continue
        return found

    def _answer(
        self, key: str, request: Request, row: _Row, known: Mapping[str, Reply]
    ) -> Answered:
        is_new = key not in self._seen
        self._seen.add(key)
        if key in known:
            self.n_cached += is_new
            return known[key]
        if is_new:
            self._count(request, row.written)
        if not (request.answers or request.choices):
            row.written += request.max_tokens
        ((_, answer),) = self._stand_in.run([request])
        return answer

    def _count(self, request: Request, written: int) -> None:
        count = self._counter.count(request)
        self.n_requests += 1
        self.prompt = _sum(self.prompt, (count.prompt[0], count.prompt[1] + written))
        self.completion = _sum(self.completion, count.completion)
        if request.choices:
            self.decisions = _sum(self.decisions, count.completion)
        self.is_exact = self.is_exact and count.is_exact and not written
        self.asks_for_text |= not (request.answers or request.choices)


def _cost(counts: _Counts, price: Price, *, in_batch: bool = False) -> Range:
    low, high = (
        price.cost(read, written - decided, in_batch=in_batch)
        + price.cost(0, decided, is_decision=True, in_batch=in_batch)
        for read, written, decided in zip(
            counts.prompt, counts.completion, counts.decisions, strict=True
        )
    )
    return low, high


def _sum(a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1]


def _sum_known(a: Range | None, b: Range | None) -> Range | None:
    return None if a is None or b is None else _sum(a, b)


def _scaled(a: Range, factor: float) -> Range:
    return a[0] * factor, a[1] * factor


def _tokens(both: Range) -> str:
    low, high = math.floor(both[0]), math.ceil(both[1])
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _dollars(both: Range | None) -> str:
    low, high = both or (0.0, 0.0)
    return dollars(low) if low == high else f"{dollars(low)} to {dollars(high)}"
