"""Calibrators: from scores to probabilities.

The public face of ``skllm_calib.calibration.calibrators``.
"""

from skllm_calib.calibration.calibrators import *  # noqa: F403
from skllm_calib.calibration.calibrators import __all__  # noqa: F401
