# The public names of the room: read by type checkers, and by lazy_loader when it is imported.

from .monitor import CalibrationAlarm, CalibrationMonitor
from .queue import (
    AcceptedError,
    Added,
    LabelledRows,
    QueueServer,
    QueueStatistics,
    ReviewQueue,
)
from .report import CalibrationReport

__all__ = [
    "AcceptedError",
    "Added",
    "CalibrationAlarm",
    "CalibrationMonitor",
    "CalibrationReport",
    "LabelledRows",
    "QueueServer",
    "QueueStatistics",
    "ReviewQueue",
]
