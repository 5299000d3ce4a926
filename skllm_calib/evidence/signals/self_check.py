"""SelfCheck: whether the model, asked again for its reasons, still supports its answer."""

from __future__ import annotations

import numpy as np

from skllm_calib.evidence.backends.base import Message, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals._reports import Names, read_label
from skllm_calib.evidence.signals.base import Dialogue, Evidence, Signal, only, share, whole
from skllm_calib.evidence.signals.reasoned import THINK
from skllm_calib.evidence.signals.self_consistency import read_vote
from skllm_calib.exceptions import UnreadableReply

__all__ = ["SelfCheckSignal"]

_VERDICTS = Names((), ("Yes", "No"))


class SelfCheckSignal(Signal):
    """Share of sampled reasons that support the answer, as the model itself judges them.

    Parameters
    ----------
    n_draws : int, default=5
        How many reasons to sample.
    temperature : float, default=1.0
        Temperature of the reasons.
    max_tokens : int, default=128
        Longest reason.

    Notes
    -----
    SelfCheckGPT's question, for labels: the model answers once; it is then asked several times
    to think about the text, without being shown its answer; and of each of these reasons whether
    it supports that answer. Supported counts 1, not supported 0, and a verdict that says neither
    one half. The answer gets (supported + 0.5) / (n_draws + 1), at least 1 % more than an equal
    share; the other classes share the rest.

    References
    ----------
    .. [1] P. Manakul, A. Liusie, M. J. F. Gales (2023). "SelfCheckGPT: Zero-Resource Black-Box
       Hallucination Detection for Generative Large Language Models." EMNLP.

    Examples
    --------
    >>> from skllm_calib.signals import SelfCheckSignal
    >>> SelfCheckSignal(n_draws=3)
    SelfCheckSignal(n_draws=3)
    """

    name = "self_check"

    def __init__(
        self, *, n_draws: int = 5, temperature: float = 1.0, max_tokens: int = 128
    ) -> None:
        self.n_draws = n_draws
        self.temperature = temperature
        self.max_tokens = max_tokens

    def ask(self, question: Question) -> Dialogue:
        """Ask for the answer and the reasons, then for the verdicts."""
        answering = Request(question.messages(), max_tokens=16, among=question.answers)
        thinking = [
            Request(
                question.messages(THINK),
                max_tokens=whole("max_tokens", self.max_tokens),
                temperature=float(self.temperature),
                draw=draw,
            )
            for draw in range(whole("n_draws", self.n_draws))
        ]
        answer, *reasons = only((yield [answering, *thinking]))
        vote = read_vote(answer, question)
        if vote is None:
            raise UnreadableReply(
                f"the answer {answer.text[:80]!r} names none of the labels, so there is nothing to "
                "check. Ask for the answer more plainly in the prompt"
            )
        ask = (
            f"Does this reasoning support the answer {question.texts[vote]!r}? Answer with one "
            "word: Yes or No."
        )
        checks = [
            Request(
                (
                    *question.messages(THINK),
                    Message("assistant", reason.text.strip() or "..."),
                    Message("user", ask),
                ),
                max_tokens=8,
                among=_VERDICTS.texts,
            )
            for reason in reasons
        ]
        verdicts = only((yield checks))
        supported = np.array([_verdict(v.text) for v in verdicts])
        proba = float(supported.sum() + 0.5) / (len(supported) + 1)
        return Evidence(
            share(vote, proba, len(question.texts)),
            0.0,
            {
                "written": answer.text,
                "supported": supported.tolist(),
                "reasons": [reason.text for reason in reasons],
            },
        )


def _verdict(text: str) -> float:
    try:
        return 1.0 - read_label(text, _VERDICTS)
    except UnreadableReply:
        return 0.5
