"""What a signal is: a dialogue about one row that ends in a row of log-probabilities.

A signal does no I/O. It is written as a generator: it yields the requests it needs next, is sent
their answers, and returns the evidence. So a signal that asks once and one that asks, reads and
asks again look the same to whoever carries the requests (:mod:`skllm_calib.evidence.asking`), and
dialogues can be led side by side (:func:`interleave`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.exceptions import BackendError, InvalidInput, UnreadableReply

__all__ = [
    "Answered",
    "Dialogue",
    "Evidence",
    "Signal",
    "check_whole",
    "checked_count",
    "interleave",
    "log_proba_of_answer",
    "replies_or_raise",
    "smoothed_log_proba",
]

Answered = Reply | BackendError
# An answer keeps at least this many times an equal part, so that it stays the prediction even where
# the model gives it a low probability.
_LEAD = 1.01
# No label is impossible for a language model: a stated certainty of 1 leaves this much.
_LEAST = 1e-4
_N_SHOWN = 200  # characters of a reply that an error shows


@dataclass(frozen=True)
class Evidence:
    """What a signal reads from the replies about one row.

    Attributes
    ----------
    log_proba : ndarray of shape (n_classes,)
        Normalised natural log-probabilities, finite.
    off_label : float
        Part of the evidence that fell on no label, in [0, 1]; never mixed into `log_proba`.
    details : dict
        What to show in ``explain``.
    """

    log_proba: NDArray[np.float64]
    off_label: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


Dialogue = Generator[list[Request], list[Answered], Evidence]


class Signal(BaseEstimator, ABC):  # type: ignore[misc]
    """Base class of all signals; to write one, implement :meth:`ask` and give it a `name`.

    Attributes
    ----------
    name : str
        What users write for it: ``signal="name"``.
    """

    name: ClassVar[str]

    @property
    def label(self) -> str:
        """Its name in reports; a signal made of several names them."""
        return self.name

    @abstractmethod
    def ask(self, question: Question) -> Dialogue:
        """Lead the dialogue about one row.

        Parameters
        ----------
        question : Question
            The row, its labels and how they are asked for.

        Yields
        ------
        list of Request
            What to ask next. The answers are sent in the same order; a failed one is sent as its
            ``BackendError``.

        Returns
        -------
        Evidence

        Raises
        ------
        BackendError
            If the answers say nothing about the labels: a failure, never a guess.
        """

    def identity(self) -> Any:
        """Return the name, with the parameters that differ from the defaults, as plain values."""
        defaults = type(self)().get_params()
        given = {name: _plain(value) for name, value in self.get_params().items()}
        changed = {name: value for name, value in given.items() if value != defaults[name]}
        return {"name": self.name, **changed} if changed else self.name


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):  # a grid may be one
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def checked_count(name: str, value: Any) -> int:
    """Return the value of a parameter that counts something; NumPy's integers are allowed.

    Raises
    ------
    ValueError
        If it is not a whole number, or less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInput(
            f"{name}={value!r}: must be a whole number, 1 or more", name, value=value
        )
    return int(value)


def replies_or_raise(answers: Sequence[Answered]) -> list[Reply]:
    """Return the replies, or raise the first failure among them."""
    for answer in answers:
        if isinstance(answer, BackendError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Reply)]


def check_whole(reply: Reply) -> None:
    """Raise UnreadableReply if a text was cut: its last word or number may be half of one."""
    if reply.cut:
        shown = " ".join(reply.text.split())[:_N_SHOWN]
        raise UnreadableReply(
            f"the answer was cut off, there was no more room for it: increase max_tokens of the "
            f"signal, or reasoning_budget of the backend if the model reasons before it answers "
            f"(reasoning_effort='none' may turn that off). The model wrote {shown!r}"
        )


def interleave(
    dialogues: Sequence[Dialogue],
) -> Generator[list[Request], list[Answered], list[Evidence | BackendError]]:
    """Lead several dialogues side by side; return the evidence or the failure of each.

    Each step asks what all of them want next, so that they take no more steps than the longest.
    """
    ends: list[Evidence | BackendError | None] = [None] * len(dialogues)
    wanted: dict[int, list[Request]] = {}

    def advance(i: int, answers: list[Answered] | None) -> None:
        try:
            wanted[i] = next(dialogues[i]) if answers is None else dialogues[i].send(answers)
        except StopIteration as end:
            ends[i] = end.value
        except BackendError as failure:
            ends[i] = failure

    for i in range(len(dialogues)):
        advance(i, None)
    while wanted:
        asked, wanted = wanted, {}
        answers = yield [request for requests in asked.values() for request in requests]
        start = 0
        for i, requests in asked.items():
            advance(i, answers[start : start + len(requests)])
            start += len(requests)
    return [
        end if end is not None else UnreadableReply("a signal returned no evidence") for end in ends
    ]


def smoothed_log_proba(weights: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """Turn votes or stated probabilities into log-probabilities: add `smoothing`, normalise.

    The posterior mean under a symmetric Dirichlet prior of this concentration.
    """
    smoothed = weights + smoothing
    out: NDArray[np.float64] = np.log(smoothed / smoothed.sum())
    return out


def log_proba_of_answer(answer: int, proba: float, n_classes: int) -> NDArray[np.float64]:
    """Give the answer its stated probability, and the other classes equal parts of the rest.

    The answer keeps a little more than an equal part, whatever was stated: it is what the model
    answered, and nothing favours any of the others.

    Returns
    -------
    ndarray of shape (n_classes,)
        Normalised log-probabilities.
    """
    if n_classes == 1:
        return np.zeros(1)
    kept = min(max(proba, _LEAD / n_classes), 1 - _LEAST)
    out = np.full(n_classes, np.log((1 - kept) / (n_classes - 1)))
    out[answer] = np.log(kept)
    return out
