"""The calibration report: one page for the person who has to sign it."""

from skllm_calib.operations.report.report import CalibrationReport

__all__ = ["CalibrationReport"]
