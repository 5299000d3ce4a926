"""Rows of a review queue to files for people and calibrators, and labels back."""

from __future__ import annotations

import argparse
from pathlib import Path

from skllm_calib.cli.console import note, remark, say
from skllm_calib.cli.options import count_or_all
from skllm_calib.cli.queue.opening import add_queue, open_queue, translated
from skllm_calib.cli.tables import Table, check_format, write_table
from skllm_calib.exceptions import BadLines

__all__ = [
    "export",
    "export_arguments",
    "hand_out",
    "hand_out_arguments",
    "take_in",
    "take_in_arguments",
]

_LISTED = 20
_HANDED_OUT = (".csv", ".jsonl", ".ndjson")


def hand_out_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of 'queue hand-out'."""
    add_queue(parser)
    parser.add_argument("out", metavar="OUT", help="file for the reviewer: .csv or .jsonl")
    parser.add_argument(
        "--n", type=count_or_all, metavar="N", help="at most so many (default: all that wait)"
    )
    parser.add_argument(
        "--order",
        choices=["doubt", "added"],
        default="doubt",
        help="the most doubtful first, or as they came (default: %(default)s)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace OUT, and labels that may be in it"
    )


def hand_out(args: argparse.Namespace) -> int:
    """Write rows that wait to a file, whose column 'label' a reviewer fills in.

    'take-in' reads it back. The rows go on waiting until then: two files that are handed out at
    the same time hold the same rows.
    """
    queue = open_queue(args.queue)
    _check_handed_out(args.out)
    if Path(args.out).exists() and not args.force:
        raise ValueError(
            f"{args.out!r} exists already, and may hold labels: name another file, or pass --force"
        )
    if not queue.statistics().n_waiting:
        note("No row waits for a person: nothing was written.")
        return 0
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    n = queue.write_waiting(args.out, args.n, order=args.order)
    names = ", ".join(str(label) for label in queue.classes.tolist())
    say(f"Wrote {n:,} rows to {args.out}; the column 'label' takes one of {names}")
    return 0


def _check_handed_out(path: str) -> None:
    if Path(path).suffix.lower() not in _HANDED_OUT:
        raise ValueError(f"{path!r} must end in one of {', '.join(_HANDED_OUT)}")


def take_in_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of 'queue take-in'."""
    add_queue(parser)
    parser.add_argument("file", metavar="FILE", help="rows with the columns id and label")
    parser.add_argument("--reviewer", metavar="NAME", help="who labelled, where FILE says nothing")


def take_in(args: argparse.Namespace) -> int:
    """Take labels from a file: what 'hand-out' wrote, or any other with the columns id and label.

    Lines without a label are passed over. Lines that cannot be used are listed, the others are
    kept, and the exit code is 1.
    """
    queue = open_queue(args.queue)
    _check_handed_out(args.file)
    try:
        n = queue.read_labels(args.file, reviewer=args.reviewer)
    except BadLines as e:
        if args.debug:
            raise
        note(f"skllm-calib: error: {len(e.errors)} line(s) of {args.file} cannot be used:")
        for number, what in e.errors[:_LISTED]:
            note(f"  line {number}: {translated(what)}")
        if len(e.errors) > _LISTED:
            note(f"  ... and {len(e.errors) - _LISTED} more")
        note(f"{e.n_good} other label(s) are kept. Correct the file and take it in again.")
        return 1
    say(f"{n:,} new labels; {queue.statistics().n_waiting:,} rows wait")
    return 0


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of 'queue export'."""
    add_queue(parser)
    parser.add_argument("out", metavar="OUT", help="result, in the format of its extension")


def export(args: argparse.Namespace) -> int:
    """Write the rows that people were asked about and agree on, to calibrate with.

    The columns are id, text, label, weight and the probabilities. The weight is one over the
    chance with which a person was to see the row: with it, the rows stand for all that were
    accepted or reviewed, once none of them waits.
    """
    queue = open_queue(args.queue)
    check_format(args.out)
    found = queue.export()
    if not found.ids:
        raise ValueError(f"no row of the queue at {args.queue!r} has a label yet")
    names = [f"proba_{label}" for label in queue.classes.tolist()]
    rows = [
        {
            "id": name,
            "text": text,
            "label": str(label),
            "weight": weight,
            **dict(zip(names, proba, strict=True)),
        }
        for name, text, label, proba, weight in zip(
            *found[:2], *(column.tolist() for column in found[2:]), strict=True
        )
    ]
    write_table(Table(["id", "text", "label", "weight", *names], rows), args.out)
    say(f"Wrote {len(rows):,} rows to {args.out}")
    if waiting := queue.statistics().n_waiting:
        remark(args, f"{waiting:,} rows still wait: until they are done, the weights lack theirs.")
    return 0
