"""The program: its arguments, its errors, its exit codes."""

import os
import sys
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import rich_click as click
from click.exceptions import Exit, NoArgsIsHelpError

from skllm_calib.cli.console import note
from skllm_calib.cli.interface import program
from skllm_calib.cli.interface.declare import flag_of
from skllm_calib.exceptions import MissingDependency, SkllmCalibError

NAME = "skllm-calib"
COMPLETE = "_SKLLM_CALIB_COMPLETE"  # what the script of 'completion' sets when it asks
# Parameters of the library that are called otherwise here.
_FLAGS = {
    "ids": "--id",
    "n_rows": "--n-listed",
    "sample_weight": "--weight",
    "unknown": "--ignore-unknown",
    "y": "--label",
}
_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code, or end the process as `main` says."""
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(program, {"obj": SimpleNamespace()}, NAME, COMPLETE, instruction)
    args = SimpleNamespace(
        quiet=False, debug=False, flags=[], how_to_resume="Nothing was changed.", name_of_row=None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)  # for programmers, not for this audience

        def show(message: Any, *_: Any, **__: Any) -> None:
            note(f"{NAME}: warning: {' '.join(str(message).split())}")

        warnings.showwarning = show
        try:
            given = sys.argv[1:] if argv is None else list(argv)
            with program.make_context(NAME, given, obj=args) as context:
                code: int = program.invoke(context)
            sys.stdout.flush()
            return code
        except Exit as e:  # --help and --version
            raise SystemExit(e.exit_code) from None
        except NoArgsIsHelpError as e:
            click.echo(e.ctx.get_help() if e.ctx else "")
            raise SystemExit(e.exit_code) from None
        except click.UsageError as e:
            _show_usage(e)
            raise SystemExit(e.exit_code) from None
        except KeyboardInterrupt:
            note(f"\nStopped. {args.how_to_resume}")
            return _INTERRUPTED
        except BrokenPipeError:
            # The reader of our output (such as `head`) has seen enough: that is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (SkllmCalibError, MissingDependency, ValueError, TypeError, OSError) as e:
            if args.debug:
                raise
            note(f"{NAME}: error: {_one_line(e, args)}")
            return 1


def _show_usage(error: click.UsageError) -> None:
    if error.ctx is None:
        note(f"{NAME}: error: {error.format_message()}")
        return
    path = error.ctx.command_path
    pieces = " ".join(error.ctx.command.collect_usage_pieces(error.ctx))
    note(f"usage: {path} {pieces}")
    note(f"{path}: error: {error.format_message()}")
    note(f"'{path} --help' shows all options, with examples.")


def _one_line(error: Exception, args: SimpleNamespace) -> str:
    """Put an error into one line; what it says of rows and parameters is said of ours, too."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    row, parameter = getattr(error, "row", None), getattr(error, "parameter", None)
    if row is not None and args.name_of_row is not None:
        same = f", row {row} of those used" * (f"row {row}" in text)
        text = f"{args.name_of_row(row)}{same}: {text}"
    # The options that are called by the names of parameters in the library.
    named = {parameter, getattr(error, "way_out", None)} - {None}
    flags = {_FLAGS.get(name) or flag_of(name) for name in map(str, named)}
    here = sorted(flag for flag in flags & set(args.flags) if flag not in text)
    return f"{text} (here: {', '.join(here)})" if here else text
