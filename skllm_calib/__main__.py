"""``python -m skllm_calib`` is the command ``skllm-calib``."""

import sys

from skllm_calib.cli import main

if __name__ == "__main__":
    sys.exit(main())
