"""The page of the queue as HTML: plain forms, which work without the script; texts escaped."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from skllm_calib.operations.palette import DARK, LIGHT

if TYPE_CHECKING:
    from skllm_calib.operations.queue.results import QueueStatistics

__all__ = ["message", "who_are_you", "work"]

_N_KEYS = 9
_KEYS = '<label hidden><input type="checkbox" id="keys"> Use the keys</label>'

_COLOURS = f"""
:root {{ color-scheme: light dark; {LIGHT} --bar: #cfe0f7; --note: #fff3cd; --note-ink: #5c4400; }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} --bar: #24466e; --note: #423608;
  --note-ink: #f6e3a1; }} }}
"""
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header, main, footer { max-width: 46rem; margin: 0 auto; padding: .75rem 1rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; color: var(--soft); }
header strong { color: var(--ink); margin-right: auto; }
h1 { font-size: 1rem; margin: 0 0 .5rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: 1rem 1.25rem; margin-bottom: 1rem; }
.text { font-size: 1.25rem; white-space: pre-wrap; margin: 0; }
.soft { color: var(--soft); margin: .75rem 0 0; }
.badge { background: var(--note); color: var(--note-ink); border-radius: .25rem;
  display: inline-block; padding: .1rem .5rem; font-weight: 600; }
pre { white-space: pre-wrap; }
a { color: var(--strong); }
button, input, select { font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--soft); border-radius: .375rem; padding: .5rem .75rem; max-width: 100%; }
button { cursor: pointer; }
button:hover { border-color: var(--strong); }
:focus-visible { outline: 3px solid var(--strong); outline-offset: 2px; }
.choice { position: relative; display: flex; gap: .75rem; align-items: center; width: 100%;
  text-align: left; margin-bottom: .5rem; overflow: hidden; }
.choice svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.choice rect { fill: var(--bar); }
.choice span { position: relative; }
.choice .name { flex: 1; }
.proposed { border: 2px solid var(--strong); }
kbd { position: relative; border: 1px solid var(--soft); border-radius: .25rem; padding: 0 .4rem;
  font: .875rem ui-monospace, monospace; background: var(--card); }
.row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin-top: .75rem; }
[role=status] { min-height: 1.5rem; color: var(--soft); margin: 0 0 .5rem; }
"""

# A key held down must not label one row after the other, nor a double click two of them; keys can
# be turned off for those whose tools (speech input, switches) send letters of their own.
_SCRIPT = """
const box = document.getElementById("keys");
if (box) {
  const read = () => { try { return localStorage.getItem("keys"); } catch { return null; } };
  box.checked = read() !== "off";
  box.parentElement.hidden = false;
  box.addEventListener("change", () => {
    try { localStorage.setItem("keys", box.checked ? "on" : "off"); } catch {}
  });
  document.addEventListener("keydown", (event) => {
    if (!box.checked || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select")) return;
    const button = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
    if (button) { event.preventDefault(); button.click(); }
  });
  document.addEventListener("click", (event) => {
    if (event.detail > 1 && event.target.closest("button")) event.preventDefault();
  });
  let sent = false;
  addEventListener("pageshow", () => { sent = false; });
  document.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
}
"""


def who_are_you(nonce: str) -> str:
    """Return the page that asks for the name of the reviewer."""
    return _page(
        nonce,
        "Who is reviewing?",
        '<main><form class="card" method="get"><h1>Who is reviewing?</h1>'
        '<label for="reviewer">Your name</label><div class="row">'
        '<input id="reviewer" name="reviewer" required maxlength="100" autofocus '
        'autocomplete="username"><button>Start</button></div></form></main>',
    )


def message(nonce: str, text: str) -> str:
    """Return a page that only says something."""
    return _page(
        nonce, "Review queue", f'<main><p class="card" role="alert">{escape(text)}</p></main>'
    )


def work(
    nonce: str,
    reviewer: str,
    *,
    row: dict[str, Any] | None,
    classes: list[Any],
    statistics: QueueStatistics,
    last: tuple[str, Any] | None,
) -> str:
    """Return the page of one row, or of none when nothing waits."""
    n_disputed = f"<span>{statistics.n_disputed:,} disputed</span>" if statistics.n_disputed else ""
    header = (
        f"<header><strong>Reviewer: {escape(reviewer)}</strong>"
        f"<span>{statistics.n_waiting:,} waiting</span><span>{statistics.n_done:,} done</span>"
        f"{n_disputed}</header>"
    )
    said = "" if last is None else f"Saved {_text(last[0])} as {_text(last[1])}."
    status = f'<p role="status">{said}</p>'
    who = f'<input type="hidden" name="reviewer" value="{escape(reviewer)}">'
    undo = "" if last is None else _button("act", "undo", "u", "Undo the last label")
    if row is None:
        others = (
            "Every row that waits is open at another reviewer."
            if statistics.n_waiting
            else "Nothing is waiting for review."
        )
        body = (
            f'{header}<main>{status}<h1 class="card">{others}</h1>'
            f'<form method="post" action="act" class="row">{who}{undo}{_KEYS}</form>'
            f'<p><a href="?reviewer={quote(reviewer)}">Look again</a></p></main>'
        )
        return _page(nonce, "Nothing to review", body)
    tools = (
        f'<form method="post" action="act" class="row">{who}{_hidden(row)}'
        f"{_button('act', 'skip', 's', 'Skip')}{undo}"
        f"{_KEYS}</form>"
    )
    body = f"{header}<main>{status}{_card(row)}{_choices(row, classes, who)}{tools}</main>"
    return _page(nonce, f"Row {row['id']}", body)


def _card(row: dict[str, Any]) -> str:
    audit = ' <span class="badge">audit of an accepted row</span>' if row["audit"] else ""
    reason = f'<p class="soft">Why it is here: {_text(row["reason"])}</p>' if row["reason"] else ""
    evidence = ""
    if row["evidence"] is not None:
        shown = json.dumps(row["evidence"], indent=2, ensure_ascii=False)
        evidence = f"<details><summary>Evidence</summary><pre>{_text(shown)}</pre></details>"
    return (
        f'<article class="card"><h1>Row {_text(row["id"])}{audit}</h1>'
        f'<p class="text" dir="auto">{_text(row["text"])}</p>{reason}{evidence}</article>'
    )


def _choices(row: dict[str, Any], classes: list[Any], who: str) -> str:
    """Offer few classes each in its own place, which fingers learn; of many, the likeliest."""
    proba: dict[Any, float] = row["proba"] or {}
    few = len(classes) <= _N_KEYS
    offered = classes if few else (list(proba) or classes)[:_N_KEYS]
    buttons = []
    for number, label in enumerate(offered, 1):
        p = proba.get(label)
        proposed = label == row["label"]
        bar = (
            ""
            if p is None
            else (
                '<svg aria-hidden="true" preserveAspectRatio="none" viewBox="0 0 100 1">'
                f'<rect width="{100 * p:.2f}" height="1"/></svg>'
            )
        )
        share = "" if p is None else f"<span>{p:.1%}</span>"
        mark = "<span>proposed</span>" if proposed else ""
        buttons.append(
            f'<button class="choice{" proposed" if proposed else ""}" name="label" '
            f'value="{_text(label)}" data-key="{number}" aria-keyshortcuts="{number}">{bar}'
            f'<kbd aria-hidden="true">{number}</kbd><span class="name">{_text(label)}</span>'
            f"{mark}{share}</button>"
        )
    hidden = f'{who}{_hidden(row)}<input type="hidden" name="act" value="label">'
    form = f'<form method="post" action="act" aria-label="Label">{hidden}{"".join(buttons)}</form>'
    if few:
        return form
    # With a value of its own, because of the text alone a browser would send no double spaces.
    options = "".join(
        f'<option value="{_text(label)}">{_text(label)}</option>' for label in classes
    )
    return (
        f'{form}<form method="post" action="act" class="row">{hidden}'
        f'<label for="other">Another label</label><select id="other" name="label" required>'
        f'<option value="">choose</option>{options}</select><button>Save</button></form>'
    )


def _hidden(row: dict[str, Any]) -> str:
    return f'<input type="hidden" name="id" value="{_text(row["id"])}">'


def _button(name: str, value: str, key: str, text: str) -> str:
    return (
        f'<button name="{name}" value="{value}" data-key="{key}" aria-keyshortcuts="{key}">'
        f'<kbd aria-hidden="true">{key}</kbd> {text}</button>'
    )


def _text(value: Any) -> str:
    return escape(str(value))


def _page(nonce: str, title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Review queue</title>"
        f'<link rel="icon" href="data:,"><style nonce="{nonce}">{_COLOURS}{_STYLE}</style></head>'
        f'<body>{body}<script nonce="{nonce}">{_SCRIPT}</script></body></html>'
    )
