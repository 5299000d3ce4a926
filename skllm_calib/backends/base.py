"""What every backend is: a bag of parameters that answers requests.

A backend is a scikit-learn ``BaseEstimator`` with parameters only, so that it clones for free,
pickles into a few hundred bytes and takes part in a grid search. Clients, sockets and loaded models
live in a registry of the process (:mod:`skllm_calib.backends.registry`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sklearn.base import BaseEstimator

from skllm_calib.exceptions import BackendError
from skllm_calib.label_tokens import Distribution, Token

__all__ = ["AnswerForm", "BaseBackend", "Message", "Reply", "Request"]

AnswerForm = Literal["keys", "words"]


class Message(NamedTuple):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    Attributes
    ----------
    messages : tuple of Message
        The conversation; the model is to write the next turn of the assistant.
    answers : tuple of str
        When given, the reply must carry the probability of each of these answers (see
        ``Reply.distributions``); the backend may restrict what is written to them only where that
        leaves the reported probabilities those of the unrestricted model.
    max_tokens : int
        Longest text wanted, in tokens.
    temperature : float
        Sampling temperature of the text. Reported log-probabilities are always those at 1.
    draw : int
        Number of the repetition, for signals that ask the same thing several times: part of the
        cache key, so that a draw is never replayed as another one.
    """

    messages: tuple[Message, ...]
    answers: tuple[str, ...] = ()
    max_tokens: int = 1
    temperature: float = 0.0
    draw: int = 0

    def key(self, identity: Mapping[str, Any]) -> str:
        """Hash of everything that changes the answer, for the cache; 64 hexadecimal digits."""
        content = {
            "format": 1,
            "backend": identity,
            "messages": self.messages,
            "answers": self.answers,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "draw": self.draw,
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    Attributes
    ----------
    text : str
        What was written.
    distributions : tuple of Distribution
        For requests with `answers`: what the model would write after each prefix that was looked
        at, the empty prefix first. Log-probabilities are natural logarithms at temperature 1.
    model : str
        The model as served (a dated snapshot, a file's digest), not as asked for.
    fingerprint : str or None
        The provider's word for the configuration that answered, where it tells one.
    prompt_tokens, completion_tokens : int
        Tokens read and written for this reply.
    cached_tokens : int
        How many of the prompt tokens the provider reused from an earlier request.
    notes : tuple of str
        What a careful user would want to know, such as a parameter the model refused.
    """

    text: str
    distributions: tuple[Distribution, ...] = ()
    model: str = ""
    fingerprint: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """Serialise, losing nothing; the opposite of :meth:`from_json`."""
        return json.dumps(
            {
                "text": self.text,
                "distributions": [
                    {
                        "prefix": _encode(d.prefix),
                        "tokens": [[_encode(t.text), t.logprob] for t in d.tokens],
                        "listed_mass": d.listed_mass,
                        "smallest": d.smallest,
                        "n_listed": d.n_listed,
                        "followed": d.followed,
                    }
                    for d in self.distributions
                ],
                "model": self.model,
                "fingerprint": self.fingerprint,
                "usage": [self.prompt_tokens, self.completion_tokens, self.cached_tokens],
                "notes": self.notes,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Read what :meth:`to_json` wrote, also that of an earlier version: it was paid for."""
        d = json.loads(text)
        return cls(
            text=d["text"],
            distributions=tuple(
                Distribution(
                    _decode(x["prefix"]),
                    tuple(Token(_decode(t), float(p)) for t, p in x["tokens"]),
                    x["listed_mass"],
                    x["smallest"],
                    x.get("n_listed", 0),
                    x.get("followed", False),
                )
                for x in d["distributions"]
            ),
            model=d["model"],
            fingerprint=d["fingerprint"],
            prompt_tokens=d["usage"][0],
            completion_tokens=d["usage"][1],
            cached_tokens=d["usage"][2],
            notes=tuple(d["notes"]),
        )


class BaseBackend(BaseEstimator, ABC):  # type: ignore[misc]
    """Base class of all backends; to write one, implement :meth:`run` and :meth:`identity`.

    Attributes
    ----------
    answer_form : {"keys", "words"}
        The form of answer that works best with such models when the prompt leaves it open.
    """

    answer_form: AnswerForm = "keys"

    @abstractmethod
    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer requests as they come in, in any order.

        Parameters
        ----------
        requests : sequence of Request

        Yields
        ------
        index : int
            Position in `requests`; each exactly once.
        answer : Reply or BackendError
            A failure is an object like any other answer: it costs no other request. Only what
            makes every request fail alike (no key, no such model) may be raised instead.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything about this backend that changes an answer, as plain JSON values.

        It names the provider, the model and what alters its output. Never a key, never retries,
        timeouts or concurrency: two backends of the same identity share cached replies.
        """


def _encode(raw: bytes) -> str | list[str]:
    """Write bytes as text where they are text, else as base64 in a list of one."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(raw).decode()]


def _decode(value: str | list[str]) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value[0])
