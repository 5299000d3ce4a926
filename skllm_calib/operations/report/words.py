"""The figures of a report in sentences: the summary, and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE

__all__ = ["about", "count", "decision", "in_short", "limits", "percent", "spaced"]

_FEW_ROWS = 500
_RARE_CLASS = 20
_DONE = {"accept": "are accepted", "review": "go to review", "reject": "are rejected"}


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as a percentage; a dash where there is none."""
    return "–" if share is None else spaced(f"{share:.{digits}%}")


def spaced(sentence: str) -> str:
    """Put a space before every percent sign that does not let it fall into the next line."""
    return sentence.replace("%", "\u00a0%")


def about(n: int) -> str:
    """Write an estimated number of labels, with two significant digits."""
    return f"about {int(float(f'{max(n, 1):.2g}')):,}"


def count(n: float, what: str, many: str | None = None) -> str:
    """Write a number of things.

    Examples
    --------
    >>> count(1, "row"), count(1200, "row"), count(2, "class", "classes")
    ('1 row', '1,200 rows', '2 classes')
    """
    return f"{n:,} {what if n == 1 else many or what + 's'}"


def in_short(figures: Mapping[str, Any]) -> list[str]:
    """Return the sentences that a reader in a hurry should see."""
    after, before = figures["after"], figures["before"]
    said = [
        f"The most probable label is right in {percent(after['accuracy'])} of "
        f"{count(figures['data']['n'], 'row')}; on average the probabilities claim "
        f"{percent(after['mean_confidence'])}."
    ]
    error = percent(after["ece"])
    if before is not None:
        error = f"{percent(before['ece'])} before calibration and {error} after"
    said.append(
        f"The calibration error is {error} ({percent(DEFAULT_CONFIDENCE, 0)} interval "
        f"{percent(after['ece_low'])} to {percent(after['ece_high'])}); a perfectly calibrated "
        f"model would show {percent(after['ece_floor'])} on this many rows."
    )
    said.append(spaced(figures["claim"]["sentence"]))
    said.append(_best_promise(figures["thresholds"]))
    if figures["policy"] is not None:
        said.append(decision(figures["policy"]))
    if failed := figures["data"]["n_failed"]:
        said.append(f"Not scored and in none of these figures: {count(failed, 'row')}.")
    return said


def _best_promise(thresholds: list[dict[str, Any]]) -> str:
    certified = [one for one in thresholds if one["threshold"] is not None]
    if not certified:
        if not thresholds:
            return "No target precision was given."
        nearest = min(thresholds, key=lambda one: one["target"])
        lack = (
            "more labels are not known to help"
            if nearest["n_more"] is None
            else f"{about(nearest['n_more'])} more labels are needed for the lowest target"
        )
        return (
            f"No row can be accepted without review: not even a precision of "
            f"{percent(nearest['target'], 0)} can be certified with these rows; {lack}."
        )
    best = max(certified, key=lambda one: one["target"])
    return (
        f"{percent(best['coverage'])} of the rows can be accepted without review if "
        f"{percent(best['target'], 0)} of them have to be right (certified with "
        f"{percent(best['confidence'], 0)} confidence)."
    )


def decision(policy: Mapping[str, Any]) -> str:
    """Say what a policy does with the rows, and how right the accepted ones are."""
    done = ", ".join(f"{n:,} {_DONE[name]}" for name, n in policy["n_by_action"].items() if n)
    said = f"Under the policy, {done}."
    accepted = policy["n_by_action"].get("accept", 0)
    if not accepted:
        return said
    said += f" Of the accepted rows, {policy['n_wrong_accepted']:,} are wrong"
    if policy["precision_lower_bound"] is not None:
        said += (
            f": at least {percent(policy['precision_lower_bound'])} right, with "
            f"{percent(policy['confidence'], 0)} confidence"
        )
    return f"{said}."


def limits(figures: Mapping[str, Any]) -> list[str]:
    """Return what these figures do not say, as far as it can be known from them."""
    data, after = figures["data"], figures["after"]
    said = [
        "The figures hold for rows like these. Other texts, other class shares or another model "
        "behind the same name may behave differently; only labels of new rows can show it.",
        "The rows must not have been used to fit the model or its calibration. This page cannot "
        "check that.",
        f"The calibration error is measured in bins of about {data['n'] // 10:,} rows and has a "
        f"noise floor of {percent(after['ece_floor'])}: errors below it are not detected, nor are "
        "errors that cancel within a bin. It does not measure how much the model knows; log-loss "
        "and Brier score do.",
        "Each threshold is certified with its own confidence. Choosing among them after seeing "
        "them all is not covered: fix the target first.",
    ]
    if data["n"] < _FEW_ROWS:
        said.append(f"There are only {count(data['n'], 'row')}: most intervals here are wide.")
    rare = sum(n < _RARE_CLASS for n in data["n_by_class"])
    if rare:
        which = "class has" if rare == 1 else "classes have"
        said.append(
            f"{rare} {which} fewer than {_RARE_CLASS} rows: their figures are very uncertain."
        )
    if data["n_failed"]:
        said.append(
            "Rows that could not be scored are left out. If they are the difficult ones, all "
            "figures are too optimistic."
        )
    if data["weighted"]:
        said.append(
            "The rows are weighted. Thresholds are certified on a random part of them, drawn by "
            "weight; the confusion matrix and the numbers of rows are unweighted counts."
        )
    policy = figures["policy"]
    if policy is not None and policy["saw_these_rows"]:
        said.append(
            "The policy was fitted on these rows: its guarantee holds for rows to come, but the "
            "precision seen here is no test of it."
        )
    if figures["card"] is None:
        said.append("It is not known which model and which calibration made the probabilities.")
    return said
