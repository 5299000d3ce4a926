"""Progress of long calls on stderr: one bar, or a line every ten seconds where nobody watches.

Whoever works tells how far it is with :func:`bar`; whoever calls others says with :func:`stage`
what they are at, and keeps what its parts share with :func:`shared_in_call`. However many bars are
open, also in several threads, one is shown, with their sum.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from skllm_calib.exceptions import InvalidInput

__all__ = [
    "Update",
    "Verbose",
    "bar",
    "check_verbose",
    "current_call",
    "in_call",
    "note",
    "shared_in_call",
    "stage",
]

T = TypeVar("T")

Verbose = int | Literal["auto"]
"""0: silent. 1: shown at once. "auto": shown for what takes more than some seconds."""


class Update(Protocol):
    """Is told how much is done, of how much in all, and what else to say of it."""

    def __call__(self, done: int, total: int, more: str = "") -> None:  # noqa: D102 (see above)
        ...


_SOME_SECONDS = 3.0
_BETWEEN_LINES = 10.0


def check_verbose(verbose: Any) -> Verbose:
    """Return a `verbose` parameter, or raise InvalidInput."""
    if isinstance(verbose, str) and verbose != "auto":
        raise InvalidInput(f"verbose={verbose!r}: must be 'auto', 0 or 1", "verbose", value=verbose)
    return "auto" if isinstance(verbose, str) else int(verbose)


class Call(NamedTuple):
    """A call of the outermost estimator: what it is at, and what its parts share."""

    at: str
    shared: dict[str, Any]


_call: ContextVar[Call | None] = ContextVar("_call", default=None)


def current_call() -> Call | None:
    """Return the call that this code is a part of, to be passed to :func:`in_call`."""
    return _call.get()


def in_call(call: Call | None, function: Callable[..., T], *args: Any) -> T:
    """Run a function as a part of a call: another thread does not know of it by itself."""
    token = _call.set(call)
    try:
        return function(*args)
    finally:
        _call.reset(token)


def shared_in_call(name: str, make: Callable[[], T]) -> T:
    """Return what the parts of a call share under a name; outside of calls a new one."""
    call = _call.get()
    found: T = make() if call is None else call.shared.setdefault(name, make())
    return found


@contextmanager
def stage(at: str = "") -> Iterator[None]:
    """Say what a call is at while others work for it, and that their bars are one."""
    outer = _call.get() or Call("", {})
    token = _call.set(Call(", ".join(filter(None, (outer.at, at))), outer.shared))
    _board.open()
    try:
        yield
    finally:
        _board.close()
        _call.reset(token)


@contextmanager
def bar(verbose: Verbose, unit: str) -> Iterator[Update | None]:
    """Give a function (done, total, more) that shows progress; None if that is not wanted.

    Parameters
    ----------
    verbose : int or "auto"
    unit : str
        What is counted, in the plural.
    """
    if not verbose:
        yield None
        return
    call = _call.get()
    task = _Task(unit, "" if call is None else call.at, at_once=verbose != "auto")
    _board.open()
    _board.add(task)

    def update(done: int, total: int, more: str = "") -> None:
        task.tell(done, total, more)
        _board.show()

    try:
        yield update
    finally:
        _board.remove(task)
        _board.close()


def note(text: str) -> None:
    """Say what everybody waits for, beside how far they are; "" for nothing. From any thread."""
    _board.note(text)


@dataclass(eq=False)
class _Task:
    """What is done of something; those of several threads add up to one."""

    unit: str
    at: str
    at_once: bool
    done: int = 0
    total: int = 0
    more: str = ""
    n_at_start: int = 0  # what was there already says nothing of the rate
    began: float | None = None

    def tell(self, done: int, total: int, more: str) -> None:
        if self.began is None:
            self.n_at_start, self.began = done, time.monotonic()
        self.done, self.total, self.more = done, total, more

    @property
    def seconds(self) -> float:
        return 0.0 if self.began is None else time.monotonic() - self.began

    def line(self) -> str:
        parts = [f"{self.done:,} of {self.total:,} {self.unit}"]
        rate = (self.done - self.n_at_start) / self.seconds if self.seconds > 0 else 0.0
        if rate > 0:
            parts.append(f"{rate:.3g} per second")
            if self.done < self.total:
                parts.append(f"{_duration((self.total - self.done) / rate)} left")
        parts += [self.more] if self.more else []
        return ": ".join(filter(None, (self.at, ", ".join(parts))))


def _together(tasks: list[_Task]) -> _Task:
    if len(tasks) == 1:
        return tasks[0]
    names = list(dict.fromkeys(task.at for task in tasks))
    return _Task(
        tasks[0].unit,
        f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0],
        any(task.at_once for task in tasks),
        sum(task.done for task in tasks),
        sum(task.total for task in tasks),
        "",
        sum(task.n_at_start for task in tasks),
        min(task.began for task in tasks if task.began is not None),
    )


class _Board:
    """The one place where progress is shown, for all threads of the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._n_open = 0
        self._tasks: list[_Task] = []
        self._began = 0.0
        self._display: _Bar | _Lines | None = None
        self._note = ""

    def open(self) -> None:
        with self._lock:
            if not self._n_open:
                self._began = time.monotonic()
            self._n_open += 1

    def close(self) -> None:
        with self._lock:
            self._n_open -= 1
            if not self._n_open and self._display is not None:
                self._display.close()
                self._display = None

    def add(self, task: _Task) -> None:
        with self._lock:
            self._tasks.append(task)

    def remove(self, task: _Task) -> None:
        with self._lock:
            self._tasks.remove(task)

    def note(self, text: str) -> None:
        with self._lock:
            is_news, self._note = text != self._note, text
            if is_news and any(task.began is not None for task in self._tasks):
                self.show()

    def show(self) -> None:
        with self._lock:
            task = _together([task for task in self._tasks if task.began is not None])
            task = replace(task, more=", ".join(filter(None, (task.more, self._note))))
            if self._display is None:
                wait = 0.0 if task.at_once else _SOME_SECONDS
                if time.monotonic() - self._began < wait:
                    return
                is_watched = "ipykernel" in sys.modules or sys.stderr.isatty()
                first = self._began + (0.0 if task.at_once else _BETWEEN_LINES)
                tqdm = _import_tqdm() if is_watched else None
                self._display = _Lines(first) if tqdm is None else _Bar(tqdm)
            self._display.show(task)


