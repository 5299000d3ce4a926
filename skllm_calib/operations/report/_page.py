"""The page around the sections: one file, no script, nothing fetched, light, dark and paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from skllm_calib.operations.palette import DARK, LIGHT
from skllm_calib.operations.report._html import Markup

__all__ = ["page"]

# The page may fetch nothing and run nothing, whatever a text in it says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"

_LIGHT = f"""color-scheme: light; {LIGHT} --shade: #5aa0e6; --first: #0072b2; --second: #b35f00;
  --right: #a6cee8; --wrong: #b84a00; --mild: #fff7d6; --strict: #f0986b;
  --on-cell: #1b1f24;"""
_DARK = f"""color-scheme: dark; {DARK} --shade: #2f6fb3; --first: #58b4f0; --second: #f5b041;
  --right: #3d6f93; --wrong: #ff9a5c; --mild: #4d4930; --strict: #7a3a24;
  --on-cell: #fff;"""

_STYLE = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
header, main, footer {{ max-width: 72rem; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 0; }}
h2 {{ font-size: 1.2rem; margin: 0 0 .75rem; }}
h3 {{ font-size: 1rem; margin: 1.25rem 0 .5rem; }}
p, ul {{ max-width: 46rem; margin: .5rem 0; }}
ul {{ padding-left: 1.25rem; }}
a {{ color: var(--strong); }}
.soft, figcaption, footer {{ color: var(--soft); }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none;
  max-width: none; }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: 1.25rem; margin: 0 0 1rem; }}
.grid {{ display: grid; gap: 1.25rem; grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); align-items: start; }}
figure {{ margin: 0; max-width: 40rem; }}
figure svg {{ width: 100%; height: auto; display: block; }}
figure svg text {{ font-family: system-ui, sans-serif !important; }}
figcaption {{ margin-top: .5rem; font-size: .9rem; }}
details {{ margin-top: .5rem; }}
summary {{ cursor: pointer; color: var(--strong); }}
.scroll {{ overflow-x: auto; max-width: 100%; margin: .5rem 0; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; color: var(--soft); padding: .25rem 0; font-size: .9rem; }}
th, td {{ padding: .3rem .6rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }}
th {{ font-weight: 600; }}
tbody th, .words {{ text-align: left; }}
tbody th {{ font-weight: 400; }} th:first-child {{ padding-left: 0; }}
td.text {{ min-width: 16rem; max-width: 34rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
table.cells td {{ padding: .3rem .5rem; text-align: center; }}
table.cells td.shaded {{ background: color-mix(in srgb, var(--shade) calc(var(--s) * 60%),
  transparent); }}
table.cells td.diagonal {{ font-weight: 700; }}
table.cells tbody th {{ max-width: 22rem; overflow-wrap: anywhere; }}
td.act {{ color: var(--on-cell); border: 2px solid var(--card); min-width: 6rem; background:
  color-mix(in srgb, var(--strict) calc(var(--s) * 100%), var(--mild)); }}
td.act strong, td.act span {{ display: block; }}
dl {{ display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1rem;
  margin: .5rem 0; }}
dt {{ color: var(--soft); }} dd {{ margin: 0; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
:focus-visible {{ outline: 3px solid var(--strong); outline-offset: 2px; }}
@media (max-width: 36rem) {{ dl {{ grid-template-columns: 1fr; }} dd {{ margin-bottom: .5rem; }} }}
@media print {{
  :root {{ {_LIGHT} --paper: #fff; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  body {{ font-size: 10pt; }}
  nav {{ display: none; }}
  section {{ border: 0; padding: 0; margin: 0 0 1.5rem; border-radius: 0; }}
  h2, h3, caption, thead {{ break-after: avoid; }}
  tbody tr:first-child {{ break-before: avoid; }}
  figure, tr, dl {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
  .grid {{ grid-template-columns: 1fr 1fr; }}
  details::details-content {{ content-visibility: visible; display: block; }}
  details > :not(summary) {{ display: block; }}
  summary {{ list-style: none; color: var(--soft); }}
}}
"""


def page(
    title: str, subtitle: str, sections: Sequence[tuple[str, str, Markup]], footer: str
) -> str:
    """Join sections, each with its name and its heading, to a page."""
    links = "".join(
        f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>"
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>\n'
        f'<body><header><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>{chr(10).join(inner for *_, inner in sections)}</main>\n"
        f"<footer><p>{escape(footer)}</p></footer></body></html>\n"
    )
