"""Files that are replaced in one step, by one process at a time; private files and folders."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from skllm_calib.exceptions import DamagedFile

__all__ = [
    "locked",
    "make_private_file",
    "make_private_folder",
    "read_saved",
    "replacing",
    "write_text",
]

_T = TypeVar("_T")


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
    r"""Replace a file by a text in UTF-8, in one step or not at all.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as ``\udXXX``, which JSON reads
    back as it was.
    """
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


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


def read_saved(
    path: str | os.PathLike[str], kind: str, parse: Callable[[str], _T], way_out: str
) -> _T:
    """Read a file that an object saved.

    Parameters
    ----------
    path : str or path-like
        The file.
    kind : str
        What it has to hold, such as "monitor".
    parse : callable
        Makes an object of its text.
    way_out : str
        What to do if the file is damaged, as a sentence.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFile
        If it cannot be read as what it should be.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"no {kind} at {str(path)!r}: there is no such file")
    try:
        return parse(file.read_bytes().decode())
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else repr(error)
        raise DamagedFile(
            f"{str(path)!r} cannot be used as a {kind}: {why.rstrip('.')}. {way_out}"
        ) from error


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, timeout: float = 60.0) -> Iterator[None]:
    """Let one process at a time load, change and save a file; others wait.

    The lock is that of the operating system on a file beside it, and ends with its process, however
    that ends: a killed one blocks nobody.

    Parameters
    ----------
    path : str or path-like
        The file, which need not exist. All who change it must lock it.
    timeout : float, default=60.0
        Seconds to wait.

    Raises
    ------
    TimeoutError
        If another process has kept the lock all that time.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.lock")
    until = time.monotonic() + timeout
    while (handle := _try_lock(beside)) is None:
        if time.monotonic() > until:
            raise TimeoutError(
                f"{str(target)!r} has been in use by another process for {timeout:g} s: wait until "
                "it has finished, and run this again"
            )
        time.sleep(0.02)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            beside.unlink()
        os.close(handle)


def _try_lock(path: Path) -> int | None:
    """Return the locked file, or None if another process has it, or has removed it meanwhile."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 (only there)

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 (only there)

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None
