"""Which class a name that a language model writes means.

Pure, and in time proportional to what is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from skllm_calib.evidence.signals._report_numbers import plain

__all__ = ["Names"]

_INTRO = r"(?:the\s+)?(?:option|choice|answer|class|label|category|letter|key)(?![^\W_])[\s:#_-]*"
_JOINT = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=\d)")
_MARKS = " \t\r\n\"'`*_()[]{},:;!?"
_PROBABILITY = r"(?:p|pr|prob|probability|likelihood|chance|confidence|certainty|score)"
_PROBABILITY_OF = re.compile(
    rf"(?:the\s+)?{_PROBABILITY}(?:\s*\(|[\s_]+(?:(?:of|for|in|that it is)[\s_]+)?)(.+?)\)?",
    re.IGNORECASE,
)
_OF_PROBABILITY = re.compile(rf"(.+?)[\s_-]+{_PROBABILITY}", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|no|non|never|neither|nor|cannot|without|than|instead|hardly|unlikely|unable|refuse"
    r"|decline|whether|if)\b|n['’]t\b",
    re.IGNORECASE,
)
# What turns round, or asks, the words that stand right before it: "spam? No", "spam is unlikely".
_DENIAL = re.compile(
    r"[\"')*]*(?:\s*\?|\s+(?:is|was|would be|seems|does|can|could)"
    r"(?:n['’]t|\s+(?:\w+\s+)?(?:not|unlikely|improbable|wrong|incorrect|ruled out))\b)",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.!?;\n]*\?")  # of what is asked nothing is said: "spam or ham?"
_DETERMINES = re.compile(r"\s+\w")  # the label "no" is not meant in "no idea"
_SENTENCE_END = re.compile(r"[.!?;\n]")


@dataclass(frozen=True)
class Names:
    """Which writings mean which class.

    Parameters
    ----------
    keys : tuple of str
        Option keys ("A", "B", ...), or () when the prompt shows none.
    texts : tuple of str
        Label wordings, one a class.

    Examples
    --------
    >>> names = Names(("A", "B"), ("spam", "not spam"))
    >>> [names.find(n) for n in ("(a)", "Option B", "NOT_SPAM", "A) spam", "A) not spam", "other")]
    [0, 1, 1, 0, None, None]
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]

    def find(self, name: str) -> int | None:
        """Return the index of the class that a written name means, else None.

        The writing may differ in case, quotes, spaces, underscores and hyphens where that leaves
        only one class; a key may be marked ("A)", "(A)", "Option A", "**A**") and stand before or
        behind the wording of its own class. A key goes before an equal wording.
        """
        name = plain(name).strip()
        if not name or len(name) > self.longest:
            return None
        if (k := self._direct(name)) is not None:
            return k
        if self.keys:
            for form in (self._key_first, self._key_last):
                if found := form.fullmatch(name):
                    k = self._levels[1][found["key"].casefold()]
                    rest = found["rest"]
                    agreed = not rest.strip(_MARKS) or self._direct(rest) == k
                    return k if agreed or (k is not None and self._opens(rest, k)) else None
            if name.isdecimal() and self.keys[0].isdecimal():  # JSON has no leading zeros
                equal = [i for i, key in enumerate(self.keys) if int(key) == int(name)]
                return equal[0] if equal else None
        bare = re.match(_INTRO, name, re.IGNORECASE)
        return self._direct(name[bare.end() :]) if bare else None

    def named(self, name: str) -> int | None:
        """Find a class also in "P(spam)", "probability of spam" or "spam_confidence"."""
        if (k := self.find(name)) is not None or len(name) > self.longest:
            return k
        for form in (_PROBABILITY_OF, _OF_PROBABILITY):
            if (found := form.fullmatch(name.strip(_MARKS.replace(")", "")))) and (
                k := self.find(found[1])
            ) is not None:
                return k
        return None

    def mentioned(self, prose: str) -> set[int]:
        """Return the classes that running prose names and does not deny.

        Label wordings count as whole words, the longest that fits. A key, or a wording as short as
        one, counts only where it is marked as such, since "A message" has an article.
        """
        found = set()
        for mention in self._in_prose.finditer(prose):
            before = prose[max(0, mention.start() - 80) : mention.start()]
            denied = _DENIAL.match(prose, mention.end())
            asked = _QUESTION.match(prose, mention.end(), mention.end() + 80)
            if denied or asked or _NEGATION.search(_SENTENCE_END.split(before)[-1]):
                continue
            if not (_NEGATION.fullmatch(mention[0]) and _DETERMINES.match(prose, mention.end())):
                found.add(self._direct(mention["text"] or mention["marked"] or mention["quoted"]))
        return {k for k in found if k is not None}

    @cached_property
    def longest(self) -> int:
        """Characters beyond which no writing can be a name: a bound on the work."""
        return 2 * max(map(len, (*self.keys, *self.texts)), default=0) + 60

    @cached_property
    def _levels(self) -> list[dict[str, int | None]]:
        """Return, strictest first, which class owns a writing; None where several do."""
        levels: list[dict[str, int | None]] = []
        for level, write in enumerate(_WRITINGS):
            owners: dict[str, int | None] = {}
            for k, text in enumerate(self.texts):
                form = write(plain(text))
                owners[form] = k if owners.get(form, k) == k else None
            owners |= {write(key): k for k, key in enumerate(self.keys) if level < 2}
            owners.pop("", None)
            levels.append(owners)
        return levels

    def _direct(self, name: str) -> int | None:
        for candidate in (name, name.strip(_MARKS)):
            for write, owners in zip(_WRITINGS, self._levels, strict=True):
                if (form := write(candidate)) in owners:
                    return owners[form]
        return None

    def _opens(self, rest: str, k: int) -> bool:
        return bool(re.match(rf"\W*{_words(self.texts[k])}(?!\w)", rest, re.IGNORECASE))

    @cached_property
    def _key_first(self) -> re.Pattern[str]:
        return re.compile(
            rf"(?:{_INTRO})?[\s\"'(\[*`]*(?P<key>{_any(self.keys)})(?![^\W_])[\s\"')\].:,*`=-]*"
            r"(?P<rest>.*)",
            re.IGNORECASE | re.DOTALL,
        )

    @cached_property
    def _key_last(self) -> re.Pattern[str]:
        return re.compile(
            rf"(?P<rest>.+?)\s*[(\[]\s*(?:{_INTRO})?(?P<key>{_any(self.keys)})\s*[)\]]",
            re.IGNORECASE | re.DOTALL,
        )

    @cached_property
    def _in_prose(self) -> re.Pattern[str]:
        texts = [plain(text).strip() for text in self.texts]
        long = [t for t in texts if len(t) > 1 and any(map(str.isalpha, t))]
        short = [*self.keys, *(t for t in texts if t not in long)]
        words = "|".join(_words(t) for t in sorted(long, key=len, reverse=True)) or r"(?!)"
        marks = _any(short) if short else r"(?!)"
        reason = r"because|since|with|at"
        return re.compile(
            rf"(?<![\w-])(?P<text>(?i:{words}))(?!\w|-\w)"
            r"|\b(?i:option|choice|letter|answer|label|class|category|choose|pick|select)"
            rf"(?i:\s+is)?[\s:\"'(*]{{1,5}}(?P<marked>{marks})(?![\w-]|\s*[/&|+])"
            rf"(?!\s+(?!(?:{reason})\b)[^\W\d_])"
            rf"|[\"'(](?P<quoted>{marks})[\"')]"
        )


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _loosen(text: str) -> str:
    bare = text.strip(_MARKS).rstrip(".").strip(_MARKS)
    return _JOINT.sub("", re.sub(r"[\"'`*]", "", _fold(bare)))


_WRITINGS: tuple[Callable[[str], str], ...] = (str.strip, _fold, _loosen)


def _any(names: Sequence[str]) -> str:
    return "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))


def _words(text: str) -> str:
    return r"[\s_-]{1,3}".join(re.escape(word) for word in re.split(r"[\s_-]+", text.strip()))
