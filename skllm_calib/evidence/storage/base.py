"""Storage and Claims: what a cache and the workers that fill it need of a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

__all__ = ["BATCH", "FAILURE", "Claims", "Looked", "Storage", "failure_key", "understood"]

T = TypeVar("T")

FAILURE = "failure-"
BATCH = "batch-"


class Storage(ABC):
    """Values by key, shared by threads, processes and, with some databases, machines.

    Keys that begin with "failure-" hold failures, those that begin with "batch-" what is known of
    batches; all others hold replies. Nothing is made before something is written: a storage that
    does not exist yet is an empty one.

    Attributes
    ----------
    path : Path or str
        The file or the address, from which another process opens the same storage.
    """

    path: Path | str

    @abstractmethod
    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the values of those keys that are known; one that cannot be read is left out."""

    @abstractmethod
    def get_since(self, keys: Sequence[str], moment: float) -> dict[str, str]:
        """Return what was put there since a moment, given as ``time.time()`` here."""

    @abstractmethod
    def put(self, items: Mapping[str, str]) -> None:
        """Save all or none; a known reply keeps its first value, a failure takes the new one.

        When it returns, the values survive the death of this process.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str], before: float) -> bool:
        """Remove what was put there before a moment; False where nothing can be written."""

    @abstractmethod
    def remove_failures(self) -> int:
        """Remove all failures, and return how many there were."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of replies."""

    @abstractmethod
    def size(self) -> int:
        """Return how many bytes they take."""

    @abstractmethod
    def clear(self) -> int:
        """Remove all but shared texts, give the space back; return how many replies."""

    def change(self, name: str, change: Callable[[str | None], str]) -> str:
        """Replace a text as :meth:`change_at` does, without looking at the time."""
        return self.change_at(name, lambda value, now: change(value))

    @abstractmethod
    def change_at(
        self, name: str, change: Callable[[str | None, float], str], *, durable: bool = True
    ) -> str:
        """Replace a small text that all workers share, with nobody else in between; return it.

        Parameters
        ----------
        name : str
            Which text.
        change : callable
            Takes the text that is there, or None, and the time in seconds by the clock of the
            database, which is the same for all workers; returns the new text. It is not called
            twice, and others wait meanwhile.
        durable : bool, default=True
            Whether it has to survive the machine of the database.
        """

    @abstractmethod
    def claims(self) -> Claims:
        """Return an object with which one worker claims keys."""


class Looked(NamedTuple):
    """What a worker finds when it claims keys: objects, keys to ask for, number of damaged ones."""

    known: Mapping[str, object]
    mine: list[str]
    n_damaged: int


class Claims(ABC):
    """The keys that one worker is asking for, which others then wait for."""

    @abstractmethod
    def claim(self, keys: Sequence[str], read: Callable[[str], object]) -> Looked:
        """Claim the keys that are not known and that no other worker holds.

        Parameters
        ----------
        keys : sequence of str
        read : callable
            Makes an object of a value; raises ValueError if it is damaged. Damaged values are
            removed, and their keys claimed.
        """

    @abstractmethod
    def keep(self, key: str, value: str) -> None:
        """Save a value; when it returns, the value survives the death of this process."""

    @abstractmethod
    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give up claims, None for all; what was kept is there for everybody."""


def failure_key(key: str) -> str:
    """Return the key under which the failure to answer a request is kept, beside its reply."""
    return f"{FAILURE}{key}"


def understood(
    values: Mapping[str, str | None], read: Callable[[str], T]
) -> tuple[dict[str, T], list[str]]:
    """Return the objects made of values, and the keys of the damaged ones."""
    found: dict[str, T] = {}
    damaged: list[str] = []
    for key, value in values.items():
        try:
            if value is None:
                raise ValueError("no text")
            found[key] = read(value)
        except ValueError:
            damaged.append(key)
    return found, damaged
