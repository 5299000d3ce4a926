"""The sections of a report about classes, single rows, and what the rows are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.operations.report._html import Markup, beside, cell, details, escaped, pairs, table
from skllm_calib.operations.report._words import count, percent

__all__ = ["classes_section", "made_of_section", "rows_section"]

Figures = Mapping[str, Any]

# A square of more classes than this cannot be read; the pairs that are confused most can.
_LARGEST_SQUARE, _NARROW_SQUARE = 30, 8


def classes_section(figures: Figures) -> list[str]:
    names = [str(label) for label in figures["data"]["classes"]]
    by_class = [
        [
            str(one["label"]),
            f"{one['n']:,}",
            f"{one['n_predicted']:,}",
            percent(one["precision"]),
            percent(one["recall"]),
            percent(one["share"]),
            percent(one["mean_probability"]),
        ]
        for one in figures["by_class"]
    ]
    head = ["class", "rows", "predicted", "precision", "recall", "share", "mean probability"]
    found = table("By class", head, by_class)
    confused = _confusion(figures["confusion"], names)
    return [
        found if len(names) <= _LARGEST_SQUARE else details("By class", found),
        *([beside(*confused)] if len(names) <= _NARROW_SQUARE else confused),
    ]


def _confusion(confusion: Figures, names: Sequence[str]) -> list[str]:
    out: list[str] = []
    if len(names) <= _LARGEST_SQUARE:
        rows = []
        for true, line in enumerate(confusion["counts"]):
            cells = []
            for predicted, n in enumerate(line):
                kind = "diagonal" if true == predicted else ""
                shade = n / max(sum(line), 1)
                style = f"--s: {shade:.3f}"
                cells.append(cell(n or "", **{"class": f"shaded {kind}".strip(), "style": style}))
            rows.append([f"{true + 1}  {names[true]}", *cells])
        head = [
            "true \\ predicted",
            *(Markup(f'<span title="{escaped(name)}">{i}</span>') for i, name in
              enumerate(names, 1)),
        ]  # fmt: skip
        out.append(
            table("Confusion: true class (down) by predicted class (across), rows", head, rows,
                  kind="cells")
        )  # fmt: skip
    if confusion["most_confused"] and len(names) > 2:
        out.append(
            table(
                "Most frequent confusions",
                ["true", "predicted", "rows"],
                [
                    [str(one["true"]), str(one["predicted"]), f"{one['n']:,}"]
                    for one in confusion["most_confused"]
                ],
                words=[1],
            )
        )
    return out


def rows_section(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    out: list[str] = []
    titles = {"worst": "The surest errors", "doubtful": "The most doubtful rows"}
    for key, title in titles.items():
        if not rows[key]:
            continue
        head = ["row", "text", "true", "predicted", "probability", "second", "its probability"]
        body = [
            [
                one["id"],
                _shown(one["text"]),
                str(one["true"]),
                str(one["predicted"]),
                percent(one["probability"]),
                str(one["second"]),
                percent(one["second_probability"]),
            ]
            for one in rows[key]
        ]
        if rows[key][0]["text"] is None:
            head, body = _without(head, 1), [_without(line, 1) for line in body]
            words = [1, 2, 4]
        else:
            words = [1, 2, 3, 5]
        out.append(table(title, head, body, words=words))
    if rows["failed"]:
        out.append(
            table(
                "Rows without probabilities",
                ["row", "text", "why"],
                [[one["id"], _shown(one["text"]), one["reason"]] for one in rows["failed"]],
                words=[1, 2],
            )
        )
    return out or [Markup("<p>No row is wrong.</p>")]


def _without(items: Sequence[Any], position: int) -> list[Any]:
    return [*items[:position], *items[position + 1 :]]


def _shown(value: str | None) -> Markup:
    return cell("–" if value is None else value, **{"class": "text words", "dir": "auto"})


def made_of_section(figures: Figures, price_per_million: tuple[float, float] | None) -> list[str]:
    data = figures["data"]
    scored = count(data["n"], "row") + (", weighted" if data["weighted"] else "")
    failed = f"; {data['n_failed']:,} more could not be scored" if data["n_failed"] else ""
    by_class = "; ".join(
        f"{label}: {n:,}" for label, n in zip(data["classes"], data["n_by_class"], strict=True)
    )
    out: list[str] = [
        pairs([("rows of this report", scored + failed), ("by class", by_class)]),
    ]
    if (usage := figures["usage"]) is not None:
        out += [Markup("<h3>What the answers took</h3>"), pairs(_usage(usage, price_per_million))]
    if figures["card"] is not None:
        card = CalibrationCard(figures["card"])
        _, _, tables = repr(card).partition("\n\n")
        out += [
            Markup("<h3>Calibration card</h3>"),
            pairs(card.rows()),
            *([details("Members and held-out figures", Markup(f"<pre>{escaped(tables)}</pre>"))]
              if tables else []),
        ]  # fmt: skip
    return out


def _usage(
    usage: Mapping[str, Any], price_per_million: tuple[float, float] | None
) -> list[tuple[str, str]]:
    out = [
        ("rows", f"{usage['n_rows']:,}, {usage['n_rows_cached']:,} of them from the cache"),
        ("requests", f"{usage['n_requests']:,}"),
        ("tokens read", f"{usage['prompt_tokens']:,}"),
        ("tokens written", f"{usage['completion_tokens']:,}"),
    ]
    if price_per_million is None:
        return [*out, ("money", "not known: no price of a token was given")]
    read, written = price_per_million
    total = (usage["prompt_tokens"] * read + usage["completion_tokens"] * written) / 1e6
    a_row = total / max(usage["n_rows"], 1)
    return [*out, ("money", f"{total:.4g} in all, {a_row:.2g} a row, if none were cached")]
