"""What a Claude model takes, learned from its refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skllm_calib.evidence.backends.hosted.facts import ModelFacts
from skllm_calib.evidence.backends.hosted.failures import Problem

__all__ = ["ClaudeFacts", "refused_parameter"]

_REFUSAL = re.compile(
    r"(?:\bnot|n't) (?:be )?(?:support|allow|permit|accept|availab|compatib|match)|unsupported|"
    r"deprecated|may only be|cannot",
    re.I,
)
# Everything the API says of a schema, but not what it says of the effort beside it.
_ABOUT_SCHEMA = re.compile(
    r"schema|grammar|structured output|output_format|output_config(?!\.effort)", re.I
)


@dataclass(kw_only=True)
class ClaudeFacts(ModelFacts):
    """What one model behind one address takes, found out from its own refusals.

    Which models take a temperature, a budget for reasoning
    or a schema changes with every generation of Claude, so no list of names is kept.

    Attributes
    ----------
    thinking_forms : tuple of dict or None
        Values of the parameter `thinking`, the wanted one first; None leaves it out.
    fixed : frozenset of str
        What the user has set: it is sent whatever the model says.
    """

    thinking_forms: tuple[dict[str, Any] | None, ...] = (None,)
    fixed: frozenset[str] = frozenset()
    _refused_temperatures: set[float] = field(default_factory=set)
    _refused_schemas: set[str] = field(default_factory=set)
    _n_forms_refused: int = 0

    @property
    def thinking(self) -> dict[str, Any] | None:
        """The value of the parameter `thinking`; None to leave it out."""
        return self.thinking_forms[self._n_forms_refused]

    def takes_temperature(self, temperature: float) -> bool:
        """Tell whether this temperature was not refused so far; some models take 1 only."""
        return temperature not in self._refused_temperatures

    def takes_schema(self, schema: str) -> bool:
        """Tell whether this schema was not refused so far; another one may well be taken."""
        return schema not in self._refused_schemas

    def learn(self, problem: Problem, sent: Mapping[str, Any], schema: str) -> bool:
        """Read a refusal; return whether the request should be sent again in the new phrasing.

        Only what was sent can be learned about, and each thing once: so a request is sent again a
        bounded number of times.
        """
        if problem.status not in (400, 422):
            return False
        said, output = problem.message, sent.get("output_config", {})
        with self.lock:
            if _REFUSAL.search(said):
                # What is wrong with a temperature may be the reasoning beside it, which is then
                # named too; so the temperature is looked at first.
                if self._is_ours("temperature", sent) and re.search(r"\btemperature\b", said):
                    self._refused_temperatures.add(sent["temperature"])
                    return True
                if self._is_ours("thinking", sent) and re.search(r"\bthinking\b", said):
                    return self._next_form(sent["thinking"])
            if self._is_ours("format", output) and _ABOUT_SCHEMA.search(said):
                self._refused_schemas.add(schema)
                return True
        return False

    def _is_ours(self, name: str, sent: Mapping[str, Any]) -> bool:
        return name in sent and name not in self.fixed

    def _next_form(self, refused: Mapping[str, Any]) -> bool:
        if refused == self.thinking:  # otherwise another thread went on already
            if self._n_forms_refused + 1 == len(self.thinking_forms):
                return False
            self._n_forms_refused += 1
        return True


def refused_parameter(problem: Problem, sent: Mapping[str, Any]) -> str | None:
    """Name the parameter of the backend that is refused; it was set on purpose, so it is kept."""
    if problem.status not in (400, 422):
        return None
    if "thinking" in sent and re.search(r"\bthinking\b", problem.message):
        return "reasoning_budget" if _REFUSAL.search(problem.message) else None
    if "effort" in sent.get("output_config", {}) and re.search(r"\beffort\b", problem.message):
        return "reasoning_effort"
    return None
