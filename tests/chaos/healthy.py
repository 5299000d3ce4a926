"""What the server's model says of a text, in each profile: an API, a signal, and how labels look.

All of it follows from a hash of the text, so the right row of every text is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import loopback
from loopback import Answer, completion, output_text, position, response

from skllm_calib import Prompt
from skllm_calib.signals import SelfConsistencySignal

KEYS = ("A", "B", "C")
VERDICTS = ("True", "False")
N_DRAWS, SMOOTHING = 3, 0.5


@dataclass(frozen=True)
class Profile:
    """A way of asking.

    Attributes
    ----------
    signal : str or Signal
    families : tuple of str
        Which faults can strike it.
    api : str
        Of the backend.
    classes : tuple of str
    prompt : Prompt or None
    path : str
        Where requests of this kind go.
    n_stages : int
        How many questions are asked about a text.
    strikes_all : bool
        Whether a fault strikes all of them, or one.
    is_one_reply : bool
        Whether what is asked is kept when all of it is there.
    without : tuple of str
        Faults that are none here.
    """

    signal: Any
    families: tuple[str, ...]
    api: str = "chat"
    classes: tuple[str, ...] = ("ham", "other", "spam")
    prompt: Prompt | None = None
    path: str = "/v1/chat/completions"
    n_stages: int = 1
    strikes_all: bool = True
    is_one_reply: bool = True
    without: tuple[str, ...] = ()

    def stage(self, body: Mapping[str, Any]) -> int:
        """Tell which question about a text is asked."""
        if self is PROFILES["p_true"]:
            return int("Proposed answer" in json.dumps(body))
        if self is PROFILES["labels of several tokens"]:
            return int(body["messages"][-1]["role"] == "assistant")
        return body["seed"] if self is PROFILES["self_consistency"] else 0


TOKENS, TEXTS = ("any", "chat", "tokens"), ("any", "chat", "text")
PROFILES = {
    "logprobs": Profile("logprobs", TOKENS),
    "self_reported": Profile("self_reported", TEXTS),
    "responses": Profile("logprobs", TOKENS, api="responses", path="/v1/responses"),
    "labels of several tokens": Profile(
        "logprobs",
        TOKENS,
        classes=("card lost", "card stolen", "refund"),
        prompt=Prompt(answer="words"),
        n_stages=2,
        strikes_all=False,
    ),
    "decisions": Profile("decisions", ("any", "decision"), path="/v1/decisions"),
    "self_consistency": Profile(
        SelfConsistencySignal(
            n_draws=N_DRAWS, variants="none", stop_early=False, smoothing=SMOOTHING
        ),
        TEXTS,
        n_stages=N_DRAWS,
        is_one_reply=False,
        without=("stated_key_only", "stated_cut_without_a_word"),  # these are votes
    ),
    "p_true": Profile("p_true", TOKENS, n_stages=2, strikes_all=False, is_one_reply=False),
}


def profile_of(signal: str) -> Profile:
    """Return a profile by its name; what has none is asked for as a text."""
    return PROFILES.get(signal, PROFILES["self_reported"])


def shares(about: str, names: tuple[str, ...] = KEYS) -> dict[str, float]:
    """Return a probability for each name."""
    digest = hashlib.sha256(about.encode()).digest()
    parts = [1 + byte for byte in digest[: len(names)]]
    return {name: part / sum(parts) for name, part in zip(names, parts, strict=True)}


@dataclass(frozen=True)
class Healthy:
    """The answer to one question about a text; `signal` names a profile."""

    text: str
    signal: str = "logprobs"
    stage: int = 0
    body: Mapping[str, Any] | None = None

    @property
    def profile(self) -> Profile:
        return profile_of(self.signal)

    @property
    def truth(self) -> dict[str, float]:
        """What the model thinks of the classes."""
        return shares(self.text)

    @property
    def row(self) -> list[float]:
        """The right row."""
        truth, n = list(self.truth.values()), len(self.profile.classes)
        if self.profile is PROFILES["self_consistency"]:
            drawn = [Healthy(self.text, self.signal, draw).best for draw in range(N_DRAWS)]
            return [(drawn.count(key) + SMOOTHING) / (N_DRAWS + n * SMOOTHING) for key in KEYS]
        if self.profile is PROFILES["p_true"]:
            kept = max(shares(f"{self.text}, verdict", VERDICTS)["True"], 1.01 / n)
            answer = truth.index(max(truth))
            return [kept if k == answer else (1 - kept) / (n - 1) for k in range(n)]
        return truth

    @property
    def after(self) -> dict[str, dict[str, float]]:
        """What is written, by what is written before it."""
        others = {"The": 0.02, "It": 0.01}
        if self.profile is PROFILES["labels of several tokens"]:
            lost, stolen, refund = self.truth.values()
            root = {"card": 0.97 * (lost + stolen), "refund": 0.97 * refund, **others}
            both = lost + stolen
            return {"": root, "card": {" lost": lost / both, " stolen": stolen / both}}
        if self.profile is PROFILES["p_true"] and self.stage:
            told = shares(f"{self.text}, verdict", VERDICTS)
            return {"": {**{name: 0.97 * p for name, p in told.items()}, **others}}
        return {"": {**{key: 0.97 * p for key, p in self.truth.items()}, **others}}

    @property
    def listed(self) -> dict[str, float]:
        has_begun = self.profile is PROFILES["labels of several tokens"] and self.stage
        return self.after["card" if has_begun else ""]

    @property
    def best(self) -> str:
        if self.profile is PROFILES["self_consistency"]:
            drawn = shares(f"{self.text}, draw {self.stage}")
            return max(KEYS, key=drawn.__getitem__)
        return max(self.listed, key=self.listed.__getitem__)

    @property
    def stated(self) -> str:
        if self.profile is PROFILES["self_consistency"]:
            return self.best
        return json.dumps({key: round(p, 4) for key, p in self.truth.items()})

    @property
    def options(self) -> list[dict[str, Any]]:
        pairs = zip(self.profile.classes, self.truth.values(), strict=True)
        return [{"value": name, "probability": p} for name, p in pairs]

    def position(self) -> dict[str, Any]:
        return position(self.best, self.listed)

    def chat(self, **fields: Any) -> Answer:
        """Return the answer as a chat completion."""
        if "text" in self.profile.families:
            return completion(self.stated, **fields)
        if self.profile is PROFILES["labels of several tokens"] and self.body and not fields:
            return loopback.ChatModel(self.after, continues="plain")(dict(self.body))
        return completion(self.best, [self.position()], **fields)

    def decision(self, options: Any, **fields: Any) -> Answer:
        best = max(self.options, key=lambda option: option["probability"])["value"]
        answer = {"type": "choice", "name": None, "choice": best, "probabilities": options}
        return loopback.decision({**answer, **fields})

    def answer(self) -> Answer:
        """Return the answer in the form of the API."""
        if "decision" in self.profile.families:
            return self.decision(self.options)
        return in_form_of(self.profile, self.chat())

    def wrong(self) -> Healthy:
        """Return what the same server would say of some other text."""
        return Healthy("another text, and one that has quite different probabilities", self.signal)


def in_form_of(profile: Profile, answer: Any) -> Any:
    """Write a chat completion, however odd, in the form of the API."""
    is_chat = isinstance(answer, Answer) and isinstance(answer.body, dict)
    if profile.api != "responses" or not is_chat or "choices" not in answer.body:
        return answer
    chat = answer.body
    told = {"error": chat["error"]} if "error" in chat else {}
    if not (choices := chat["choices"]):
        return Answer(200, {**response().body, "output": choices, **told})
    (choice,) = choices
    status, reason = {
        "length": ("incomplete", "max_output_tokens"),
        "content_filter": ("incomplete", "content_filter"),
        "error": ("failed", None),
    }.get(choice["finish_reason"], ("completed", None))
    message = choice["message"] or {}
    parts = [{**output_text(message.get("content")), "logprobs": _listed(choice["logprobs"])}]
    if refusal := message.get("refusal"):
        parts = [{"type": "refusal", "refusal": refusal}]
    thought = {"type": "summary_text", "text": message.get("reasoning_content")}
    before = [{"id": "rs_1", "type": "reasoning", "summary": [thought]}] if thought["text"] else []
    parts = parts if choice["message"] else []
    return response(*parts, status=status, reason=reason, before=before, **told)


def _listed(logprobs: Any) -> Any:
    return logprobs["content"] if isinstance(logprobs, dict) else logprobs
