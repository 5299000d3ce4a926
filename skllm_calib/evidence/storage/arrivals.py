"""Replies that have arrived and are not in the database yet.

A transaction per reply writes many times what it keeps, and a reply in memory dies with the
process. So each reply is appended to a small file at once, which costs its own bytes and survives
``kill -9``, and goes into the database together with many others. Every worker has a file of its
own, in a folder beside the cache. It is locked while the worker lives: the system unlocks it,
however the process ends, and a file without a lock is taken in by whoever asks next.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from skllm_calib.utils.files import make_private_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Arrivals", "all_arrivals"]

_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
_ATTEMPTS = 100
_SILENCE = 600.0  # seconds without a reply after which a file counts as left, if it has no lock


class Arrivals:
    """A file to which replies are appended.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @classmethod
    def of(cls, database: Path, owner: str) -> Arrivals:
        """Return the file of a worker; the name of an owner ends with what no other has."""
        return cls(_folder(database) / owner.rpartition("/")[2].rpartition("-")[2])

    def create(self) -> None:
        """Make the file and lock it."""
        for _ in range(_ATTEMPTS):
            # The folder may vanish meanwhile, at the end of another process.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                make_private_folder(self.path.parent)
                self._open(_FLAGS | os.O_CREAT | os.O_EXCL)
                if self._lock() is not False and self.path.exists():
                    return
                self.close()  # somebody took it for a file that was left, and removes it
            time.sleep(0.01)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def take_over(self) -> bool | None:
        """Lock the file of a worker that has ended.

        Returns
        -------
        bool or None
            Whether it has ended; None if that cannot be seen from its file.
        """
        try:
            self._open(_FLAGS)
        except OSError:  # gone meanwhile, or of another user
            return None
        locked = self._lock()
        if locked is None and self._silence() > _SILENCE:
            return True
        if not locked:
            self.close()
        return locked

    def append(self, key: str, value: str) -> None:
        """Save a reply; when it returns, the reply survives the death of this process."""
        assert self._descriptor is not None
        line = json.dumps([key, value]).encode() + b"\n"
        n_written = os.write(self._descriptor, line)
        if n_written < len(line):  # half of it would spoil the next one
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - n_written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self) -> dict[str, str]:
        """Return what is in the file; a line that was cut off or damaged is left out."""
        lines = self._content().split(b"\n")
        found: dict[str, str] = {}
        for line in lines[:-1]:
            with contextlib.suppress(ValueError, TypeError):
                key, value = json.loads(line)
                if isinstance(key, str) and isinstance(value, str):
                    found.setdefault(key, value)
        return found

    def _content(self) -> bytes:
        if self._descriptor is None:
            try:
                return self.path.read_bytes()
            except OSError:  # taken in and removed meanwhile
                return b""
        # Not by its path: what was kept counts, also if the file was removed under us.
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with open(self._descriptor, "rb", closefd=False) as file:
            return file.read()

    def empty(self) -> None:
        """Remove what is in the file, but not the file: who appends to it goes on."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.path if self._descriptor is None else self._descriptor, 0)

    def remove(self) -> None:
        """Remove the file; its folder goes at the end of the process, if it is empty then."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Unlock the file and leave it."""
        _open_ones.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self, flags: int) -> None:
        self._descriptor = os.open(self.path, flags, 0o600)
        _open_ones.add(self)
        _folders.add(self.path.parent)

    def _lock(self) -> bool | None:
        """Lock the file; False if another holds it, None where there are no locks."""
        if fcntl is None or self._descriptor is None:
            return None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _silence(self) -> float:
        """Return the seconds since the last reply."""
        return time.time() - self.path.stat().st_mtime


_open_ones: weakref.WeakSet[Arrivals] = weakref.WeakSet()
_folders: set[Path] = set()


def _leave_all() -> None:
    for arrivals in list(_open_ones):
        arrivals.close()


@atexit.register
def _remove_folders() -> None:
    for folder in _folders:  # once: to remove one takes longer than to keep a reply
        with contextlib.suppress(OSError):
            folder.rmdir()


if hasattr(os, "register_at_fork"):
    # A lock ends with the last process that has it, and a forked one has the locks of its parent.
    os.register_at_fork(after_in_child=_leave_all)


def all_arrivals(database: Path) -> Iterator[Arrivals]:
    """Yield the files beside a database."""
    try:
        names = sorted(os.listdir(_folder(database)))
    except OSError:
        return
    for name in names:
        yield Arrivals(_folder(database) / name)


def _folder(database: Path) -> Path:
    return Path(f"{os.path.realpath(database)}-arrived")
