"""Options and commands in few words; what a command does is imported when it runs."""

import copy
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import rich_click as click

FILE = click.Path(allow_dash=True)  # '-' is standard input or output


def flag_of(name: str) -> str:
    """Return the option that sets a parameter."""
    return f"--{name.replace('_', '-')}"


def named(where: str) -> Any:
    """Import what ``module:NAME`` names."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


class Named(click.ParamType):  # type: ignore[type-arg]
    """Names out of a table of the library, ``module:NAME``, imported only when one is given."""

    name = "name"

    def __init__(self, where: str, *, several: bool = False) -> None:
        self._where, self._several = where, several

    def _names(self) -> list[str]:
        return list(named(f"skllm_calib.{self._where}"))

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Check the names; several come between commas and become a list."""
        if not isinstance(value, str):
            return value
        chosen = [name.strip() for name in value.split(",")] if self._several else [value]
        if value != param.default:
            known = self._names()
            for name in chosen:
                if name not in known:
                    self.fail(f"{name!r} is not one of {', '.join(known)}", param, ctx)
        return chosen if self._several else value

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        """Complete the name that is typed last."""
        from click.shell_completion import CompletionItem

        head = incomplete[: incomplete.rfind(",") + 1]
        names = [head + name for name in self._names()]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class _Group(click.RichGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """Show the commands in the order of their use."""
        return list(self.commands)


def argument(name: str, text: str, type: Any = None, **more: Any) -> Any:
    """Declare a positional argument."""
    return click.RichArgument(
        [name], help=text, type=type, metavar=name.upper(), panel="Arguments", **more
    )


def option(
    flag: str, metavar: str, text: str, type: Any = None, default: Any = None, **more: Any
) -> Any:
    """Declare an option with a value; a default is shown."""
    return click.RichOption(
        [flag], metavar=metavar, help=text, type=type, default=default,
        show_default=default is not None, **more,
    )  # fmt: skip


def switch(flag: str, text: str, **more: Any) -> Any:
    """Declare an option without a value."""
    return click.RichOption([flag], is_flag=True, help=text, **more)


def command(  # noqa: PLR0917 (read as a table)
    name: str,
    where: str,
    text: str,
    examples: str,
    arguments: Sequence[Any],
    groups: Mapping[str, Sequence[Any]],
    *,
    not_both: Sequence[Sequence[str]] = (),
    one_of: Sequence[str] = (),
) -> Any:
    """Declare a command.

    ``where`` is its ``module:function`` in ``skllm_calib.cli``, called with all values in one
    namespace; ``examples`` are lines, and what they are good for after ``#``; ``groups`` are
    options by title. Of the names in each of ``not_both`` at most one can be given, and of those
    in ``one_of`` exactly one.
    """

    def run(**given: Any) -> int:
        context: Any = click.get_current_context()
        for names in (*not_both, one_of):
            flags = [flag_of(name) for name in names]
            both = [f for f, name in zip(flags, names, strict=True) if given[name] is not None]
            if len(both) > 1:
                raise click.UsageError(f"{both[0]} and {both[1]} cannot be used together.", context)
            if names is one_of and one_of and not both:
                raise click.UsageError(f"Missing option {' or '.join(flags)}.", context)
        args: SimpleNamespace = context.obj
        vars(args).update(given, flags=[one.opts[0] for one in context.command.params])
        code: int = named(f"skllm_calib.cli.{where}")(args)
        return code

    parameters = list(arguments)
    for title, options in groups.items():
        parameters += [copy.copy(one) for one in options]  # several commands share some
        for one in parameters[-len(options) :]:
            one.panel = title
    return click.RichCommand(
        name=name,
        params=[*parameters, *_general()],
        callback=run,
        help=text,
        epilog=_shown(examples),
    )


def commands(name: str, text: str, examples: str, members: Sequence[Any], **more: Any) -> Any:
    """Declare commands of a command, such as ``queue add``."""
    return _Group(
        name=name, commands={one.name: one for one in members}, help=text, epilog=_shown(examples),
        params=[*more.pop("params", []), *_general()], no_args_is_help=True, **more,
    )  # fmt: skip


def _general() -> list[Any]:
    def remember(context: Any, parameter: Any, value: bool) -> None:
        if value:
            setattr(context.obj, parameter.name, True)

    kept: dict[str, Any] = {"callback": remember, "expose_value": False}
    return [
        switch("--quiet", "No progress bar and no remarks.", **kept),
        switch("--debug", "Show where an error comes from.", **kept),
    ]


def _shown(examples: str) -> str:
    lines = [line.strip() for line in examples.strip().splitlines()]
    lines = [line if line[0] == "#" else f"$ skllm-calib {line}" for line in lines]
    return "\n\n".join(["Examples:", *lines])  # a line each
