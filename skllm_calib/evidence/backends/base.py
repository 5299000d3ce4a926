"""What every backend is: a bag of parameters that answers requests.

A backend is a scikit-learn ``BaseEstimator`` with parameters only, so that it clones for free,
pickles into a few hundred bytes and takes part in a grid search. Clients, sockets and loaded models
live in a registry of the process (:mod:`skllm_calib.evidence.backends.handles`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, NamedTuple

from sklearn.base import BaseEstimator

from skllm_calib.evidence.label_tokens import Distribution, Token
from skllm_calib.exceptions import BackendError

__all__ = [
    "AnswerForm",
    "Answering",
    "BaseBackend",
    "Choice",
    "Dropout",
    "Message",
    "Reply",
    "Request",
]

AnswerForm = Literal["keys", "words"]


class Message(NamedTuple):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


class Choice(NamedTuple):
    """One of the options of a decision: what is chosen, and what it means (may be empty)."""

    value: str
    description: str = ""


class Dropout(NamedTuple):
    """How to read probabilities with dropout at inference.

    Attributes
    ----------
    where : {"head", "modules", "trained"}
        "head": masks on the final hidden state, before the output layer. "modules": on the
        attention and residual branches. "trained": in the modules that were trained with it, such
        as LoRA adapters, each at its own rate.
    rate : float
        Probability that a value is dropped, in (0, 1); 0 for "trained".
    n_passes : int
        How many times the probabilities are computed.
    seed : int
        Seed of the masks; with the content of the request it fixes them all.
    """

    where: str
    rate: float
    n_passes: int
    seed: int = 0


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
    schema : str
        JSON Schema, as JSON, of the text wanted. A backend asks for it as structured output where
        the provider has that and otherwise leaves it out: the messages also describe it.
    among : tuple of str
        What the text is to be one of. A backend that can restrict what is written does so, which
        leaves a choice among these alone; the others leave it out, and the text may be another.
    choices : tuple of Choice
        When given, the question is for a decision endpoint, which gives a probability to each of
        these (``Reply.decision``); a backend without one fails with ``SignalUnavailable``.
    dropout : Dropout or None
        When given with `answers`, read the probabilities several times with dropout active
        (``Reply.passes``); a backend that cannot fails with ``SignalUnavailable``.
    subject : str
        The row that the request is about. It changes no answer and is in no key: it tells a backend
        whether two failures are those of two rows.
    """

    messages: tuple[Message, ...]
    answers: tuple[str, ...] = ()
    max_tokens: int = 1
    temperature: float = 0.0
    draw: int = 0
    schema: str = ""
    among: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    dropout: Dropout | None = None
    subject: str = field(default="", compare=False)

    def key(self, identity: Mapping[str, Any]) -> str:
        """Hash of everything that changes the answer, for the cache; 64 hexadecimal digits."""
        # What only some requests have is left out of the others, whose keys are older than it.
        rare = {name: getattr(self, name) for name in ("schema", "among", "choices", "dropout")}
        content = {
            "format": 1,
            "backend": identity,
            "messages": self.messages,
            "answers": self.answers,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "draw": self.draw,
            **{name: value for name, value in rare.items() if value},
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
        The model as served (a dated snapshot, a file's digest), not as requested.
    fingerprint : str or None
        The provider's identifier of the configuration that answered, where it gives one.
    prompt_tokens, completion_tokens : int
        Tokens read and written for this reply.
    cached_tokens : int
        How many of the prompt tokens the provider reused from an earlier request.
    notes : tuple of str
        What a careful user would want to know, such as a parameter the model refused.
    refused : tuple of str
        Which fields of the request the model does not take, such as "temperature".
    reasoning_tokens : int
        How many of the tokens written are hidden reasoning. What comes after it restates a
        decision already taken, so it is never evidence of how sure the model is.
    decision : tuple of float
        For requests with `choices`: the probability of each, in their order.
    passes : tuple of tuple of Distribution
        For requests with `dropout`: the distributions of each pass.
    cut : bool
        Whether the text ended because there was no more room, not because it was at its end.
    batched : bool
        Whether it was asked in a batch, at the provider's price for that.
    """

    text: str
    distributions: tuple[Distribution, ...] = ()
    model: str = ""
    fingerprint: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    reasoning_tokens: int = 0
    decision: tuple[float, ...] = ()
    passes: tuple[tuple[Distribution, ...], ...] = ()
    cut: bool = False
    batched: bool = False

    def to_json(self) -> str:
        """Serialise, losing nothing; the opposite of :meth:`from_json`."""
        content: dict[str, Any] = {
            "text": self.text,
            "distributions": _plain(self.distributions),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "usage": [self.prompt_tokens, self.completion_tokens, self.cached_tokens],
            "notes": self.notes,
        }
        rare = {
            "refused": self.refused,
            "reasoning_tokens": self.reasoning_tokens,
            "decision": self.decision,
            "passes": [_plain(distributions) for distributions in self.passes],
            "cut": self.cut,
            "batched": self.batched,
        }
        content.update({name: value for name, value in rare.items() if value})
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Read what :meth:`to_json` wrote, also that of an earlier version: it was paid for.

        Raises
        ------
        ValueError
            If it is damaged, or something else.
        """
        try:
            return cls(**_fields(_JSON.decode(text)))
        except (ArithmeticError, AttributeError, LookupError, TypeError, RecursionError) as e:
            raise ValueError(f"not a reply as it was kept: {e!r}") from e


class Answering(NamedTuple):
    """How a backend answers one request at a time, for a run that gets its requests bit by bit.

    Attributes
    ----------
    answer : callable
        Answers one request, in any thread; a ``BackendError`` is the answer to that request alone.
        A ``StopRunError`` carries a failure of all requests.
    n_workers : int
        How many threads may call it at a time.
    end : callable
        Ends the run: calls of `answer` that are under way return soon.
    """

    answer: Callable[[Request], Reply]
    n_workers: int
    end: Callable[[], None]


class BaseBackend(BaseEstimator, ABC):  # type: ignore[misc]
    """Base class of all backends; to write one, implement :meth:`run` and :meth:`identity`.

    Attributes
    ----------
    answer_form : {"keys", "words"}
        The form of answer that works best with such models when the prompt leaves it open.
    shows_logprobs : bool
        Whether every model of this backend shows token log-probabilities. Where it depends on the
        model or the server, ``signal="auto"`` asks.
    """

    answer_form: AnswerForm = "keys"
    shows_logprobs: bool = False

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

    def answering(self, first: Request) -> Answering | None:
        """Begin a run that gets its requests bit by bit, and return how each is answered.

        Parameters
        ----------
        first : Request
            The first request; those that follow are of the same kind (for a text, for the
            probabilities of labels, or with choices).

        Returns
        -------
        Answering or None
            None has lists of requests given to :meth:`run`, which suits a backend that answers
            many better than one.
        """
        return None

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything about this backend that changes an answer, as plain JSON values.

        It names the provider, the model and what alters its output. Never a key, never retries,
        timeouts or concurrency: two backends of the same identity share cached replies.
        """

    def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens the prompt of a request has; None where nobody here can count.

        Parameters
        ----------
        request : Request

        Returns
        -------
        int or None
        """
        return None


def _plain(distributions: Sequence[Distribution]) -> list[dict[str, Any]]:
    return [
        {
            "prefix": _encode(d.prefix),
            "tokens": [[_encode(t.text), t.logprob] for t in d.tokens],
            "listed_mass": d.listed_mass,
            "smallest": d.smallest,
            "n_listed": d.n_listed,
            "followed": d.followed,
        }
        for d in distributions
    ]


def _fields(d: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a reply from its JSON; a value of another type is no reply."""
    prompt_tokens, completion_tokens, cached_tokens = (_is(n, int) for n in d["usage"])
    return {
        "text": _is(d["text"], str),
        "distributions": _distributions(d["distributions"]),
        "model": _is(d["model"], str),
        "fingerprint": _is(d["fingerprint"], str, NoneType),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "cached_tokens": cached_tokens,
        "notes": tuple(_is(note, str) for note in _is(d["notes"], list)),
        "refused": tuple(_is(name, str) for name in _is(d.get("refused", []), list)),
        "reasoning_tokens": _is(d.get("reasoning_tokens", 0), int),
        "decision": tuple(_number(p) for p in _is(d.get("decision", []), list)),
        "passes": tuple(_distributions(plain) for plain in _is(d.get("passes", []), list)),
        "cut": _is(d.get("cut", False), bool),
        "batched": _is(d.get("batched", False), bool),
    }


def _distributions(plain: Sequence[Mapping[str, Any]]) -> tuple[Distribution, ...]:
    return tuple(
        Distribution(
            _decode(x["prefix"]),
            tuple([Token(_decode(t), _number(p)) for t, p in _is(x["tokens"], list)]),
            _number(x["listed_mass"]),
            _number(x["smallest"]),
            _is(x.get("n_listed", 0), int),
            _is(x.get("followed", False), bool),
        )
        for x in _is(plain, list)
    )


def _is(value: Any, *types: type) -> Any:
    """Return a value of one of these very types; True is no number here."""
    if type(value) not in types:
        raise ValueError(f"not a reply as it was kept: {value!r} where there is a {types[0]!r}")
    return value


def _number(value: Any) -> float:
    return value if type(value) is float else float(_is(value, int))


def _infinite(name: str) -> float:
    """Read what JSON has no word for: a log-probability may be -Infinity, nothing is NaN."""
    if name == "NaN":
        raise ValueError("not a reply as it was kept: NaN")
    return float(name)


_JSON = json.JSONDecoder(parse_constant=_infinite)  # made once: replies are read by the million


def _encode(raw: bytes) -> str | list[str]:
    """Write bytes as text where they are text, else as base64 in a list of one."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(raw).decode()]


def _decode(value: str | list[str]) -> bytes:
    if type(value) is str:
        return value.encode()
    (encoded,) = _is(value, list)
    return base64.b64decode(encoded, validate=True)
