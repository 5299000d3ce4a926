"""Opening a review queue, and its errors in the terms of the command line."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from skllm_calib.exceptions import BadLines
from skllm_calib.operations.queue import ReviewQueue

__all__ = ["add_queue", "in_our_words", "open_or_make", "open_queue", "translated"]

# What the library says of its parameters -> what they are called here.
_WORDS = {
    "or pass replace=True": "or pass --replace",
    "pass classes=": "add rows with 'skllm-calib queue add'",
    "'path' must be a file made by ReviewQueue, or one that does not exist yet": (
        "name a file that 'queue add' has made, or for 'queue add' one that does not exist yet"
    ),
    "reviewer must be a name, got None": (
        "nobody is named as its reviewer: fill in the column 'reviewer', or pass --reviewer NAME"
    ),
}


def add_queue(parser: argparse.ArgumentParser) -> None:
    """Declare the file of the queue."""
    parser.add_argument("queue", metavar="QUEUE", help="the file of the queue")


def open_queue(path: str) -> ReviewQueue:
    """Open a queue that exists: a typing error must not make one."""
    if not Path(path).expanduser().is_file():
        raise ValueError(f"there is no queue at {path!r}: 'skllm-calib queue add' makes one")
    return ReviewQueue(path)


def open_or_make(path: str, labels: list[str]) -> ReviewQueue:
    """Open a queue, or make one for these labels."""
    try:
        return ReviewQueue(path)  # its classes may be integers, or in another order
    except ValueError:  # none yet, or no queue: now it is said which
        return ReviewQueue(path, classes=labels)


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """Name options rather than parameters in what the queue complains about."""
    try:
        yield
    except BadLines:  # lines of a file, shown one by one
        raise
    except ValueError as e:
        raise ValueError(translated(str(e))) from e


def translated(text: str) -> str:
    """Put an error of the library into the terms of this program."""
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return text
