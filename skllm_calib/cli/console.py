"""What the commands print: results on standard output, everything else on standard error."""

import sys
from types import SimpleNamespace


def say(text: str = "") -> None:
    """Print a result."""
    known = sys.stdout.encoding or "utf-8"
    print(text.encode(known, "backslashreplace").decode(known), flush=True)


def note(text: str) -> None:
    """Print a line that is no result: an error, a warning."""
    print(text, file=sys.stderr, flush=True)


def remark(args: SimpleNamespace, text: str) -> None:
    """Print a line that ``--quiet`` turns off."""
    if not args.quiet:
        note(text)


def progress_wanted(args: SimpleNamespace) -> int:
    """Return the `verbose` of an estimator: a bar only where somebody watches."""
    return int(not args.quiet and sys.stderr.isatty())
