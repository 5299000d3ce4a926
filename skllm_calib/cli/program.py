"""The program: its arguments, its errors, its exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from skllm_calib._version import __version__
from skllm_calib.cli import (
    cache,
    calibrate,
    decide,
    demo,
    download,
    evaluate,
    monitor,
    predict,
    queue,
    report,
)
from skllm_calib.cli.console import note
from skllm_calib.exceptions import SkllmCalibError

__all__ = ["main"]

_COMMANDS = (
    demo, download, calibrate, evaluate, predict, decide, report, queue, monitor, cache
)  # fmt: skip
_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
_EPILOG = r"""
A first look, without a key or a network:
  skllm-calib download smollm2
  skllm-calib demo

On labelled rows of your own (CSV, TSV, JSONL or Parquet):
  skllm-calib calibrate rows.csv --text text --label label --model smollm2 --out my-classifier
  skllm-calib evaluate rows.csv --text text --label label --classifier my-classifier
  skllm-calib predict new.csv --text text --classifier my-classifier --out answers.csv

What may pass without a person, and what becomes of the rest:
  skllm-calib decide new.csv --text text --classifier my-classifier --out decided.csv \
    --labelled rows.csv --label label --target-precision 0.95
  skllm-calib report rows.csv --text text --label label --classifier my-classifier \
    --out report.html
  skllm-calib queue add review.sqlite decided.csv --text text
  skllm-calib queue serve review.sqlite
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 1 for an error, 3 for a monitor in alarm, 130 for an
        interrupt. Arguments that cannot be understood end the process with code 2, as everywhere.
    """
    args = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)  # for programmers, not for this audience
        warnings.showwarning = _show_warning
        try:
            code: int = args.run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            note("")
            note(f"Stopped. {getattr(args, 'how_to_resume', 'Nothing was changed.')}")
            return _INTERRUPTED
        except BrokenPipeError:
            # The reader of our output (such as `head`) has seen enough: that is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (SkllmCalibError, ValueError, TypeError, OSError) as e:
            if args.debug:
                raise
            note(f"skllm-calib: error: {_one_line(e)}")
            return 1
        return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skllm-calib",
        description="Calibrated probabilities from language models that classify texts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skllm-calib {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="no progress bar and no remarks")
    common.add_argument("--debug", action="store_true", help="show where an error comes from")
    for command in _COMMANDS:
        sub = commands.add_parser(
            command.__name__.rpartition(".")[2],
            help=command.HELP,
            description=command.__doc__,
            parents=[common],
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _one_line(error: Exception) -> str:
    """Put an error into one line, in the terms of this program rather than of the library."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace("on_error='nan'", "--on-error nan").replace("api_key_env", "--api-key-env")


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    note(f"skllm-calib: warning: {' '.join(str(message).split())}")
