"""Tables of classes by name, whose classes are imported when they are first looked up."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar

__all__ = ["ClassTable"]

T = TypeVar("T")


class ClassTable(MutableMapping[str, type[T]]):
    """Classes by the names users give.

    Parameters
    ----------
    addresses : mapping of str to str
        Addresses of the form "module:Class"; a class is imported when it is looked up.

    Notes
    -----
    To add one at run time, assign the class or its address.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._classes: dict[str, type[T] | str] = dict(addresses)

    @property
    def class_names(self) -> dict[str, str]:
        """The name of each class in the table, by the name of the class itself."""
        return {
            one.partition(":")[2] if isinstance(one, str) else one.__name__: name
            for name, one in self._classes.items()
        }

    def __getitem__(self, name: str) -> type[T]:
        found = self._classes[name]
        if isinstance(found, str):
            module, _, cls = found.partition(":")
            found = self.checked(name, getattr(importlib.import_module(module), cls))
            self._classes[name] = found
        return found

    def __setitem__(self, name: str, cls: type[T] | str) -> None:
        self._classes[name] = cls if isinstance(cls, str) else self.checked(name, cls)

    def __delitem__(self, name: str) -> None:
        del self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def checked(self, name: str, cls: type[T]) -> type[T]:
        """Return a class that may have this name; tables with rules refuse others."""
        return cls
