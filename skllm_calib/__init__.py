"""Calibrated class probabilities from any large language model, inside scikit-learn."""
