"""Where replies are kept: one interface, and one file per database that implements it."""

from __future__ import annotations

import os

from skllm_calib.evidence.storage.base import Claims, Storage, failure_key
from skllm_calib.evidence.storage.postgres import PostgresStorage
from skllm_calib.evidence.storage.postgres_database import is_address
from skllm_calib.evidence.storage.sqlite import SQLiteStorage

__all__ = ["Claims", "Storage", "failure_key", "is_address", "open_storage"]


def open_storage(path: str | os.PathLike[str]) -> Storage:
    """Return the storage that a path, or the address of a PostgreSQL database, means."""
    return PostgresStorage(str(path)) if is_address(path) else SQLiteStorage(path)
