"""What the commands print: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skllm_calib.utils.files import write_text
from skllm_calib.utils.progress import Verbose

_LISTED = 20


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


def progress_wanted(args: SimpleNamespace) -> Verbose:
    """Return the `verbose` of an estimator."""
    return 0 if args.quiet else "auto"


def listed(lines: Sequence[str], rest: str = "") -> str:
    """Lay out a list of which only the beginning is shown; `rest` says where the others are."""
    more = [f"... and {len(lines) - _LISTED} more{rest}"] * (len(lines) > _LISTED)
    return "\n".join(f"  {line}" for line in [*lines[:_LISTED], *more])


def figures_only(args: SimpleNamespace, figures: Any) -> bool:
    """Write figures where ``--json`` says; True for standard output, which is theirs alone."""
    if args.json is None:
        return False
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    if args.json == "-":
        say(text)
        return True
    Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    write_text(args.json, text + "\n")
    remark(args, f"All figures: {args.json}")
    return False
