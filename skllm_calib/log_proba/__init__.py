"""The contract: an (n, K) matrix of log-probabilities, its labels, and all checks of both.

- `labels`: what counts as a label, the classes, their numbers.
- `tables`: numbers in every container, columns by the names of the labels.
- `matrices`: probabilities, log-probabilities and weights.
- `validation`: labels, probabilities and weights together; the front door.
- `parameters`: counts, fractions and choices.
- `folds`, `scores`: rows held out together; scores of no row by a model that has seen it.
- `numerics`: `log_normalise` and other small tools.
- `predicting`, `wrapper`, `identity`: what all estimators share.
"""
