"""Files that are replaced in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

__all__ = ["write_text"]


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file beside it and move it there: a killed process leaves the old one.

    Parameters
    ----------
    path : str or path-like
        The file. Its permissions stay as they are; a new one gets the usual ones.
    text : str
        Its content, kept in UTF-8.
    """
    target = Path(path)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(fresh, "x", encoding="utf-8") as file:
            file.write(text)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, fresh)
        os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
