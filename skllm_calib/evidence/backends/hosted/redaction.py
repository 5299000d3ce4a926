"""Keys and passwords taken out of whatever a user may see: errors, notes, the logs of the SDKs.

A server may echo a secret as it was sent, quoted, encoded or masked, and cut it anywhere. So a text
is searched for every run of a few characters that some form of the secret has, too.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote, quote_plus

from skllm_calib.evidence.backends.base import Reply
from skllm_calib.evidence.label_tokens import Distribution
from skllm_calib.exceptions import BackendError

__all__ = ["Redactor", "guard_logs", "redact_failure", "redact_reply", "redactor_of"]

_STARS = "***"
_PIECE = 6  # characters in a row that are taken for a piece of a secret
_LONG = 16  # those in an answer or a name, which may have the words of a placeholder for a key
_LEAST_CUT = 8  # secrets shorter than this are only searched for whole
_WORD = 4  # secrets shorter than this only as a word of their own
_LOWER = str.maketrans({chr(c): chr(c + 32) for c in range(ord("A"), ord("Z") + 1)})
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# A word some of whose characters were replaced: sk-ab***yz, sk-ab...yz, sk-abXXXXyz.
_MASKED = re.compile(r"([^\s*•…]{0,80}?)(?:[*•…]+|\.{3,}|[xX]{4,}|#{3,}|_{4,})+([^\s*•…]{0,80})")
_SHORTEST_END = 3  # characters of a secret beside a mask
_LOGGERS = ("openai", "anthropic", "mistralai", "httpx", "httpcore", "h2", "hpack", "urllib3")
# Loggers that are made with the first connection, when it would be too late.
_LATE = [
    f"httpcore{version}.{part}"
    for version in ("", "2")
    for part in ("connection", "http11", "http2", "proxy", "socks")
]


class Redactor:
    """Replaces secrets, and pieces of them, by three stars.

    Parameters
    ----------
    secrets : tuple of str
        Keys, passwords and the like.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._long = [s for s in secrets if len(s) >= _LEAST_CUT]
        forms = {form.translate(_LOWER) for secret in self._long for form in _forms(secret)}
        self._pieces = {size: _pieces(forms, size) for size in (_PIECE, _LONG)}
        whole = sorted((form for form in forms if len(form) < _LONG), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, whole)), re.IGNORECASE) if whole else None
        short = sorted((s for s in secrets if 0 < len(s) < _LEAST_CUT), key=len, reverse=True)
        patterns = [
            re.escape(s) if len(s) >= _WORD else rf"(?<!\w){re.escape(s)}(?!\w)"
            for secret in short
            for s in sorted({secret, quote(secret, safe=""), _base64(secret)}, key=len)[::-1]
        ]
        self._short = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """Return a message without the secrets, and without users in addresses."""
        text = _USER_IN_URL.sub(_STARS, text)
        if self._long:
            text = self._without_pieces(_MASKED.sub(self._without_ends, text), _PIECE)
        return self._short.sub(_STARS, text) if self._short else text

    def of_name(self, text: str) -> str:
        """Return a name that a server gives, without what can only be a secret.

        A name is compared with that of an earlier run, so no word that a placeholder for a key
        happens to share with it may be missing.
        """
        text = self._without_pieces(text, _LONG)
        text = self._whole.sub(_STARS, text) if self._whole else text
        return self._short.sub(_STARS, text) if self._short else text

    def of_answer(self, text: str) -> str:
        """Return the text of an answer without what can only be a secret."""
        return self._without_pieces(text, _LONG)

    def _without_ends(self, found: re.Match[str]) -> str:
        head, tail = found.groups()
        for secret in self._long:
            longest = min(len(secret), len(found[0]))
            sizes = range(longest, _SHORTEST_END - 1, -1)
            shown = next((n for n in sizes if head.endswith(secret[:n])), 0)
            end = next((n for n in sizes if tail.startswith(secret[-n:])), 0)
            if shown or end:
                return head[: len(head) - shown] + _STARS + tail[end:]
        return found[0]

    def _without_pieces(self, text: str, size: int) -> str:
        pieces = self._pieces[size]
        if not pieces:
            return text
        folded, end = text.translate(_LOWER), 0
        shown: list[str] = []
        for start in range(len(folded) - size + 1):
            if folded[start : start + size] in pieces:
                if start > end or not shown:
                    shown.append(text[end:start])
                end = start + size
        return _STARS.join([*shown, text[end:]])


@lru_cache(maxsize=256)
def redactor_of(secrets: tuple[str, ...]) -> Redactor:
    """Return the redactor of these secrets."""
    return Redactor(secrets)


def redact_reply(reply: Reply, redact: Redactor) -> Reply:
    """Take the secrets out of all that a server has said in a reply."""
    return replace(
        reply,
        text=redact.of_answer(reply.text),
        model=redact.of_name(reply.model),
        fingerprint=reply.fingerprint and redact.of_name(reply.fingerprint),
        distributions=tuple(_redact_tokens(d, redact) for d in reply.distributions),
    )


def _redact_tokens(distribution: Distribution, redact: Redactor) -> Distribution:
    long = [token for token in distribution.tokens if len(token.text) >= _LONG]
    if not long:
        return distribution

    def shown(text: bytes) -> bytes:
        return redact.of_answer(text.decode(errors="replace")).encode()

    tokens = (t._replace(text=shown(t.text)) if t in long else t for t in distribution.tokens)
    return replace(distribution, tokens=tuple(tokens))


def redact_failure(failure: BackendError, redact: Redactor) -> None:
    """Take the secrets out of what a failure says."""
    failure.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in failure.args)


def _forms(secret: str) -> Iterator[str]:
    """Yield the ways in which a text may contain a secret."""
    yield secret
    yield secret[::-1]
    for encode in (quote, quote_plus, html.escape):
        yield encode(secret)
    for write in (json.dumps, repr, ascii):
        yield write(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote(quote(secret, safe=""), safe="")
    yield secret.encode().hex()
    for offset in range(3):  # it may stand anywhere in what was encoded, as behind "user:"
        encoded = _base64("\0" * offset + secret)[(0, 2, 3)[offset] :]
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")
        yield quote(encoded, safe="")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode().rstrip("=")


def _pieces(forms: set[str], size: int) -> frozenset[str]:
    return frozenset(f[i : i + size] for f in forms for i in range(len(f) - size + 1))


class _LogFilter(logging.Filter):
    """Takes the secrets of this process out of what the SDKs and their HTTP client log."""

    def __init__(self) -> None:
        super().__init__()
        self.redactors: dict[Redactor, None] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record, and let it pass."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit: logging says so itself
            said = f"{record.msg} {record.args}"
        record.msg, record.args = self._redact(said), ()
        if record.exc_info and record.exc_info[0] is not None:
            told = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_text, record.exc_info = self._redact(told), None
        return True

    def _redact(self, text: str) -> str:
        for redact in list(self.redactors):
            text = redact(text)
        return text


_log_filter = _LogFilter()
_lock = threading.Lock()


def guard_logs(redactor: Redactor) -> None:
    """Keep the secrets of a redactor out of the logs of the SDKs, at every level."""
    with _lock:
        _log_filter.redactors[redactor] = None
        for name in [*logging.root.manager.loggerDict, *_LATE]:
            if name.startswith(_LOGGERS):
                logging.getLogger(name).addFilter(_log_filter)
