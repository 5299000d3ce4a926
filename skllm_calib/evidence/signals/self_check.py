"""SelfCheck: whether the model's own reasons, sampled again, support its answer."""

from __future__ import annotations

import re

import numpy as np

from skllm_calib.evidence.backends.base import Message, Request
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import (
    Dialogue,
    Evidence,
    Signal,
    check_whole,
    checked_count,
    log_proba_of_answer,
    replies_or_raise,
)
from skllm_calib.evidence.signals.label_names import names_of, quoted, read_label
from skllm_calib.evidence.signals.reasoned import THINK
from skllm_calib.exceptions import UnreadableReply

__all__ = ["SelfCheckSignal"]

_VERDICTS = ("Yes", "No")
# "Yes, it does" is a verdict; "No idea" and "Yes and no" are none.
_VERDICT = re.compile(r"\W*(yes|no)\s*(?:[^\w\s].*)?", re.I | re.DOTALL)


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
    SelfCheckGPT's question, for labels. The model answers once. It is then asked several times to
    think about the text, without being shown its answer, and for each of these reasons whether it
    supports that answer. "Yes" counts 1, "No" 0, and any other verdict one half; without a single
    "Yes" or "No" the row fails. The answer gets (supported + 0.5) / (n_draws + 1), at least 1 %
    more than an equal part; the other classes get equal parts of the rest.

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
                max_tokens=checked_count("max_tokens", self.max_tokens),
                temperature=float(self.temperature),
                draw=draw,
            )
            for draw in range(checked_count("n_draws", self.n_draws))
        ]
        answer, *reasons = replies_or_raise((yield [answering, *thinking]))
        check_whole(answer)
        label = read_label(answer.text, names_of(question), "\n".join(question.fields.values()))
        check = (
            f"Does this reasoning support the answer {question.texts[label]!r}? Answer with one "
            "word: Yes or No."
        )
        checks = [
            Request(
                (
                    *question.messages(THINK),
                    Message("assistant", reason.text.strip() or "..."),
                    Message("user", check),
                ),
                max_tokens=8,
                among=_VERDICTS,
            )
            for reason in reasons
        ]
        verdicts = replies_or_raise((yield checks))
        matches = [_VERDICT.fullmatch(verdict.text.strip()) for verdict in verdicts]
        if not any(matches):
            raise UnreadableReply(
                f"no verdict is Yes or No; the model wrote {quoted(verdicts[0].text)} as the first"
            )
        supported = np.array([float(m[1].lower() == "yes") if m else 0.5 for m in matches])
        proba = float(supported.sum() + 0.5) / (len(supported) + 1)
        return Evidence(
            log_proba_of_answer(label, proba, len(question.texts)),
            0.0,
            {
                "written": answer.text,
                "supported": supported.tolist(),
                "reasons": [reason.text for reason in reasons],
            },
        )
