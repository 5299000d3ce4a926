"""What to do with a calibrated probability: thresholds with a guarantee, policies, queues."""

from skllm_calib.review.thresholds import AcceptThreshold, accept_threshold

__all__ = ["AcceptThreshold", "accept_threshold"]
