"""Configuration of the documentation. It builds without a network and without a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import skllm_calib

project = "skllm-calib"
author = "The skllm-calib developers"
copyright = author
version = release = skllm_calib.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc docstrings say the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

plot_include_source = True
plot_html_show_source_link = plot_html_show_formats = False
plot_formats = ["svg"]

html_theme = "furo"
html_title = f"skllm-calib {version}"
html_show_sourcelink = False


def _to_rst(markdown: str) -> str:
    """Turn the little Markdown that the change log uses into reStructuredText."""
    lines = []
    for line in markdown.splitlines():
        heading = re.match(r"(#+) (.*)", line)
        if heading:
            title = heading[2].replace("[", "").replace("]", "")
            lines += [title, "=-~"[len(heading[1]) - 1] * len(title)]
        else:
            lines.append(line.replace("`", "``").replace("[Keep a Changelog]", "Keep a Changelog"))
    return "\n".join(lines) + "\n"


def _read_changelog(app: Any, docname: str, source: list[str]) -> None:
    if docname == "changelog":
        source[0] = _to_rst(Path(app.srcdir, "..", "CHANGELOG.md").read_text(encoding="utf-8"))


def _draw_pictures(app: Any, docname: str, source: list[str]) -> None:
    """Show what the code of the page draws; to the tests it stays code."""
    if docname == "displays":
        plot = ".. plot::\n   :context: close-figs\n"
        source[0] = source[0].replace(".. code-block:: python\n", plot)


def _skip_routing(app: Any, what: str, name: str, *_: Any) -> bool | None:
    """Leave out what scikit-learn adds to every estimator to route metadata."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", _skip_routing)
    app.connect("source-read", _read_changelog)
    app.connect("source-read", _draw_pictures)