class _Lines:
    """A line every ten seconds, and one at the end."""

    def __init__(self, first: float) -> None:
        self._next = first
        self._unprinted: _Task | None = None
        self._has_printed = False

    def show(self, task: _Task) -> None:
        self._unprinted = task
        if time.monotonic() >= self._next:
            self._print(task)

    def close(self) -> None:
        if self._has_printed and self._unprinted is not None:
            self._print(self._unprinted)

    def _print(self, task: _Task) -> None:
        print(task.line(), file=sys.stderr, flush=True)  # noqa: T201 (it is this)
        self._unprinted, self._has_printed = None, True
        self._next = time.monotonic() + _BETWEEN_LINES


class _Bar:
    """A bar of tqdm, which is begun again where something else is counted."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._shown: Any = None
        self._what: Any = None

    def show(self, task: _Task) -> None:
        if self._what != (task.at, task.began):
            self.close()
            self._what = task.at, task.began
            self._shown = self._tqdm(
                desc=task.at or None,
                total=task.total,
                initial=task.n_at_start,
                unit=f" {task.unit}",
                leave=False,
                file=sys.stderr,
            )
            self._shown.start_t -= task.seconds
        self._shown.total = task.total
        self._shown.set_postfix_str(task.more, refresh=False)
        self._shown.update(task.done - self._shown.n)

    def close(self) -> None:
        if self._shown is not None:
            self._shown.close()


def _import_tqdm() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of notebooks without widgets: a plain bar will do
            from tqdm.auto import tqdm  # noqa: PLC0415 (optional)
    except ImportError:
        return None
    return tqdm


def _duration(seconds: float) -> str:
    """Write a time as people say it.

    Examples
    --------
    >>> _duration(42.4), _duration(150), _duration(7_300)
    ('42 s', '2 min 30 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


_board = _Board()
