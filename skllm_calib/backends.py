"""Backends: who answers.

The public face of ``skllm_calib.evidence.backends``.
"""

from skllm_calib.evidence.backends import *  # noqa: F403
from skllm_calib.evidence.backends import __all__  # noqa: F401
