"""What becomes of rows that cannot be used, were not answered, or hardly say anything of labels."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

from skllm_calib.evidence.asking import RowRecord
from skllm_calib.evidence.backends.base import AnswerForm
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.text_input import TextRows
from skllm_calib.exceptions import FailedRowsWarning, InvalidInput, OffLabelWarning
from skllm_calib.log_proba.parameters import check_fraction

__all__ = ["check_usable", "report_failures", "report_off_label", "resolve_max_off_label"]

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
        others = f" ({n} such rows in all)" if n > 1 else ""
        raise InvalidInput(
            f"X cannot be used: {problem}{others}. Remove it, or pass on_error='nan' to get NaN "
            "for such rows",
            "X",
            row,
            way_out="on_error",
        )


def report_off_label(records: Sequence[RowRecord]) -> None:
    """Warn where much of the evidence of all rows that were answered fell on no label."""
    shares = [record.evidence.off_label for record in records if record.evidence is not None]
    if shares and (mean := sum(shares) / len(shares)) > _LARGE:
        # The line of the user's code that called predict_log_proba
        warnings.warn(
            f"{mean:.0%} of the evidence, on average over {len(shares)} rows, fell on no label "
            f"({max(shares):.0%} at most): the probabilities compare what is left. explain shows "
            "what the model would write; ask for the bare label in the prompt",
            OffLabelWarning,
            stacklevel=4,
        )


def report_failures(
    records: Sequence[RowRecord], model: BoundModel, positions: Sequence[int] | None = None
) -> None:
    """Raise the error of the first failed row, or warn of it.

    Parameters
    ----------
    records : sequence of RowRecord
    model : BoundModel
        Its `on_error` decides.
    positions : sequence of int or None, default=None
        Position of each row in `X`; None if the records are those of all rows.
    """
    numbered = zip(positions or range(len(records)), records, strict=True)
    failed = [(i, record.failure) for i, record in numbered if record.failure is not None]
    if not failed:
        return
    i, failure = failed[0]
    story = f"{len(failed)} of {len(records)} rows failed; the first is row {i}: {failure}"
    if model.on_error == "nan":
        # The line of the user's code that called predict_log_proba
        warnings.warn(f"{story}. They are NaN", FailedRowsWarning, stacklevel=4)
        return
    kept = "" if model.cache is None else " The replies to the others are kept."
    error = copy.copy(failure)  # of the same type, with what else it knows
    error.way_out = "on_error"
    error.args = (f"{story}.{kept} Pass on_error='nan' to get NaN for rows that fail",)
    raise error from failure
