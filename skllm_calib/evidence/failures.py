"""What becomes of rows that cannot be used, were not answered, or hardly say anything of labels."""

from __future__ import annotations

import copy
import math
import warnings
from typing import NoReturn

from skllm_calib.evidence.asking import RowRecord
from skllm_calib.evidence.backends.base import AnswerForm
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.text_input import TextRows
from skllm_calib.exceptions import (
    BackendError,
    FailedRowsWarning,
    InvalidInput,
    OffLabelWarning,
)
from skllm_calib.log_proba.parameters import check_fraction

__all__ = [
    "Outcomes",
    "check_usable",
    "raise_failure",
    "report_failures",
    "report_off_label",
    "resolve_max_off_label",
    "unusable",
]

# Of models that are asked for keys, and for words, as measured: see LLMClassifier.
_MAX_OFF_LABEL = {"keys": 0.8, "words": 0.95}
# A mean share from which on a user is told that the question does not suit the model.
_LARGE = 0.7


def resolve_max_off_label(value: object, form: AnswerForm) -> float:
    """Return the largest share of the evidence that may fall on no label."""
    if isinstance(value, str) and value == "auto":
        return _MAX_OFF_LABEL[form]
    return check_fraction(value, "max_off_label", include="both", hint="or 'auto'")


def check_usable(rows: TextRows, on_error: str) -> None:
    """Raise InvalidInput if a row has no text, unless such rows are to be NaN."""
    if rows.problems and on_error == "raise":
        row, problem = next(iter(rows.problems.items()))
        n = len(rows.problems)
        raise unusable(row, problem, f" ({n} such rows in all)" if n > 1 else "")


def unusable(row: int, problem: str, others: str = "") -> InvalidInput:
    """Return the error of a row that cannot be used."""
    return InvalidInput(
        f"X cannot be used: {problem}{others}. Remove it, or pass on_error='nan' to get NaN for "
        "such rows",
        "X",
        row,
        way_out="on_error",
    )


class Outcomes:
    """What became of rows, counted without keeping their records.

    Attributes
    ----------
    n_rows : int
    served_model : str or None
        The model that answered the first row that was answered, as its provider names it.
    """

    def __init__(self) -> None:
        self.n_rows = self.n_failed = self.n_answered = 0
        self.first_failed: tuple[int, BackendError] | None = None
        self.sum_off_label = self.max_off_label = 0.0
        self.served_model: str | None = None
        self._first_served = math.inf

    def add(self, position: int, record: RowRecord) -> None:
        """Count a row."""
        self.n_rows += 1
        if record.failure is not None:
            self.n_failed += 1
            if self.first_failed is None or position < self.first_failed[0]:
                self.first_failed = position, record.failure
        if record.evidence is not None:
            self.n_answered += 1
            self.sum_off_label += record.evidence.off_label
            self.max_off_label = max(self.max_off_label, record.evidence.off_label)
        if position < self._first_served and record.model:
            self.served_model, self._first_served = record.model, position


def report_off_label(outcomes: Outcomes) -> None:
    """Warn where much of the evidence of all rows that were answered fell on no label."""
    n = outcomes.n_answered
    if n and (mean := outcomes.sum_off_label / n) > _LARGE:
        # The line of the user's code that called predict_log_proba
        warnings.warn(
            f"{mean:.0%} of the evidence, on average over {n} rows, fell on no label "
            f"({outcomes.max_off_label:.0%} at most): the probabilities compare what is left. "
            "explain shows what the model would write; ask for the bare label in the prompt",
            OffLabelWarning,
            stacklevel=4,
        )


def report_failures(outcomes: Outcomes, model: BoundModel) -> None:
    """Raise the error of the first failed row, or warn of it, as `on_error` of the model says."""
    if outcomes.first_failed is None:
        return
    i, failure = outcomes.first_failed
    story = f"{outcomes.n_failed} of {outcomes.n_rows} rows failed; the first is row {i}: {failure}"
    if model.on_error == "nan":
        # The line of the user's code that called predict_log_proba
        warnings.warn(f"{story}. They are NaN", FailedRowsWarning, stacklevel=4)
        return
    raise_failure(failure, story, model)


def raise_failure(failure: BackendError, story: str, model: BoundModel) -> NoReturn:
    """Raise the failure of a row, with a story that says which."""
    kept = "" if model.cache is None else " The replies to the others are kept."
    error = copy.copy(failure)  # of the same type, with what else it knows
    error.way_out = "on_error"
    error.args = (f"{story}.{kept} Pass on_error='nan' to get NaN for rows that fail",)
    raise error from failure
