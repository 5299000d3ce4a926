"""The decision endpoint: a probability for each of the options, asked for as such."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import openai

from skllm_calib.backends._openai_answer import Tally, first
from skllm_calib.backends._openai_chat import Line, Outcome
from skllm_calib.backends._openai_dialect import Dialect
from skllm_calib.backends._openai_errors import Problem, no_decisions
from skllm_calib.backends.base import Choice, Reply, Request
from skllm_calib.exceptions import Refused, SignalUnavailable, UnreadableReply

__all__ = ["Decisions"]

_FEWEST, _MOST = 2, 255
# The turns say what the options are about; this only says what to do with them.
_INSTRUCTIONS = "Choose the option that answers the last message."
_OTHER_MODEL = re.compile(
    r"\bmodel\b.*\bnot\b.*\bsupport|\bonly\b.*\bsupport|unsupported model", re.I
)


class Decisions:
    """Asks one model for decisions; many threads may do so at once.

    Parameters
    ----------
    line : Line
        Where to send.
    dialect : Dialect
        What is known of the model behind that address.
    model : str
    extra_body : mapping
        As in the backend.
    """

    def __init__(
        self, line: Line, dialect: Dialect, *, model: str, extra_body: Mapping[str, Any]
    ) -> None:
        self._line = line
        self._dialect = dialect
        self._model = model
        self._extra_body = extra_body

    def read(self, request: Request, tally: Tally) -> Reply:
        """Return the probability of each choice, and the choice as text.

        Parameters
        ----------
        request : Request
            With choices.
        tally : Tally
            Where the call is counted.

        Returns
        -------
        Reply
            Without what the tally counts.
        """
        _check(request.choices)
        outcome = self._ask(request)
        if outcome.failure is not None:
            if outcome.problem is not None and (why := _why_none(outcome.problem)):
                raise self._none(why)
            raise self._line.fail(outcome.failure)
        self._dialect.decides = True
        n_reasoning = tally.add(outcome.reply)
        answer = self._answer_in(outcome.reply)
        notes: tuple[str, ...] = ()
        if n_reasoning:
            notes = (
                f"{n_reasoning} tokens of hidden reasoning came before the answer; they are no "
                "evidence of how sure the model is",
            )
        decision = _probabilities(answer, request.choices)
        return Reply(str(first(answer, "choice") or ""), decision=decision, notes=notes)

    def _ask(self, request: Request) -> Outcome:
        known = self._dialect
        if known.no_decisions is not None:
            raise self._none(known.no_decisions)
        if not hasattr(self._line.client, "decisions"):
            raise self._none(
                f"the installed openai {openai.__version__} cannot ask for decisions, 3.54.0 can: "
                "pip install --upgrade openai"
            )
        body: dict[str, Any] = {
            "model": self._model,
            "input": [
                {"type": "message", "role": m.role, "content": m.content} for m in request.messages
            ],
            "questions": [
                {
                    "type": "choice",
                    "instructions": _INSTRUCTIONS,
                    "choices": [_written(choice) for choice in request.choices],
                }
            ],
        }

        def create(client: Any) -> Any:
            return client.decisions.create(**body, extra_body=self._extra_body or None)

        if not known.decides:
            # The SDK waits and tries again after status 501, which here is a final word.
            outcome = self._line.send(create, once=True)
            problem = outcome.problem
            is_final = outcome.failure is None or (problem and _why_none(problem))
            if is_final or not self._line.client.max_retries:
                return outcome
        return self._line.send(create)

    def _none(self, why: str) -> Exception:
        self._dialect.no_decisions = why
        return self._line.stop_with(no_decisions(self._model, why))

    def _answer_in(self, reply: Any) -> Any:
        answers = getattr(reply, "answers", None)
        where = self._line.access.public_address
        if not answers:
            raise UnreadableReply(f"{where} sent no decision (is 'base_url' right?)")
        kind = first(answers[0], "type")
        if kind == "refusal":
            raise Refused(f"the model {self._model!r} declined to decide")
        if kind != "choice":
            raise UnreadableReply(f"{where} answered a choice with {kind!r}")
        return answers[0]


def _check(choices: Sequence[Choice]) -> None:
    n = len(choices)
    if not _FEWEST <= n <= _MOST:
        raise SignalUnavailable(
            f"a decision is between {_FEWEST} and {_MOST} options, not {n}, so signal='decisions' "
            "cannot work with these classes; signal='logprobs' takes any number of them"
        )
    if len({choice.value for choice in choices}) < n:
        raise SignalUnavailable("two options of a decision have the same value: they must differ")


def _written(choice: Choice) -> dict[str, str]:
    described = {"description": choice.description} if choice.description else {}
    return {"value": choice.value, **described}


def _why_none(problem: Problem) -> str:
    """Tell why there are no decisions to be had, "" where the problem is another."""
    if problem.status in (404, 405, 501):
        return f"status {problem.status}: {problem.message}"
    if problem.status not in (400, 422) or problem.param not in ("", "model"):
        return ""
    is_model = problem.param == "model" or _OTHER_MODEL.search(problem.message)
    return problem.message if is_model else ""


def _probabilities(answer: Any, choices: Sequence[Choice]) -> tuple[float, ...]:
    """Return what the answer gives to each choice; what it does not name has nothing."""
    given: dict[str, float] = {}
    for entry in first(answer, "probabilities") or []:
        value, p = first(entry, "value"), first(entry, "probability") or 0.0
        # A value may also be true or false, which no text is.
        if isinstance(value, str):
            if not isinstance(p, int | float) or not math.isfinite(p) or p < 0:
                raise UnreadableReply(f"the server gave {value!r} the probability {p!r}")
            given[value] = float(p)
    found = tuple(given.get(choice.value, 0.0) for choice in choices)
    if not any(found):
        raise UnreadableReply("the server gave no option of the decision a probability")
    return found
