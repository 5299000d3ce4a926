"""What a hosted model takes and gives, found out at run time.

Which parameters a model takes, how many alternatives it lists, whether it continues a given
beginning: tables of model names are out of date the day they are written, but a refusal says what
is wrong. So each refusal is read, and the request sent again in another phrasing. What one row
shows counts for that row alone, for a gateway may have sent it elsewhere; what two different rows
have shown counts for all, for the life of the process.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.hosted.failures import Problem

__all__ = [
    "AT_MOST",
    "BEGUN",
    "DROPPED",
    "LISTS_FEW",
    "NO_LOGPROBS",
    "N_ROWS",
    "REASONS",
    "REASONS_FIRST",
    "Continuation",
    "Dialect",
    "ModelFacts",
    "row_of",
]

_PLAIN = bool | int | float | str
N_ROWS = 2
"""How many different rows have to show what is then taken to be true of the model."""
NO_LOGPROBS, REASONS_FIRST = "no log-probabilities", "reasoning before the answer"
DROPPED, AT_MOST = "a refused setting", "a limit of the alternatives"
LISTS_FEW, CONTINUED = "a short list, where a longer one was requested", "a begun answer"
REASONS, BEGUN = "reasoning", "reasoning without a mark before it"


def row_of(request: Request) -> Hashable:
    """Return what tells the row of a request from others: several requests may be about one."""
    return request.subject or request.messages


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
    shown : dict of tuple to set
        By what may be true of the model, a name and a value, the rows that showed it.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    answered: set[Any] = field(default_factory=set)
    n_tried: Counter[Any] = field(default_factory=Counter)
    shown: dict[tuple[str, Any], set[Hashable]] = field(default_factory=dict)

    def first_alone(self, kind: Any, answer: Callable[[Request], Reply], request: Request) -> Reply:
        """Answer a request; the first of its kind alone, so that a refusal is met once.

        If the first one is not answered, or has shown something that no other row has, the second
        one goes alone, too: it may tell more.
        """
        if self._goes_alone(kind):
            with self.lock:
                if self._goes_alone(kind):
                    try:
                        return answer(request)
                    finally:
                        self.n_tried[kind] += 1
        return answer(request)

    def as_json(self) -> str:
        """Write what was found out as text, without the texts of the rows that showed it."""
        plain = {name: v for name, v in vars(self).items() if isinstance(v, _PLAIN | None)}
        shown = [[what, value, len(rows)] for (what, value), rows in self.shown.items()]
        return json.dumps({"plain": plain, "shown": shown})

    def learn_from_json(self, text: str) -> None:
        """Take over what :meth:`as_json` wrote."""
        content = json.loads(text)
        for name, value in content["plain"].items():
            if name in vars(self):
                setattr(self, name, value)
        for what, value, n_rows in content["shown"]:
            self.shown[what, value] = {("an earlier row", n) for n in range(n_rows)}

    def _goes_alone(self, kind: Any) -> bool:
        if self.n_tried[kind] >= N_ROWS:
            return False
        return kind not in self.answered or any(len(rows) < N_ROWS for rows in self._shown_rows())

    def _shown_rows(self) -> list[set[Hashable]]:
        return list(self.shown.values())

    def note(self, what: str, row: Hashable, value: Any = None) -> None:
        """Note that a row showed something that may be true of the model."""
        if not self.is_known(what, value):
            self.shown.setdefault((what, value), set()).add(row)

    def is_known(self, what: str, value: Any = None) -> bool:
        """Tell whether enough different rows have shown something to take it for true."""
        return len(self.shown.get((what, value), ())) >= N_ROWS

    def holds(self, what: str, row: Hashable, value: Any = None) -> bool:
        """Tell whether something is to be taken for true where a row is asked about."""
        rows = self.shown.get((what, value), ())
        return row in rows or len(rows) >= N_ROWS

    def values(self, what: str, row: Hashable) -> list[Any]:
        """Return the values of which something holds for a row."""
        return [v for name, v in list(self.shown) if name == what and self.holds(what, row, v)]


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
    n_longer : int
        How many answers that were cut were requested at length, in case they were reasoning.
    """

    lists_many: bool | None = None
    shows_logprobs: bool = False
    no_logprobs: str | None = None
    continuation: Continuation | None = None
    can_continue: bool | None = None
    n_longer: int = 0

    @abstractmethod
    def learn(self, problem: Problem, sent: Mapping[str, Any], row: Hashable) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing.

        Only settings that were sent can be learned about, and each only downwards: so a request
        is sent again a bounded number of times.
        """

    @abstractmethod
    def refuses(self, problem: Problem, wish: str) -> bool:
        """Tell whether a refusal is about a parameter that the user has set on purpose."""

    def as_json(self) -> str:
        """Write what was found out as text."""
        found = json.loads(super().as_json())
        if self.continuation is not None:
            found["continuation"] = self.continuation
        return json.dumps(found)

    def learn_from_json(self, text: str) -> None:
        """Take over what :meth:`as_json` wrote."""
        super().learn_from_json(text)
        if found := json.loads(text).get("continuation"):
            self.continuation = Continuation(*found)

    def phrase(self, wanted: Mapping[str, Any], row: Hashable) -> dict[str, Any]:
        """Return the settings of a request about a row as far as this model takes them."""
        dropped = self.values(DROPPED, row)
        settings = {name: value for name, value in wanted.items() if name not in dropped}
        if "top_logprobs" in settings:
            settings["top_logprobs"] = min([settings["top_logprobs"], *self.values(AT_MOST, row)])
        return settings

    def note_continuation(self, found: Continuation | None, row: Hashable) -> None:
        """Note how an answer was continued, or that it was not; two rows settle it."""
        self.note(CONTINUED, row, repr(found))
        if self.is_known(CONTINUED, repr(found)):
            self.continuation, self.can_continue = found, found is not None

    def notes(
        self, left_out: Sequence[str], row: Hashable, n_wanted: int | None = None
    ) -> tuple[str, ...]:
        """List what was requested and not given.

        Parameters
        ----------
        left_out : sequence of str
            The settings that a request had to do without.
        row : hashable
            Of the request.
        n_wanted : int or None, default=None
            How many alternatives it requested.
        """
        notes = [self.why_left_out(name) for name in left_out]
        n_listed = min(self.values(AT_MOST, row), default=n_wanted)
        if n_wanted is not None and n_listed is not None and n_listed < n_wanted:
            notes.append(f"the model lists {n_listed} alternatives, not {n_wanted}")
        return tuple(sorted(notes))

    def why_left_out(self, name: str) -> str:
        """Say why a request had to do without a setting, and what held instead."""
        if name == "schema":
            return "the model refuses the JSON schema; only the prompt says how to answer"
        return f"the model refuses {name!r}; its default was used"
