"""The members of an ensemble and the rows of one call, before any of them is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.calibration.ensemble.members import common_classes, each
from skllm_calib.calibration.ensemble.pooling import pool, split_uncertainty
from skllm_calib.log_proba.numerics import Floats, floor_and_normalise
from skllm_calib.log_proba.scores import Explained, Prepared, Scores, aligned, prepare_rows
from skllm_calib.utils.progress import stage

__all__ = ["PreparedEnsemble", "fingerprint_of", "joined_names"]


@dataclass(frozen=True, eq=False)
class PreparedEnsemble:
    """Fitted members that are ready to score rows. Made by :meth:`of`.

    Attributes
    ----------
    members : dict of str to classifier
        The fitted members by name.
    prepared : dict of str to Prepared
        The same with the rows.
    classes : ndarray of shape (n_classes,)
        The classes that they agree on.
    weights : ndarray of shape (n_members,)
        They sum to one; a member of weight zero is not asked for a pool.
    pooling : {"log", "linear"}
    n_jobs : int or None
        How many members to ask at a time.
    fitted : bool
        Whether the ensemble has been fitted.
    """

    members: dict[str, Any]
    prepared: dict[str, Prepared]
    classes: NDArray[Any]
    weights: Floats
    pooling: str
    n_jobs: int | None
    fitted: bool

    @classmethod
    def of(cls, members: dict[str, Any], X: Any, **settings: Any) -> PreparedEnsemble:
        """Let each member read the rows."""
        classes = common_classes(members)
        with stage():  # one call, whose members share a budget
            prepared = {name: prepare_rows(member, X) for name, member in members.items()}
        return cls(members, prepared, classes, **settings)

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the scores will depend on, in plain values; None before ``fit``."""
        if not self.fitted:
            return None
        known = {name: prepared.fingerprint for name, prepared in self.prepared.items()}
        return fingerprint_of(self.members, known, self.pooling, self.weights)

    def score(self) -> Scores:
        """Ask the members that count, and return the log-probabilities of their pool."""
        found, weights = self._counting(), self.weights[self.weights > 0]
        log_proba = pool(_stacked(found), weights, self.pooling)
        served = joined_names(scores.served_model for scores in found)
        nothing = np.full(len(log_proba), np.nan)
        shares = [nothing if s.off_label is None else s.off_label for s in found]
        off_label = _mean_known(shares, weights)
        return Scores(log_proba, served, None if np.isnan(off_label).all() else off_label)

    def counting_scores(self) -> tuple[Floats, Floats]:
        """Return scores and weights of the members that count."""
        return _stacked(self._counting()), self.weights[self.weights > 0]

    def _counting(self) -> list[Scores]:
        counting = [name for name, w in zip(self.members, self.weights, strict=True) if w]
        return each(self.n_jobs, self._aligned, counting)

    def _aligned(self, name: str) -> Scores:
        return aligned(self.prepared[name].score(), self.members[name].classes_, self.classes)

    def explain(self) -> Explained:
        """Ask all members, and return one record per row."""
        with stage():
            found = {name: self._explained(name) for name in self.members}
        counting = [e for e, weight in zip(found.values(), self.weights, strict=True) if weight]
        labels, weights = self.classes.tolist(), self.weights[self.weights > 0]
        scores = np.stack([_log_proba(explained.records, labels) for explained in counting])
        splits = split_uncertainty(scores, weights)
        off_label = _mean_known([[_share(r) for r in e.records] for e in counting], weights)
        out = []
        for i, log_proba in enumerate(pool(scores, weights, self.pooling)):
            members = {name: explained.records[i] for name, explained in found.items()}
            failures = [f"{name}: {r['failure']}" for name, r in members.items() if r["failure"]]
            record = _record(log_proba, labels, "; ".join(failures))
            if not np.isnan(off_label[i]):
                record["off_label"] = float(off_label[i])
            split = {part: float(values[i]) for part, values in splits.items()}
            record["uncertainty"] = None if record["label"] is None else split
            out.append({**record, "members": members})
        return Explained(out, joined_names(explained.served_model for explained in counting))

    def _explained(self, name: str) -> Explained:
        """Return a member's own records, or plain ones if it has none."""
        member, prepared = self.members[name], self.prepared[name]
        if hasattr(member, "explain"):
            return prepared.explain()
        labels, scores = member.classes_.tolist(), prepared.score()
        records = [_record(row, labels, "no probabilities") for row in scores.log_proba]
        return Explained(records, scores.served_model)


def fingerprint_of(
    members: Mapping[str, Any],
    fingerprints: Mapping[str, dict[str, Any] | None],
    pooling: str,
    weights: Floats,
) -> dict[str, Any]:
    """Return what the scores of a pool depend on; of members without a fingerprint, the type."""
    return {
        "members": {
            name: fingerprints[name] or {"estimator": type(member).__name__}
            for name, member in members.items()
        },
        "pooling": pooling,
        "weights": weights.tolist(),
    }


def _record(log_proba: Floats, labels: list[Any], failure: str) -> dict[str, Any]:
    if np.isnan(log_proba).any():
        return {"label": None, "probability": None, "log_proba": None, "failure": failure}
    best = int(log_proba.argmax())
    return {
        "label": labels[best],
        "probability": float(np.exp(log_proba[best])),
        "log_proba": dict(zip(labels, log_proba.tolist(), strict=True)),
        "failure": None,
    }


def _log_proba(records: Sequence[Mapping[str, Any]], labels: list[Any]) -> Floats:
    """Read a member's log-probabilities back from its records."""
    return floor_and_normalise(np.array([_row(record, labels) for record in records]))


def _row(record: Mapping[str, Any], labels: list[Any]) -> list[float]:
    known = record["log_proba"]
    if known is None:
        return [np.nan] * len(labels)
    if "calibrated" in record:  # a calibrated member: its log_proba is what it was made of
        known = {label: np.log(p) for label, p in record["calibrated"].items()}
    return [known.get(label, -np.inf) for label in labels]


def _stacked(found: Sequence[Scores]) -> Floats:
    return np.stack([floor_and_normalise(scores.log_proba) for scores in found])


def _share(record: Mapping[str, Any]) -> float:
    share = record.get("off_label")
    return np.nan if share is None else float(share)


def _mean_known(shares: Sequence[Sequence[float] | Floats], weights: Floats) -> Floats:
    """Return for each row the weighted mean of what members know; NaN where no one knows it."""
    known = np.ma.masked_invalid(np.array(shares, dtype=np.float64))
    mean = np.ma.average(known, axis=0, weights=weights)
    return np.ma.filled(np.ma.asarray(mean, dtype=np.float64), np.nan)


def joined_names(served: Iterable[str | None]) -> str | None:
    """Return the models that answered as one name."""
    return ", ".join(dict.fromkeys(filter(None, served))) or None
