"""Whose failure it is: that of one row, or that of every row, which ends the run.

A refused key, a missing address, a model without log-probabilities make every row fail, and the
sooner a run ends the better. But a firewall may answer one text as if the key were refused, one
text may make a model think, and one of a gateway's servers may leave the log-probabilities out. So
nothing that one row shows ends a run: a second row has to show the same, or a harmless text. What
a server says of the account itself (no credit) is the one exception.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial

from skllm_calib.evidence.backends.base import Message, Reply, Request
from skllm_calib.evidence.backends.hosted.facts import ModelFacts, row_of
from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.exceptions import BackendError

__all__ = ["RunSwitch", "Verdicts"]

_HARMLESS = (Message("user", "Hello"),)
# After so many rows in a row that failed, although others were answered before, a harmless text
# tells whether the key was revoked, or the model replaced, in the meantime.
_MANY = 16


class RunSwitch:
    """What all threads of a run know: whether it makes sense to go on."""

    def __init__(self) -> None:
        self._stop: StopRunError | None = None

    def check(self) -> None:
        """Raise if another row found out that none can be answered."""
        if self._stop is not None:
            raise self._stop

    def end(self, stop: StopRunError) -> None:
        """Let no further request be sent in this run."""
        self._stop = stop


class Verdicts:
    """Answers the requests of one run, and says whose failure it is when one cannot be answered.

    Parameters
    ----------
    run : RunSwitch
        Ended when no row can be answered.
    facts : ModelFacts
        What is known of the model.
    """

    def __init__(self, run: RunSwitch, facts: ModelFacts) -> None:
        self._run = run
        self._facts = facts
        self._has_answered = False
        self._n_lost = 0  # since the last answer

    def answer(self, kind: Hashable, answer: Callable[[Request], Reply], request: Request) -> Reply:
        """Answer a request; the first ones of their kind alone.

        Parameters
        ----------
        kind : hashable
            Requests of one kind are answered, or not, for the same reasons.
        answer : callable
            Sends a request.
        request : Request

        Raises
        ------
        BackendError
            If this row cannot be answered.
        StopRunError
            If no row can.
        """
        self._run.check()
        return self._facts.first_alone(kind, partial(self._judged, kind, answer), request)

    def _judged(
        self, kind: Hashable, answer: Callable[[Request], Reply], request: Request
    ) -> Reply:
        self._run.check()
        try:
            reply = answer(request)
        except StopRunError as error:
            stop = error
        else:
            self._facts.answered.add(kind)
            self._has_answered, self._n_lost = True, 0
            return reply
        # Outside of the handler, so that the failure drags no other exception along.
        with self._facts.lock:
            self._run.check()  # another row may have settled it meanwhile
            if self._is_true_of_all(kind, answer, request, stop):
                self._run.end(stop)
                raise stop
        raise stop.of_one_row if self._has_answered else stop.failure

    def _is_true_of_all(
        self,
        kind: Hashable,
        answer: Callable[[Request], Reply],
        request: Request,
        stop: StopRunError,
    ) -> bool:
        if stop.certain:
            return True
        what = stop.shown_by_rows
        if what and kind not in self._facts.answered:
            self._facts.note(what, row_of(request))
            return self._facts.is_known(what)
        self._n_lost += 1
        if (self._has_answered or what) and self._n_lost % _MANY:
            return False
        return self._fails_alike(answer, request, stop)

    def _fails_alike(
        self, answer: Callable[[Request], Reply], request: Request, stop: StopRunError
    ) -> bool:
        """Tell whether a harmless text fails for the same reason."""
        try:
            answer(replace(request, messages=_HARMLESS, draw=0, subject=""))
        except StopRunError as other:
            return type(other.failure) is type(stop.failure)
        except BackendError:
            return False
        self._has_answered = True
        return False
