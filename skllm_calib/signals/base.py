"""The protocol of a signal: which requests a prompt needs, and how replies become a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skllm_calib.backends.base import Message, Reply, Request

__all__ = ["Evidence", "Signal"]


@dataclass(frozen=True)
class Evidence:
    """What a signal makes of the replies about one row.

    Attributes
    ----------
    log_proba : ndarray of shape (n_classes,)
        Normalised natural log-probabilities, finite.
    off_label : float
        Probability that fell on no label, in [0, 1]; never mixed into `log_proba`.
    details : dict
        What to show in ``explain``.
    """

    log_proba: NDArray[np.float64]
    off_label: float
    details: dict[str, Any] = field(default_factory=dict)


class Signal(Protocol):
    """Turns a prompt into requests and replies into evidence; does no I/O of its own."""

    name: str

    def requests(self, messages: tuple[Message, ...], answers: tuple[str, ...]) -> list[Request]:
        """Return what must be asked about one row."""
        ...

    def reduce(self, answers: tuple[str, ...], replies: Sequence[Reply]) -> Evidence:
        """Turn the replies, in the order of the requests, into a row.

        Raises
        ------
        UnreadableReply
            If the replies say nothing of the labels: a failure, never a guess.
        """
        ...
