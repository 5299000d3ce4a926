"""The version, once: taken from the installed metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("skllm-calib")
except PackageNotFoundError:  # pragma: no cover (a source tree that was never installed)
    __version__ = "0+unknown"
