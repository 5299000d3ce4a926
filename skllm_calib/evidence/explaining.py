"""From the record of a row to what ``explain`` shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.asking import RowRecord
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.money.spending import usage_of_answer

__all__ = ["explain_row"]


def explain_row(
    record: RowRecord, log_proba: NDArray[np.float64], model: BoundModel
) -> dict[str, Any]:
    """Return all that is known of a row, in plain values.

    Parameters
    ----------
    record : RowRecord
    log_proba : ndarray of shape (n_classes,)
        The row's log-probabilities after every correction; NaN for a failed row.
    model : BoundModel
        What was asked, and how the replies were read.
    """
    labels = model.classes
    out: dict[str, Any] = {"label": None, "probability": None, "log_proba": None}
    if record.evidence is not None:
        best = int(log_proba.argmax())
        out |= {
            "label": labels[best],
            "probability": float(np.exp(log_proba[best])),
            "log_proba": dict(zip(labels, log_proba.tolist(), strict=True)),
            "off_label": record.evidence.off_label,
            **_by_label(record.evidence.details, labels),
        }
    first = record.replies[0] if record.replies else None
    out |= {
        "signal": model.signal.label,
        "signal_reason": model.signal_reason,
        "answers": dict(zip(labels, model.prompt.answers, strict=True)),
        "model": record.model,
        "fingerprint": first.fingerprint if first else None,
        "notes": list(dict.fromkeys(note for reply in record.replies for note in reply.notes)),
        "n_requests": len(record.replies),
        "prompt_tokens": sum(reply.prompt_tokens for reply in record.replies),
        "completion_tokens": sum(reply.completion_tokens for reply in record.replies),
        "reasoning_tokens": sum(reply.reasoning_tokens for reply in record.replies),
        "usd": _cost(record, model),
        "cached": record.usage.n_cache_hits > 0,
        "failure": str(record.failure) if record.failure is not None else None,
    }
    if model.label_bias is not None:
        out["label_bias"] = dict(zip(labels, model.label_bias.tolist(), strict=True))
    return out


def _cost(record: RowRecord, model: BoundModel) -> float | None:
    """Return what the replies cost when they were paid for, None where no price is known."""
    if model.price is None:
        return None
    return sum(usage_of_answer(reply, model.price).usd for reply in record.replies)


def _by_label(value: Any, labels: Sequence[Any]) -> Any:
    """Replace arrays, which hold one number per class, by dicts, also deep inside."""
    if isinstance(value, np.ndarray):
        return dict(zip(labels, value.tolist(), strict=True))
    if isinstance(value, dict):
        return {name: _by_label(inner, labels) for name, inner in value.items()}
    return value
