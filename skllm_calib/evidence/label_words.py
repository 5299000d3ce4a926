"""Where an answer that a model writes begins and ends, byte by byte."""

from __future__ import annotations

import re
from unicodedata import category, normalize

__all__ = ["begins_opening", "case_variants", "ends_word", "is_key", "strip_opening"]

# What a model may put before its answer without changing what it says: ASCII blanks and marks; a
# byte order mark, blanks of other scripts, and opening quotes.
_WIDE_OPENING = tuple(
    mark.encode() for mark in "\ufeff\u00a0\u3000\u2002\u2003\u2009\u200b\u2028\u2060“‘„«「『【（"
)
_OPENING = (*(bytes([mark]) for mark in b" \n\t\r\f\v\"'`*(["), *_WIDE_OPENING)
# With these tokenizers write a leading space (U+2581, U+0120) and a leading line break.
_SPACE_MARKS = (b"\xe2\x96\x81", b"\xc4\xa0", b"\xc4\x8a")
# What goes on with a word or number, so that this was not all of it; after an opening quote a
# closing one does not.
_GOES_ON = re.compile(r"[\w+#%&@]|['’]|-$|[-./](?=\w)")
_GOES_ON_QUOTED = re.compile(r"[\w+#%&@]|['’](?=\w)|-$|[-./](?=\w)")
# Behind a number also digits; behind an option key or a number another word: "A customer", "I am".
_NEXT_DIGITS = re.compile(r"[,:]\d")
_NEXT_WORD = re.compile(r"[ \t]+[^\W_]")
_KEY = re.compile(r"[^\W_]|\d+")
_SELECTORS = "\ufe0e\ufe0f"  # they say how the character before them is drawn


def is_key(label: str) -> bool:
    """Tell whether a label is a single letter or a number."""
    return _KEY.fullmatch(label) is not None


def case_variants(answer: str) -> set[bytes]:
    """Return the ways of writing an answer that mean the same, in bytes."""
    bare = answer.strip()
    forms = {bare, bare.lower(), bare.upper(), bare[:1].upper() + bare[1:], bare.title()}
    forms |= {form.replace("i\u0307", "i") for form in forms}  # lower case of a dotted capital I
    # An accent may be a character of its own, in the label or in what the model writes.
    forms |= {normalize(way, form) for form in forms for way in ("NFC", "NFD")}
    return {form.encode() for form in forms}


def strip_opening(written: bytes) -> bytes:
    """Return what is written without the blanks and marks that it begins with."""
    for mark in _SPACE_MARKS:
        written = written.replace(mark, b" ")
    while written.startswith(_OPENING):
        written = written[next(len(mark) for mark in _OPENING if written.startswith(mark)) :]
    return written


def begins_opening(written: bytes) -> bool:
    """Tell whether these bytes are a part of an opening mark of several bytes."""
    return bool(written) and any(mark.startswith(written) for mark in _WIDE_OPENING)


def ends_word(word: bytes, rest: bytes, quoted: bool) -> bool:
    """Tell whether a word ends before `rest`; `quoted` says whether it stands in single quotes."""
    if not rest:
        return True
    text, label = rest.decode(errors="ignore"), word.decode(errors="ignore")
    if not text or (_GOES_ON_QUOTED if quoted else _GOES_ON).match(text):
        return False
    if label[-1:].isdigit() and _NEXT_DIGITS.match(text):
        return False
    if category(text[0]).startswith("M") and text[0] not in _SELECTORS:
        return False  # a vowel sign or an accent, which are no word characters to `re`
    return not (is_key(label) and _NEXT_WORD.match(text))
