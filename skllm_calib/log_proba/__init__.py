"""The contract: an (n, K) matrix of log-probabilities, its labels, and all checks of both."""
