"""Files that are replaced in one step, and folders and files for their owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["make_private_file", "make_private_folder", "replacing", "write_text"]


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


def make_private_folder(path: Path) -> None:
    """Make a folder and those above it; only the owner may enter what is new (mode 0700)."""
    if not path.exists():
        make_private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Make an empty file that only the owner may read and write (mode 0600), if there is none."""
    if not path.exists():
        make_private_folder(path.parent)
        target = os.path.realpath(path)  # of a symbolic link
        # An existing one is not opened: to close it would end the locks of this process on it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
