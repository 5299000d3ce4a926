"""Rows asked in batches, at the price of a provider for what may take a day."""

from skllm_calib.evidence.batches.submitting import BatchStatus, submit_rows

__all__ = ["BatchStatus", "submit_rows"]
