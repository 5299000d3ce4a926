"""From a text to a row of log-probabilities: what a language model shows of each class."""
