"""What a server takes and gives, found out by asking it.

"OpenAI-compatible" servers differ in the parameters they take, in how many alternatives they list
and in how they let an answer be continued, and a model behind the same address differs from the
next. Tables of model names are out of date the day they are written; a refusal says what is wrong.
So each refusal is read once, remembered for the life of the process, and the request sent again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.hosted.hosted import Acquaintance
from skllm_calib.evidence.backends.openai.errors import Problem

__all__ = ["CONTINUATIONS", "LENGTH_NAMES", "Continuation", "Dialect", "refuses_effort"]

# Enough for any model that thinks of a budget of one token as an error.
_ENOUGH_LENGTH = 16
# Rows without a usable sample after which continuing is not tried any more.
_MAX_TRIALS = 3

LENGTH_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# What holds a JSON Schema: in Chat Completions, in the Responses API, and how servers speak of it.
_SCHEMA_FIELDS = ("response_format", "text.format", "json_schema")
_SCHEMA_NAMES = (*_SCHEMA_FIELDS, "schema")
_EFFORT_NAMES = ("reasoning_effort", "reasoning.effort", "reasoning effort")
_OPTIONAL = (
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
_BAD_SCHEMA = re.compile(r"invalid.{0,8}schema", re.I)
_AT_LEAST = re.compile(r"below minimum value.*?>= ?(\d+)", re.I | re.S)
_AT_MOST = re.compile(
    r"(?:less than or equal to|greater than|more than|at most|up to|"
    r"max(?:imum)?(?: allowed)?(?: is| of)?:?|<=|between \d+ and|\[\s*\d+\s*,)\s*(\d+)",
    re.I,
)


class Continuation(NamedTuple):
    """A way to have an answer begun by the user continued by the model.

    Attributes
    ----------
    name : str
        What it is called in this file.
    message, extra : mapping
        What it adds to the message that holds the beginning, and to the request.
    """

    name: str
    message: Mapping[str, Any]
    extra: Mapping[str, Any]


CONTINUATIONS = (
    Continuation("plain", {}, {}),  # llama.cpp goes on with a trailing turn of the assistant
    Continuation(  # vLLM, SGLang
        "flagged", {}, {"continue_final_message": True, "add_generation_prompt": False}
    ),
    Continuation("marked", {"prefix": True}, {}),  # Mistral, DeepSeek
)


@dataclass
class Dialect(Acquaintance):
    """What is known of one model behind one address. Shared by all threads of the process.

    Attributes
    ----------
    length_name : str
        The parameter that bounds the answer.
    least_length : int
        The smallest bound that is accepted.
    headroom : int
        Tokens allowed on top of the answer of a text request, once the model was seen to reason.
    most_listed : int or None
        Most alternatives a position may list, once a larger number was refused.
    lists_many : bool or None
        Whether hundreds of alternatives can be had; None until it was tried.
    dropped : set of str
        Settings that the model refuses: "temperature", "seed", "schema".
    absent : frozenset of str
        Settings that the API does not have to begin with.
    refused_schemas : set of str
        Schemas that are outside of what the server takes, where it takes others.
    shows_logprobs : bool
        Whether log-probabilities were seen.
    no_logprobs, no_decisions : str or None
        Why there are none, once that is known.
    decision_path : str
        Where decisions are asked for, as far as is known.
    decides : bool
        Whether decisions have been answered.
    begun_thinking : bool
        Whether texts begin inside of reasoning, without a mark: the chat template has begun it.
    continuation : Continuation or None
        How an answer is continued, where `can_continue` is True.
    can_continue : bool or None
        None until it was tried.
    """

    length_name: str = "max_tokens"  # what the most servers understand; the newer name follows
    least_length: int = 1
    headroom: int = 0
    most_listed: int | None = None
    lists_many: bool | None = None
    dropped: set[str] = field(default_factory=set)
    absent: frozenset[str] = frozenset()
    refused_schemas: set[str] = field(default_factory=set)
    shows_logprobs: bool = False
    no_logprobs: str | None = None
    no_decisions: str | None = None
    decision_path: str = "/decisions"
    decides: bool = False
    begun_thinking: bool = False
    continuation: Continuation | None = None
    can_continue: bool | None = None
    _n_trials: int = 0

    def phrase(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Write a request as this server takes it; the bound of the answer is `max_tokens`."""
        without = self.dropped | self.absent
        body = {name: value for name, value in wanted.items() if name not in without}
        if body.get("schema") in self.refused_schemas:
            del body["schema"]
        body[self.length_name] = max(self.least_length, body.pop("max_tokens"))
        if self.most_listed is not None and "top_logprobs" in body:
            body["top_logprobs"] = min(self.most_listed, body["top_logprobs"])
        return body

    def learn(self, problem: Problem, sent: Mapping[str, Any]) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing.

        Only parameters that were sent can be learned about, and each only downwards: so a request
        is sent again a bounded number of times.
        """
        if problem.status not in (400, 403, 422, 501):
            return False
        with self.lock:
            return self._learn(problem, sent)

    def _learn(self, problem: Problem, sent: Mapping[str, Any]) -> bool:
        text = problem.message
        # Without one of ours there, the user has set it, and raising ours would help nobody.
        length = next((sent[name] for name in LENGTH_NAMES if name in sent), math.inf)
        if "output limit was reached" in text:
            self.least_length = _ENOUGH_LENGTH
            return bool(length < _ENOUGH_LENGTH)
        if (least := _AT_LEAST.search(text)) and _names(problem, *LENGTH_NAMES):
            self.least_length = max(self.least_length, int(least[1]))
            return bool(length < int(least[1]))
        if "top_logprobs" in sent and _names(problem, "logprobs", "top_logprobs"):
            limit = 0 if problem.param == "include" else _limit(text, sent["top_logprobs"])
            if limit > 0:
                self.most_listed = min(limit, self.most_listed or limit)
                return True
            self.no_logprobs = text
            return False
        if problem.status == 403:
            return False
        if _is_refusal(problem):
            # The refusal of max_tokens names the other one too, so it is looked at first.
            if "max_tokens" in sent and _names(problem, "max_tokens"):
                self.length_name = "max_completion_tokens"
                return True
            for name in ("temperature", "seed"):
                if name in sent and _names(problem, name):
                    self.dropped.add(name)
                    return True
        too_long = problem.code == "context_length_exceeded"  # of which the schema is a part
        if "schema" in sent and _names(problem, *_SCHEMA_NAMES) and not too_long:
            # Some take no schema at all, others not what is in this one.
            if _BAD_SCHEMA.search(f"{problem.code} {text}") or not (
                _is_refusal(problem) and _names(problem, *_SCHEMA_FIELDS)
            ):
                self.refused_schemas.add(sent["schema"])
            else:
                self.dropped.add("schema")
            return True
        return False

    def settle_continuation(self, found: Continuation | None) -> None:
        """Remember how an answer is continued, or that it cannot be."""
        self.continuation, self.can_continue = found, found is not None

    def had_no_sample(self) -> None:
        """Count a row that gave nothing to find out with how an answer is continued."""
        self._n_trials += 1
        if self._n_trials >= _MAX_TRIALS:
            self.settle_continuation(None)

    def notes(self, left_out: Sequence[str], n_wanted: int | None = None) -> tuple[str, ...]:
        """Say what was asked for and not given.

        Parameters
        ----------
        left_out : sequence of str
            The settings that a request had to do without.
        n_wanted : int or None, default=None
            How many alternatives it asked for.
        """
        notes = [self._why_left_out(name) for name in left_out]
        if n_wanted is not None and self.most_listed is not None and self.most_listed < n_wanted:
            notes.append(f"the model lists {self.most_listed} alternatives, not {n_wanted}")
        return tuple(sorted(notes))

    def _why_left_out(self, name: str) -> str:
        if name == "schema":
            return "the model refuses the JSON schema; only the prompt says how to answer"
        if name in self.absent:
            return f"this API has no {name!r}; its default was used"
        return f"the model refuses {name!r}; its default was used"


def refuses_effort(problem: Problem) -> bool:
    """Tell whether a refusal is about the reasoning effort, which the user set on purpose."""
    if problem.status not in (400, 422):
        return False
    if problem.param in (*_EFFORT_NAMES, "reasoning"):
        return True
    return problem.param not in _OPTIONAL and _names(problem, *_EFFORT_NAMES)


def _is_refusal(problem: Problem) -> bool:
    unsupported = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
    return problem.code in unsupported or _REFUSAL.search(problem.message) is not None


def _names(problem: Problem, *names: str) -> bool:
    """Tell whether a refusal is about one of these parameters."""
    if problem.param in _OPTIONAL:
        return problem.param in names
    # Other servers set `param` to something else or not at all; the text then names it.
    about = (rf"(?<![a-z_]){re.escape(name)}(?![a-z_])" for name in names)
    return any(re.search(name, problem.message, re.I) for name in about)


def _limit(text: str, sent: int) -> int:
    """Return how many alternatives to ask for instead; 0 if there are none to be had."""
    said = [int(n) for n in _AT_MOST.findall(text) if int(n) < sent]
    if said:
        return max(said)
    # "requires": llama.cpp knows the field in Chat Completions only.
    return 0 if _REFUSAL.search(text) or "requires" in text else sent // 2
