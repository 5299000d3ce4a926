"""Probabilities before and after calibration, and the figures that compare them, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.decisions import accept_threshold
from skllm_calib.display import CalibrationComparisonDisplay
from skllm_calib.display.plotting import import_pyplot
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.exceptions import InvalidInput, NotCertifiableError
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE
from skllm_calib.metrics.headline import measure
from skllm_calib.operations.report.figures import class_shares
from skllm_calib.operations.report.scored_rows import score_rows
from skllm_calib.operations.report.words import about
from skllm_calib.utils.layout import aligned

__all__ = [
    "PICTURE", "QUESTION", "Scores", "comparison", "draw_comparison", "evaluation", "in_words",
    "prior_log_loss", "score", "threshold", "thresholds",
]  # fmt: skip

PICTURE = "the reliability diagram"
QUESTION = "Which answers may pass without a person?"


@dataclass(frozen=True)
class Scores:
    """Probabilities of texts, columns in the order of the sorted labels.

    ``raw`` and ``calibrated`` are arrays (n_texts, n_labels), NaN for rows that failed, and the
    same without a calibration. ``failures`` says why a row failed, by position.
    """

    labels: list[str]
    raw: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    failures: dict[int, str]

    def at(self, positions: Sequence[int]) -> Scores:
        """Return the scores of some rows, which did not fail."""
        return Scores(self.labels, self.raw[positions], self.calibrated[positions], {})

    def answered(self) -> list[int]:
        """Return the positions of the rows that did not fail; ValueError if all did."""
        left = [i for i in range(len(self.raw)) if i not in self.failures]
        if not left:
            raise InvalidInput(
                f"none of the {len(self.raw)} rows could be scored: {self.failures[0]}", "texts"
            )
        return left


def score(classifier: CalibratedLLMClassifier | LLMClassifier, texts: Sequence[str]) -> Scores:
    """Ask about every text once, and calibrate."""
    asked = score_rows(classifier, list(texts))
    names = [str(label) for label in asked.classes.tolist()]
    order = sorted(range(len(names)), key=names.__getitem__)
    calibrated = asked.proba[:, order]
    raw = calibrated if asked.before is None else asked.before[:, order]
    return Scores([names[k] for k in order], raw, calibrated, asked.failures)


def evaluation(
    y: Sequence[str], scores: Scores, counts: Mapping[str, int], targets: Sequence[float] = ()
) -> dict[str, Any]:
    """Return the figures before and after a calibration, in JSON values.

    Parameters
    ----------
    y : sequence of str
        The true labels.
    scores : Scores
        Probabilities of rows that were all answered.
    counts : mapping of label to int
        Numbers of calibration rows by label.
    targets : sequence of float
        Precisions to find thresholds for, in (0, 1).
    """
    return {
        "n": len(y),
        "classes": scores.labels,
        "raw": measure(y, scores.raw, scores.labels),
        "calibrated": measure(y, scores.calibrated, scores.labels),
        "prior_log_loss": prior_log_loss(y, counts, scores.labels),
        "thresholds": [threshold(y, scores.calibrated, scores.labels, t) for t in targets],
    }


def prior_log_loss(y: Sequence[str], counts: Mapping[str, int], labels: Sequence[str]) -> float:
    """Return the log-loss of always stating the shares of the calibration labels."""
    share = class_shares([counts.get(label, 0) for label in labels])
    position = {label: k for k, label in enumerate(labels)}
    return float(-np.mean([np.log(share[position[label]]) for label in y]))


def comparison(figures: Mapping[str, Any]) -> str:
    """Lay out what `evaluation` returned, each figure with what it means."""
    before, after, prior = (figures[key] for key in ("raw", "calibrated", "prior_log_loss"))
    meaning = {
        "accuracy": ("accuracy", "share of right answers"),
        "log_loss": ("log-loss", f"lower is better; class shares alone give {prior:.3f}"),
        "brier": ("Brier score", "lower is better"),
        "ece": ("ECE", "gap between stated confidence and accuracy"),
        "ece_low": (f"  {DEFAULT_CONFIDENCE:.0%} interval", "where the true ECE lies"),
        "ece_floor": ("  noise floor", "ECE of a perfectly calibrated model on so few rows"),
        "ece_debiased": (
            "  noise removed", "debiased RMS error; zero or less means none was detected"
        ),
    }  # fmt: skip
    rows = [["", "raw", "calibrated"]]
    for key, (name, _) in meaning.items():
        shown = [f"{m[key]:.3f}" for m in (before, after)]
        if key == "ece_low":
            shown = [f"{m['ece_low']:.3f}-{m['ece_high']:.3f}" for m in (before, after)]
        rows.append([name, *shown])
    return aligned(rows, ["", *(remark for _, remark in meaning.values())])


def in_words(figures: Mapping[str, Any]) -> str:
    """Say what `evaluation` returned: the comparison, and what may be accepted."""
    return (
        f"{comparison(figures)}\n\n{QUESTION} What can be promised with "
        f"{100 * DEFAULT_CONFIDENCE:.0f} % confidence:\n\n"
        f"{thresholds(figures['thresholds'], figures['n'])}"
    )


def threshold(
    y: Sequence[str], proba: NDArray[np.float64], labels: Sequence[str], target: float
) -> dict[str, Any]:
    """Return from which probability on answers are right often enough, or why none can be said."""
    try:
        found = accept_threshold(
            y, proba, target_precision=target, confidence=DEFAULT_CONFIDENCE, labels=list(labels)
        )
    except NotCertifiableError as e:
        return {"target": target, "threshold": None, "n_more": e.n_more, "reason": str(e)}
    return {
        "target": target,
        # Rounded down, so that the rows on the edge pass whoever types it in.
        "threshold": math.floor(found.threshold * 1e6) / 1e6,
        "coverage": found.coverage,
        "n_accepted": found.n_accepted,
        "n_errors": found.n_errors,
    }


def thresholds(found: Sequence[Mapping[str, Any]], n_rows: int) -> str:
    """Say for each target from which probability on an answer may be accepted."""
    return "\n".join(
        f"  at least {one['target']:.0%} right:  {_said(one, n_rows)}" for one in found
    )


def _said(one: Mapping[str, Any], n_rows: int) -> str:
    if one["threshold"] is not None:
        return (
            f"accept from probability {one['threshold']:.6g}: passes {one['n_accepted']} of "
            f"{n_rows} rows ({one['coverage']:.0%}), {one['n_errors']} of them wrong"
        )
    if one["n_more"] is None:
        return "not certifiable; the model is wrong too often, even when surest"
    how_many = about(one["n_more"]) if one["n_more"] else "a few"
    return f"not certifiable with these labels; {how_many} more needed"


def draw_comparison(path: str | Path, y: Sequence[str], scores: Scores) -> None:
    """Draw the reliability diagrams before and after into one file, side by side.

    Raises
    ------
    ValueError
        If the extension is not that of a picture.
    MissingDependency
        If matplotlib is missing.
    """
    names = ("Raw probabilities", "Calibrated probabilities")
    display = CalibrationComparisonDisplay.from_predictions(
        y, scores.raw, scores.calibrated, names=names, labels=scores.labels
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(path, dpi=150)
    import_pyplot(PICTURE).close(display.figure_)
