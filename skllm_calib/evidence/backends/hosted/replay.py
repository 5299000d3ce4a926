"""Answers that are known already, in the place of a server.

A backend that is given these channels reads replies of a batch as it reads those of a server. What
is not known ends the request: it is what the next batch has to ask.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.hosted.channels import Channel, Channels
from skllm_calib.evidence.backends.hosted.direct import StatusError

__all__ = ["AwaitedError", "Line", "LineResult", "Replay", "request_part"]

_LONGEST_PART = 40  # characters; the name of a line may have 64


class Line(NamedTuple):
    """One question of a batch.

    Attributes
    ----------
    id : str
        Its name, the same for the same question at any time, without anything of the text.
    path : str
        Where it is sent to, behind the base URL.
    body : mapping
    """

    id: str
    path: str
    body: Mapping[str, Any]


class LineResult(NamedTuple):
    """What came back for a line.

    Attributes
    ----------
    id : str
        Of the line.
    status : int
        As if it had been sent alone.
    body : object
        The reply, or the error as the SDK of the provider hands it on.
    """

    id: str
    status: int
    body: Any


class AwaitedError(Exception):
    """The answer to a line is not known yet: neither a reply nor a failure.

    Parameters
    ----------
    line : Line
    """

    def __init__(self, line: Line) -> None:
        super().__init__(line.id)
        self.line = line


def request_part(key: str) -> str:
    """Return the part of a line's name that tells which request it is for."""
    return key[:_LONGEST_PART]


class Replay(Channel):
    """A channel that answers one request from results.

    Parameters
    ----------
    key : str
        Of the request.
    results : mapping of str to LineResult
        By the names of lines.

    Attributes
    ----------
    used : list of str
        The lines whose results were read.
    """

    def __init__(self, key: str, results: Mapping[str, LineResult]) -> None:
        super().__init__()
        self.client = self
        self.used: list[str] = []
        self._key = key
        self._results = results
        self._n_sent: Counter[str] = Counter()

    @property
    def channels(self) -> Channels:
        """Channels that lend this one."""
        return Channels(lambda: self, is_live=False)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def post(self, path: str, *, body: Mapping[str, Any], cast_to: type = object) -> Any:
        """Return the reply to a body.

        The same body once more is another line: it follows an answer that was none.

        Raises
        ------
        AwaitedError
            If it is not known.
        StatusError
            If it is an error.
        """
        self.headers = None
        content = json.dumps([path, body], sort_keys=True)
        number, self._n_sent[content] = self._n_sent[content], self._n_sent[content] + 1
        digest = hashlib.sha256(f"{number} {content}".encode()).hexdigest()[:16]
        name = f"{request_part(self._key)}-{digest}"
        if (result := self._results.get(name)) is None:
            raise AwaitedError(Line(name, path, dict(body)))
        self.used.append(name)
        self.headers = {}
        if result.status >= 400:
            raise StatusError(result.status, json.dumps(result.body), {})
        return result.body
