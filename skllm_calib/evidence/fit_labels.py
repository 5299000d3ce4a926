"""What ``fit`` learns from labels: the classes, and which rows are shown as examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.examples import select_examples
from skllm_calib.evidence.text_input import TextRows
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import (
    check_classes,
    check_labels,
    check_whole,
    counting_labels,
    distinct,
    encode,
    shown,
)
from skllm_calib.log_proba.validation import check_weighted_labels

__all__ = ["Learned", "declared_classes", "learn_labels"]


class Learned(NamedTuple):
    """The classes, and the position and the class number of each row to show."""

    classes: NDArray[Any]
    shown: list[tuple[int, int]]


def learn_labels(
    rows: TextRows,
    y: Any,
    weight: NDArray[np.float64],
    *,
    classes: Any,
    n_shots: int,
    seed: int,
) -> Learned:
    """Learn the classes, and choose the examples to show.

    Parameters
    ----------
    rows : TextRows
    y : array-like of shape (n_samples,) or None
    weight : ndarray of shape (n_samples,)
        Rows of weight 0 are left out.
    classes : array-like or None
        The labels that were declared.
    n_shots : int
        How many examples per class.
    seed : int
        Seed of their choice.

    Raises
    ------
    InvalidInput
        For labels that are missing, or not among the classes.
    """
    if y is None:
        if classes is None:
            raise InvalidInput(
                "LLMClassifier requires y to be passed, but the target y is None. "
                "Without labels, name those to choose from: classes=[...]",
                "y",
            )
        if n_shots:
            raise InvalidInput(
                f"n_shots={n_shots} needs labelled examples: pass y to fit", "y", value=None
            )
        return Learned(declared_classes(classes), [])
    labels, _ = check_weighted_labels(y, weight, n_rows=len(rows))
    counting = counting_labels(labels, weight)
    check_whole(counting)
    found = _classes_of(counting, classes)
    codes = encode(counting, found)
    texts = [text if w else "" for text, w in zip(rows.texts, weight, strict=True)]
    chosen = select_examples(texts, codes, len(found), n_shots, seed)
    return Learned(found, [(i, int(codes[i])) for i in chosen])


def declared_classes(classes: Any) -> NDArray[Any]:
    """Return the labels that were declared, sorted."""
    return check_classes(classes, at_least=1, sort=True)


def _classes_of(labels: NDArray[Any], classes: Any) -> NDArray[Any]:
    present = distinct(labels)
    if classes is None:
        return present
    declared = declared_classes(classes)
    given, positions = set(present.tolist()), np.arange(len(declared))
    if not given <= set(declared.tolist()) and given <= set(positions.tolist()):
        # Many of scikit-learn's tools (votes, stacks, cross_val_predict, temperature
        # calibration) replace labels by their positions before they call fit. The model must
        # still be asked for the labels that were declared. They count in sorted order, and
        # whoever listed the classes in another order may count in that one.
        listed = check_labels(classes).tolist()
        if listed != declared.tolist():
            raise InvalidInput(
                f"y holds {shown(present.tolist())}, none of the classes "
                f"{shown(listed)}, which are not sorted: whether 0 "
                "is the first listed or the first sorted class cannot be known. Pass y with "
                "the labels, or sort classes if y holds positions in sorted order",
                "y",
                value=present.tolist(),
            )
        return positions
    return declared
