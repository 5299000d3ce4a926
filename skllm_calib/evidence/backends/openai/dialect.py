"""What a server that speaks OpenAI's API takes, learned from its refusals.

"OpenAI-compatible" servers differ in the parameters they take, in how many alternatives they list
and in how they let an answer be continued, and a model behind the same address differs from the
next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from skllm_calib.evidence.backends.hosted.facts import AT_MOST, DROPPED, Continuation, Dialect
from skllm_calib.evidence.backends.hosted.failures import Problem

__all__ = ["CONTINUATIONS", "LENGTH_NAMES", "PINNED", "OpenAIDialect"]

# Enough for any model that thinks of a budget of one token as an error.
_ENOUGH_LENGTH = 16

LENGTH_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# What holds a JSON Schema: in Chat Completions, in the Responses API, and how servers speak of it.
_SCHEMA_FIELDS = ("response_format", "text.format", "json_schema")
_SCHEMA_NAMES = (*_SCHEMA_FIELDS, "schema")
_EFFORT_NAMES = ("reasoning_effort", "reasoning.effort", "reasoning effort")
# All of the distribution: 0 tokens means no bound; servers that refuse it take -1 for that.
PINNED: Mapping[str, float] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
_OPTIONAL = (
    *PINNED,
    *LENGTH_NAMES,
    *_SCHEMA_NAMES,
    *_EFFORT_NAMES,
    *("logprobs", "top_logprobs", "temperature", "seed"),
)
_REFUSAL = re.compile(
    r"\bnot (?:be )?(?:support|allow|permit|enabl|availab|recogni|implement)|unsupported|"
    r"unrecogni|unknown|unexpected|deprecated|forbid|only the default|only supports?\b",
    re.I,
)
# What a row may show of a server.
_LENGTH_NAME, _LEAST, _NO_BOUND = "the name of the bound", "the least bound", "-1 for no bound"
_BAD = "a schema that is not taken, where others are"
_BAD_SCHEMA = re.compile(r"invalid.{0,8}schema", re.I)
_AT_LEAST = re.compile(r"below minimum value.*?>= ?(\d{1,9})", re.I | re.S)
_AT_MOST = re.compile(
    r"(?:less than or equal to|greater than|more than|at most|up to|"
    r"max(?:imum)?(?: allowed)?(?: is| of)?:?|<=|between \d+ and|\[\s*\d+\s*,)\s*(\d{1,9})",
    re.I,
)


CONTINUATIONS = (
    Continuation(),  # llama.cpp goes on with a trailing turn of the assistant
    Continuation(  # vLLM, SGLang
        extra={"continue_final_message": True, "add_generation_prompt": False}
    ),
    Continuation({"prefix": True}),  # Mistral, DeepSeek
)


@dataclass(kw_only=True)
class OpenAIDialect(Dialect):
    """What is known of one model behind one address that speaks OpenAI's API.

    Attributes
    ----------
    length_name : str
        The parameter that bounds the answer, where no other was found out.
    least_length : int
        The smallest bound that is accepted, where no larger one was found out.
    absent : frozenset of str
        Settings that the API does not have to begin with.
    no_decisions : str or None
        Why there are no decisions, once that is known.
    decision_path : str
        The path where decisions are requested, as far as is known.
    decides : bool
        Whether decisions have been answered.
    """

    length_name: str = "max_tokens"  # what the most servers understand; the newer name follows
    least_length: int = 1
    absent: frozenset[str] = frozenset()
    no_decisions: str | None = None
    decision_path: str = "/decisions"
    decides: bool = False

    def phrase(self, wanted: Mapping[str, Any], row: Hashable) -> dict[str, Any]:
        """Write the settings as this server takes them; the bound of the answer is `max_tokens`."""
        settings = super().phrase(wanted, row)
        settings = {name: v for name, v in settings.items() if name not in self.absent}
        if settings.get("schema") in self.values(_BAD, row):
            del settings["schema"]
        if "top_k" in settings and self.holds(_NO_BOUND, row):
            settings["top_k"] = -1
        least = max([self.least_length, *self.values(_LEAST, row)])
        name = next(iter(self.values(_LENGTH_NAME, row)), self.length_name)
        settings[name] = max(least, settings.pop("max_tokens"))
        return settings

    def learn(self, problem: Problem, sent: Mapping[str, Any], row: Hashable) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing."""
        if problem.status not in (400, 403, 422, 501):
            return False
        for learn in (self._learn_length, self._learn_logprobs):
            if (settled := learn(problem, sent, row)) is not None:
                return settled
        return problem.status != 403 and (
            self._learn_pinned(problem, sent, row)
            or self._learn_refusal(problem, sent, row)
            or self._learn_schema(problem, sent, row)
        )

    def refuses(self, problem: Problem, wish: str) -> bool:
        """Tell whether a refusal is about the reasoning effort, the one wish there is."""
        if problem.status not in (400, 422):
            return False
        if _param(problem) in (*_EFFORT_NAMES, "reasoning"):
            return True
        return _param(problem) not in _OPTIONAL and _names(problem, *_EFFORT_NAMES)

    def why_left_out(self, name: str) -> str:
        """Say why a request had to do without a setting, and what held instead."""
        if name in self.absent:
            return f"this API has no {name!r}; its default was used"
        return super().why_left_out(name)

    def _learn_length(
        self, problem: Problem, sent: Mapping[str, Any], row: Hashable
    ) -> bool | None:
        """Learn the least bound of an answer; None where the refusal is not about that."""
        if "output limit was reached" in problem.message:
            least = _ENOUGH_LENGTH
        elif (said := _AT_LEAST.search(problem.message)) and _names(problem, *LENGTH_NAMES):
            least = int(said[1])
        else:
            return None
        self.note(_LEAST, row, least)
        # Without one of ours there, the user has set it, and increasing ours would not help.
        length = next((sent[name] for name in LENGTH_NAMES if name in sent), math.inf)
        return bool(length < least)

    def _learn_logprobs(
        self, problem: Problem, sent: Mapping[str, Any], row: Hashable
    ) -> bool | None:
        """Learn how many alternatives are listed, if any; None where it is not about that."""
        if "top_logprobs" not in sent or not _names(problem, "logprobs", "top_logprobs"):
            return None
        no_logprobs = _param(problem) == "include"
        limit = 0 if no_logprobs else _limit(problem.message, sent["top_logprobs"])
        if limit > 0:
            self.note(AT_MOST, row, limit)
            return True
        self.no_logprobs = problem.message
        return False

    def _learn_pinned(self, problem: Problem, sent: Mapping[str, Any], row: Hashable) -> bool:
        """Learn that the server does not know what we only set to where it changes nothing."""
        name = next((name for name in PINNED if name in sent and _names(problem, name)), None)
        if name is None:
            return False
        if name == "top_k" and sent[name] == 0:
            self.note(_NO_BOUND, row)
        else:
            self.note(DROPPED, row, name)
        return True

    def _learn_refusal(self, problem: Problem, sent: Mapping[str, Any], row: Hashable) -> bool:
        """Learn that a parameter has another name or has to be left out."""
        if not _is_refusal(problem):
            return False
        # The refusal of max_tokens names the other one too, so it is looked at first.
        if "max_tokens" in sent and _names(problem, "max_tokens"):
            self.note(_LENGTH_NAME, row, "max_completion_tokens")
            return True
        for name in ("temperature", "seed"):
            if name in sent and _names(problem, name):
                self.note(DROPPED, row, name)
                return True
        return False

    def _learn_schema(self, problem: Problem, sent: Mapping[str, Any], row: Hashable) -> bool:
        """Learn that a schema is not taken: none at all by some, by others not what is in it."""
        too_long = problem.code == "context_length_exceeded"  # of which the schema is a part
        if "schema" not in sent or too_long or not _names(problem, *_SCHEMA_NAMES):
            return False
        is_bad = _BAD_SCHEMA.search(f"{problem.code} {problem.message}")
        if not is_bad and _is_refusal(problem) and _names(problem, *_SCHEMA_FIELDS):
            self.note(DROPPED, row, "schema")
        else:
            self.note(_BAD, row, sent["schema"])
        return True


def _param(problem: Problem) -> str:
    return next(iter(problem.params), "")


def _is_refusal(problem: Problem) -> bool:
    unsupported = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
    return problem.code in unsupported or _REFUSAL.search(problem.message) is not None


def _names(problem: Problem, *names: str) -> bool:
    """Tell whether a refusal is about one of these parameters."""
    if _param(problem) in _OPTIONAL:
        return _param(problem) in names
    # Other servers set `param` to something else or not at all; the text then names it.
    return problem.mentions(*names)


def _limit(text: str, sent: int) -> int:
    """Return how many alternatives to request instead; 0 if there are none."""
    said = [int(n) for n in _AT_MOST.findall(text) if int(n) < sent]
    if said:
        return max(said)
    # "requires": llama.cpp knows the field in Chat Completions only.
    return 0 if _REFUSAL.search(text) or "requires" in text else sent // 2
