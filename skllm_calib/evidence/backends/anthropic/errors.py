"""What a refusal of the Messages API means: ask again in other words, or an error, without secrets.

Codes and types decide where the API has them. For what a model does not take, and for a few
failures of an account, it has none, and the text names the parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skllm_calib.evidence.backends.hosted.hosted import Access, Acquaintance, StopRunError, redact
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    Refused,
)

if TYPE_CHECKING:
    import anthropic

__all__ = ["Dialect", "Problem", "lost_failure", "refused_wish", "status_failure"]

_REFUSAL = re.compile(
    r"(?:\bnot|n't) (?:be )?(?:support|allow|permit|accept|availab|compatib|match)|unsupported|"
    r"deprecated|may only be|cannot",
    re.I,
)
# Everything the API says of a schema, but not what it says of the effort beside it.
_ABOUT_SCHEMA = re.compile(
    r"schema|grammar|structured output|output_format|output_config(?!\.effort)", re.I
)
_TOO_LONG = re.compile(r"prompt is too long|exceeds? (?:the )?context (?:limit|window)", re.I)
_FILTERED = re.compile(r"content[ _-]filter", re.I)
_UNPAID = re.compile(r"credit balance is too low|reached your specified .*usage limits", re.I)
_UNPAID_CODES = (
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "linked_organization_billing_unavailable",
    "linked_organization_spend_limit_reached",
)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer with an error status, read once."""

    status: int
    type: str
    code: str
    message: str

    @classmethod
    def of(cls, error: anthropic.APIStatusError, access: Access) -> Problem:
        """Read what the SDK raised."""
        body = error.body if isinstance(error.body, Mapping) else {}
        fields = body.get("error")
        fields = fields if isinstance(fields, Mapping) else {}
        details = fields.get("details")
        details = details if isinstance(details, Mapping) else {}
        # Without the documented field, whatever was sent, as far as it can be read at a glance.
        said = fields.get("message") or str(error.body or error.message)[:500]
        return cls(
            error.status_code,
            str(fields.get("type") or ""),
            str(details.get("error_code") or ""),
            redact(str(said), access),
        )


@dataclass
class Dialect(Acquaintance):
    """What one model behind one address takes, found out from its own refusals.

    Shared by all threads of the process. Which models take a temperature, a budget for reasoning
    or a schema changes with every generation of Claude, so no list of names is kept.

    Attributes
    ----------
    thinking_forms : tuple of dict or None
        Ways to say how much the model is to reason, the wanted one first; None says nothing.
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


def refused_wish(problem: Problem, sent: Mapping[str, Any]) -> str | None:
    """Name the parameter of the backend that is refused; it was set on purpose, so it is kept."""
    if problem.status not in (400, 422):
        return None
    if "thinking" in sent and re.search(r"\bthinking\b", problem.message):
        return "reasoning_budget" if _REFUSAL.search(problem.message) else None
    if "effort" in sent.get("output_config", {}) and re.search(r"\beffort\b", problem.message):
        return "reasoning_effort"
    return None


def lost_failure(error: anthropic.APIError, access: Access) -> BackendError:
    """Translate what the SDK raised, after its last retry, when there was no answer to read."""
    import anthropic  # noqa: PLC0415 (optional)

    where = access.public_address
    if isinstance(error, anthropic.APITimeoutError):
        return BackendUnavailable(f"no answer from {where} in time: raise 'timeout', or ask less")
    if isinstance(error, anthropic.APIConnectionError):
        why = redact(str(error.__cause__ or error), access)
        return BackendUnavailable(f"no connection to {where}: {why}")
    return BackendError(f"{where}: {redact(str(error), access)}")


def status_failure(problem: Problem, access: Access) -> BackendError | StopRunError:
    """Translate an answer with an error status, after the SDK's last retry."""
    said = f"{access.public_address} said: {problem.message}"
    if problem.status == 400 and _FILTERED.search(problem.message):
        return Refused(f"a content filter declined this text; {said}")
    if problem.status == 413 or (problem.status == 400 and _TOO_LONG.search(problem.message)):
        excess = _excess(problem.message)
        by = f" by {excess} tokens" if excess else ""
        return ContextTooLong(f"the prompt is too long{by}; {said}", excess)
    if _is_unpaid(problem):
        return StopRunError(RateLimited(f"the account has no credit or quota left; {said}"))
    if problem.status == 404:
        return StopRunError(ModelNotFound(f"no such model or address; {said}"))
    if problem.code == "organization_on_hold":
        return StopRunError(AuthenticationFailed(f"the account is on hold; {said}"))
    if problem.status in (401, 403):
        hint = "" if access.key else ", which is not set: no key was sent"
        return StopRunError(
            AuthenticationFailed(
                f"the key is refused; it comes from the environment variable {access.key_name}"
                f"{hint}; {said}"
            )
        )
    if problem.status == 429:
        advice = "lower 'max_concurrency' or raise 'max_retries'"
        return RateLimited(f"too many requests, also after every retry: {advice}; {said}")
    if problem.status >= 500 or problem.status in (408, 409):
        return BackendUnavailable(f"status {problem.status} after every retry; {said}")
    return BackendError(f"status {problem.status}; {said}")


def _is_unpaid(problem: Problem) -> bool:
    return (
        problem.status == 402
        or problem.type == "billing_error"
        or problem.code in _UNPAID_CODES
        or (problem.status in (400, 403, 429) and _UNPAID.search(problem.message) is not None)
    )


def _excess(message: str) -> int | None:
    """Return by how many tokens a prompt is too long: "N tokens > M maximum", "N + K > M"."""
    text = message.replace(",", "")
    found = re.search(r"(\d+)(?: tokens)?(?: \+ (\d+))? > (\d+)", text)
    if found is None:
        return None
    return int(found[1]) + int(found[2] or 0) - int(found[3])
