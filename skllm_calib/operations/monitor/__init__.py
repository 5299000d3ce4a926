"""Monitor a calibrated classifier in production, with labels and without."""

from skllm_calib.operations.monitor.alarms import CalibrationAlarm
from skllm_calib.operations.monitor.monitor import CalibrationMonitor

__all__ = ["CalibrationAlarm", "CalibrationMonitor"]
