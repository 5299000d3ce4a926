"""The calibration report: one page for the person who has to sign for a classifier."""

from skllm_calib.operations.report.page import require_page
from skllm_calib.operations.report.report import CalibrationReport

__all__ = ["CalibrationReport", "require_page"]
