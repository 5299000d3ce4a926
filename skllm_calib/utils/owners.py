"""Which process something belongs to, and whether that process still runs."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

__all__ = ["has_ended", "new_owner"]

_PROC = Path("/proc")
_ENDED = "ZX"  # states of a process that was killed and that its parent has not noticed


def new_owner() -> str:
    """Return a name, used once, that tells which process uses it.

    It holds the name of the machine, the number of the process and, where the system shows it, when
    the process began: numbers are given again, after a restart of a container within seconds.
    """
    pid = os.getpid()
    _, began = _look(pid)
    return f"{socket.gethostname()}/{pid}/{began}-{uuid.uuid4().hex}"


def has_ended(owner: str) -> bool:
    """Return whether the process of a name from :func:`new_owner` is known to have ended.

    A process of another machine cannot be seen, and never counts as ended.
    """
    host, _, name = owner.partition("/")
    number, _, rest = name.partition("/")
    if os.name != "posix" or host != socket.gethostname() or not number.isdigit():
        return False
    pid, began = int(number), rest.rpartition("-")[0]
    try:
        os.kill(pid, 0)  # sends nothing, only looks
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process, but it runs
        pass
    state, seen = _look(pid)
    return state in _ENDED or bool(began and seen and began != seen)


def _look(pid: int) -> tuple[str, str]:
    """Return the state of a process and when it began; "?" and nothing where there is no /proc."""
    try:
        # After the name in brackets, which may hold anything: state, ..., start in clock ticks
        fields = (
            (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        )
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return fields[0], f"{boot}.{fields[19]}"
    except (OSError, IndexError):
        return "?", ""
