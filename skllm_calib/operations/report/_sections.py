"""The sections of a report, from figures and pictures to HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skllm_calib.metrics._headline import INTERVAL
from skllm_calib.operations.report._html import (
    Markup,
    beside,
    bullets,
    cell,
    details,
    escaped,
    figure,
    section,
    table,
)
from skllm_calib.operations.report._row_sections import (
    classes_section,
    made_of_section,
    rows_section,
)
from skllm_calib.operations.report._words import (
    about,
    count,
    decision,
    in_short,
    limits,
    percent,
    spaced,
)

__all__ = ["sections_of"]

Figures = Mapping[str, Any]

# Name, key, how to write it, what it means.
_MEASURES: tuple[tuple[str, str, bool, str], ...] = (
    ("accuracy", "accuracy", True, "share of right labels"),
    ("mean confidence", "mean_confidence", True, "what the probabilities claim that share is"),
    ("log-loss", "log_loss", False, "nats; lower is better"),
    ("Brier score", "brier", False, "0 to 2; lower is better"),
    ("ECE", "ece", True, "gap between confidence and accuracy, ten bins of equal mass"),
    ("noise floor", "ece_floor", True, "ECE of a perfectly calibrated model on so many rows"),
    ("noise removed", "ece_debiased", True, "root mean square; below zero: none to see"),
    ("AURC", "aurc", True, "error rate of accepted rows, over all coverages"),
)


def sections_of(
    figures: Figures, charts: Mapping[str, str], price_per_million: tuple[float, float] | None
) -> list[tuple[str, str, Markup]]:
    """Return name, heading and HTML of each section that there is something to say in."""
    parts: list[tuple[str, str, list[str]]] = [
        ("short", "In short", [bullets(in_short(figures))]),
        ("before-after", "Before and after calibration", _before_after(figures)),
        ("reliability", "Reliability", _reliability(figures, charts)),
        ("decisions", "What may pass without a person", _decisions(figures, charts)),
    ]
    if figures["risk_matrix"] is not None:
        parts.append(("risk-matrix", "Risk matrix", _risk_matrix(figures["risk_matrix"])))
    parts += [
        ("costs", "Errors and reviews in one price", _costs(figures, charts)),
        ("classes", "Classes", classes_section(figures)),
        ("rows", "Rows to look at", rows_section(figures["rows"])),
        ("made-of", "Data and model", made_of_section(figures, price_per_million)),
        ("limits", "Limits", [bullets(limits(figures))]),
    ]
    return [(name, title, section(name, title, *inner)) for name, title, inner in parts]


def _before_after(figures: Figures) -> list[str]:
    columns = [figures["before"], figures["after"], figures["class_shares"]]
    names = ["raw", "calibrated", "class shares"]
    if figures["before"] is None:
        columns, names = columns[1:], ["probabilities", "class shares"]
    rows: list[list[Any]] = []
    for name, key, as_share, meaning in _MEASURES:
        rows.append([name, *(_number(c[key], as_share) for c in columns), meaning])
        if key == "ece":
            ends = [f"{100 * c['ece_low']:.1f} to {percent(c['ece_high'])}" for c in columns]
            rows.append([f"{percent(INTERVAL, 0)} interval", *ends, "where the true error lies"])
    where = figures["class_shares"]["of"]
    return [
        table(
            "Figures of the rows of this report",
            ["", *names, "meaning"],
            rows,
            words=[len(names) + 1],
        ),
        Markup(
            f"<p>“Class shares” always states the shares of the classes in {where} and knows "
            "nothing of the text: a model worth its price has a lower log-loss. Its calibration "
            "error is small as a rule, which shows that this figure alone proves nothing.</p>"
        ),
    ]


def _number(value: float, as_share: bool) -> str:
    return percent(value) if as_share else f"{value:.3f}"


def _reliability(figures: Figures, charts: Mapping[str, str]) -> list[str]:
    drawn, spread = [], []
    for side, bins in figures["reliability"].items():
        name = {"before": "Raw", "after": "Calibrated"}[side]
        name = name if len(figures["reliability"]) > 1 else "These"
        numbers = table(
            f"{name} probabilities, bin by bin",
            ["mean confidence", "accuracy", "rows"],
            [[percent(b["mean_confidence"]), percent(b["accuracy"]), f"{b['n']:,}"] for b in bins],
        )
        drawn.append(
            figure(
                charts[f"reliability-{side}"],
                f"{name} probabilities. Points in the band are where a calibrated model's would "
                "be in 95\u00a0% of the cases; below the diagonal the model is too sure.",
                details("The figures", numbers),
            )
        )
        spread.append(
            figure(charts[f"scores-{side}"], f"{name} confidences of right and of wrong rows.")
        )
    return [
        beside(*drawn, *spread),
        Markup(f"<p>{spaced(figures['claim']['sentence'])}</p>"),
    ]


def _decisions(figures: Figures, charts: Mapping[str, str]) -> list[str]:
    rows = []
    for one in figures["thresholds"]:
        target = f"at least {percent(one['target'], 0)} right"
        if one["threshold"] is None:
            lack = "more labels like these are not known to help"
            if one["n_more"] is not None:
                lack = f"{about(one['n_more'])} more labels needed"
            rows.append([target, "–", "–", "–", "–", f"not certifiable; {lack}"])
        else:
            rows.append(
                [
                    target,
                    f"{one['threshold']:.4g}",
                    percent(one["coverage"]),
                    f"{one['n_accepted']:,}",
                    f"{one['n_errors']:,}",
                    f"certified with {percent(one['confidence'], 0)} confidence",
                ]
            )
    out: list[str] = [
        table(
            "Accept a row from which probability on?",
            ["target", "threshold", "rows that pass", "number", "wrong", "promise"],
            rows,
            words=[5],
        ),
    ]
    words: list[str] = [
        Markup(
            "<p>A threshold is certified by exact binomial tests from strict to loose, so the "
            "choice does not spoil the promise. The lowest threshold at which these rows look good "
            "enough would break it in about every second draw of rows.</p>"
        ),
    ]
    if (policy := figures["policy"]) is not None:
        words += [
            Markup("<h3>The policy</h3>"),
            bullets(policy["summary"]),
            Markup(f"<p>{decision(policy)}</p>"),
        ]
    numbers = table(
        "Error rate by coverage, calibrated",
        ["rows accepted", "error rate", "from probability"],
        [
            [percent(one["coverage"], 0), percent(one["risk"]), f"{one['threshold']:.4g}"]
            for one in figures["risk_coverage"]
        ],
    )
    picture = figure(
        charts["risk-coverage"],
        "Error rate among the rows accepted, from the surest on, with its pointwise 95\u00a0% "
        "interval. The dotted line is the error rate of accepting in random order.",
        details("The figures", numbers),
    )
    return [*out, beside("".join(words), picture)]


def _costs(figures: Figures, charts: Mapping[str, str]) -> list[str]:
    before = figures["before"] is not None
    head = ["price of a review", "accept all", "review all", *(["raw"] if before else [])]
    rows = []
    for one in figures["review_cost"]:
        costs = [one["accept_all"], one["review_all"], *([one["before"]] if before else [])]
        rows.append(
            [
                f"{one['price']:.2f}",
                *(f"{value:.3f}" for value in (*costs, one["after"])),
                percent(one["review_share"]),
            ]
        )
    last = "calibrated" if before else "by probability"
    words = Markup(
        "<p>With an error as the unit of cost: a row is accepted where its probability is at least "
        "one minus the price of a review, which is the cheapest rule if the probabilities are "
        "right. Where a line lies above the dotted ones, the probabilities cost more than they "
        "save.</p>"
    )
    numbers = table("Mean cost of a row, in errors", [*head, last, "rows reviewed"], rows)
    picture = figure(
        charts["review-cost"],
        "Mean cost of a row. Dotted: accepting every row, and reviewing every row.",
    )
    return [beside(words + numbers, picture)]


def _risk_matrix(found: Figures) -> list[str]:
    strictness = {name: rank for rank, name in enumerate(found["action_order"])}
    most = max(len(strictness) - 1, 1)
    rows = []
    bands = list(found["bands"].items())
    for number in reversed(range(len(bands))):  # the likeliest on top, as risk officers draw it
        name, (low, high) = bands[number]
        cells = []
        for level in range(len(found["levels"])):
            n, wrong = found["n_by_cell"][number][level], found["n_wrong_by_cell"][number][level]
            action = found["actions"][number][level]
            inner = Markup(
                f"<strong>{escaped(action)}</strong><span>{count(n, 'row')}</span>"
                f"<span>{wrong:,} wrong</span>"
            )
            share = strictness[action] / most
            cells.append(cell(inner, **{"class": "act", "style": f"--s: {share:.3f}"}))
        rows.append([f"{name} ({percent(low)} to {percent(high)})", *cells])
    what = "that the label is wrong" if found["event"] is None else f"of “{found['event']}”"
    total = ", ".join(f"{n:,} {name}" for name, n in found["n_by_action"].items())
    return [
        table(
            f"Likelihood {what} (down) by impact (across): action and rows",
            ["", *found["levels"]],
            rows,
            kind="cells",
        ),
        Markup(f"<p>In all: {escaped(total)}.</p>"),
    ]
