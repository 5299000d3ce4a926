"""Files that are replaced in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replacing", "write_text"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file beside another and move it there: who is killed leaves the old one.

    Parameters
    ----------
    path : str or path-like
        The file. Its permissions stay as they are; a new one gets the usual ones.

    Yields
    ------
    Path
        Where to write to. If the block raises, nothing is left of it.
    """
    target = Path(path)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield fresh
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, fresh)
        os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file by a text in UTF-8, in one step or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8", newline="\n")
