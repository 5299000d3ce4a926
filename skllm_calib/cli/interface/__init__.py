"""What the commands take: options in groups and examples. Light, so that help comes at once."""

from skllm_calib.cli.interface.commands import program

__all__ = ["program"]
