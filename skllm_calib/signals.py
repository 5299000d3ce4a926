"""Signals: what is asked, and how the reply is read.

The public face of ``skllm_calib.evidence.signals``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skllm_calib.evidence import signals as _signals
from skllm_calib.evidence.signals import __all__, __dir__  # noqa: F401

if TYPE_CHECKING:
    from skllm_calib.evidence.signals import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return getattr(_signals, name)  # so that a signal is imported when it is first used
