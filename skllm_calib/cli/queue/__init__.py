"""Keep rows for people to label, and see what their labels say about the accepted rows."""

from skllm_calib.cli.queue.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
