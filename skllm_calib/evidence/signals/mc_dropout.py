"""MC dropout: the mean label probabilities of many passes with dropout."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import entr

from skllm_calib.evidence.backends.base import Dropout, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import (
    Dialogue,
    Evidence,
    Signal,
    checked_count,
    replies_or_raise,
)
from skllm_calib.evidence.signals.logprobs import read_labels
from skllm_calib.exceptions import InvalidInput, UnreadableReply
from skllm_calib.log_proba.numerics import log_normalise

__all__ = ["MCDropoutSignal"]


class MCDropoutSignal(Signal):
    """Mean label probabilities over passes with dropout active.

    Parameters
    ----------
    where : {"head", "modules", "trained"}, default="head"
        Where dropout acts. "head": on the final hidden state before the output layer, with all
        masks in one pass of the model. "modules": on the attention and residual branches, with one
        pass of the model per mask. "trained": in the modules that were trained with dropout, such
        as LoRA adapters; an error if there are none, as in nearly all current decoders.
    rate : float, default=0.1
        Dropout probability; ignored for "trained", where each module has its own.
    n_passes : int, default=30
        Number of passes.
    random_state : int, default=0
        Seed of the masks. Seed and content of the row determine them, so every run has the same.

    Notes
    -----
    Needs the backend ``transformers``. The result is the mean of the probabilities; ``explain``
    shows its entropy (``total``), the mean entropy of the passes (``aleatoric``) and the
    difference, their mutual information (``epistemic``), in nats.

    References
    ----------
    .. [1] Y. Gal and Z. Ghahramani (2016). "Dropout as a Bayesian Approximation: Representing
       Model Uncertainty in Deep Learning." ICML.
    .. [2] N. Houlsby et al. (2011). "Bayesian Active Learning for Classification and Preference
       Learning." arXiv:1112.5745.

    Examples
    --------
    >>> from skllm_calib.signals import MCDropoutSignal
    >>> MCDropoutSignal(where="modules", n_passes=10)
    MCDropoutSignal(n_passes=10, where='modules')
    """

    name = "mc_dropout"

    def __init__(
        self,
        *,
        where: Literal["head", "modules", "trained"] = "head",
        rate: float = 0.1,
        n_passes: int = 30,
        random_state: int = 0,
    ) -> None:
        self.where = where
        self.rate = rate
        self.n_passes = n_passes
        self.random_state = random_state

    def ask(self, question: Question) -> Dialogue:
        """Ask once, for all passes."""
        (reply,) = replies_or_raise((yield [self._request(question)]))
        answers = question.answers
        if not reply.passes:
            raise UnreadableReply("the reply has no probabilities with dropout")
        passes = [read_labels(distributions, answers) for distributions in reply.passes]
        scores = np.array([e.log_proba for e in passes])
        proba = np.exp(scores)
        mean = proba.mean(axis=0)
        log_proba = np.logaddexp.reduce(scores, axis=0)
        total, aleatoric = float(entr(mean).sum()), float(entr(proba).sum(axis=1).mean())
        return Evidence(
            log_normalise(log_proba),
            float(np.mean([e.off_label for e in passes])),
            {
                "total": total,
                "aleatoric": aleatoric,
                "epistemic": max(0.0, total - aleatoric),  # rounding could make it negative
                "spread": proba.std(axis=0),
                "n_passes": len(passes),
                "written": reply.text,
            },
        )

    def _request(self, question: Question) -> Request:
        if self.where not in ("head", "modules", "trained"):
            raise InvalidInput(
                f"where={self.where!r}: must be 'head', 'modules' or 'trained'",
                "where",
                value=self.where,
            )
        if not 0 < self.rate < 1:
            raise InvalidInput(
                f"rate={self.rate!r}: must be between 0 and 1, both excluded",
                "rate",
                value=self.rate,
            )
        rate = 0.0 if self.where == "trained" else float(self.rate)
        n_passes = checked_count("n_passes", self.n_passes)
        dropout = Dropout(self.where, rate, n_passes, int(self.random_state))
        return Request(question.messages(), answers=question.answers, dropout=dropout)
