"""A progress bar with tqdm, or plain lines without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["bar"]


@contextmanager
def bar(verbose: int, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function (done, total) that shows progress on stderr; None if not wanted."""
    if not verbose:
        yield None
        return
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 (optional)
    except ImportError:
        yield _print_line
        return
    with tqdm(unit=f" {unit}", leave=False) as shown:

        def update(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield update


def _print_line(done: int, total: int) -> None:
    """Print a line at every tenth of the way."""
    if done == total or done * 10 // total != (done - 1) * 10 // total:
        print(f"{done} of {total}", file=sys.stderr)  # noqa: T201 (this is the bar)
