"""Rows that wait for a person, their labels, and what those say about the accepted rows."""

from skllm_calib.operations.queue._audit import AcceptedError
from skllm_calib.operations.queue._results import Added, LabelledRows, QueueStatistics
from skllm_calib.operations.queue._server import QueueServer
from skllm_calib.operations.queue.queue import ReviewQueue

__all__ = [
    "AcceptedError",
    "Added",
    "LabelledRows",
    "QueueServer",
    "QueueStatistics",
    "ReviewQueue",
]
