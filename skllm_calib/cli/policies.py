"""A review policy for a saved classifier: from the arguments, fitted, and kept in its folder."""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.cli.rows import LabelledRows, file_digest, text_digest
from skllm_calib.decisions import ReviewPolicy
from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.utils.files import write_text

__all__ = [
    "add_target",
    "fit_policy",
    "given_for_fit",
    "has_policy",
    "load_policy",
    "policy_of",
    "save_policy",
    "saw",
]

_FILE = "policy.json"
_MODEL = "model.joblib"
# Parameters of ReviewPolicy that the command line sets.
_PARAMETERS = (
    "target_precision", "max_error", "max_reviews", "costs", "review_cost", "reject_cost",
    "per_class", "reject_below", "confidence",
)  # fmt: skip
_GOES_WITH = {
    "per_class": "--target-precision or --max-error",
    "reject_below": "--target-precision, --max-error or --max-reviews",
    "review_cost": "--costs",
    "reject_cost": "--costs",
}


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare what is promised of accepted rows."""
    group = parser.add_argument_group("the policy that is fitted to --labelled")
    target = group.add_mutually_exclusive_group()
    target.add_argument(
        "--target-precision",
        type=_share,
        metavar="P",
        help="accepted rows are right at least so often (default: 0.95, without another target)",
    )
    target.add_argument(
        "--max-error", type=_share, metavar="P", help="the same, as the share that may be wrong"
    )
    target.add_argument(
        "--max-reviews",
        type=_budget,
        metavar="P|N/M",
        help="budget: review at most this share of the rows, or N of the M rows of a day",
    )
    target.add_argument(
        "--costs", type=_price, metavar="C", help="cost of a wrong label that is accepted"
    )
    group.add_argument("--review-cost", type=_price, metavar="C", help="with --costs: of a review")
    group.add_argument(
        "--reject-cost", type=_price, metavar="C", help="with --costs: of turning a row away"
    )
    group.add_argument(
        "--per-class",
        action="store_true",
        default=None,
        help="keep the precision for every predicted label, with a threshold each",
    )
    group.add_argument(
        "--reject-below",
        type=_share,
        metavar="P",
        help="turn rows away whose largest probability is below this",
    )
    group.add_argument(
        "--confidence", type=_share, metavar="P", help="of every promise (default: 0.95)"
    )


def _share(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def _price(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _budget(text: str) -> float | tuple[int, int]:
    if match := re.fullmatch(r"([0-9]+)/([0-9]+)", text):
        most, of = int(match[1]), int(match[2])
        if most < of:
            return most, of
    elif 0 < _number(text) < 1:
        return _number(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither a share between 0 and 1 nor N/M, such as 50/400, with N below M"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def given_for_fit(args: argparse.Namespace) -> list[str]:
    """Return the options that were given and say how to fit a policy."""
    names = [name for name in (*_PARAMETERS, "label", "weight") if getattr(args, name) is not None]
    return [_option(name) for name in names]


def policy_of(args: argparse.Namespace) -> ReviewPolicy:
    """Return the policy that the arguments describe, not fitted."""
    given = {name: getattr(args, name) for name in _PARAMETERS if getattr(args, name) is not None}
    target = next((name for name in ("costs", "max_reviews") if name in given), None)
    if target == "costs" and "review_cost" not in given:
        raise ValueError("--costs needs --review-cost, the price of a review")
    misplaced = {
        "costs": ("per_class", "reject_below"),
        "max_reviews": ("per_class", "review_cost", "reject_cost"),
        None: ("review_cost", "reject_cost"),
    }
    for name in misplaced[target]:
        if name in given:
            raise ValueError(
                f"{_option(name)} means nothing {f'with {_option(target)}' if target else 'here'}: "
                f"it goes with {_GOES_WITH[name]}"
            )
    return ReviewPolicy(**given)


def fit_policy(
    policy: ReviewPolicy, rows: LabelledRows, proba: NDArray[np.float64], labels: list[str]
) -> ReviewPolicy:
    """Fit a policy to labelled rows; rows of NaN have failed, and are reviewed.

    Raises
    ------
    NotCertifiableError
        If these rows cannot certify the target.
    """
    weights = None if rows.weights is None else np.array(rows.weights)
    try:
        return policy.fit(rows.labels, proba, weights, classes=labels)
    except NotCertifiableError as e:
        text = re.sub(r"\bmax_reviews=(\(\d+, \d+\)|[\d.e-]+)", "--max-reviews", str(e))
        raise NotCertifiableError(text, e.n_more) from e


def save_policy(policy: ReviewPolicy, rows: LabelledRows, args: argparse.Namespace) -> Path:
    """Keep a policy beside its classifier, with hashes of the classifier and of its rows."""
    about = {
        "made_by": "skllm-calib decide --labelled",
        "labelled": Path(args.labelled).name,
        "model_sha256": file_digest(Path(args.classifier, _MODEL)),
        "texts": [text_digest(text) for text in rows.texts],
    }
    path = Path(args.classifier, _FILE)
    content: dict[str, Any] = {"about": about, **policy.to_dict()}
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    return path


def has_policy(folder: str) -> bool:
    """Tell whether a policy is kept beside a classifier."""
    return Path(folder, _FILE).is_file()


def saw(folder: str, rows: LabelledRows) -> bool:
    """Tell whether some of the rows fitted the policy that is kept beside a classifier."""
    about = json.loads(Path(folder, _FILE).read_text(encoding="utf-8")).get("about", {})
    used = set(about.get("texts", []))
    return not used.isdisjoint(text_digest(text) for text in rows.texts)


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
    if made_for != file_digest(Path(folder, _MODEL)):
        raise ValueError(
            f"{path} was made for another calibration than the one that is in {folder!r} now: its "
            "promise is not about these probabilities; pass --labelled FILE --label COL again"
        )
    return policy


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
