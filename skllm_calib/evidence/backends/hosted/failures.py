"""Which failure an answer of a server means: one table for all providers.

A backend reads what its SDK raised into a :class:`Problem`; :func:`failure_of` finds the row of
:data:`RULES` that fits it and makes the exception of this library. Codes decide, texts only where
a server gives no code: their wording changes from one provider to the next, and an answer may
quote what the user wrote.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    Refused,
    UnreadableReply,
)

__all__ = ["RULES", "Problem", "Rule", "StopRunError", "failure_of", "is_temporary", "rule_of"]


class StopRunError(Exception):
    """Carries a failure that every request of the run may share, out of the thread pool.

    It is no ``BackendError``, so that it is never taken for the failure of one row before
    :class:`~skllm_calib.evidence.backends.hosted.verdicts.Verdicts` has said which of both it is.

    Parameters
    ----------
    failure : BackendError
    certain : bool, default=False
        Whether the server speaks of the account, so that one answer says it of every row.
    shown_by_rows : str, default=""
        What a second row has to show as well; "" where a harmless text tells.
    of_one_row : BackendError or None, default=None
        What is true where other rows are answered; None for the same failure.
    """

    def __init__(
        self,
        failure: BackendError,
        *,
        certain: bool = False,
        shown_by_rows: str = "",
        of_one_row: BackendError | None = None,
    ) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.certain = certain
        self.shown_by_rows = shown_by_rows
        self.of_one_row = of_one_row or failure


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is an error, or the lack of one, read once.

    Attributes
    ----------
    status : int
        Status of the answer; 0 where none came.
    message : str
        What the server said, or why it said nothing, without secrets.
    code : str
        The code that the server gives, where it gives one.
    names : frozenset of str
        Everything by which the server names the failure: its code, its type, reasons in details.
    params : tuple of str
        The parameters that the server names as the cause.
    fields : mapping
        Further fields of the error.
    timed_out : bool
        Whether the answer did not come in time.
    retry_after : float or None
        How many seconds the server asks to wait; infinite where it wants no retry.
    nobody_there : bool
        Whether no connection was made: nobody listens at that address, or it has none.
    """

    status: int
    message: str
    code: str = ""
    names: frozenset[str] = frozenset()
    params: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    timed_out: bool = False
    retry_after: float | None = None
    nobody_there: bool = False

    @property
    def is_page(self) -> bool:
        """Whether the message is a page in HTML, which no API writes: a firewall, a proxy."""
        return _PAGE.match(self.message) is not None

    @property
    def is_unreachable(self) -> bool:
        """Whether there was nobody to answer."""
        return not self.status and not self.timed_out

    def mentions(self, *names: str) -> bool:
        """Tell whether the message contains one of these names of parameters, as a whole word."""
        about = (rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])" for name in names)
        return any(re.search(name, self.message, re.IGNORECASE) for name in about)


class Rule(NamedTuple):
    """Which problems mean which failure.

    Attributes
    ----------
    kind : type
        The exception.
    says : str
        What its message says before it quotes the server; `{...}` are fields of the problem and
        of the access.
    names : collection of str
        Codes, types or reasons, of which one decides by itself.
    statuses : collection of int
        Statuses, of which one decides, together with `texts` where there are any.
    texts : pattern or None
        What the message contains.
    ends_run : bool
        Whether all other requests may fail alike.
    certain : bool
        Whether the server speaks of the account, so that they will.
    page : bool
        Whether the message is a page in HTML.
    """

    kind: type[BackendError]
    says: str
    names: Collection[str] = ()
    statuses: Collection[int] = ()
    texts: re.Pattern[str] | None = None
    ends_run: bool = False
    certain: bool = False
    page: bool = False

    def fits(self, problem: Problem) -> bool:
        """Tell whether this is what a problem means."""
        if not problem.names.isdisjoint(self.names):
            return True
        is_status = problem.status in self.statuses and (problem.is_page or not self.page)
        return is_status and (self.texts is None or bool(self.texts.search(problem.message)))


