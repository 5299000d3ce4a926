"""The token log-probabilities of the labels: one question, the model's own distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from skllm_calib.evidence.backends.base import Request
from skllm_calib.evidence.label_tokens import Distribution, LabelMass, label_tree
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import Dialogue, Evidence, Signal, replies_or_raise
from skllm_calib.evidence.signals.label_names import quoted
from skllm_calib.evidence.token_lists import check_distribution
from skllm_calib.exceptions import UnreadableReply
from skllm_calib.log_proba.numerics import log_normalise

__all__ = ["LogprobSignal", "read_labels"]

# No label is impossible for a language model, only unlisted; a label this many nats below the best
# one is as good as excluded, and its log-probability stays finite for every calibrator.
_FLOOR = 25.0
_TINY = np.finfo(np.float64).tiny


class LogprobSignal(Signal):
    """Probability of each label as the next text the model would write.

    Sums over all tokens that can only mean the label, follows labels of several tokens as far as
    the backend can, and treats tokens behind the end of a server's list as censored, not as
    impossible: a label that is not listed gets an equal part of the probability that is left, at
    most the smallest listed probability.

    References
    ----------
    .. [1] T. B. Brown et al. (2020). "Language Models are Few-Shot Learners." NeurIPS.
    .. [2] A. Holtzman, P. West, V. Shwartz, Y. Choi, L. Zettlemoyer (2021). "Surface Form
       Competition: Why the Highest Probability Answer Isn't Always Right." EMNLP.
    """

    name = "logprobs"

    def ask(self, question: Question) -> Dialogue:
        """Ask once, for the probability of each answer."""
        request = Request(question.messages(), answers=question.answers)
        (reply,) = replies_or_raise((yield [request]))
        return read_labels(reply.distributions, question.answers, written=reply.text)


def read_labels(
    distributions: Sequence[Distribution], answers: tuple[str, ...], written: str = ""
) -> Evidence:
    """Sum the listed probabilities by label and normalise.

    Parameters
    ----------
    distributions : sequence of Distribution
        Of a reply to a request with these `answers`; the empty prefix first.
    answers : tuple of str
        What the model was to write for each class.
    written : str, default=""
        What it wrote, to be shown in ``explain``.

    Returns
    -------
    Evidence

    Raises
    ------
    UnreadableReply
        If none of the labels is listed, or there are no distributions.
    """
    by_prefix = {at.prefix: at for at in distributions}
    if (root := by_prefix.get(b"")) is None:
        raise UnreadableReply(
            f"the reply has no token probabilities; the model wrote {quoted(written)}"
        )
    for at in distributions:
        check_distribution(at)
    mass = label_tree(answers).reduce(by_prefix)
    if not mass.seen.any():
        raise UnreadableReply(
            f"none of the labels is among the most likely tokens, which hold "
            f"{root.listed_mass:.1%} of the probability and begin with {_shown(root)}. Ask for the "
            "bare label in the prompt, or for the other form of answer with "
            "Prompt(answer='words' or 'keys')"
        )
    if mass.left > mass.point.sum():
        raise UnreadableReply(
            f"the answer begins like a label and goes on as another word ({mass.left:.0%} of the "
            f"probability): it is no answer to the question; the model wrote {quoted(written)}"
        )
    if not mass.is_settled:
        raise UnreadableReply(_unsettled(mass, root))
    log_mass = np.log(np.maximum(mass.point, _TINY))
    log_mass = np.maximum(log_mass, log_mass.max() - _FLOOR)
    return Evidence(
        log_proba=log_normalise(log_mass),
        off_label=mass.off_label,
        details={
            "label_mass_low": mass.low,
            "label_mass_high": mass.high,
            "label_listed": mass.seen,
            "shared_beginnings": mass.shared,
            "top_tokens": [
                (t.text.decode(errors="replace"), math.exp(t.logprob)) for t in root.tokens[:5]
            ],
            "written": written,
        },
    )


def _unsettled(mass: LabelMass, root: Distribution) -> str:
    """Say what could not be followed."""
    if mass.blank > mass.point.sum():
        return (
            f"the answer begins with a blank or a mark ({mass.blank:.0%}; the list begins with "
            f"{_shown(root)}), and what comes behind it could not be read. Ask for the bare label "
            "at the end of the prompt"
        )
    return (
        f"{mass.unsettled:.1%} of the probability is on texts that may become one label or "
        f"another (the list begins with {_shown(root)}), and this server does not show how they "
        "go on. Use Prompt(answer='keys'), or label_texts that do not begin alike"
    )


def _shown(root: Distribution) -> str:
    return ", ".join(
        f"{t.text.decode(errors='replace')!r} ({math.exp(t.logprob):.0%})" for t in root.tokens[:3]
    )
