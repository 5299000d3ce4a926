"""Objects that are kept as text in a file."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Self

from skllm_calib.utils.files import read_saved, write_text

__all__ = ["SavedAsText"]


class SavedAsText:
    """Files for a class with ``to_json`` and ``from_json``."""

    @abstractmethod
    def to_json(self) -> str:
        """Return the object as JSON."""

    @classmethod
    @abstractmethod
    def from_json(cls, text: str) -> Self:
        """Return the object that :meth:`to_json` wrote."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file, which is replaced in one step or not at all.

        Parameters
        ----------
        path : str or path-like
            The file.
        """
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that :meth:`save` wrote; nothing in it is run.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        loaded : object
            An equal object.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DamagedFile
            If the file holds something else, or contradicts itself.
        """
        way_out = f"Restore a backup of it, or fit and save a new {cls.__name__}."
        return read_saved(path, cls.__name__, cls.from_json, way_out)
