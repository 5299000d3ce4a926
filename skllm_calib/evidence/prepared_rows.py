"""PreparedRows: the rows of one call and the model that is to answer, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skllm_calib.evidence.asking import Row, RowRecord, ask_rows
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.estimating import CostEstimate, estimate_cost
from skllm_calib.evidence.explaining import explain_row
from skllm_calib.evidence.failures import check_usable, report_failures, report_off_label
from skllm_calib.evidence.money.budget import Amount
from skllm_calib.evidence.scoring import log_proba_of_records, score_rows
from skllm_calib.evidence.text_input import TextRows
from skllm_calib.exceptions import BackendError, InvalidInput
from skllm_calib.log_proba.scores import Explained, Scores

__all__ = ["PreparedRows"]

_UNSETTLED = "signal='auto' is not settled before fit: estimated for {!r}"


@dataclass(frozen=True, eq=False)
class PreparedRows:
    """Rows, and a model that is ready to answer. Made by :meth:`LLMClassifier.prepare_rows`.

    Attributes
    ----------
    model : BoundModel
        Answers; everything about it is settled.
    rows : TextRows
        The rows as texts.
    fitted : bool
        Whether ``fit`` has been called: what an unfitted classifier says depends on nothing that
        could be compared.
    """

    model: BoundModel
    rows: TextRows
    fitted: bool = True

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the probabilities will depend on, in plain values; None before ``fit``."""
        return self.model.fingerprint() if self.fitted else None

    def score(self) -> Scores:
        """Ask, and return log-probabilities and the model as served.

        Raises
        ------
        InvalidInput, BackendError
            For rows that cannot be used or answered, with ``on_error="raise"``.
        """
        check_usable(self.rows, self.model.on_error)
        n_rows = len(self.rows)
        log_proba, off_label, outcomes = score_rows(self.model, self.asked(), n_rows)
        report_failures(outcomes, self.model)
        report_off_label(outcomes)
        return Scores(log_proba, outcomes.served_model, off_label)

    def explain(self) -> Explained:
        """Ask, and return what is known of each row; the record of a failed row says why."""
        records = self._records()
        scores = log_proba_of_records(records, self.model)
        explained = [
            explain_row(record, row, self.model)
            for record, row in zip(records, scores, strict=True)
        ]
        return Explained(explained, next((r.model for r in records if r.model), None))

    def render(self) -> list[list[dict[str, str]]]:
        """Return the conversation about each row, and ask nothing."""
        return [
            [m._asdict() for m in self.model.question(fields).messages()] if fields else []
            for fields in self.rows.fields
        ]

    def estimate_cost(self) -> CostEstimate:
        """Return what asking about the rows will take and cost, and ask nothing."""
        notes = [] if self.model.signal_reason else [_UNSETTLED.format(self.model.signal.label)]
        return estimate_cost(self.model, [fields for fields in self.rows.fields if fields], notes)

    def check_budget_of_batch(self) -> None:
        """Raise BudgetExceeded if the budget does not allow what a batch of the rows may take."""
        if self.model.spending.budget is not None:
            most = self.estimate_cost()
            usd = most.usd_in_batch[1] if most.usd_in_batch is not None else 0.0
            amount = Amount(usd, most.prompt_tokens[1] + most.completion_tokens[1])
            self.model.meter().check(amount)

    def order_flip_rate(self, n_orders: int) -> float:
        """Ask in several orders of the options, and return how often the label changes."""
        reordered = replace(self, model=replace(self.model, n_orders=n_orders))
        answered = [r.evidence for r in reordered._records() if r.evidence is not None]
        if not answered:
            raise InvalidInput("no row could be answered, so there is nothing to compare", "X")
        return float(np.mean([evidence.details["order_flips"] > 0 for evidence in answered]))

    def _records(self) -> list[RowRecord]:
        return ask_rows(self.model, list(self.asked()))

    def asked(self) -> Iterator[Row]:
        """Yield the rows to ask about, and what is wrong with the others."""
        for i, fields in enumerate(self.rows.fields):
            yield fields or BackendError(self.rows.problems[i])
