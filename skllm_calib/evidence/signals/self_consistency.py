"""How often the model gives the same answer when it is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals._reports import Names, read_label
from skllm_calib.evidence.signals.base import (
    Answered,
    Dialogue,
    Evidence,
    Signal,
    log_shares,
    whole,
)
from skllm_calib.exceptions import BackendError, Refused, UnreadableReply

__all__ = ["SelfConsistencySignal", "read_vote"]


class SelfConsistencySignal(Signal):
    """Vote shares of several sampled answers.

    Parameters
    ----------
    n_draws : int, default=10
        How many answers to sample, at most. Five to ten carry most of what there is.
    temperature : float, default=1.0
        Temperature of the sampling.
    variants : {"auto", "none", "orders"} or list of str, default="auto"
        What differs between the draws besides the sampling. "none": nothing. "orders": the order
        of the options, turned by one place a draw. A list: further instructions in the place of
        the prompt's own (they may use ``{options}`` and ``{hint}``), taken in turn. "auto":
        "none", and "orders" for models that take no temperature.
    smoothing : float, default=0.5
        Concentration of the symmetric Dirichlet prior: with counts c of M draws over K classes
        the share of a class is (c + smoothing) / (M + smoothing K). Never 0, so that a class
        without a vote is unlikely and not impossible.
    stop_early : bool, default=True
        Stop when the class in the lead cannot be overtaken by the draws that are left.
    max_tokens : int, default=16
        Longest answer.

    Notes
    -----
    Backends that can (llama.cpp in process) let the model choose among the labels alone. Elsewhere,
    draws that name no label, or are declined, count for none: their share is ``off_label``. When
    none names a label the row fails. Shares are lattice values and over-confident: they measure
    the noise of the sampling, not whether the model is right. Calibrate them.

    References
    ----------
    .. [1] X. Wang et al. (2023). "Self-Consistency Improves Chain of Thought Reasoning in
       Language Models." ICLR.
    .. [2] P. Manakul, A. Liusie, M. J. F. Gales (2023). "SelfCheckGPT: Zero-Resource Black-Box
       Hallucination Detection for Generative Large Language Models." EMNLP.

    Examples
    --------
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> from skllm_calib.signals import SelfConsistencySignal
    >>> backend = TestingBackend({"free prize": {"ham": 0.2, "spam": 0.8}})
    >>> signal = SelfConsistencySignal(n_draws=20, stop_early=False)
    >>> clf = LLMClassifier(backend, classes=["ham", "spam"], signal=signal, cache=None)
    >>> clf.explain(["You won a free prize!"])[0]["votes"]
    {'ham': 4, 'spam': 16}
    """

    name = "self_consistency"

    def __init__(
        self,
        *,
        n_draws: int = 10,
        temperature: float = 1.0,
        variants: Literal["auto", "none", "orders"] | Sequence[str] = "auto",
        smoothing: float = 0.5,
        stop_early: bool = True,
        max_tokens: int = 16,
    ) -> None:
        self.n_draws = n_draws
        self.temperature = temperature
        self.variants = variants
        self.smoothing = smoothing
        self.stop_early = stop_early
        self.max_tokens = max_tokens

    def ask(self, question: Question) -> Dialogue:
        """Draw answers until more of them cannot matter."""
        self._check()
        n_classes = len(question.texts)
        votes = np.zeros(n_classes, dtype=np.int64)
        n_drawn, n_next = 0, self._first_step()
        variants, written = self.variants, []
        first: Answered | None = None
        while n_next:
            drawn = range(n_drawn, n_drawn + n_next)
            varied = [_variant(question, variants, draw) for draw in drawn]
            answers = yield [
                Request(
                    variant.messages(),
                    max_tokens=whole("max_tokens", self.max_tokens),
                    temperature=float(self.temperature),
                    draw=draw,
                    among=variant.answers,
                )
                for draw, variant in zip(drawn, varied, strict=True)
            ]
            first = first or answers[0]
            for variant, answer in zip(varied, answers, strict=True):
                vote = read_vote(answer, variant)
                written.append(answer.text if isinstance(answer, Reply) else str(answer))
                if vote is not None:
                    votes[vote] += 1
                if variants == "auto" and isinstance(answer, Reply):
                    variants = "orders" if "temperature" in answer.refused else "none"
            n_drawn += n_next
            n_next = self._next_step(votes, n_drawn)
        if not votes.any():
            if isinstance(first, BackendError):
                raise first  # which says more than that no label was named
            raise UnreadableReply(
                f"none of {n_drawn} answers names one of the labels; the first is "
                f"{written[0][:80]!r}. Ask for the answer more plainly in the prompt"
            )
        return Evidence(
            log_shares(votes.astype(np.float64), self.smoothing),
            1 - float(votes.sum()) / n_drawn,
            {
                "votes": votes,
                "n_draws": n_drawn,
                "variants": variants if isinstance(variants, str) else "instructions",
                "written": written,
            },
        )

    def _check(self) -> None:
        whole("n_draws", self.n_draws)
        if self.smoothing <= 0:
            raise ValueError(
                f"smoothing={self.smoothing!r}: must be greater than 0, or a class without votes "
                "would be impossible"
            )
        if isinstance(self.variants, str) and self.variants not in ("auto", "none", "orders"):
            raise ValueError(
                f"variants={self.variants!r}: must be 'auto', 'none', 'orders' or a list of "
                "instructions"
            )

    def _first_step(self) -> int:
        if self.variants == "auto":
            return 1  # whether the model takes a temperature shows in its first answer
        return self._next_step(np.zeros(2, dtype=np.int64), 0)

    def _next_step(self, votes: NDArray[np.int64], n_drawn: int) -> int:
        """Return how many draws to ask for: no more than are certain to be needed."""
        n_left = int(self.n_draws) - n_drawn
        if not self.stop_early or n_left <= 0:
            return max(0, n_left)
        second, first = np.sort(np.append(votes, 0))[-2:]
        # After m more draws, all for the leader, it leads by (first - second + m) and n_left - m
        # are left: it cannot be overtaken once the one is larger than the other.
        needed = (n_left - (first - second)) // 2 + 1
        return 0 if first - second > n_left else int(min(n_left, max(1, needed)))


def read_vote(answer: Answered, question: Question) -> int | None:
    """Return the class that an answer names; None if it names none or was declined.

    Raises
    ------
    BackendError
        If there is no answer for another reason, which says nothing of the model.
    """
    if isinstance(answer, Refused | UnreadableReply):
        return None
    if not isinstance(answer, Reply):
        raise answer
    try:
        return read_label(answer.text, Names(question.keys, question.texts))
    except UnreadableReply:
        return None


def _variant(question: Question, variants: str | Sequence[str], draw: int) -> Question:
    if variants == "orders":
        return question.shifted(draw)
    if isinstance(variants, str) or draw % (len(variants) + 1) == 0:
        return question
    return question.reworded(variants[draw % (len(variants) + 1) - 1])
