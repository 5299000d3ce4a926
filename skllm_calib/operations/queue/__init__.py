"""Rows that wait for a reviewer, their labels, and what they say about the accepted rows."""

from skllm_calib.operations.queue.audit import AcceptedError
from skllm_calib.operations.queue.queue import ReviewQueue
from skllm_calib.operations.queue.results import Added, LabelledRows, QueueStatistics
from skllm_calib.operations.queue.server import QueueServer

__all__ = [
    "AcceptedError",
    "Added",
    "LabelledRows",
    "QueueServer",
    "QueueStatistics",
    "ReviewQueue",
]
