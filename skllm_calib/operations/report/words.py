"""The figures of a report in sentences: what it says in short, and what it cannot say."""

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
    """Write a number that is a plan, not a measurement: two digits are all it is good for."""
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
        f"model would show {percent(after['ece_floor'])} on so many rows."
    )
    said.append(spaced(figures["claim"]["sentence"]))
    said.append(_best_promise(figures["thresholds"]))
    if figures["policy"] is not None:
        said.append(decision(figures["policy"]))
    if failed := figures["data"]["n_failed"]:
        said.append(f"Not scored, and in none of these figures: {count(failed, 'row')}.")
    return said


def _best_promise(thresholds: list[dict[str, Any]]) -> str:
    certified = [one for one in thresholds if one["threshold"] is not None]
    if not certified:
        if not thresholds:
            return "No target was asked for."
        nearest = min(thresholds, key=lambda one: one["target"])
        lack = (
            "more labels like these are not known to help"
            if nearest["n_more"] is None
            else f"{about(nearest['n_more'])} more labels are needed for the lowest target"
        )
        return (
            f"Nothing may pass without a person: not even {percent(nearest['target'], 0)} right "
            f"can be certified with these rows; {lack}."
        )
    best = max(certified, key=lambda one: one["target"])
    return (
        f"{percent(best['coverage'])} of the rows may pass without a person if "
        f"{percent(best['target'], 0)} of them have to be right (certified with "
        f"{percent(best['confidence'], 0)} confidence)."
    )


def decision(policy: Mapping[str, Any]) -> str:
    """Say what a policy does with the rows, and how right the accepted ones are."""
    done = ", ".join(f"{n:,} {_DONE[name]}" for name, n in policy["n_by_action"].items() if n)
    said = f"By the policy, of these rows {done}."
    accepted = policy["n_by_action"].get("accept", 0)
    if not accepted:
        return said
    said += f" Of the accepted rows {policy['n_wrong_accepted']:,} are wrong"
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
        "All of it is about rows like these. Other texts, another mix of classes or another model "
        "behind the same name may behave differently; only labels of new rows tell.",
        "The rows must have had no part in fitting the model or its calibration. This page cannot "
        "check that.",
        f"The calibration error is measured in bins of {data['n'] // 10:,} rows or so and has a "
        f"noise floor of {percent(after['ece_floor'])}: what is below it cannot be seen, and rises "
        "and falls within a bin cannot either. It tells nothing of how much the model knows; "
        "log-loss and Brier score do.",
        "Each certified threshold keeps its promise with its own confidence. To look at all of "
        "them and then pick one is a choice the promise does not cover: fix the target first.",
    ]
    if data["n"] < _FEW_ROWS:
        said.append(f"{count(data['n'], 'row')} are few: most intervals here are wide.")
    rare = sum(n < _RARE_CLASS for n in data["n_by_class"])
    if rare:
        which = "class has" if rare == 1 else "classes have"
        said.append(
            f"{rare} {which} fewer than {_RARE_CLASS} rows: the figures of these say little."
        )
    if data["n_failed"]:
        said.append(
            "Rows that could not be scored are left out. If they are the difficult ones, "
            "everything here flatters."
        )
    if data["weighted"]:
        said.append(
            "The rows are weighted. Certified thresholds rest on a random part of them, drawn by "
            "weight; the confusion matrix and the numbers of rows are plain counts."
        )
    policy = figures["policy"]
    if policy is not None and policy["saw_these_rows"]:
        said.append(
            "The policy was fitted on these very rows: its promise holds for rows to come, but the "
            "share of right ones seen here is no test of it."
        )
    if figures["card"] is None:
        said.append("What model and which calibration made the probabilities is not known here.")
    return said
