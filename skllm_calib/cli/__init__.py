"""The command line, ``skllm-calib``: one file a command, and what they share beside them."""

from skllm_calib.cli.program import main

__all__ = ["main"]
