"""What a server's refusal means, in the errors of this library, and without its secrets.

Codes and fields decide, texts only where a server gives nothing else: their wording changes from
one provider to the next, and an answer may quote what the user wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from skllm_calib.evidence.backends.hosted.hosted import Access, StopRunError, redact
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = [
    "Problem",
    "lost_failure",
    "no_decisions",
    "no_log_probabilities",
    "response_failure",
    "status_failure",
    "thinks_first",
]

_TOO_LONG = re.compile(
    r"context (?:length|size|window)|maximum (?:model|input|prompt) length|prompt is too long", re.I
)
_LIMIT = re.compile(
    r"(?:context|model|input) (?:length|size|window)(?: is| of)?(?: only)?\W*(\d+)", re.I
)
# Google and xAI refuse a key with status 400, and begin the message so.
_REFUSED_KEY = re.compile(r"API key not valid|Incorrect API key", re.I)
_N_TOKENS = re.compile(r"(\d+) (?:input |prompt )?tokens|length (\d+)|contains (\d+)", re.I)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer with an error status, read once."""

    status: int
    code: str
    param: str
    message: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, error: openai.APIStatusError, access: Access) -> Problem:
        """Read what the SDK raised."""
        body = error.body
        if isinstance(body, list) and body and isinstance(body[0], Mapping):
            body = body[0].get("error", body[0])  # Google's errors are a list of one
        fields = body if isinstance(body, Mapping) else {}
        # Without the documented field, whatever was sent, as far as it can be read at a glance.
        said = fields.get("message") or str(body or error.message)[:500]
        return cls(
            error.status_code,
            str(fields.get("code") or ""),
            str(fields.get("param") or ""),
            redact(str(said), access),
            fields,
        )

    @property
    def is_refused_request(self) -> bool:
        """Whether the request itself was at fault, not the key, the model or the load."""
        return self.status in (400, 413, 422)


def lost_failure(error: openai.APIError, access: Access) -> BackendError:
    """Translate what the SDK raised, after its last retry, when there was no answer to read."""
    where = access.public_address
    if isinstance(error, openai.APITimeoutError):
        return BackendUnavailable(f"no answer from {where} in time: raise 'timeout', or ask less")
    if isinstance(error, openai.APIConnectionError):
        why = redact(str(error.__cause__ or error), access)
        return BackendUnavailable(f"no connection to {where}: {why}")
    return BackendError(f"{where}: {redact(str(error), access)}")


def status_failure(problem: Problem, access: Access) -> BackendError | StopRunError:
    """Translate an answer with an error status, after the SDK's last retry."""
    said = f"{access.public_address} said: {problem.message}"
    if _is_filtered(problem):
        return Refused(f"a content filter declined this text; {said}")
    if problem.is_refused_request and (excess := _too_long(problem)) is not None:
        by = f" by {excess} tokens" if excess else ""
        return ContextTooLong(f"the prompt is too long{by}; {said}", excess or None)
    if "output limit was reached" in problem.message:
        return UnreadableReply(
            "max_tokens left no room for an answer: allow more, or raise 'reasoning_budget' if the "
            f"model reasons before it answers; {said}"
        )
    if problem.code == "insufficient_quota":
        return StopRunError(RateLimited(f"the account has no quota left; {said}"))
    if problem.code in ("model_not_found", "DeploymentNotFound") or problem.status == 404:
        return StopRunError(ModelNotFound(f"no such model or address; {said}"))
    if problem.status in (401, 403) or _is_refused_key(problem):
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


def _is_filtered(problem: Problem) -> bool:
    codes = (
        *("content_filter", "content_policy_violation"),
        *("bio_policy", "misalignment_policy_violation"),
    )
    azure, router = problem.fields.get("innererror"), problem.fields.get("metadata")
    return (
        problem.code in codes
        # What a reasoning model declines to think about; other invalid prompts have the code too.
        or (problem.code == "invalid_prompt" and "flagged" in problem.message)
        or (isinstance(azure, Mapping) and azure.get("code") == "ResponsibleAIPolicyViolation")
        # OpenRouter says so with the status of a refused key.
        or (isinstance(router, Mapping) and "flagged_input" in router)
    )


def _is_refused_key(problem: Problem) -> bool:
    details = problem.fields.get("details")
    reasons = [
        detail.get("reason")
        for detail in (details if isinstance(details, Sequence) else ())
        if isinstance(detail, Mapping)
    ]
    return problem.status == 400 and (
        "API_KEY_INVALID" in reasons or _REFUSED_KEY.match(problem.message) is not None
    )


def _too_long(problem: Problem) -> int | None:
    """Tell by how many tokens the prompt is too long; 0 where unknown, None where it is not."""
    fields = problem.fields
    if isinstance(fields.get("n_prompt_tokens"), int) and isinstance(fields.get("n_ctx"), int):
        # llama.cpp needs room for the one token that it is to write.
        return max(0, int(fields["n_prompt_tokens"]) - int(fields["n_ctx"]) + 1)
    named = problem.code == "context_length_exceeded" or (
        fields.get("type") == "exceed_context_size_error"
    )
    if not named and not _TOO_LONG.search(problem.message):
        return None
    text = problem.message.replace(",", "")
    limit = _LIMIT.search(text)
    counts = [int(next(filter(None, m.groups()))) for m in _N_TOKENS.finditer(text)]
    return max(0, max(counts) - int(limit[1])) if limit and counts else 0


def no_log_probabilities(model: str, why: str) -> SignalUnavailable:
    """Say that a model shows no log-probabilities, and what works instead."""
    return SignalUnavailable(
        f"the model {model!r} shows no log-probabilities here ({why}), so signal='logprobs' cannot "
        "work with it. signal='self_reported' and signal='self_consistency' need only text and "
        "would work. Of some reasoning models log-probabilities can be had with reasoning off: "
        "reasoning_effort='none'."
    )


def thinks_first(model: str) -> SignalUnavailable:
    """Say why probabilities after reasoning are no evidence, and what works instead."""
    return SignalUnavailable(
        f"the model {model!r} thinks before it answers: the probabilities after that restate a "
        "decision already taken, near 0 or 1, and calibrate badly. Use signal='self_reported' or "
        "signal='self_consistency', or turn reasoning off: reasoning_effort='none' where the model "
        "takes it, on a server of your own often "
        "extra_body={'chat_template_kwargs': {'enable_thinking': False}}."
    )


def no_decisions(model: str, why: str) -> SignalUnavailable:
    """Say that there is no decision endpoint for a model, and what works instead."""
    return SignalUnavailable(
        f"the model {model!r} has no decision endpoint here ({why}), so signal='decisions' cannot "
        "work with it. signal='logprobs' works where a model shows log-probabilities, "
        "signal='self_reported' and signal='self_consistency' with every model."
    )


def response_failure(problem: Problem, access: Access) -> BackendError:
    """Translate the error of a response with a good status that failed all the same."""
    said = f"{access.public_address} said: {problem.message}"
    if _is_filtered(problem):
        return Refused(f"a content filter declined this text; {said}")
    if problem.code == "rate_limit_exceeded":
        return RateLimited(f"too many requests: lower 'max_concurrency'; {said}")
    if problem.code in ("server_error", "vector_store_timeout"):
        return BackendUnavailable(f"the server failed on the way to an answer; {said}")
    return BackendError(f"the response failed with {problem.code!r}; {said}")
