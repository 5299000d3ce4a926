"""A calibrated classifier at work: the review queue, the monitor, the report."""
