"""What a Claude model takes, learned from its refusals."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
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

# What a row may show of a model.
_TEMPERATURE, _SCHEMA, _FORM = "a refused temperature", "a refused schema", "a refused form"


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

    def thinking(self, row: Hashable) -> dict[str, Any] | None:
        """Return the value of the parameter `thinking` for a row; None to leave it out."""
        return self.thinking_forms[max((n + 1 for n in self.values(_FORM, row)), default=0)]

    def takes_temperature(self, temperature: float, row: Hashable) -> bool:
        """Tell whether this temperature was not refused so far; some models take 1 only."""
        return not self.holds(_TEMPERATURE, row, temperature)

    def takes_schema(self, schema: str, row: Hashable) -> bool:
        """Tell whether this schema was not refused so far; another one may well be taken."""
        return not self.holds(_SCHEMA, row, schema)

    def learn(self, problem: Problem, sent: Mapping[str, Any], schema: str, row: Hashable) -> bool:
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
                    self.note(_TEMPERATURE, row, sent["temperature"])
                    return True
                if self._is_ours("thinking", sent) and re.search(r"\bthinking\b", said):
                    return self._next_form(sent["thinking"], row)
            if self._is_ours("format", output) and _ABOUT_SCHEMA.search(said):
                self.note(_SCHEMA, row, schema)
                return True
        return False

    def _is_ours(self, name: str, sent: Mapping[str, Any]) -> bool:
        return name in sent and name not in self.fixed

    def _next_form(self, refused: Mapping[str, Any], row: Hashable) -> bool:
        if refused == self.thinking(row):  # otherwise another row has settled it meanwhile
            n = self.thinking_forms.index(refused)
            if n + 1 == len(self.thinking_forms):
                return False
            self.note(_FORM, row, n)
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
