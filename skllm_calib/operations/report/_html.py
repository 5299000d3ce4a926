"""Small pieces of HTML: everything that is not written here is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = [
    "Markup",
    "beside",
    "bullets",
    "cell",
    "details",
    "escaped",
    "figure",
    "pairs",
    "section",
    "table",
]


class Markup(str):
    """HTML that is meant as such; any other value is a text and is escaped."""

    __slots__ = ()


def escaped(value: Any) -> Markup:
    """Return HTML as it is, and anything else as an escaped text."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def cell(value: Any, **attributes: str) -> Markup:
    """Return a cell of a table with attributes of its own."""
    written = "".join(f' {name}="{escape(given)}"' for name, given in attributes.items())
    return Markup(f"<td{written}>{escaped(value)}</td>")


def table(
    caption: str,
    head: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    *,
    words: Sequence[int] = (),
    kind: str = "",
) -> Markup:
    """Return a table whose first column names the rows; the others are numbers, or `words`."""
    top = "".join(
        f'<th scope="col"{_column(i, words)}>{escaped(name)}</th>' for i, name in enumerate(head)
    )
    body = []
    for first, *others in rows:
        cells = "".join(
            str(one)
            if isinstance(one, Markup) and one.startswith("<td")
            else f"<td{_column(i, words)}>{escaped(one)}</td>"
            for i, one in enumerate(others, 1)
        )
        body.append(f'<tr><th scope="row">{escaped(first)}</th>{cells}</tr>')
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="{kind}"><caption>{escaped(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _column(number: int, words: Sequence[int]) -> str:
    return ' class="words"' if number == 0 or number in words else ""


def pairs(items: Iterable[tuple[str, Any]]) -> Markup:
    """Return names with what belongs to them."""
    inner = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in items)
    return Markup(f"<dl>{inner}</dl>")


def bullets(items: Iterable[Any]) -> Markup:
    """Return a list."""
    return Markup(f"<ul>{''.join(f'<li>{escaped(item)}</li>' for item in items)}</ul>")


def details(summary: str, inner: str) -> Markup:
    """Return what is shown when asked for, and always on paper."""
    return Markup(f"<details><summary>{escaped(summary)}</summary>{inner}</details>")


def figure(svg: str, caption: str, inner: str = "") -> Markup:
    """Return a picture with what it shows, and its figures below."""
    return Markup(f"<figure>{svg}<figcaption>{escaped(caption)}</figcaption>{inner}</figure>")


def beside(*parts: str) -> Markup:
    """Put parts side by side where there is room."""
    return Markup(f'<div class="grid">{"".join(f"<div>{part}</div>" for part in parts)}</div>')


def section(name: str, title: str, *parts: str) -> Markup:
    """Return a part of the page that can be linked to."""
    inner = "".join(escaped(part) for part in parts)
    return Markup(
        f'<section id="{name}" aria-labelledby="{name}-heading">'
        f'<h2 id="{name}-heading">{escaped(title)}</h2>{inner}</section>'
    )
