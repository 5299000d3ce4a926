"""Files, databases and progress bars: tools that know nothing of models or probabilities."""
