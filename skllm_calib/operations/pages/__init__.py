"""What the pages of report and queue share: their colours, and how templates are read."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

from skllm_calib.exceptions import MissingDependency

__all__ = ["page_templates"]


def page_templates(room: str, caller: str) -> Any:
    """Return the templates of a room; what they are filled with is escaped, but for Markup.

    Parameters
    ----------
    room : {"report", "queue"}
        The folder whose ``templates`` are wanted, which is also the name of the extra.
    caller : str
        Who needs them, for the message.

    Returns
    -------
    environment : jinja2.Environment
        Its function ``file(name)`` gives a style sheet or a script as it is: of ``templates``, or
        of this folder.

    Raises
    ------
    MissingDependency
        If Jinja is not installed.
    """
    try:
        import jinja2  # noqa: F401, PLC0415 (optional)
    except ImportError as error:
        raise MissingDependency(
            f"{caller} needs jinja2: pip install 'skllm-calib[{room}]'"
        ) from error
    return _environment(room)


@functools.cache
def _environment(room: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 (optional)
    from markupsafe import Markup  # noqa: PLC0415 (comes with Jinja)

    shared, own = files(__name__), files(f"skllm_calib.operations.{room}") / "templates"

    def read(name: str) -> str:
        place = own if (own / name).is_file() else shared
        return (place / name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["file"] = lambda name: Markup(read(name))
    return environment
