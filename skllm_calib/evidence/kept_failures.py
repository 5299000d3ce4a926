"""Failures that were paid for, as text: a server answered, and asking again would cost again."""

from __future__ import annotations

import json

from skllm_calib.exceptions import BackendError, Refused, UnreadableReply

__all__ = ["read_failure", "write_failure"]

_KINDS = {kind.__name__: kind for kind in (Refused, UnreadableReply)}


def write_failure(failure: BackendError) -> str:
    """Serialise a failure."""
    return json.dumps([type(failure).__name__, str(failure)])


def read_failure(text: str) -> BackendError | None:
    """Return the failure, or None if the text is damaged; then the row is asked again."""
    try:
        kind, said = json.loads(text)
        failure: BackendError = _KINDS[kind](
            f"{said} (a failure of an earlier run that was kept: after clear_failures() of the "
            "cache the row is asked again)"
        )
    except (KeyError, TypeError, ValueError):
        return None
    failure.is_billed = True
    return failure
