"""The command line, ``skllm-calib``: ``interface`` says what it takes, the rest what it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = ("click", "rich", "rich_click", "pandas", "openpyxl")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 1 for an error, 3 for a monitor in alarm, 130 for an
        interrupt. Arguments that cannot be understood end the process with code 2, and ``--help``
        and ``--version`` end it with code 0.
    """
    try:
        from skllm_calib.cli.program import run

        return run(argv)
    except ModuleNotFoundError as e:
        if (missing := (e.name or "").partition(".")[0]) not in _EXTRA:
            raise
        why = f"{missing} is missing: pip install 'skllm-calib[cli]'"
        print(f"skllm-calib: error: {why}", file=sys.stderr)
        return 1
