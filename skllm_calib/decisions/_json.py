"""What decisions that are kept as JSON share: text and files, on top of plain values."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils.saved import SavedAsText

__all__ = ["JsonMixin"]


class JsonMixin(SavedAsText):
    """JSON and files for a class with ``to_dict`` and ``from_dict``."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""

    @classmethod
    @abstractmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the object that :meth:`to_dict` described."""

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON.

        Returns
        -------
        text : str
            Strict JSON, without the NaN and Infinity that some readers refuse.
        """
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what :meth:`to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            JSON of :meth:`to_json`. It is data: nothing in it is run.

        Returns
        -------
        loaded : object
            An equal object.

        Raises
        ------
        ValueError
            If the text is something else, or contradicts itself.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"This is not a saved {cls.__name__}: it is not JSON ({error}).", "text"
            ) from None
        return cls.from_dict(content)
