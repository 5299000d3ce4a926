"""Signals: what is asked, and how the reply is read.

The public face of ``skllm_calib.evidence.signals``.
"""

from skllm_calib.evidence.signals import *  # noqa: F403
from skllm_calib.evidence.signals import __all__  # noqa: F401
