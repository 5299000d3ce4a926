"""Probabilities that the model states in words: needs nothing but text."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.backends.base import Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import (
    Dialogue,
    Evidence,
    Signal,
    check_whole,
    checked_count,
    log_proba_of_answer,
    replies_or_raise,
    smoothed_log_proba,
)
from skllm_calib.evidence.signals.label_names import names_of
from skllm_calib.evidence.signals.stated import read_answer, read_distribution, read_guesses
from skllm_calib.exceptions import InvalidInput

__all__ = ["SelfReportedSignal"]

_FORMS = ("auto", "distribution", "guesses", "answer")
# Above this number of classes, a probability for each is long to write and hardly thought about.
_MANY = 10
# Tokens for a label, a number and the marks around them.
_TOKENS_PER_CLASS, _TOKENS_AROUND = 24, 64


class SelfReportedSignal(Signal):
    """Probabilities that the model states.

    Parameters
    ----------
    form : {"auto", "distribution", "guesses", "answer"}, default="auto"
        What is asked for. "distribution": a probability for every class. "guesses": the
        `n_guesses` best classes, each with a probability; the best form for many classes [1]_.
        "answer": the label and one probability; the most common form, and the least informative
        [2]_. "auto": "distribution" up to ten classes, else "guesses".
    n_guesses : int, default=4
        How many guesses to ask for; at most the number of classes.
    smoothing : float, default=0.005
        Added to each stated probability before they are normalised, so that a stated 0 or 1 has
        a finite logarithm. Numbers are stated to two digits, so a stated 0 means less than about
        half of the last digit.
    max_tokens : int or None, default=None
        Longest reply; None for as many tokens as the requested form needs. Reasoning models need
        more: see ``reasoning_budget`` of the backend.

    Notes
    -----
    Structured output is used where the backend has it. The whole reply must be JSON, which may be
    in a code fence, or lines of the form ``label: number``; a reply that is anything else, or that
    can be understood in two ways, is a failed row
    (:class:`~skllm_calib.exceptions.UnreadableReply`). Numbers are between 0 and 1, or all of them
    percentages with a percent sign.

    Stated probabilities are normalised to sum to one; what is missing from one is ``off_label``.
    Classes that are not among the guesses divide what the guesses leave, and none gets more than
    the lowest guess. In the form "answer" the other classes get equal parts of the rest, and the
    answer keeps at least 1 % more than an equal part. Stated numbers pile up at 0.9, 0.95 and 1:
    calibrate them.

    References
    ----------
    .. [1] K. Tian et al. (2023). "Just Ask for Calibration: Strategies for Eliciting Calibrated
       Confidence Scores from Language Models Fine-Tuned with Human Feedback." EMNLP.
    .. [2] M. Xiong et al. (2024). "Can LLMs Express Their Uncertainty? An Empirical Evaluation of
       Confidence Elicitation in LLMs." ICLR.

    Examples
    --------
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> from skllm_calib.signals import SelfReportedSignal
    >>> backend = TestingBackend({"free prize": {"ham": 0.2, "spam": 0.8}})
    >>> clf = LLMClassifier(
    ...     backend, classes=["ham", "spam"], signal=SelfReportedSignal(), cache=None
    ... )
    >>> clf.predict_proba(["You won a free prize!"]).round(3)
    array([[0.203, 0.797]])
    """

    name = "self_reported"

    def __init__(
        self,
        *,
        form: Literal["auto", "distribution", "guesses", "answer"] = "auto",
        n_guesses: int = 4,
        smoothing: float = 0.005,
        max_tokens: int | None = None,
    ) -> None:
        self.form = form
        self.n_guesses = n_guesses
        self.smoothing = smoothing
        self.max_tokens = max_tokens

    def ask(self, question: Question) -> Dialogue:
        """Ask for the probabilities in words, and as structured output where it is available."""
        form = self._form(len(question.texts))
        kind, shown = ("option", question.keys) if question.keys else ("label", question.texts)
        n_numbers = {"distribution": len(shown), "guesses": self._n_guesses(question)}.get(form, 1)
        request = Request(
            question.messages(_wording(form, kind, shown, n_numbers)),
            max_tokens=self._room(n_numbers),
            schema=json.dumps(_schema(form, kind, shown)),
        )
        (reply,) = replies_or_raise((yield [request]))
        check_whole(reply)
        names = names_of(question)
        if form == "answer":
            label, probability = read_answer(reply.text, names)
            log_proba, rest = log_proba_of_answer(label, probability, len(shown)), 0.0
            stated = np.full(len(shown), np.nan)
            stated[label] = probability
        else:
            read = read_distribution if form == "distribution" else read_guesses
            stated = read(reply.text, names)
            proba, rest = _completed(stated)
            log_proba = smoothed_log_proba(proba / max(proba.sum(), 1.0), self.smoothing)
        return Evidence(log_proba, rest, {"written": reply.text, "form": form, "stated": stated})

    def _form(self, n_classes: int) -> str:
        if self.form not in _FORMS:
            raise InvalidInput(
                f"form={self.form!r}: must be one of {', '.join(map(repr, _FORMS))}",
                "form",
                value=self.form,
            )
        if self.smoothing <= 0:
            raise InvalidInput(
                f"smoothing={self.smoothing!r}: must be greater than 0",
                "smoothing",
                value=self.smoothing,
            )
        if self.form == "auto":
            return "distribution" if n_classes <= _MANY else "guesses"
        return self.form

    def _n_guesses(self, question: Question) -> int:
        return min(checked_count("n_guesses", self.n_guesses), len(question.texts))

    def _room(self, n_numbers: int) -> int:
        if self.max_tokens is None:
            return _TOKENS_AROUND + _TOKENS_PER_CLASS * n_numbers
        return checked_count("max_tokens", self.max_tokens)


def _wording(form: str, kind: str, shown: tuple[str, ...], n_guesses: int) -> str:
    pair = f'{{"{kind}": ..., "probability": ...}}'
    if form == "distribution":
        example = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: ..." for name in shown)
        return (
            f"How likely is each {kind} to be the right one? Reply with a JSON object only, which "
            f"gives every {kind} a probability between 0 and 1 that together make 1: {{{example}}}"
        )
    if form == "guesses":
        return (
            f"Give your {n_guesses} best guesses, the best first, each with the probability "
            f"between 0 and 1 that it is right. Reply with a JSON object only: "
            f'{{"guesses": [{pair}, ...]}}'
        )
    return (
        f"Give the right {kind} and the probability between 0 and 1 that it is right. Reply with a "
        f"JSON object only: {pair}"
    )


def _schema(form: str, kind: str, shown: tuple[str, ...]) -> dict[str, Any]:
    number = {"type": "number"}
    if form == "distribution":
        return _object(dict.fromkeys(shown, number))
    guess = _object({kind: {"type": "string", "enum": list(shown)}, "probability": number})
    if form == "guesses":
        return _object({"guesses": {"type": "array", "items": guess}})
    return guess


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _completed(stated: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return a probability for every class, and what is left over."""
    known = ~np.isnan(stated)
    left = max(0.0, 1.0 - float(stated[known].sum()))
    unknown = (~known).sum()
    if not unknown:
        return stated, left
    each = min(left / unknown, float(stated[known].min()))
    return np.where(known, stated, each), max(0.0, left - each * unknown)
