"""Commands of a command, such as ``queue add``: each is one function with its arguments."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Subcommand", "add_subcommands"]


class Subcommand(NamedTuple):
    """A command of a command; the docstring of ``run`` describes it to the user."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_subcommands(parser: argparse.ArgumentParser, subcommands: Sequence[Subcommand]) -> None:
    """Declare them; the function that was asked for ends up in ``args.subcommand``."""
    which = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text, add_arguments, run in subcommands:
        sub = which.add_parser(name, help=text, description=inspect.cleandoc(run.__doc__ or text))
        # SUPPRESS: a default here would undo what was said before the name.
        for option, meaning in (
            ("--quiet", "no remarks"),
            ("--debug", "show where an error comes from"),
        ):
            sub.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=meaning)
        add_arguments(sub)
        sub.set_defaults(subcommand=run)
