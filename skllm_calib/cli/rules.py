"""What decides: a review policy, kept in the folder of its classifier, or a risk matrix."""

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.cli.classifier import given_parameters, read_object
from skllm_calib.cli.interface.declare import flag_of
from skllm_calib.decisions import ReviewPolicy, RiskMatrix
from skllm_calib.decisions.policy.targets import resolve_rule
from skllm_calib.operations.records import file_digest, text_digest
from skllm_calib.persistence import model_file
from skllm_calib.utils.files import write_text
from skllm_calib.utils.tables import Table
from skllm_calib.utils.tables.cells import number_of

_FILE = "policy.json"


def given_for_fit(args: SimpleNamespace) -> list[str]:
    """Return the options that were given and say how to fit a policy."""
    names = [*given_parameters(ReviewPolicy(), args), "label", "weight"]
    return [flag_of(name) for name in names if getattr(args, name) is not None]


def policy_of(args: SimpleNamespace) -> ReviewPolicy:
    """Return the policy that the arguments describe, not fitted."""
    policy = ReviewPolicy(**given_parameters(ReviewPolicy(), args))
    resolve_rule(policy.get_params(deep=False))  # what does not go together is said at once
    return policy


def save_policy(policy: ReviewPolicy, rows: Any, table: Table, folder: str) -> Path:
    """Keep a policy beside its classifier, with hashes of the classifier and of its rows."""
    about = {
        "made_by": "skllm-calib decide --labelled",
        "labelled": Path(table.path).name,
        "model_sha256": file_digest(model_file(folder)),
        "texts": [text_digest(text) for text in rows["text"]],
    }
    path = Path(folder, _FILE)
    content: dict[str, Any] = {"about": about, **policy.to_dict()}
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    return path


def has_policy(folder: str) -> bool:
    """Tell whether a policy is kept beside a classifier."""
    return Path(folder, _FILE).is_file()


def saw(folder: str, rows: Any) -> bool:
    """Tell whether some of the rows fitted the policy that is kept beside a classifier."""
    about = json.loads(Path(folder, _FILE).read_text(encoding="utf-8")).get("about", {})
    used = set(about.get("texts", []))
    return not used.isdisjoint(text_digest(text) for text in rows["text"])


def load_policy(folder: str) -> ReviewPolicy:
    """Read the policy of a classifier, if it was made for what is in the folder now."""
    path = Path(folder, _FILE)
    if not path.is_file():
        raise ValueError(
            f"no policy in {folder!r}: make one from labelled rows with --labelled FILE --label "
            "COL, or pass --risk-matrix F.json"
        )
    text = path.read_bytes()
    try:
        policy = ReviewPolicy.from_json(text)
        made_for = json.loads(text).get("about", {}).get("model_sha256")
    except (AttributeError, ValueError) as e:
        raise ValueError(f"{path}: {e} Make another one with --labelled FILE --label COL.") from e
    if made_for != file_digest(model_file(folder)):
        raise ValueError(
            f"{path} was made for another calibration than the one that is in {folder!r} now: its "
            "promise is not about these probabilities; pass --labelled FILE --label COL again"
        )
    return policy


def read_matrix(path: str, labels: Sequence[str]) -> RiskMatrix:
    """Read what ``RiskMatrix.to_dict`` returned, for probabilities of these labels."""
    content = read_object("--risk-matrix", path, dict, "the object of RiskMatrix.to_dict()")
    try:
        matrix = RiskMatrix.from_dict(content)
    except (AttributeError, TypeError, ValueError) as e:
        raise ValueError(f"--risk-matrix {path}: {e}") from e
    known = None if matrix.classes is None else [str(label) for label in matrix.classes.tolist()]
    if known is not None and known != list(labels):
        raise ValueError(
            f"--risk-matrix {path}: is about the classes {', '.join(known)}, but those of the "
            f"classifier are {', '.join(labels)}"
        )
    return matrix


def impacts_of(matrix: RiskMatrix, table: Table, args: SimpleNamespace) -> list[str] | None:
    """Return the impact of each row from the column of ``--impact``; None for the matrix's own."""
    if args.impact is not None:
        cells = table.column(args.impact)
        return [_level(cell, i, table, matrix, args.impact) for i, cell in enumerate(cells)]
    if matrix.impact is None:
        raise ValueError(
            f"--risk-matrix {args.risk_matrix}: has no impact of its own: name the column that has "
            "it with --impact COL"
        )
    return None


def _level(cell: str | None, i: int, table: Table, matrix: RiskMatrix, column: str) -> str:
    names, starts = matrix.impact_levels, matrix.impact_starts
    name = (cell or "").strip()
    if name in names:
        return name
    try:
        value = number_of(name, decimal_comma=table.decimal_comma)
    except ValueError:
        value = math.nan
    if starts is not None and value >= starts[0]:
        return names[bisect_right(starts, value) - 1]
    said = f"has the impact {name!r}" if name else "has no impact"
    numbers = "" if starts is None else f", or a number from {starts[0]:g} on"
    raise ValueError(
        f"{table.name(i)} {said} in column {column!r}, where one of the levels must be: "
        f"{', '.join(names)}{numbers}"
    )


def decide_by_matrix(
    matrix: RiskMatrix, impacts: Sequence[str] | None, proba: NDArray[np.float64], labels: list[str]
) -> tuple[list[str | None], list[str], list[str]]:
    """Return label, action and reason of each row; rows of NaN have failed, and are reviewed."""
    decided: list[str | None] = [None] * len(proba)
    actions = ["review"] * len(proba)
    reasons = ["no probabilities: the row was not scored"] * len(proba)
    rows = np.flatnonzero(~np.isnan(proba).any(axis=1))
    if rows.size:
        given = proba[rows], None if impacts is None else np.array(impacts)[rows]
        found = matrix.decide(*given).tolist(), matrix.explain(*given, labels=labels)
        for i, action, reason in zip(rows, *found, strict=True):
            decided[i] = labels[int(proba[i].argmax())]
            actions[i], reasons[i] = action, reason
    return decided, actions, reasons