def _any_of(*texts: str) -> re.Pattern[str]:
    return re.compile("|".join(texts), re.IGNORECASE)


_PAGE = re.compile(r"\s*<(?:!doctype|\?xml|html|head|title|body|center|h1)\b", re.IGNORECASE)
_FILTERED = "a content filter declined this text"
_TOO_LONG = "the prompt is too long{by}"
_NO_MODEL = "no such model or address{hint}"
_UNPAID = "the account has no credit or quota left: add credit or raise its limit, then run again"
_BAD_KEY = "the key is refused; it comes from the environment variable {key_name}{unset}"

#: What problems mean, for all providers; the first rule that fits counts. Another provider's codes
#: are added to the rows.
RULES = (
    Rule(
        Refused,
        _FILTERED,
        names={
            *("content_filter", "content_policy_violation"),  # OpenAI, Mistral
            *("bio_policy", "misalignment_policy_violation"),
            "ResponsibleAIPolicyViolation",  # Azure
            "flagged_input",  # OpenRouter, with the status of a refused key
        },
        statuses=(400,),
        texts=_any_of("content[ _-]filter"),  # Anthropic
    ),
    Rule(
        ModelNotFound,
        _NO_MODEL,
        names={"model_not_found", "DeploymentNotFound", "invalid_model", "1500"},
        ends_run=True,
    ),
    Rule(
        ContextTooLong,
        _TOO_LONG,
        names={"context_length_exceeded", "exceed_context_size_error", "request_too_large"},
        statuses=(400, 413, 422),
        texts=_any_of(
            "context (?:length|size|window)",
            "maximum (?:model|input|prompt) length",
            "prompt is too long",
            "exceeds? (?:the )?context limit",
        ),
    ),
    Rule(ContextTooLong, _TOO_LONG, statuses=(413,)),
    Rule(
        UnreadableReply,
        "max_tokens left no room for an answer: allow more, or increase reasoning_budget if the "
        "model reasons before it answers",
        statuses=range(400, 600),
        texts=_any_of("output limit was reached"),
    ),
    Rule(
        RateLimited,
        _UNPAID,
        names={
            *("insufficient_quota", "billing_error"),
            *("contract_spend_limit_reached", "enforced_spend_limit_reached"),  # Anthropic
            "linked_organization_billing_unavailable",
            "linked_organization_spend_limit_reached",
        },
        statuses=(402,),
        ends_run=True,
        certain=True,
    ),
    Rule(
        RateLimited,
        _UNPAID,
        statuses=(400, 403, 429),
        texts=_any_of("credit balance is too low", "reached your specified .*usage limits"),
        ends_run=True,
        certain=True,
    ),
    Rule(
        BackendError,
        "status {status} with a page in HTML, as firewalls and proxies send: they may have blocked "
        "this text{hint}",
        statuses=(400, 401, 403, 405, 406, 418, 422, 451),
        ends_run=True,
        page=True,
    ),
    Rule(ModelNotFound, _NO_MODEL, statuses=(404,), ends_run=True),
    Rule(
        AuthenticationFailed,
        "the account is on hold",
        names={"organization_on_hold"},
        ends_run=True,
        certain=True,
    ),
    Rule(
        AuthenticationFailed,
        _BAD_KEY,
        names={"API_KEY_INVALID"},  # Google
        statuses=(401, 403),
        ends_run=True,
    ),
    Rule(
        AuthenticationFailed,
        _BAD_KEY,
        statuses=(400,),
        texts=_any_of("^API key not valid", "^Incorrect API key"),  # Google, xAI
        ends_run=True,
    ),
    Rule(
        RateLimited,
        "too many requests, also after every retry: lower max_concurrency or increase max_retries",
        names={"rate_limit_exceeded"},
        statuses=(429,),
    ),
    Rule(
        BackendUnavailable,
        "status {status} after every retry",
        statuses=(408, 409, 500, *range(502, 600)),  # 501 is a final word
    ),
    Rule(
        BackendUnavailable,
        "the server failed before it had answered",
        names={"server_error", "vector_store_timeout"},
    ),
    Rule(
        UnreadableReply, "the server sent no readable answer {access.hint}", statuses=range(1, 400)
    ),
)


