"""The commands of ``skllm-calib queue``."""

from __future__ import annotations

import argparse

from skllm_calib.cli.console import remark, say
from skllm_calib.cli.nested import Subcommand, add_subcommands
from skllm_calib.cli.queue.exchange import (
    export,
    export_arguments,
    hand_out,
    hand_out_arguments,
    take_in,
    take_in_arguments,
)
from skllm_calib.cli.queue.opening import add_queue, in_our_words, open_or_make, open_queue
from skllm_calib.cli.queue.rows import queue_rows
from skllm_calib.cli.queue.status import show_status
from skllm_calib.cli.tables import read_table
from skllm_calib.operations.queue import ReviewQueue

HELP = "rows that wait for a person, and their labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    add_subcommands(
        parser,
        [
            Subcommand("add", "add rows that 'predict' or 'decide' wrote", _add_arguments, _add),
            Subcommand("status", "how the work stands", _status_arguments, _status),
            Subcommand("serve", "a page on this machine to label with", _serve_arguments, _serve),
            Subcommand("hand-out", "write rows for a reviewer", hand_out_arguments, hand_out),
            Subcommand("take-in", "read the reviewer's labels", take_in_arguments, take_in),
            Subcommand("label", "say what one row is", _label_arguments, _label),
            Subcommand("undo", "take back somebody's last label", _undo_arguments, _undo),
            Subcommand("export", "write the rows with a label", export_arguments, export),
        ],
    )


def run(args: argparse.Namespace) -> int:
    """Run the command that was asked for."""
    with in_our_words():
        code: int = args.subcommand(args)
        return code


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_queue(parser)
    parser.add_argument("file", metavar="FILE", help="rows that 'predict' or 'decide' wrote")
    parser.add_argument("--text", required=True, metavar="COL", help="column with the texts")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--id", metavar="COL", help="column that tells the rows apart (default: id)")
    which.add_argument(
        "--number-rows", metavar="PREFIX", help="no such column: call them PREFIX-1, PREFIX-2, ..."
    )
    parser.add_argument(
        "--evidence",
        metavar="COL",
        action="append",
        default=[],
        help="another column that reviewers may look at; can be repeated",
    )
    parser.add_argument(
        "--review-all",
        action="store_true",
        help="ask about every row, whatever the column 'action' says",
    )
    parser.add_argument(
        "--take-as",
        nargs=2,
        action="append",
        default=[],
        metavar=("OWN", "ACTION"),
        help="what an action of your own means: accept, review or reject; can be repeated",
    )
    parser.add_argument(
        "--audit-share",
        type=_share,
        metavar="P",
        help="share of accepted rows that a person looks at, from now on (0.05 in a new queue)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="let rows replace those with the same id"
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def _add(args: argparse.Namespace) -> int:
    """Add the rows of a file to a queue, which is made if there is none.

    Rows to review wait for a person, and so does a random sample of the accepted ones, and rows
    where the model failed. A row is known by its id: the same row again changes nothing, and the
    same id with another content is an error without --replace.
    """
    labels, rows = queue_rows(read_table(args.file), args)
    queue = open_or_make(args.queue, labels)
    known = sorted(str(label) for label in queue.classes.tolist())
    if labels != known:
        raise ValueError(
            f"{args.file!r} has probabilities of {', '.join(labels)}, but the queue at "
            f"{args.queue!r} is about {', '.join(known)}: make another queue for them"
        )
    if args.audit_share is not None:
        queue = ReviewQueue(args.queue, audit_share=args.audit_share)
    added = queue.add(rows, replace=args.replace)
    say(
        f"{added.n_new:,} new rows, {added.n_asked:,} of them for a person; "
        f"{added.n_unchanged:,} were there already, {added.n_replaced:,} were replaced"
    )
    return 0


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    add_queue(parser)
    parser.add_argument("--json", metavar="FILE", help="write all figures; - for stdout")


def _status(args: argparse.Namespace) -> int:
    """Show how many rows wait, are done or disputed, and how many accepted rows are wrong."""
    show_status(open_queue(args.queue), args)
    return 0


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    add_queue(parser)
    parser.add_argument(
        "--port", type=_port, default=0, metavar="N", help="port (default: a free one)"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: it lies between 0 and 65535")
    return int(text)


def _serve(args: argparse.Namespace) -> int:
    """Serve a page on this machine for reviewers to label with, until Ctrl-C.

    Its address is printed. It holds a secret, made anew each time: who knows it may label.
    """
    queue = open_queue(args.queue)
    try:
        server = queue.server(args.port)
    except OSError as e:
        raise ValueError(
            f"port {args.port} cannot be used ({e.strerror}): take another with --port N, or leave "
            "it out for a free one"
        ) from e
    say(server.url)
    remark(args, "Open this address in a browser. Who knows it may label. Stop with Ctrl-C.")
    server.serve_forever()
    remark(args, f"Stopped. {queue.statistics().n_waiting:,} rows wait; all labels are kept.")
    return 0


def _label_arguments(parser: argparse.ArgumentParser) -> None:
    add_queue(parser)
    parser.add_argument("id", metavar="ID", help="the row")
    parser.add_argument("label", metavar="LABEL", help="what it is")
    parser.add_argument("--reviewer", required=True, metavar="NAME", help="who says so")
    parser.add_argument(
        "--final", action="store_true", help="count this alone, where reviewers disagree"
    )


def _label(args: argparse.Namespace) -> int:
    """Keep what a reviewer says of one row. With --final it settles a dispute."""
    new = open_queue(args.queue).add_label(
        args.id, args.label, reviewer=args.reviewer, final=args.final
    )
    how = "" if new else ", as before"
    say(f"{args.id} is {args.label}, says {args.reviewer}{how}")
    return 0


def _undo_arguments(parser: argparse.ArgumentParser) -> None:
    add_queue(parser)
    parser.add_argument("--reviewer", required=True, metavar="NAME", help="whose label")


def _undo(args: argparse.Namespace) -> int:
    """Take back the last label of a reviewer; called again, the one before."""
    taken_back = open_queue(args.queue).undo(args.reviewer)
    if taken_back is None:
        raise ValueError(f"there is no label of {args.reviewer!r} to take back")
    name, label = taken_back
    say(f"Took back that {name} is {label}")
    return 0
