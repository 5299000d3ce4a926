"""Rows that wait for a person, their labels, and what those say about the accepted rows."""

from skllm_calib.queue._audit import AcceptedError
from skllm_calib.queue._results import Added, LabelledRows, QueueStatistics
from skllm_calib.queue._server import QueueServer
from skllm_calib.queue.queue import ReviewQueue

__all__ = [
    "AcceptedError",
    "Added",
    "LabelledRows",
    "QueueServer",
    "QueueStatistics",
    "ReviewQueue",
]