def rule_of(problem: Problem) -> Rule | None:
    """Return the rule that fits a problem, or None."""
    return next((rule for rule in RULES if rule.fits(problem)), None)


def is_temporary(problem: Problem) -> bool:
    """Tell whether the same request may be answered a little later, so that it is sent again."""
    final = problem.status < 500 or problem.status == 501
    if final and problem.status not in (0, 408, 409, 429):
        return False
    rule = rule_of(problem)
    return rule is None or not rule.ends_run


def failure_of(problem: Problem, access: Access) -> BackendError | StopRunError:
    """Return what to raise for a problem that no retry and no other phrasing has solved."""
    where = access.public_address
    if problem.timed_out:
        return BackendUnavailable(
            f"no answer from {where} in time: increase timeout or lower max_concurrency"
        )
    if problem.is_unreachable:
        hint = ": is the server running?" if problem.nobody_there else ""
        return BackendUnavailable(f"no connection to {where} ({problem.message}){hint}")
    rule = rule_of(problem) or Rule(BackendError, "status {status}{code}")
    excess = _excess_tokens(problem) if rule.kind is ContextTooLong else None
    says = rule.says.format(
        status=problem.status,
        access=access,
        code=f" ({access.redact(problem.code)[:60]})" if problem.code else "",
        by=f" by {excess} tokens" if excess else "",
        # A server that gives a code has understood the address.
        hint="" if problem.code else f" {access.hint}",
        key_name=access.key_name,
        unset="" if access.key else ", which is not set: no key was sent",
    )
    said = f"{says}; {where} said: {problem.message}"
    failure = ContextTooLong(said, excess) if rule.kind is ContextTooLong else rule.kind(said)
    if not rule.ends_run:
        return failure
    alone = (
        f"status {problem.status} for this row, while others are answered with the same key, model "
        f"and address: its text may have been blocked; {where} said: {problem.message}"
    )
    return StopRunError(failure, certain=rule.certain, of_one_row=BackendError(alone))


# "8192 tokens" as a limit, and as the length of a prompt, in the words of several servers.
_LIMIT = _any_of(
    r"(?:context|model|input) (?:length|size|window)(?: is| of)?(?: only)?\W*(\d{1,9})",
    r"with (\d{1,9}) maximum context length",
)
_N_TOKENS = _any_of(
    r"(\d{1,9}) (?:input |prompt )?tokens", r"length (\d{1,9})", r"contains (\d{1,9})"
)
_ABOVE = re.compile(r"(\d{1,9})(?: tokens)?(?: \+ (\d{1,9}))? > (\d{1,9})")


def _excess_tokens(problem: Problem) -> int | None:
    """Tell by how many tokens a prompt is too long; None where it is not said."""
    n_tokens, n_ctx = (problem.fields.get(name) for name in ("n_prompt_tokens", "n_ctx"))
    if isinstance(n_tokens, int) and isinstance(n_ctx, int):
        return max(0, n_tokens - n_ctx + 1) or None  # llama.cpp needs room for a token to write
    text = problem.message.replace(",", "")
    if above := _ABOVE.search(text):  # "N tokens > M", "N + K > M"
        return int(above[1]) + int(above[2] or 0) - int(above[3])
    limit = _LIMIT.search(text)
    counts = [int(m[m.lastindex or 0]) for m in _N_TOKENS.finditer(text)]
    if limit is None or not counts:
        return None
    return max(0, max(counts) - int(limit[limit.lastindex or 0])) or None
