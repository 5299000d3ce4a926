"""The table of failures: what every provider's errors mean, whoever reads them."""

from __future__ import annotations

import pytest

from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.evidence.backends.hosted.failures import (
    RULES,
    Problem,
    StopRunError,
    failure_of,
    is_temporary,
    rule_of,
)
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

ACCESS = Access("https://me:pw@host/v1/", "MY_KEY", "secret", "It ends in /v1")


def problem(status, message="it said so", *names):
    return Problem(status, message, code=next(iter(names), ""), names=frozenset(names))


# A problem for each rule, in the order of the table: kind, whether the run ends, what is said.
EXAMPLES = [
    (problem(403, "no", "flagged_input"), Refused, False, "content filter"),
    (problem(400, "no", "model_not_found"), ModelNotFound, True, "no such model"),
    (problem(400, "prompt is too long"), ContextTooLong, False, "too long"),
    (problem(413), ContextTooLong, False, "too long"),
    (problem(500, "the output limit was reached"), UnreadableReply, False, "reasoning_budget"),
    (problem(429, "pay", "insufficient_quota"), RateLimited, True, "no credit or quota"),
    (problem(403, "Your credit balance is too low"), RateLimited, True, "no credit or quota"),
    (problem(403, "<html>Blocked"), BackendError, True, "may have blocked this text"),
    (problem(404), ModelNotFound, True, "is base_url right? It ends in /v1"),
    (problem(400, "no", "organization_on_hold"), AuthenticationFailed, True, "on hold"),
    (problem(401), AuthenticationFailed, True, "MY_KEY; "),
    (problem(400, "API key not valid."), AuthenticationFailed, True, "MY_KEY; "),
    (problem(429), RateLimited, False, "lower max_concurrency or increase max_retries"),
    (problem(529), BackendUnavailable, False, "status 529 after every retry"),
    (problem(200, "died", "server_error"), BackendUnavailable, False, "before it had answered"),
    (problem(200, "broken JSON"), UnreadableReply, False, "no readable answer"),
]


@pytest.mark.parametrize(
    ("rule", "example"), zip(RULES, EXAMPLES, strict=True), ids=lambda x: str(x)[:40]
)
def test_every_rule_has_a_problem_that_it_decides(rule, example):
    problem, kind, ends_run, says = example
    assert rule_of(problem) is rule
    failure = failure_of(problem, ACCESS)
    assert isinstance(failure, StopRunError) == ends_run
    failure = failure.failure if ends_run else failure
    assert type(failure) is kind
    assert says in str(failure)
    assert f"https://host/v1 said: {problem.message}" in str(failure)
    assert "pw" not in str(failure)


@pytest.mark.parametrize(
    ("problem", "kind", "says"),
    [
        (problem(418), BackendError, "status 418"),
        (Problem(0, "late", timed_out=True), BackendUnavailable, "increase timeout or lower"),
        (Problem(0, "refused"), BackendUnavailable, "no connection to https://host/v1 (refused)"),
    ],
)
def test_problems_without_a_rule(problem, kind, says):
    failure = failure_of(problem, ACCESS)
    assert type(failure) is kind
    assert says in str(failure)


def test_a_server_that_knows_the_model_by_a_code_has_understood_the_address():
    assert "base_url" not in str(failure_of(problem(404, "no", "model_not_found"), ACCESS))


def test_a_key_that_is_not_set_is_told():
    failure = failure_of(problem(401), Access("https://host", "MY_KEY", None))
    assert "MY_KEY, which is not set: no key was sent" in str(failure)


@pytest.mark.parametrize("status", [0, 408, 409, 429, 500, 503, 529])
def test_what_may_pass_is_sent_again(status):
    assert is_temporary(problem(status))


@pytest.mark.parametrize(
    "final",
    [
        problem(400),
        problem(404),
        problem(501),
        problem(200),
        problem(429, "pay", "insufficient_quota"),
    ],
)
def test_what_will_not_pass_is_not_sent_again(final):
    assert not is_temporary(final)


@pytest.mark.parametrize(
    ("message", "fields", "excess"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", {}, 10_000),
        ("they exceed context limit: 188,240 + 21,333 > 200,000", {}, 9_573),
        ("maximum context length is 8,192 tokens; you sent 9,000 tokens", {}, 808),
        (
            "contains 66385 tokens, too large for model with 32768 maximum context length",
            {},
            33_617,
        ),
        ("the context size is not enough", {"n_prompt_tokens": 8031, "n_ctx": 2048}, 5_984),
        ("the context size is not enough", {}, None),
    ],
)
def test_by_how_much_a_prompt_is_too_long(message, fields, excess):
    failure = failure_of(Problem(400, message, fields=fields), ACCESS)
    assert isinstance(failure, ContextTooLong)
    assert failure.excess == excess
    assert (f"too long by {excess} tokens" in str(failure)) == (excess is not None)


def test_a_parameter_is_mentioned_as_a_whole_word():
    refusal = problem(400, "Unsupported parameter: 'max_tokens'")
    assert refusal.mentions("max_tokens")
    assert refusal.mentions("seed", "MAX_TOKENS")
    assert not refusal.mentions("tokens")
