"""Reasoning that a model writes into its text, before the answer.

Servers that know a model take its reasoning out of the text; others leave it there between two
marks, of which the first one may be missing: many chat templates write it for the model.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Written", "begins_to_think", "split_thinking"]

_MARKS = (
    ("<think>", "</think>"),  # DeepSeek, Qwen, GLM, SmolLM
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
# What a first token or two show of an opening mark.
_BEGINNINGS = (
    *("<think", "<reasoning", "<seed:think", "[think", "◁think"),
    *("<|start_thinking", "<|channel|>", "<|channel>"),
)
_QUOTES = ('"', "'", "`")


class Written(NamedTuple):
    """A text in two parts.

    Attributes
    ----------
    reasoning : str
        What stands before the closing mark; "" where nothing does.
    answer : str or None
        What comes after it; None where the reasoning never ends.
    """

    reasoning: str
    answer: str | None


def split_thinking(text: str) -> Written:
    """Separate the reasoning at the beginning of a text from the answer after it.

    A text is taken for reasoning where it begins with an opening mark, or where a closing mark
    comes without one before it and not in quotation marks. Any other text is an answer, also one
    that speaks of marks.

    Parameters
    ----------
    text : str

    Returns
    -------
    Written

    Examples
    --------
    >>> from skllm_calib.evidence.backends.hosted.thinking import split_thinking
    >>> split_thinking("<think>It is mail, and unwanted.</think>spam")
    Written(reasoning='It is mail, and unwanted.', answer='spam')
    >>> split_thinking("It is mail, and unwanted. </think> spam").answer
    'spam'
    >>> split_thinking("<think>It is").answer is None
    True
    >>> split_thinking("The mark <think> begins it.").answer
    'The mark <think> begins it.'
    """
    rest, thoughts = text, list[str]()
    while (marks := _opened(rest)) is not None:
        opening, closing = marks
        inside = rest.lstrip()[len(opening) :]
        end = _first_outside_quotes(closing, inside) or _search(closing, inside)
        if end is None:
            return Written("".join([*thoughts, inside]).strip(), None)
        thoughts.append(inside[: end.start()])
        rest = inside[end.end() :].lstrip()
    if rest is text and (end := _end_alone(text)) is not None:
        thoughts, rest = [text[: end.start()]], text[end.end() :].lstrip()
    return Written("".join(thoughts).strip(), rest)


def begins_to_think(text: str) -> bool:
    """Tell whether the first token or more of a text begin to write reasoning."""
    return text.lstrip().lower().startswith(_BEGINNINGS)


def _opened(text: str) -> tuple[str, str] | None:
    """Return the marks of the reasoning that a text begins with."""
    start = text.lstrip().lower()
    return next((marks for marks in _MARKS if start.startswith(marks[0].lower())), None)


def _end_alone(text: str) -> re.Match[str] | None:
    """Return the first closing mark, if it has no opening mark before it."""
    found = (
        end
        for opening, closing in _MARKS
        if (end := _first_outside_quotes(closing, text)) is not None
        and _search(opening, text[: end.start()]) is None
    )
    return min(found, key=lambda end: end.start(), default=None)


def _search(mark: str, text: str) -> re.Match[str] | None:
    return re.search(re.escape(mark), text, re.I)


def _first_outside_quotes(mark: str, text: str) -> re.Match[str] | None:
    for found in re.finditer(re.escape(mark), text, re.I):
        before, after = text[: found.start()][-1:], text[found.end() :][:1]
        if before != after or before not in _QUOTES:
            return found
    return None
