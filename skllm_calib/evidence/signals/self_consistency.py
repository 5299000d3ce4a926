"""How often the model gives the same answer when it is asked repeatedly."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

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
    replies_or_raise,
    smoothed_log_proba,
)
from skllm_calib.evidence.signals.label_names import names_of, quoted, read_label
from skllm_calib.exceptions import InvalidInput, Refused, UnreadableReply

__all__ = ["SelfConsistencySignal"]


class SelfConsistencySignal(Signal):
    """Vote shares of several sampled answers.

    Parameters
    ----------
    n_draws : int, default=10
        How many answers to sample, at most. Five to ten carry most of the information.
    temperature : float, default=1.0
        Temperature of the sampling.
    variants : {"auto", "none", "orders"} or list of str, default="auto"
        What differs between the draws besides the sampling. "none": nothing. "orders": the order
        of the options, rotated by one place per draw. A list: further instructions to use in place
        of the prompt's own (they may use ``{options}`` and ``{hint}``), one after the other.
        "auto": "orders" for models that accept no temperature, else "none".
    smoothing : float, default=0.5
        Concentration of the symmetric Dirichlet prior: a class with c of M votes, of K classes,
        gets (c + smoothing) / (M + smoothing K). Never 0, so that a class without a vote is
        unlikely but not impossible.
    stop_early : bool, default=True
        Stop when no other class can overtake the leading one with the draws that are left.
    max_tokens : int, default=16
        Longest answer.

    Notes
    -----
    A draw is a vote if it consists of a label, or ends with a line "Answer: LABEL". Draws that name
    no label, or that the model declines, are no vote; their proportion is ``off_label``. A row
    fails if no draw is a vote, or if a draw could not be obtained at all: that says nothing about
    the model. Backends that can (llama.cpp in process) restrict the draws to the labels. Vote
    shares take few values and are over-confident: they measure the noise of the sampling, not
    whether the model is right. Calibrate them.

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
        text = "\n".join(question.fields.values())
        refusal: Refused | None = None
        while n_next:
            drawn = range(n_drawn, n_drawn + n_next)
            varied = [_variant(question, variants, draw) for draw in drawn]
            answers = yield [
                Request(
                    variant.messages(),
                    max_tokens=checked_count("max_tokens", self.max_tokens),
                    temperature=float(self.temperature),
                    draw=draw,
                    among=variant.answers,
                )
                for draw, variant in zip(drawn, varied, strict=True)
            ]
            for variant, answer in zip(varied, answers, strict=True):
                if isinstance(answer, Refused):
                    refusal = refusal or answer
                    written.append(str(answer))
                    continue
                (reply,) = replies_or_raise([answer])
                written.append(reply.text)
                with contextlib.suppress(UnreadableReply):  # no vote
                    check_whole(reply)  # "not" may be what is left of "not spam"
                    votes[read_label(reply.text, names_of(variant), text)] += 1
                if variants == "auto":
                    variants = "orders" if "temperature" in reply.refused else "none"
            n_drawn += n_next
            n_next = self._next_step(votes, n_drawn)
        if not votes.any():
            if refusal is not None:
                raise refusal  # which says more than that no label was named
            raise UnreadableReply(
                f"none of {n_drawn} answers is a label; the first is {quoted(written[0])}. Ask for "
                "the bare label in the prompt"
            )
        return Evidence(
            smoothed_log_proba(votes.astype(np.float64), self.smoothing),
            1 - float(votes.sum()) / n_drawn,
            {
                "votes": votes,
                "n_draws": n_drawn,
                "variants": variants if isinstance(variants, str) else "instructions",
                "written": written,
            },
        )

    def _check(self) -> None:
        checked_count("n_draws", self.n_draws)
        if self.smoothing <= 0:
            raise InvalidInput(
                f"smoothing={self.smoothing!r}: must be greater than 0, or a class without votes "
                "would be impossible",
                "smoothing",
                value=self.smoothing,
            )
        if isinstance(self.variants, str) and self.variants not in ("auto", "none", "orders"):
            raise InvalidInput(
                f"variants={self.variants!r}: must be 'auto', 'none', 'orders' or a list of "
                "instructions",
                "variants",
                value=self.variants,
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


def _variant(question: Question, variants: str | Sequence[str], draw: int) -> Question:
    if variants == "orders":
        return question.shifted(draw)
    if isinstance(variants, str) or draw % (len(variants) + 1) == 0:
        return question
    return question.reworded(variants[draw % (len(variants) + 1) - 1])
