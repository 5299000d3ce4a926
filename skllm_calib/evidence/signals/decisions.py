"""Decision endpoints, which give a probability to each option."""

from __future__ import annotations

import numpy as np

from skllm_calib.evidence.backends.base import Choice, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import (
    Dialogue,
    Evidence,
    Signal,
    replies_or_raise,
    smoothed_log_proba,
)
from skllm_calib.exceptions import InvalidInput, UnreadableReply

__all__ = ["DecisionSignal"]


class DecisionSignal(Signal):
    """The probabilities of a decision endpoint, such as OpenAI's ``decisions.create``.

    Parameters
    ----------
    smoothing : float, default=1e-4
        Added to each probability before they are normalised, so that 0 has a finite logarithm.

    Notes
    -----
    If the model refuses, the row fails (:class:`~skllm_calib.exceptions.Refused`). A server without
    such an endpoint makes the whole run fail with ``SignalUnavailable``.

    Examples
    --------
    >>> from skllm_calib.signals import DecisionSignal
    >>> DecisionSignal().name
    'decisions'
    """

    name = "decisions"

    def __init__(self, *, smoothing: float = 1e-4) -> None:
        self.smoothing = smoothing

    def ask(self, question: Question) -> Dialogue:
        """Ask for a decision between the labels, in their own words."""
        if self.smoothing <= 0:
            raise InvalidInput(
                f"smoothing={self.smoothing!r}: must be greater than 0",
                "smoothing",
                value=self.smoothing,
            )
        described = zip(question.texts, question.prompt.descriptions, strict=True)
        choices = tuple(Choice(text, note or "") for text, note in described)
        (reply,) = replies_or_raise((yield [Request(question.messages(""), choices=choices)]))
        stated = np.array(reply.decision, dtype=np.float64)
        if len(stated) != len(choices) or not (stated >= 0).all() or not 0 < stated.sum() < np.inf:
            raise UnreadableReply(
                f"the decision endpoint returned {reply.decision!r}, not one probability for each "
                f"of {len(choices)} options"
            )
        off_label = max(0.0, 1.0 - float(stated.sum()))
        log_proba = smoothed_log_proba(stated / max(1.0, stated.sum()), self.smoothing)
        return Evidence(log_proba, off_label, {"stated": stated, "written": reply.text})
