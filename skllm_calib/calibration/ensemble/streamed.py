"""The members of an ensemble and a stream of rows, which all of them are asked about in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.calibration.ensemble.pooling import pool
from skllm_calib.calibration.ensemble.prepared import fingerprint_of, joined_names
from skllm_calib.log_proba.numerics import Floats, floor_and_normalise
from skllm_calib.log_proba.scores import Scores, aligned
from skllm_calib.log_proba.streams import PreparedStream, ScoredBatch

__all__ = ["StreamedEnsemble"]


@dataclass(frozen=True, eq=False)
class StreamedEnsemble:
    """Fitted members that are ready to score a stream of rows.

    Attributes
    ----------
    members : dict of str to classifier
        The fitted members by name.
    streams : dict of str to PreparedStream
        The same with the rows.
    classes : ndarray of shape (n_classes,)
        The classes that they agree on.
    weights : ndarray of shape (n_members,)
        They sum to one; a member of weight zero is not asked.
    pooling : {"log", "linear"}
    fitted : bool
        Whether the ensemble has been fitted.
    """

    members: dict[str, Any]
    streams: dict[str, PreparedStream]
    classes: NDArray[Any]
    weights: Floats
    pooling: str
    fitted: bool

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the scores will depend on, in plain values; None before ``fit``."""
        if not self.fitted:
            return None
        known = {name: stream.fingerprint for name, stream in self.streams.items()}
        return fingerprint_of(self.members, known, self.pooling, self.weights)

    def batches(self, *, as_they_come: bool = False) -> Iterator[ScoredBatch]:
        """Yield the log-probabilities of the pool, row by row in their order."""
        names = [name for name, weight in zip(self.members, self.weights, strict=True) if weight]
        weights = self.weights[self.weights > 0]
        for batches in _in_step([self.streams[name].batches() for name in names]):
            scores = [
                aligned(Scores(b.log_proba), self.members[name].classes_, self.classes).log_proba
                for name, b in zip(names, batches, strict=True)
            ]
            log_proba = pool(
                np.stack(list(map(floor_and_normalise, scores))), weights, self.pooling
            )
            failed: dict[int, list[str]] = {}
            for name, batch in zip(names, batches, strict=True):
                for i, reason in batch.failures.items():
                    failed.setdefault(i, []).append(f"{name}: {reason}")
            served = joined_names(batch.served_model for batch in batches)
            yield ScoredBatch(log_proba, {i: "; ".join(f) for i, f in failed.items()}, served)


def _in_step(members: Sequence[Iterator[ScoredBatch]]) -> Iterator[list[ScoredBatch]]:
    """Yield batches of the same rows, one of each member."""
    held: list[ScoredBatch | None] = [None] * len(members)
    while True:
        for k, batches in enumerate(members):
            held[k] = held[k] or next(batches, None)
        whole = [batch for batch in held if batch is not None]
        if len(whole) < len(members):
            return
        n = min(len(batch.log_proba) for batch in whole)
        yield [_part(batch, 0, n) for batch in whole]
        held = [_part(batch, n, None) if len(batch.log_proba) > n else None for batch in whole]


def _part(batch: ScoredBatch, start: int, stop: int | None) -> ScoredBatch:
    log_proba = batch.log_proba[start:stop]
    inside = range(start, start + len(log_proba))
    failures = {i - start: reason for i, reason in batch.failures.items() if i in inside}
    return batch._replace(log_proba=log_proba, failures=failures)
