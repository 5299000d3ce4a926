"""Prompts of local models, as token ids: the frame is the model's own, and no text can speak as it.

A chat template marks the turns with special tokens. A tokenizer makes them of their names, also of
names that stand in a text. So the template is filled with placeholders first, which shows what
special tokens the frame has; a prompt with others has them from a text, and is then put together
from the tokens of the frame and texts that are read as nothing but text.
"""

from __future__ import annotations

import itertools
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skllm_calib.evidence.backends.base import Message
from skllm_calib.exceptions import BackendError

__all__ = ["ChatFormat", "Framing", "Part", "is_mark"]

Part = int | str
"""A token, or a text that is read as nothing but text."""

_MOST_FRAMES = 256


class ChatFormat(ABC):
    """How a model writes conversations and reads texts.

    Attributes
    ----------
    specials : mapping of int to str
        The special tokens, and their names.
    """

    specials: Mapping[int, str]

    @abstractmethod
    def render(self, messages: Sequence[Message]) -> str:
        """Write a conversation, up to where the model goes on."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of what `render` wrote; names of special tokens become these."""

    @abstractmethod
    def tokenize_parts(self, parts: Sequence[Part]) -> list[int]:
        """Return the tokens of some parts, whose texts are read as nothing but text."""


class _Frame(NamedTuple):
    """A conversation with placeholders for its texts.

    Attributes
    ----------
    text : str
        As the template writes it.
    marks : list of int
        The special tokens in it, in order.
    parts : list of int or str
        The same text with the special tokens as tokens.
    """

    text: str
    marks: list[int]
    parts: list[Part]


class Framing:
    """Turns conversations into tokens.

    Parameters
    ----------
    chat : ChatFormat
    """

    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat
        self._frames: dict[tuple[tuple[str, ...], ...], _Frame] = {}
        nonce = secrets.token_hex(8)
        self._slot = f"text{nonce}n{{}}n"
        self._slots = re.compile(f"text{nonce}n(\\d+)n")
        # A mark of a single character has nowhere to be cut.
        names = sorted({name for name in chat.specials.values() if len(name) > 1})
        self._names = re.compile(f"(?={'|'.join(map(re.escape, names))})") if names else None

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation.

        Raises
        ------
        BackendError
            If a text cannot be written without a special token.
        """
        frame = self._frame(messages)
        texts = [message.content.strip() for message in messages]
        ids = self._chat.tokenize(self._fill(frame.text, texts))
        if self._marks(ids) == frame.marks:
            return ids
        parts: list[Part] = []
        for part in frame.parts:
            parts += [part] if isinstance(part, int) else self.cut(self._fill(part, texts))
        ids = self._chat.tokenize_parts(parts)
        if self._marks(ids) != frame.marks:
            raise BackendError(
                "the text contains the name of a special token of the model, and its tokenizer "
                "cannot write it as plain text: remove the name from the text"
            )
        return ids

    def plain_ids(self, text: str) -> list[int]:
        """Return the tokens of a text that is nothing but text."""
        return self._chat.tokenize_parts(self.cut(text))

    def cut(self, text: str) -> list[Part]:
        """Cut every name of a special token in two: some tokenizers know them in any text."""
        found = self._names.finditer(text) if self._names else ()
        ends = [0, *(match.start() + 1 for match in found), len(text)]
        return [text[a:b] for a, b in itertools.pairwise(ends) if a < b]

    def _frame(self, messages: Sequence[Message]) -> _Frame:
        """Return the frame of a conversation; many rows have the same one."""
        turns = tuple(Message(m.role, self._held(i, m)) for i, m in enumerate(messages))
        if (frame := self._frames.get(turns)) is None:
            text = self._chat.render(turns)
            ids = self._chat.tokenize(text)
            frame = _Frame(text, self._marks(ids), self._parts(text, ids))
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            self._frames[turns] = frame
        return frame

    def _held(self, i: int, message: Message) -> str:
        """Return what the template sees of a text: how it begins and ends, not what it says.

        Instructions it may see, for some have switches for it, such as "/no_think".
        """
        text = message.content
        if message.role == "system" and not (self._names and self._names.search(text)):
            return text
        if not (core := text.strip()):
            return text
        start = text.index(core)
        return text[:start] + self._slot.format(i) + text[start + len(core) :]

    def _fill(self, text: str, texts: Sequence[str]) -> str:
        return self._slots.sub(lambda slot: texts[int(slot[1])], text)

    def _marks(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._chat.specials]

    def _parts(self, text: str, ids: Sequence[int]) -> list[Part]:
        """Return a text as parts; tokens that do not stand in it are put around it."""
        parts: list[Part] = []
        behind: list[Part] = []
        read = 0
        for n, i in enumerate(ids):
            if (name := self._chat.specials.get(i)) is None:
                continue
            at_start = len(self._marks(ids[:n])) == n
            at = text.find(name, read)
            if at < 0 or (at_start and text[read:at].strip()):
                (parts if at_start else behind).append(i)
                continue
            parts += [text[read:at], i]
            read = at + len(name)
        return [part for part in (*parts, text[read:], *behind) if part != ""]


def is_mark(name: str) -> bool:
    """Tell whether an added token of this name marks something, as ``<think>`` does.

    Others are words or white space, which a text may have.
    """
    inner = name.strip()
    signs = inner[:1] + inner[-1:]
    return len(inner) > 2 and not any(c.isalnum() for c in signs) and any(map(str.isalpha, inner))
