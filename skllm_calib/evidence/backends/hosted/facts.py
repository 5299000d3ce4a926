"""What a hosted model takes and gives, found out at run time.

Which parameters a model takes, how many alternatives it lists, whether it continues a given
beginning: tables of model names are out of date the day they are written, but a refusal says what
is wrong. So each refusal is read once, remembered for the life of the process, and the request
sent again in another phrasing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.hosted.failures import Problem

__all__ = ["NO_LOGPROBS", "N_ROWS", "REASONS_FIRST", "Continuation", "Dialect", "ModelFacts"]

N_ROWS = 2
"""How many different rows have to show what is then taken to be true of the model."""
NO_LOGPROBS, REASONS_FIRST = "no log-probabilities", "reasoning before the answer"


@dataclass(kw_only=True)
class ModelFacts:
    """What is known of one model behind one address, shared by all threads of the process.

    Attributes
    ----------
    lock : threading.RLock
        Held while something is found out, so that eight threads do not all try the same.
    answered : set
        The kinds of request of which one has been answered.
    n_tried : Counter
        How many requests of a kind were sent alone.
    shown : dict of str to set
        By what may be true of the model, the rows that showed it.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    answered: set[Any] = field(default_factory=set)
    n_tried: Counter[Any] = field(default_factory=Counter)
    shown: dict[str, set[Any]] = field(default_factory=dict)

    def first_alone(self, kind: Any, answer: Callable[[Request], Reply], request: Request) -> Reply:
        """Answer a request; the first of its kind alone, so that a refusal is met once.

        If the first one is not answered, so is the second, which may tell more.
        """
        if self._goes_alone(kind):
            with self.lock:
                if self._goes_alone(kind):
                    try:
                        return answer(request)
                    finally:
                        self.n_tried[kind] += 1
        return answer(request)

    def _goes_alone(self, kind: Any) -> bool:
        return kind not in self.answered and self.n_tried[kind] < N_ROWS

    def note(self, what: str, row: Any) -> None:
        """Note that a row showed something that may be true of the model."""
        self.shown.setdefault(what, set()).add(row)

    def is_known(self, what: str) -> bool:
        """Tell whether enough different rows have shown something to take it for true."""
        return len(self.shown.get(what, ())) >= N_ROWS


class Continuation(NamedTuple):
    """A way to have an answer begun by the user continued by the model.

    Attributes
    ----------
    message, extra : mapping
        What it adds to the message that holds the beginning, and to the request.
    """

    message: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}


@dataclass(kw_only=True)
class Dialect(ModelFacts, ABC):
    """The phrasing that a model takes, and what it shows.

    Settings of a request have the same names for all providers: "max_tokens", "temperature",
    "seed", "schema" (a JSON Schema) and "top_logprobs".

    Attributes
    ----------
    dropped : set of str
        Settings that the model refuses: "temperature", "seed", "schema".
    most_listed : int or None
        Most alternatives a position may list, once a larger number was refused.
    lists_many : bool or None
        Whether hundreds of alternatives are available; None until it was tried.
    shows_logprobs : bool
        Whether log-probabilities were seen.
    no_logprobs : str or None
        Why a row got none; whether that is true of every row is in `shown`.
    continuation : Continuation or None
        How an answer is continued, where `can_continue` is True.
    can_continue : bool or None
        None until it was tried.
    headroom : int
        Tokens allowed on top of the answer of a text request, once the model was seen to reason.
    n_longer : int
        How many answers that were cut were requested at length, in case they were reasoning.
    begun_thinking : bool
        Whether texts begin inside of reasoning, without a mark: the chat template has begun it.
    """

    dropped: set[str] = field(default_factory=set)
    most_listed: int | None = None
    lists_many: bool | None = None
    shows_logprobs: bool = False
    no_logprobs: str | None = None
    continuation: Continuation | None = None
    can_continue: bool | None = None
    headroom: int = 0
    n_longer: int = 0
    begun_thinking: bool = False

    @abstractmethod
    def learn(self, problem: Problem, sent: Mapping[str, Any]) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing.

        Only settings that were sent can be learned about, and each only downwards: so a request
        is sent again a bounded number of times.
        """

    @abstractmethod
    def refuses(self, problem: Problem, wish: str) -> bool:
        """Tell whether a refusal is about a parameter that the user has set on purpose."""

    def phrase(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a request as far as this model takes them."""
        settings = {name: value for name, value in wanted.items() if name not in self.dropped}
        if self.most_listed is not None and "top_logprobs" in settings:
            settings["top_logprobs"] = min(self.most_listed, settings["top_logprobs"])
        return settings

    def settle_continuation(self, found: Continuation | None) -> None:
        """Remember how an answer is continued, or that it cannot be."""
        self.continuation, self.can_continue = found, found is not None

    def notes(self, left_out: Sequence[str], n_wanted: int | None = None) -> tuple[str, ...]:
        """List what was requested and not given.

        Parameters
        ----------
        left_out : sequence of str
            The settings that a request had to do without.
        n_wanted : int or None, default=None
            How many alternatives it requested.
        """
        notes = [self.why_left_out(name) for name in left_out]
        if n_wanted is not None and self.most_listed is not None and self.most_listed < n_wanted:
            notes.append(f"the model lists {self.most_listed} alternatives, not {n_wanted}")
        return tuple(sorted(notes))

    def why_left_out(self, name: str) -> str:
        """Say why a request had to do without a setting, and what held instead."""
        if name == "schema":
            return "the model refuses the JSON schema; only the prompt says how to answer"
        return f"the model refuses {name!r}; its default was used"
