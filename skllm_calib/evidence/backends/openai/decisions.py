"""Decisions: a probability for each option, from an endpoint made for that.

OpenAI has an endpoint of its own for them. Decision models elsewhere (llama.cpp, Ollama and others)
are called in the System One format, which is tried where there is no such endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import Choice, Reply, Request
from skllm_calib.evidence.backends.hosted.answer import Usage, first
from skllm_calib.evidence.backends.hosted.failures import (
    Problem,
    StopRunError,
    is_temporary,
)
from skllm_calib.evidence.backends.openai.connection import OpenAIConnection
from skllm_calib.evidence.backends.openai.dialect import OpenAIDialect
from skllm_calib.evidence.backends.openai.systemone import (
    INSTRUCTIONS,
    decision_of,
    read_systemone,
    systemone_body,
)
from skllm_calib.exceptions import Refused, SignalUnavailable, UnreadableReply

__all__ = ["Decisions"]

NO_DECISIONS = "no decisions"
_FEWEST, _MOST = 2, 255  # in both formats
_N_SHOWN = 200  # characters of a page that an error shows
_OTHER_MODEL = re.compile(
    r"\bmodel\b.*\bnot\b.*\bsupport|\bonly\b.*\bsupport|unsupported model|"
    r"\bnot support system ?one",
    re.I,
)


class Decisions:
    """Requests decisions of one model; many threads may do so at once.

    Parameters
    ----------
    connection : OpenAIConnection
        Where to send.
    dialect : OpenAIDialect
        What is known of the model behind that address.
    model : str
    extra_body : mapping
        As in the backend.
    """

    def __init__(
        self,
        connection: OpenAIConnection,
        dialect: OpenAIDialect,
        *,
        model: str,
        extra_body: Mapping[str, Any],
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._model = model
        self._extra_body = extra_body

    def read(self, request: Request, usage: Usage) -> Reply:
        """Return the probability of each choice, and the choice as text.

        Until a decision was read, both forms are tried, whatever the first address answers:
        gateways answer as they like where they have nothing.

        Parameters
        ----------
        request : Request
            With choices.
        usage : Usage
            Where the call is counted.

        Returns
        -------
        Reply
            Without what `usage` counts.
        """
        _check(request.choices)
        known = self._dialect
        if known.no_decisions is not None and known.is_known(NO_DECISIONS):
            raise self._none(known.no_decisions)
        met: list[Problem | UnreadableReply] = []
        for form in self._forms():
            found = self._ask(form, request, usage, met)
            if isinstance(found, Reply):
                known.decision_path, known.decides = form.path, True
                return found
            met.append(found)
            if isinstance(found, Problem) and found.is_unreachable:
                break
        # What the server says of an address that is there tells more than that another is not.
        told = next((problem for problem in met if not _is_absent(problem)), met[-1])
        if isinstance(told, UnreadableReply):
            raise told
        if not (why := _why_none(told)):
            raise self._connection.failure_of(told)
        known.no_decisions = why
        raise self._none(why)

    def _none(self, why: str) -> StopRunError:
        return StopRunError(
            SignalUnavailable(
                f"the model {self._model!r} has no decision endpoint here ({why}), "
                "so signal='decisions' cannot work with it. signal='logprobs' works where a model "
                "shows log-probabilities, signal='self_reported' and signal='self_consistency' "
                "with every model."
            ),
            shown_by_rows=NO_DECISIONS,
        )

    def _forms(self) -> list[_Form]:
        """Return the forms to try: the one that was understood, or else all of them."""
        known = self._dialect
        return [_FORMS[known.decision_path]] if known.decides else list(_FORMS.values())

    def _ask(
        self, form: _Form, request: Request, usage: Usage, met: Sequence[Problem | UnreadableReply]
    ) -> Reply | Problem | UnreadableReply:
        """Request a decision in one form, after what was met in others."""
        reply = self._send(form, request, met)
        if isinstance(reply, Problem):
            return reply
        if isinstance(reply, str):  # where JSON was due: a page for whatever address is not known
            return Problem(200, self._connection.access.redact(reply)[:_N_SHOWN])

        def read(reply: Any) -> Reply:
            n_reasoning = usage.add(reply)
            if not first(reply, "answers"):
                access = self._connection.access
                raise UnreadableReply(f"{access.public_address} sent no decision {access.hint}")
            notes: tuple[str, ...] = ()
            if n_reasoning:
                notes = (
                    f"{n_reasoning} tokens of hidden reasoning came before the answer; they are no "
                    "evidence of how sure the model is",
                )
            found = form.read(reply, request.choices)
            return Reply(found.text, decision=found.decision, notes=notes)

        try:
            return self._connection.read(read, reply)
        except UnreadableReply as failure:
            return failure.with_traceback(None)

    def _send(
        self, form: _Form, request: Request, met: Sequence[Problem | UnreadableReply]
    ) -> Any | Problem:
        body = {"model": self._model, **form.body(request), **self._extra_body}
        if self._dialect.decides:
            return self._connection.send(form.path, body)
        # Retries were used up on the first address; status 501 is a final word.
        tired = any(isinstance(problem, Problem) and is_temporary(problem) for problem in met)
        return self._connection.send(form.path, body, is_final=lambda p: tired or _why_none(p))


class _Form(NamedTuple):
    """A way of requesting decisions: where, how, and how to read the answer."""

    path: str
    body: Callable[[Request], dict[str, Any]]
    read: Callable[[Any, Sequence[Choice]], Reply]


def _decision_body(request: Request) -> dict[str, Any]:
    return {
        "input": [{"type": "message", **message._asdict()} for message in request.messages],
        "questions": [
            {
                "type": "choice",
                "instructions": INSTRUCTIONS,
                "choices": [_written(choice) for choice in request.choices],
            }
        ],
    }


def _written(choice: Choice) -> dict[str, str]:
    described = {"description": choice.description} if choice.description else {}
    return {"value": choice.value, **described}


def _read_decision(reply: Mapping[str, Any], choices: Sequence[Choice]) -> Reply:
    answer = reply["answers"][0]
    if (kind := answer["type"]) == "refusal":
        raise Refused("the model declined to decide")
    if kind != "choice":
        raise UnreadableReply(f"the server answered a choice with {kind!r}")
    listed = answer.get("probabilities") or []
    stated: dict[Any, Any] = {}
    for option in listed:
        # A value may also be true or false, which no text is.
        value, p = option["value"], option.get("probability")
        if value in stated and stated[value] != p:
            raise UnreadableReply(f"the server gave {value!r:.60} two probabilities")
        stated[value] = p
    return Reply(str(answer.get("choice") or ""), decision=decision_of(stated, choices))


_FORMS = {
    form.path: form
    for form in (
        _Form("/decisions", _decision_body, _read_decision),
        _Form("/systemone", systemone_body, read_systemone),
    )
}


def _check(choices: Sequence[Choice]) -> None:
    n = len(choices)
    if not _FEWEST <= n <= _MOST:
        raise SignalUnavailable(
            f"a decision is between {_FEWEST} and {_MOST} options, not {n}, so signal='decisions' "
            "cannot work with these classes; signal='logprobs' takes any number of them"
        )
    if len({choice.value for choice in choices}) < n:
        raise SignalUnavailable("two options of a decision have the same value: they must differ")


def _why_none(problem: Problem) -> str:
    """Tell why there are no decisions, "" where the problem is another."""
    if problem.status in (404, 405, 501):
        return f"status {problem.status}: {problem.message}"
    if problem.status not in (400, 422) or problem.params not in ((), ("model",)):
        return ""
    is_model = problem.params or _OTHER_MODEL.search(problem.message)
    return problem.message if is_model else ""


def _is_absent(problem: Problem | UnreadableReply) -> bool:
    """Tell whether an address is not there, rather than the model behind it."""
    if isinstance(problem, UnreadableReply):
        return False
    return problem.status in (404, 405) and problem.code != "model_not_found"
