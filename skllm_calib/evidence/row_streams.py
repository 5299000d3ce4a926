"""StreamedRows: rows that come one after the other, and the model that is to answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from skllm_calib.evidence.asking import Done, Row, RowRecord, ask_in_batches
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.failures import (
    Outcomes,
    raise_failure,
    report_failures,
    report_off_label,
    unusable,
)
from skllm_calib.evidence.scoring import log_proba_of_records
from skllm_calib.evidence.text_input import TextRows, read_texts
from skllm_calib.exceptions import BackendError, InvalidInput
from skllm_calib.log_proba.label_arrays import is_missing
from skllm_calib.log_proba.streams import ScoredBatch

__all__ = ["StreamedRows", "read_pieces"]

Pieces = Iterator[TextRows]


def read_pieces(X: Iterable[Any], estimator: Any, **how: bool) -> tuple[tuple[str, ...], Pieces]:
    """Read the first rows of a stream; return the names of its columns, and what yields all rows.

    Parameters
    ----------
    X : iterable
        Yields texts, dicts or pieces of many rows.
    estimator, **how
        As for :func:`~skllm_calib.evidence.text_input.read_texts`.
    """
    if isinstance(X, str | bytes):
        raise InvalidInput("X is one text: pass an iterable of texts, such as [text]", "X", value=X)
    if not isinstance(X, Iterable):
        raise InvalidInput(f"X={X!r}: pass an iterable of rows, such as [text]", "X", value=X)
    columns: tuple[str, ...] = ()

    def read() -> Iterator[TextRows]:
        for item in X:
            rows = item
            if isinstance(item, dict) and item.keys() == set(columns):
                rows = [{name: item[name] for name in columns}]
            elif isinstance(item, str | bytes | dict) or is_missing(item):
                rows = [item]
            elif not hasattr(item, "__len__"):
                raise InvalidInput(
                    f"X yields {item!r}: pass texts, rows (dict), or pieces such as lists, arrays "
                    "or DataFrames",
                    "X",
                    value=item,
                )
            if len(rows) > 0:  # tables have no truth value
                yield read_texts(rows, estimator, **how)

    pieces = read()
    if (first := next(pieces, None)) is None:
        return columns, pieces
    columns = first.columns
    return columns, chain([first], pieces)


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """A stream of rows, and a model that is ready to answer.

    Attributes
    ----------
    model : BoundModel
        Answers; everything about it is settled.
    pieces : iterator of TextRows
        The rows as texts, of the columns of the model.
    n_ahead : int
        How many rows may be begun from the first on that is not done.
    fitted : bool
        Whether ``fit`` has been called.
    """

    model: BoundModel
    pieces: Pieces
    n_ahead: int
    fitted: bool

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the probabilities will depend on, in plain values; None before ``fit``."""
        return self.model.fingerprint() if self.fitted else None

    def batches(self, *, as_they_come: bool = False) -> Iterator[ScoredBatch]:
        """Ask, and yield the scores of all rows, in their order or as they come.

        Raises
        ------
        InvalidInput, BackendError
            With ``on_error="raise"``, for the first row that cannot be used or answered, once those
            before it were yielded; not where all are to be yielded as they come.
        """
        outcomes, problems = Outcomes(), dict[int, str]()
        n_ahead = None if as_they_come else self.n_ahead
        found = ask_in_batches(self.model, self._rows(problems), n_ahead=n_ahead)
        with closing(found):
            for batch in found if as_they_come else _consecutive(found):
                failed = None
                if self.model.on_error == "raise" and not as_they_come:
                    failed = next((k for k, (_, r) in enumerate(batch) if r.failure), None)
                for i, record in batch[:failed]:
                    outcomes.add(i, record)
                if batch[:failed]:
                    yield self._batch(batch[:failed], outcomes)
                if failed is not None:
                    self._raise(*batch[failed], problems)
        if not as_they_come:
            report_failures(outcomes, self.model)
            report_off_label(outcomes)

    def _rows(self, problems: dict[int, str]) -> Iterator[Row]:
        """Yield the rows, and note what is wrong with one."""
        n = 0
        for piece in self.pieces:
            if piece.columns != self.model.columns:
                raise InvalidInput(
                    f"row {n} has the columns {piece.columns}, and those before it have "
                    f"{self.model.columns}: X must hold rows of one kind",
                    "X",
                    n,
                )
            for i, fields in enumerate(piece.fields):
                problem = piece.problems.get(i)
                if problem is None:
                    yield fields
                else:
                    problem = problem.replace(f"row {i} ", f"row {n} ", 1)
                    if self.model.on_error == "raise":
                        problems[n] = problem
                    yield BackendError(problem)
                n += 1

    def _batch(self, done: list[Done], outcomes: Outcomes) -> ScoredBatch:
        positions, records = [i for i, _ in done], [record for _, record in done]
        failed = {k: str(r.failure) for k, r in enumerate(records) if r.failure is not None}
        log_proba = log_proba_of_records(records, self.model)
        return ScoredBatch(log_proba, failed, outcomes.served_model, positions)

    def _raise(self, i: int, record: RowRecord, problems: dict[int, str]) -> None:
        if i in problems:
            raise unusable(i, problems[i])
        assert record.failure is not None
        raise_failure(record.failure, f"row {i} failed: {record.failure}", self.model)


def _consecutive(batches: Iterator[list[Done]]) -> Iterator[list[Done]]:
    """Yield rows in their order."""
    later: dict[int, RowRecord] = {}
    n = 0
    for batch in batches:
        later.update(batch)
        ready = []
        while n in later:
            ready.append((n, later.pop(n)))
            n += 1
        if ready:
            yield ready
