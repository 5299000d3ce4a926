"""Small data sets that come with the package."""

from __future__ import annotations

from skllm_calib.datasets._messages import load_messages

__all__ = ["load_messages"]
