"""Colours of the pages that people see, for light and for dark: contrasts of WCAG AA."""

from __future__ import annotations

__all__ = ["DARK", "LIGHT"]

# Ground, cards, ink and soft ink, lines, links and what is marked.
LIGHT = """--paper: #f6f7f9; --card: #fff; --ink: #1b1f24; --soft: #57606a; --line: #c4cad1;
  --strong: #0b57b0;"""
DARK = """--paper: #14171b; --card: #1e2228; --ink: #e8eaed; --soft: #a9b1bb; --line: #4a525c;
  --strong: #8ab8f5;"""
