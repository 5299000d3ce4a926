"""Failures that were paid for, as text: a server answered, and asking again would cost again."""

from __future__ import annotations

import json

from skllm_calib.exceptions import BackendError, Refused, UnreadableReply

__all__ = ["KEPT", "PAID_MEANWHILE", "read_failure", "write_failure"]

KEPT = (
    "a failure of an earlier run that was kept: after clear_failures() of the cache the row is "
    "asked again"
)
PAID_MEANWHILE = "another worker asked at the same time and was charged for this failure"

_KINDS = {kind.__name__: kind for kind in (Refused, UnreadableReply)}


def write_failure(failure: BackendError) -> str:
    """Serialise a failure."""
    return json.dumps([type(failure).__name__, str(failure)])


def read_failure(text: str, note: str = KEPT) -> BackendError | None:
    """Return the failure with a note, or None if the text is damaged: the row is then asked."""
    try:
        kind, said = json.loads(text)
        failure: BackendError = _KINDS[kind](f"{said} ({note})")
    except (KeyError, RecursionError, TypeError, ValueError):
        return None
    failure.is_billed = True
    return failure
