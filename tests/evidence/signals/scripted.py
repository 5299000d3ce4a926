"""Leading a dialogue by hand: what a signal asks, and what it makes of given answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from skllm_calib.backends import Reply, Request
from skllm_calib.evidence.label_tokens import LabelTree, Token
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import Answered
from skllm_calib.signals import Evidence, Signal

LABELS = ("ham", "spam")


def question(text="You won!", labels=LABELS, answer="words", examples=(), **prompt):
    bound = Prompt(answer=answer, **prompt).bind(labels)
    return Question(bound, {"text": text}, examples)


def lead(
    signal: Signal, about: Question, answer: Callable[[Request], Answered]
) -> tuple[Evidence, list[list[Request]]]:
    """Answer each request with a function; return the evidence and the steps."""
    dialogue, steps = signal.ask(about), []
    try:
        wanted = next(dialogue)
        while True:
            steps.append(wanted)
            wanted = dialogue.send([answer(request) for request in wanted])
    except StopIteration as end:
        return end.value, steps


def says(*texts: str) -> Callable[[Request], Reply]:
    """Answer with these texts in turn, the last one for ever."""
    left = list(texts)
    return lambda request: Reply(left.pop(0) if len(left) > 1 else left[0])


def listing(request: Request, probabilities: Sequence[float]) -> Reply:
    """Answer a label request with a probability for each answer."""
    pairs = zip(request.answers, probabilities, strict=True)
    tokens = [Token(answer.encode(), math.log(p)) for answer, p in pairs]
    tree = LabelTree(request.answers)
    best = request.answers[max(range(len(tokens)), key=lambda k: tokens[k].logprob)]
    return Reply(best, (tree.distribution(b"", tokens),))
