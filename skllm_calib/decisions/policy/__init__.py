"""A policy: which rows are accepted and which a person sees, with a promise that holds."""

from skllm_calib.decisions.policy.policy import ReviewPolicy

__all__ = ["ReviewPolicy"]
