"""P(True): the model judges its own answer."""

from __future__ import annotations

from typing import Literal

import numpy as np

from skllm_calib.evidence.backends.base import Message, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import (
    Dialogue,
    Evidence,
    Signal,
    log_proba_of_answer,
    replies_or_raise,
)
from skllm_calib.evidence.signals.logprobs import read_labels
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.numerics import log_normalise

__all__ = ["PTrueSignal"]

_VERDICTS = ("True", "False")


class PTrueSignal(Signal):
    """Probability of "True" when the model is asked whether an answer is right.

    Parameters
    ----------
    candidates : {"answer", "all"}, default="answer"
        Which answers are judged. "answer": the most probable one according to a first request;
        the other classes get equal parts of the rest. "all": every class, with one request each
        and no first one; the probabilities of "True" are normalised.

    Notes
    -----
    Needs token log-probabilities. The answer keeps at least 1 % more than an equal part, so that
    it stays the prediction however much the model doubts it.

    References
    ----------
    .. [1] S. Kadavath et al. (2022). "Language Models (Mostly) Know What They Know."
       arXiv:2207.05221.

    Examples
    --------
    >>> from skllm_calib.signals import PTrueSignal
    >>> PTrueSignal(candidates="all")
    PTrueSignal(candidates='all')
    """

    name = "p_true"

    def __init__(self, *, candidates: Literal["answer", "all"] = "answer") -> None:
        self.candidates = candidates

    def ask(self, question: Question) -> Dialogue:
        """Ask for an answer, then whether it is right."""
        if self.candidates not in ("answer", "all"):
            raise InvalidInput(
                f"candidates={self.candidates!r}: must be 'answer' or 'all'",
                "candidates",
                value=self.candidates,
            )
        n_classes = len(question.texts)
        judged = list(range(n_classes))
        written = ""
        if self.candidates == "answer":
            (reply,) = replies_or_raise(
                (yield [Request(question.messages(), answers=question.answers)])
            )
            direct = read_labels(reply.distributions, question.answers)
            judged, written = [int(direct.log_proba.argmax())], reply.text
        replies = replies_or_raise((yield [self._doubt(question, k) for k in judged]))
        verdicts = [read_labels(r.distributions, _VERDICTS) for r in replies]
        p_true = np.full(n_classes, np.nan)
        p_true[judged] = [np.exp(v.log_proba[0]) for v in verdicts]
        if self.candidates == "answer":
            log_proba = log_proba_of_answer(judged[0], float(p_true[judged[0]]), n_classes)
        else:
            log_true = np.array([v.log_proba[0] for v in verdicts])
            log_proba = log_normalise(log_true)
        off_label = float(np.mean([v.off_label for v in verdicts]))
        return Evidence(log_proba, off_label, {"p_true": p_true, "written": written})

    def _doubt(self, question: Question, answer: int) -> Request:
        proposed = question.texts[answer]
        judge = (
            f"Proposed answer: {proposed}\n"
            "Is the proposed answer right? Answer with one word: True or False."
        )
        messages: tuple[Message, ...] = question.messages(judge)
        return Request(messages, answers=_VERDICTS)
