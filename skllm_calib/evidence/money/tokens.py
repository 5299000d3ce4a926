"""How many tokens a request has: exactly where a tokenizer is at hand, else between two bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from skllm_calib.evidence.backends.base import BaseBackend, Request

__all__ = ["Range", "RequestTokens", "TokenCounter"]

Range = tuple[float, float]
"""At least, at most."""

# Tokens per character, at least and at most, of ordinary texts with large and small vocabularies:
# of letters and blanks, of other ASCII (digits, punctuation), and per byte of anything else.
_LETTER, _OTHER, _BYTE = (1 / 6, 0.42), (1 / 3, 1.1), (1 / 8, 0.6)
_LETTERS = re.compile(r"[A-Za-z \n]+")
# What a chat format puts around a turn, and around all of them.
_TURN, _CHAT = (3, 10), (3, 15)
# Hosted models write a key and what shows that it is one; of models on this machine, so much
# of each label is read.
_MOST_OF_A_LABEL = 4
_MOST_OF_A_DECISION = 16
_OPENAI = "api.openai.com"
_NEWEST = "o200k_base"  # the encoding of models that tiktoken does not know yet


class RequestTokens(NamedTuple):
    """Tokens of a request, at least and at most.

    Attributes
    ----------
    prompt, completion : Range
    is_exact : bool
        Whether a tokenizer counted those of the prompt.
    """

    prompt: Range
    completion: Range
    is_exact: bool


class TokenCounter:
    """Counts the tokens of requests to one model.

    Parameters
    ----------
    backend : BaseBackend
        Whose ``count_tokens`` is used where it knows.
    identity : mapping
        What its ``identity`` returns. For models of OpenAI the package `tiktoken` counts, if it is
        installed and has the vocabulary on this machine.
    """

    def __init__(self, backend: BaseBackend, identity: Mapping[str, Any]) -> None:
        self._backend = backend
        self._thinking = getattr(backend, "reasoning_budget", None) or 0
        host = urlsplit(str(identity.get("base_url") or "")).hostname
        self._encoding = _encoding(str(identity["model"])) if host == _OPENAI else None

    def count(self, request: Request) -> RequestTokens:
        """Return how many tokens a request has, and how many its answer may have."""
        exact = self._backend.count_tokens(request)
        written = self._completion(request, is_here=exact is not None)
        if exact is not None:
            return RequestTokens((exact, exact), written, is_exact=True)
        texts = [message.content for message in request.messages]
        texts += [request.schema] if request.schema else []
        texts += [f"{choice.value} {choice.description}" for choice in request.choices]
        if self._encoding is None:
            counts = [_bounds(text) for text in texts]
        else:
            n = sum(len(self._encoding.encode(text, disallowed_special=())) for text in texts)
            counts = [(n, n)]
        n_turns = len(request.messages)
        low, high = (
            sum(count[i] for count in counts) + _TURN[i] * n_turns + _CHAT[i] for i in range(2)
        )
        return RequestTokens((low, high), written, is_exact=False)

    def _completion(self, request: Request, *, is_here: bool) -> Range:
        if request.answers:
            most = _MOST_OF_A_LABEL * (len(request.answers) if is_here else 1)
            return 1, max(request.max_tokens, most)
        if request.choices:
            return 0, _MOST_OF_A_DECISION
        return 1, request.max_tokens + self._thinking


@lru_cache(maxsize=8)
def _encoding(model: str) -> Any:
    """Return the encoding of a model of OpenAI, None where it is not at hand."""
    try:
        import tiktoken  # noqa: PLC0415 (optional)

        try:
            return tiktoken.encoding_for_model(model)
        except KeyError:
            return tiktoken.get_encoding(_NEWEST)
    except Exception:  # not installed, or no vocabulary and no network to get it
        return None


def _bounds(text: str) -> Range:
    n_bytes = len(text.encode(errors="surrogatepass"))
    n_ascii = n_bytes if text.isascii() else sum(char.isascii() for char in text)
    n_letters = sum(map(len, _LETTERS.findall(text)))
    parts = (n_letters, _LETTER), (n_ascii - n_letters, _OTHER), (n_bytes - n_ascii, _BYTE)
    low, high = (sum(n * rate[i] for n, rate in parts) for i in range(2))
    return low, high
