"""Which rows calibrated a saved classifier: recorded beside it, by hashes that tell no text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from skllm_calib.utils.tables import Table

__all__ = ["file_digest", "read_used", "text_digest", "write_used"]

_FILE = "calibration_rows.json"


def text_digest(text: str) -> str:
    """Return a short hash of a text, which tells nothing about it."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:20]


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_used(folder: str | Path, rows: Any, table: Table) -> None:
    """Record which rows calibrated the classifier in a folder: numbers and hashes, no texts."""
    content = {
        "about": "rows the classifier was calibrated on; 'evaluate' and 'decide' leave them out",
        "file": Path(table.path).name,
        "file_sha256": table.digest,
        "rows": [int(i) + 1 for i in rows.index],
        "texts": [text_digest(text) for text in rows["text"]],
    }
    Path(folder, _FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_used(folder: str | Path) -> set[str] | None:
    """Return the hashes of the texts that calibrated a classifier; None if not recorded."""
    file = Path(folder, _FILE)
    return set(json.loads(file.read_text("utf-8"))["texts"]) if file.is_file() else None
