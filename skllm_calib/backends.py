"""Backends: who answers.

The public face of ``skllm_calib.evidence.backends``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skllm_calib.evidence import backends as _backends
from skllm_calib.evidence.backends import __all__, __dir__  # noqa: F401

if TYPE_CHECKING:
    from skllm_calib.evidence.backends import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return getattr(_backends, name)  # so that a backend is imported when it is first used
