"""From the tensors of a model to the book-keeping of labels: what to follow, what tokens write."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skllm_calib.evidence.label_tokens import Distribution, Token
from skllm_calib.evidence.spellings import Spellings

__all__ = ["Path", "Pieces", "Walk"]

# Token ids of the beginning of an answer.
Path = tuple[int, ...]

_N_LISTED = 500
_N_LISTED_LONG = 5_000  # for rows where the labels hold little
# Passes with dropout differ by far more than what these leave out.
_N_LISTED_BRIEF = 100
_TOLERANCE, _TOLERANCE_BRIEF = 1e-3, 1e-2
# A spelling behind the listed tokens counts from this share of the likeliest spelling on.
_UNLIKELY_SPELLING = math.log(1e-6)


class Walk:
    """What one row of readings has shown of the labels so far, and what is to be read next.

    Parameters
    ----------
    spelled : Spellings
        How the answers are written.
    piece : callable
        The bytes of a token.
    brief : bool, default=False
        Whether shares of the labels within a hundredth of themselves are enough.
    """

    def __init__(
        self, spelled: Spellings, piece: Callable[[int], bytes], *, brief: bool = False
    ) -> None:
        self._spelled, self._piece, self._brief = spelled, piece, brief
        self._paths = dict(spelled.paths)
        self._found: dict[bytes, Distribution] = {}
        self._seen: dict[bytes, Any] = {}
        self.wanted: dict[Path, bytes] = {(): b""}

    @property
    def distributions(self) -> tuple[Distribution, ...]:
        """What was read after each prefix."""
        return tuple(replace(d, followed=True) for d in self._found.values())

    def see(self, path: Path, logprobs: Any) -> None:
        """Take note of the log-probabilities of all tokens after a path, if it was wanted."""
        if (prefix := self.wanted.get(path)) is None:
            return
        n_listed = _N_LISTED_BRIEF if self._brief else _N_LISTED
        self._found[prefix] = self._distribution(prefix, logprobs, n_listed)
        if not self._brief:
            self._seen[prefix] = logprobs

    def look_further(self) -> None:
        """Want the beginnings whose continuation could change some label noticeably.

        First, where a label may hide behind the end of a list just seen, a longer one is taken.
        """
        seen, self._seen = self._seen, {}
        doubtful = {p for p, _ in self._spelled.tree.doubtful(self._found)} if seen else set()
        for prefix in filter(doubtful.__contains__, seen):
            self._found[prefix] = self._distribution(prefix, seen[prefix], _N_LISTED_LONG)
        tolerance = _TOLERANCE_BRIEF if self._brief else _TOLERANCE
        pending = self._spelled.tree.pending(self._found, tolerance, behind_keys=not self._brief)
        self.wanted = {
            self._paths[p]: p for p in pending if p in self._paths and p not in self._found
        }

    def _distribution(self, prefix: bytes, logprobs: Any, n_listed: int) -> Distribution:
        values, ids = logprobs.topk(min(n_listed, len(logprobs)))
        tokens = zip(ids.tolist(), values.tolist(), strict=True)
        listed = {i: Token(self._piece(i), logprob) for i, logprob in tokens}
        for i, token in listed.items():
            self._paths.setdefault(prefix + token.text, (*self._paths[prefix], i))
        shown = self._spelled.distribution(prefix, listed)
        behind = self._behind(prefix, logprobs, listed)
        mass = shown.listed_mass + sum(math.exp(t.logprob) for t in behind)
        return replace(shown, tokens=shown.tokens + tuple(behind), listed_mass=mass)

    def _behind(self, prefix: bytes, logprobs: Any, listed: dict[int, Token]) -> list[Token]:
        """Return the tokens of label spellings that are too unlikely to be listed."""
        steps = self._spelled.steps.get(prefix, {})
        missing = [i for i in steps if i not in listed]
        if not missing:
            return []
        values = logprobs[missing].tolist()
        known = [listed[i].logprob for i in steps if i in listed]
        floor = max(known + values) + _UNLIKELY_SPELLING
        # Of a label as it was given, the token is shown however unlikely.
        own = {i for (p, _), i in self._spelled.own_next.items() if p == prefix}
        return [
            Token(steps[i], value)
            for i, value in zip(missing, values, strict=True)
            if i in own or value > floor
        ]


class Pieces:
    """The bytes that each token writes; none for tokens that only mark something."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        marks = (i for i, t in tokenizer.added_tokens_decoder.items() if t.special)
        self._known: dict[int, bytes] = dict.fromkeys([*marks, *tokenizer.all_special_ids], b"")
        backend = getattr(tokenizer, "backend_tokenizer", None)
        byte_level = "ByteLevel" in repr(getattr(backend, "decoder", None))
        self._bytes = _byte_alphabet() if byte_level else None

    def __call__(self, token_id: int) -> bytes:
        """Return the bytes of a token."""
        if token_id not in self._known:
            self._known[token_id] = self._read(token_id)
        return self._known[token_id]

    def _read(self, token_id: int) -> bytes:
        text = self._tokenizer.convert_ids_to_tokens(token_id)
        if text is None:  # the output layer may be larger than the vocabulary
            return b""
        if self._bytes is not None:
            try:
                return bytes(self._bytes[c] for c in text)
            except KeyError:  # a token added later, written as it is
                return str(text).encode()
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        return str(text).replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Return which byte each character of a byte-level vocabulary stands for (as in GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in set(shown)]
    characters = [*map(chr, shown), *(chr(256 + i) for i in range(len(hidden)))]
    return dict(zip(characters, shown + hidden, strict=True))
