"""A backend for tests: no model, no network, the same answers every time.

Use it to test code that uses an ``LLMClassifier`` without paying for it or waiting. It must be
requested by name; nothing falls back to it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skllm_calib.evidence.backends.base import AnswerForm, BaseBackend, Message, Reply, Request
from skllm_calib.evidence.backends.callables import name_of
from skllm_calib.evidence.label_tokens import Token, label_tree
from skllm_calib.exceptions import BackendError, InvalidInput

__all__ = ["Handler", "TestingBackend"]

# Answers a request: whole, as text, as a probability for each label, as a failure, or not (None).
Handler = Callable[[Request], Reply | str | Mapping[str, float] | Exception | None]

# How strongly examples that are just like the row pull towards their answer, in nats.
_PULL = 50.0
_FENCE = re.compile("«[0-9]+»")
_NUMBER = re.compile(r"(?<![\w.])[+-]?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"[^\W\d_]+")
# How prompts of our own wording name the labels.
_OPTION = re.compile(r"^([A-Z]|\d+)\) ", re.M)
_LISTED = re.compile(r"(?:one word: |labels only: |labels are )(.+?)\.(?:\s|$)")

_lock = threading.Lock()
_asked: dict[str, Counter[str]] = {}


class TestingBackend(BaseBackend):
    """Made-up, deterministic answers for tests, to every kind of question that signals ask.

    Parameters
    ----------
    rules : dict of str to (dict of str to float), callable or None, default=None
        Which probabilities to give. A dict: by a piece of text to look for in the last message of
        the prompt (which without examples also holds the instruction, with the labels), the
        probability of each answer (an option key or label text, as the prompt has it). The first
        rule that applies counts; a prompt without one gets probabilities drawn from a hash of its
        content, which lean towards the answers of the examples in the prompt that are most like
        the row (in its words, and in its numbers place by place).

        A callable takes the :class:`~skllm_calib.backends.Request` and returns what the model
        answers: a dict of the probability of each answer, a text, a whole
        :class:`~skllm_calib.backends.Reply`, or None to answer as without a rule. A
        ``BackendError``, returned or raised, is the failure of this request; any other exception
        ends the run.
    fail_on : tuple of str, default=()
        Rows that contain one of these fail, each with a ``BackendError``.
    off_label : float, default=0.05
        Probability that falls on no label, in [0, 1).
    n_listed : int or None, default=None
        How many tokens are listed, as a hosted model lists only its likeliest; None means all.
    seed : int, default=0
        Another seed gives other drawn probabilities.
    name : str, default="test"
        Backends of one name share :meth:`asked`, across clones.

    Notes
    -----
    The backend pickles if `rules` does, as a function of a module does and a lambda does not. Two
    functions have the same :meth:`identity`, and so share cached replies, if their names, their
    code and the values that they close over or have as defaults are the same, as far as these
    values can be pickled; other callables if they pickle alike. What a function looks up elsewhere
    does not count: give each backend a `name` of its own where that makes a difference.

    Examples
    --------
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> backend = TestingBackend({"free prize": {"spam": 0.9, "ham": 0.1}})
    >>> clf = LLMClassifier(backend, classes=["ham", "spam"], cache=None)
    >>> clf.predict(["You won a free prize!"]).tolist()
    ['spam']

    A function in the place of the rules sees the whole request:

    >>> def shouting_is_spam(request):
    ...     return "spam" if "!!!" in request.messages[-1].content else {"ham": 1, "spam": 1}
    >>> clf = LLMClassifier(TestingBackend(shouting_is_spam), classes=["ham", "spam"], cache=None)
    >>> clf.predict_proba(["free!!!", "hello"]).round(2).tolist()
    [[0.0, 1.0], [0.5, 0.5]]
    """

    __test__ = False  # not a test class, whatever its name looks like to pytest
    answer_form: AnswerForm = "words"
    shows_logprobs = True

    def __init__(
        self,
        rules: dict[str, dict[str, float]] | Handler | None = None,
        *,
        fail_on: tuple[str, ...] = (),
        off_label: float = 0.05,
        n_listed: int | None = None,
        seed: int = 0,
        name: str = "test",
    ) -> None:
        self.rules = rules
        self.fail_on = fail_on
        self.off_label = off_label
        self.n_listed = n_listed
        self.seed = seed
        self.name = name

    def identity(self) -> dict[str, Any]:
        """Return the parameters that change an answer."""
        answering = ("rules", "off_label", "n_listed", "seed")
        params = {name: getattr(self, name) for name in answering}
        if callable(self.rules):
            params["rules"] = name_of(self.rules)
        return {"provider": "testing", "model": f"testing-{self.name}", **params}

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests in order."""
        for i, request in enumerate(requests):
            row = request.messages[-1].content
            with _lock:
                _asked.setdefault(self.name, Counter())[_joined(request.messages)] += 1
            yield i, self._answer(request, row)

    def count_tokens(self, request: Request) -> int:
        """Return the number of words, which the replies count as tokens."""
        return len(_joined(request.messages).split())

    @property
    def asked(self) -> Counter[str]:
        """How often each prompt was asked in this process by backends of this name."""
        with _lock:
            return Counter(_asked.get(self.name, ()))

    def forget(self) -> None:
        """Set the counts of :attr:`asked` to zero."""
        with _lock:
            _asked.pop(self.name, None)

    def _answer(self, request: Request, row: str) -> Reply | BackendError:
        failing = [piece for piece in self.fail_on if piece in row]
        if failing:
            return BackendError(f"the test backend was told to fail on {failing[0]!r}")
        try:
            return self._reply(request, row)
        except BackendError as failure:
            return failure

    def _reply(self, request: Request, row: str) -> Reply:
        given = self._given(request, row)
        if isinstance(given, Reply):
            return given
        reply = Reply(
            text=given if isinstance(given, str) else "ok",
            model=f"testing-{self.name}",
            prompt_tokens=self.count_tokens(request),
            completion_tokens=1,
        )
        # A text in the place of probabilities is certain; it need not be one of the answers.
        likely = [{given: 1.0}] if isinstance(given, str) else given
        if request.answers:
            said = likely[0] if isinstance(given, str) else None
            proba = said or self._proba(request, row, request.answers, likely)
            return self._labels(reply, request, proba)
        if request.choices:
            options = [choice.value for choice in request.choices]
            proba = self._proba(request, row, options, likely)
            stated = tuple((1 - self.off_label) * p for p in proba.values())
            return replace(reply, text=_likeliest(proba), decision=stated)
        if isinstance(given, str):
            return reply
        return replace(reply, text=self._text(request, row, given))

    def _given(self, request: Request, row: str) -> Reply | str | list[Mapping[str, float]]:
        """Return what the rules or the function say: an answer, or probabilities to choose from."""
        if not callable(self.rules):
            if not isinstance(self.rules, Mapping | None):
                raise InvalidInput(
                    f"rules={self.rules!r}: must be a dict from a piece of text to the probability "
                    "of each answer, a function, or None",
                    "rules",
                    value=self.rules,
                )
            return [proba for piece, proba in (self.rules or {}).items() if piece in row]
        answer = self.rules(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Mapping):
            return [answer]
        if answer is None:
            return []
        if isinstance(answer, Reply | str):
            return answer
        raise TypeError(
            f"the function given as rules returned {answer!r}: it must return a Reply, a text, a "
            "dict of probabilities, an exception or None"
        )

    def _labels(self, reply: Reply, request: Request, proba: Mapping[str, float]) -> Reply:
        tree = label_tree(request.answers)
        passes = []
        for i in range(request.dropout.n_passes if request.dropout else 0):
            rng = self._rng(request, "pass", i)
            thinned = {a: p * np.exp(rng.normal(0, 0.3)) for a, p in proba.items()}
            total = sum(thinned.values())
            thinned = {a: p / total for a, p in thinned.items()}
            passes.append((tree.distribution(b"", self._listed(thinned)),))
        return replace(
            reply,
            text=_likeliest(proba),
            distributions=(tree.distribution(b"", self._listed(proba)),),
            passes=tuple(passes),
        )

    def _listed(self, proba: Mapping[str, float]) -> list[Token]:
        listed = [
            Token(answer.encode(), float(np.log((1 - self.off_label) * p)))
            for answer, p in proba.items()
            if p > 0
        ]
        if self.off_label > 0:
            # The other tokens of a vocabulary, each of little weight.
            rest = self.off_label * np.exp2(-np.arange(1, 30))
            listed += [Token(f"~{j}".encode(), float(np.log(p))) for j, p in enumerate(rest)]
        return sorted(listed, key=lambda token: -token.logprob)[: self.n_listed]

    def _text(self, request: Request, row: str, given: Sequence[Mapping[str, float]]) -> str:
        """Write a label, or the JSON that a schema describes."""
        schema = json.loads(request.schema).get("properties", {}) if request.schema else {}
        is_list = "guesses" in schema
        properties = schema["guesses"]["items"]["properties"] if is_list else schema
        named = next((p["enum"] for p in properties.values() if "enum" in p), None)
        # What a function says is taken as it is; else it is one of what was requested.
        among = () if given and callable(self.rules) else request.among
        options = named or list(properties or among) or _options(request.messages, given)
        if not options:
            return "ok"
        proba = self._proba(request, row, options, given)
        if not properties:
            return self._drawn(request, proba)
        written = {option: round(p, 4) for option, p in proba.items()}
        whole = written if named is None else _guesses(written, properties, is_list)
        return json.dumps(whole, ensure_ascii=False)

    def _drawn(self, request: Request, proba: Mapping[str, float]) -> str:
        if request.temperature <= 0:
            return _likeliest(proba)
        weights = np.array(list(proba.values())) ** (1 / request.temperature)
        drawn = self._rng(request, "draw").choice(len(weights), p=weights / weights.sum())
        return list(proba)[drawn]

    def _proba(
        self,
        request: Request,
        row: str,
        options: Sequence[str],
        given: Sequence[Mapping[str, float]],
    ) -> dict[str, float]:
        """Return a probability for each option; another draw of one prompt has the same."""
        for proba in given:
            weights = [proba.get(option, 0.0) for option in options]
            if sum(weights) > 0:
                total = sum(proba.values())
                return dict(zip(options, (weight / total for weight in weights), strict=True))
        if given and callable(self.rules):
            raise InvalidInput(
                f"the function given as rules gave a probability to {list(given[0])}, but the "
                f"request is about {list(options)}",
                "rules",
            )
        drawn = self._rng(request).dirichlet(np.full(len(options), 0.7))
        likeness: dict[str, list[float]] = {}
        for text, answer in _examples(request.messages):
            likeness.setdefault(answer, []).append(_likeness(text, row))
        pull = _PULL * np.array([float(np.mean(likeness.get(o, 0.0))) for o in options])
        mixed = drawn * np.exp(pull - pull.max())
        return dict(zip(options, (mixed / mixed.sum()).tolist(), strict=True))

    def _rng(self, request: Request, *more: Any) -> np.random.Generator:
        # What is drawn from depends on the prompt alone, the draws from it on the rest as well.
        draw = [request.draw, request.temperature, *more] if more else [0]
        content = json.dumps([self.seed, request.messages, request.answers, *draw])
        digest = hashlib.sha256(content.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _options(messages: Sequence[Message], given: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the labels of a rule, or those that the prompt names in our own wording."""
    if given:
        return list(given[0])
    whole = _joined(messages)
    if keys := _OPTION.findall(whole):
        return list(dict.fromkeys(keys))
    if listed := _LISTED.search(whole):
        return [label.strip() for label in re.split(r",\s+|\s+or\s+", listed[1])]
    return []


def _guesses(
    written: Mapping[str, float], properties: Mapping[str, Any], is_list: bool
) -> dict[str, Any]:
    """Write the likeliest option, or all of them in their order, as a schema has them."""
    ranked = sorted(written.items(), key=lambda pair: -pair[1])
    kind = next(name for name in properties if name != "probability")
    guesses: list[dict[str, Any]] = [{kind: option, "probability": p} for option, p in ranked]
    return {"guesses": guesses} if is_list else guesses[0]


def _likeliest(proba: Mapping[str, float]) -> str:
    return max(proba, key=lambda option: proba[option])


def _examples(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    for asked, answered in itertools.pairwise(messages):
        if (asked.role, answered.role) == ("user", "assistant"):
            yield asked.content, answered.content.strip()


def _likeness(example: str, row: str) -> float:
    """Compare two texts: 1 for the same words and numbers, 0 for nothing in common."""
    words, others = (set(_WORD.findall(text.lower())) for text in (row, example))
    shared = len(words & others) / max(1, len(words))  # the first example has the instruction too
    mine, its = (
        [float(x) for x in _NUMBER.findall(_FENCE.sub("", text))] for text in (row, example)
    )
    n = min(len(mine), len(its))
    apart = sum(abs(a - b) for a, b in zip(mine[-n:], its[-n:], strict=True)) / n if n else 0.0
    return shared * math.exp(-apart)


def _joined(messages: Sequence[Message]) -> str:
    return "\n".join(m.content for m in messages)
