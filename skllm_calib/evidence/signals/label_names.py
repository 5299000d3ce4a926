"""Which label a short text names, and nothing else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from skllm_calib.evidence.questions import Question
from skllm_calib.exceptions import UnreadableReply

__all__ = ["LabelNames", "names_of", "quoted", "read_label", "without_thoughts"]

N_QUOTED = 200  # characters of a reply that an error shows

# What may stand around or between the words of a label and says nothing. Not every mark does: "-1"
# is not "1", "!spam" and "spam?" are not "spam".
_MARKS = re.compile(r"[\"'`“”‘’*()\[\]{}:;_]|[.!](?!\w)|,$|(?<=\w)-|-(?!\w)")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_STATED = re.compile(
    r"[ \t*_]*(?:the |my )?(?:final )?(?:answer|label|category|class)[ \t*_]*:(.+)", re.I
)
_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.I)


@dataclass(frozen=True)
class LabelNames:
    """How the labels may be written.

    A name is the option key of a class, its wording, or both ("A", "spam", "A) spam"). It may
    differ from these in case, quotes, brackets, spaces, underscores and punctuation marks, as long
    as that leaves one class only.

    Parameters
    ----------
    keys : tuple of str
        Option keys ("A", "B", ...), or () when the prompt shows none.
    texts : tuple of str
        Label wordings, one per class.

    Examples
    --------
    >>> names = LabelNames(("A", "B"), ("spam", "not spam"))
    >>> [names.find(n) for n in ("(a)", "NOT_SPAM", "A) spam", "A) not spam", "is it spam?")]
    [0, 1, 0, None, None]
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]

    def find(self, name: str) -> int | None:
        """Return the index of the class that a text names, else None."""
        if len(name) > self._longest:
            return None
        for write, owners in self._owners:
            if (written := write(name)) in owners:
                return owners[written]
        return None

    @cached_property
    def _longest(self) -> int:
        """Length beyond which no text can be a name: a bound on the work."""
        return 2 * max(map(len, (*self.keys, *self.texts)), default=0) + 40

    @cached_property
    def _owners(self) -> list[tuple[Callable[[str], str], dict[str, int | None]]]:
        """Return, strictest first, which class owns a spelling; None where several do."""
        found: list[tuple[Callable[[str], str], dict[str, int | None]]] = []
        for write in (_exact, _folded, _bare):
            owners: dict[str, int | None] = {}
            for k, text in enumerate(self.texts):
                pair = f"{self.keys[k]} {text}" if self.keys else text
                for form in {write(text), write(pair)}:
                    owners[form] = k if owners.get(form, k) == k else None
            # A key goes before an equal wording, which the prompt shows behind a key.
            owners |= {write(key): k for k, key in enumerate(self.keys)}
            owners.pop("", None)
            found.append((write, owners))
        return found


def names_of(question: Question) -> LabelNames:
    """Return how the labels of a question may be written."""
    return _names(question.keys, question.texts)


@lru_cache(maxsize=64)  # the rows of a run share them
def _names(keys: tuple[str, ...], texts: tuple[str, ...]) -> LabelNames:
    return LabelNames(keys, texts)


def read_label(text: str, names: LabelNames, asked_about: str = "") -> int:
    r"""Read the label that a reply consists of, or that its last line gives as the answer.

    Parameters
    ----------
    text : str
        The reply. A last line counts where it says "Answer: X" (or label, category, class).
        What precedes ``</think>`` is left out.
    names : LabelNames
    asked_about : str, default=""
        The text that was to be labelled. A last line that stands in it, after other lines, is
        taken for a quotation.

    Returns
    -------
    int
        Index of the class.

    Raises
    ------
    UnreadableReply
        If the reply is anything else, such as a sentence that mentions a label.

    Examples
    --------
    >>> names = LabelNames((), ("ham", "spam"))
    >>> read_label("Spam.", names), read_label("It promises a prize.\nAnswer: spam", names)
    (1, 1)
    """
    answer = unicodedata.normalize("NFKC", without_thoughts(text)).strip()
    label = names.find(answer)
    if label is None:
        matches = [_STATED.fullmatch(line) for line in answer.splitlines()]
        stated = {names.find(match[1]) for match in matches if match}
        if _is_quotation(answer, asked_about):
            stated = set()
        if matches and matches[-1] and len(stated) == 1:
            (label,) = stated
    if label is None:
        raise UnreadableReply(
            f"the reply is neither a label nor ends with 'Answer: LABEL'; the model wrote "
            f"{quoted(text)}"
        )
    return label


def _is_quotation(answer: str, asked_about: str) -> bool:
    """Tell whether the last of several lines is one of the text that the answer is about."""
    *before, last = [_folded(line) for line in answer.splitlines() if line.strip()] or [""]
    return bool(before) and last in map(_folded, asked_about.splitlines())


def without_thoughts(text: str) -> str:
    """Return what follows the thoughts of a model that writes them before its answer."""
    return _THOUGHT.split(text)[-1]


def quoted(text: str) -> str:
    """Show the beginning of a reply on one line, for an error."""
    # Quotes and backslashes would be doubled on the way into the message.
    clean = "".join(c if c.isprintable() and c != "\\" else " " for c in text)
    shown = " ".join(clean.split())
    return repr(shown if len(shown) <= N_QUOTED else f"{shown[: N_QUOTED - 1]}…")


def _exact(name: str) -> str:
    return unicodedata.normalize("NFKC", name).translate(_DASHES).strip()


def _folded(name: str) -> str:
    return " ".join(_exact(name).casefold().split())


def _bare(name: str) -> str:
    return " ".join(_MARKS.sub(" ", _folded(name)).split())
