"""Watch whether a calibration still holds: new rows and labels in, alarms out."""

from skllm_calib.cli.monitor.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
