"""When the shares of the classes change: estimate the new ones, adjust probabilities to them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_classes, check_labels, distinct, encode, shown
from skllm_calib.log_proba.numerics import log_normalise
from skllm_calib.log_proba.parameters import check_choice, check_fraction
from skllm_calib.log_proba.tables import read_table
from skllm_calib.log_proba.validation import check_log_proba

__all__ = ["ClassPriorEstimate", "adjust_to_prior", "estimate_class_prior"]

Floats = NDArray[np.float64]
_FEWEST_ROWS = 50
_FEWEST_ROWS_A_CLASS = 10
_LARGEST_CONDITION = 100.0
_MAX_STEPS = 10_000
_TOLERANCE = 1e-10


class ClassPriorEstimate(NamedTuple):
    """Shares of the classes among unlabelled rows.

    Attributes
    ----------
    prior : ndarray of shape (n_classes,)
        Estimated shares; they sum to 1.
    standard_error : ndarray of shape (n_classes,)
        Their standard errors.
    """

    prior: Floats
    standard_error: Floats


def estimate_class_prior(
    log_proba: ArrayLike,
    old_prior: ArrayLike | None = None,
    *,
    method: Literal["em", "bbse"] = "em",
    labelled_log_proba: ArrayLike | None = None,
    y: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    max_standard_error: float = 0.1,
) -> ClassPriorEstimate:
    """Estimate how common each class is among unlabelled rows.

    The mean of the predictions answers this only if nothing has changed. Both methods assume
    *label shift*: the shares of the classes are new, the texts of each class are as before.

    ``"em"`` maximises the likelihood of the rows over the shares [1]_, and relies on
    probabilities that are calibrated for `old_prior`. ``"bbse"`` solves for the shares that, with
    the mistakes counted on labelled rows, give the predictions made [2]_; any predictions will do.

    Parameters
    ----------
    log_proba : array-like of shape (n_samples, n_classes)
        Log-probabilities of the unlabelled rows, columns in sorted order of the classes. They are
        normalised here.
    old_prior : array-like of shape (n_classes,), default=None
        Shares of the classes that the probabilities are calibrated for, all positive: for a
        calibrator, those among its labelled rows. Needed by "em".
    method : {"em", "bbse"}, default="em"
        How to estimate. "em" is the more precise one if the probabilities are calibrated.
    labelled_log_proba : array-like of shape (n_labelled, n_classes), default=None
        Log-probabilities of rows with labels that the model was not fitted on, for "bbse".
    y : array-like of shape (n_labelled,), default=None
        Their labels, for "bbse". Every class has to occur.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns; taken from `y` when None.
    max_standard_error : float, default=0.1
        An estimate with a larger standard error is refused.

    Returns
    -------
    estimate : ClassPriorEstimate
        ``prior`` and ``standard_error``.

    Raises
    ------
    ValueError
        If the data cannot support an estimate, with the numbers that say so: fewer than 50 rows or
        10 rows per class, a class without labels, a confusion matrix that is nearly singular, or
        standard errors above `max_standard_error`; or if an input does not fit.

    Notes
    -----
    Standard errors are those of the likelihood ("em") and of the counts ("bbse", of the unlabelled
    and the labelled rows); they do not know of a shift that is not a label shift.

    References
    ----------
    .. [1] M. Saerens, P. Latinne, C. Decaestecker (2002). Adjusting the Outputs of a Classifier to
       New a Priori Probabilities. Neural Computation 14.
    .. [2] Z. C. Lipton, Y.-X. Wang, A. J. Smola (2018). Detecting and Correcting for Label Shift
       with Black Box Predictors. ICML.
    .. [3] A. Alexandari, A. Kundaje, A. Shrikumar (2020). Maximum Likelihood with Bias-Corrected
       Calibration is Hard-To-Beat at Label Shift Adaptation. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import estimate_class_prior
    >>> rng = np.random.default_rng(0)
    >>> spam = rng.random(2000) < 0.8  # half of the texts were spam when it was calibrated
    >>> log_odds = rng.normal(np.where(spam, 2, -2), 2)  # calibrated for halves
    >>> log_proba = np.column_stack([np.zeros(2000), log_odds])
    >>> estimate_class_prior(log_proba, [0.5, 0.5]).prior.round(1)
    array([0.2, 0.8])
    """
    check_choice(method, "method", ("em", "bbse"))
    check_fraction(max_standard_error, "max_standard_error", high=np.inf)
    classes = None if labels is None else check_classes(labels, "labels")
    rows = check_log_proba(log_proba, classes=classes)
    n_rows, n_classes = rows.shape
    needed = max(_FEWEST_ROWS, _FEWEST_ROWS_A_CLASS * n_classes)
    if n_rows < needed:
        raise InvalidInput(
            f"log_proba has {n_rows} rows, too few to estimate the shares of {n_classes} classes: "
            f"at least {needed} are needed.",
            "log_proba",
            value=n_rows,
        )
    names: list[Any] = list(range(n_classes)) if classes is None else classes.tolist()
    absent = np.flatnonzero(np.isneginf(rows).all(axis=0))
    if absent.size:
        raise InvalidInput(
            f"class {names[absent[0]]!r} is impossible in all {n_rows} rows of log_proba: nothing "
            "can be said of its share.",
            "log_proba",
            value=names[absent[0]],
        )
    if method == "em":
        if old_prior is None:
            raise InvalidInput(
                "method='em' needs old_prior, the shares of the classes that log_proba is "
                "calibrated for: those among the rows of its calibrator.",
                "old_prior",
            )
        prior, variance = _by_likelihood(rows, _check_prior(old_prior, n_classes, "old_prior"))
    else:
        if labelled_log_proba is None or y is None:
            raise InvalidInput(
                "method='bbse' needs labelled_log_proba and y, rows with labels.",
                "y" if y is None else "labelled_log_proba",
            )
        truth = check_labels(y)
        known_classes = distinct(truth) if classes is None else classes
        if known_classes.size != n_classes:
            raise InvalidInput(
                f"y holds {known_classes.size} of the {n_classes} classes: every class has to "
                "occur among the labelled rows",
                "y",
                value=known_classes.tolist(),
            )
        known = check_log_proba(labelled_log_proba, "labelled_log_proba", classes=known_classes)
        if len(truth) != len(known):
            raise InvalidInput(
                f"y has {len(truth)} rows and labelled_log_proba has {len(known)}; they must agree",
                "y",
                value=len(truth),
            )
        names = known_classes.tolist()
        rates, counts = _confusion(known, encode(truth, known_classes), names)
        prior, variance = _by_confusion(rows, rates, counts)
    error = np.sqrt(np.maximum(variance, 0.0))
    worst = int(error.argmax())
    if not error[worst] <= max_standard_error:
        times = (float(error[worst]) / max_standard_error) ** 2
        raise InvalidInput(
            f"the share of class {names[worst]!r} has a standard error of {error[worst]:.3g} with "
            f"{n_rows} unlabelled rows, above max_standard_error={max_standard_error:.3g}: about "
            f"{times:.1f} times as many rows"
            f"{' of both kinds' if method == 'bbse' else ''} are needed, or a model that tells the "
            "classes apart better.",
            "max_standard_error",
            value=max_standard_error,
        )
    return ClassPriorEstimate(prior, error)


def adjust_to_prior(log_proba: ArrayLike, old_prior: ArrayLike, new_prior: ArrayLike) -> Floats:
    """Adjust log-probabilities to new shares of the classes (Bayes' rule).

    Parameters
    ----------
    log_proba : array-like of shape (n_samples, n_classes)
        Log-probabilities, calibrated for `old_prior`; normalised here.
    old_prior, new_prior : array-like of shape (n_classes,)
        Shares of the classes before and after, all positive, each summing to 1.

    Returns
    -------
    adjusted : ndarray of shape (n_samples, n_classes)
        Normalised log-probabilities.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    References
    ----------
    .. [1] M. Saerens, P. Latinne, C. Decaestecker (2002). Adjusting the Outputs of a Classifier to
       New a Priori Probabilities. Neural Computation 14.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import adjust_to_prior
    >>> np.exp(adjust_to_prior(np.log([[0.5, 0.5]]), [0.5, 0.5], [0.9, 0.1])).round(3)
    array([[0.9, 0.1]])
    """
    rows = check_log_proba(log_proba)
    old = _check_prior(old_prior, rows.shape[1], "old_prior")
    new = _check_prior(new_prior, rows.shape[1], "new_prior")
    return log_normalise(rows + np.log(new) - np.log(old))


def _check_prior(prior: ArrayLike, n_classes: int, name: str) -> Floats:
    shares = read_table(prior, name).values
    if shares.shape != (n_classes,):
        raise InvalidInput(
            f"{name} must hold {n_classes} shares, one per class, got shape {shares.shape}",
            name,
            value=shares.shape,
        )
    if not (shares > 0).all() or not abs(shares.sum() - 1) < 1e-6:
        raise InvalidInput(
            f"{name} must hold positive shares that sum to 1, got {shown(shares.tolist())}: a "
            "class that never occurs leaves nothing to adjust",
            name,
            value=shares.tolist(),
        )
    return np.asarray(shares / shares.sum())


def _by_likelihood(rows: Floats, old: Floats) -> tuple[Floats, Floats]:
    """Maximise the likelihood of the rows over the shares; return them and their variances."""
    likelihood = np.exp(rows - np.log(old))  # of each text given the class, up to a factor
    likelihood /= likelihood.max(axis=1, keepdims=True)
    prior = old
    for _ in range(_MAX_STEPS):
        joint = likelihood * prior
        updated = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        step = float(np.abs(updated - prior).max())
        prior = updated
        if step < _TOLERANCE:
            break
    # Shares sum to one: the information counts along the differences from the last class only.
    ratio = likelihood / (likelihood @ prior)[:, None]
    score = ratio[:, :-1] - ratio[:, -1:]
    information = score.T @ score
    along = np.linalg.eigvalsh(information)
    if not along[0] > 1e-9 * max(float(along[-1]), 1.0):
        raise InvalidInput(
            f"the {len(rows)} rows do not tell the shares of the classes apart: the probabilities "
            f"of some classes rise and fall together (smallest information {along[0]:.2g}, largest "
            f"{along[-1]:.2g}).",
            "log_proba",
        )
    covariance = np.linalg.inv(information)
    return prior, np.append(np.diag(covariance), covariance.sum())


def _confusion(
    known: Floats, codes: NDArray[np.int64], names: list[Any]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return P(predicted i | true j) as an (i, j) matrix, and the number of rows of each class."""
    n_classes = len(names)
    counts = np.bincount(codes, minlength=n_classes)
    if (counts < _FEWEST_ROWS_A_CLASS).any():
        rare = int(counts.argmin())
        raise InvalidInput(
            f"class {names[rare]!r} has {counts[rare]} labelled rows: every class needs "
            f"at least {_FEWEST_ROWS_A_CLASS} to know how it is mistaken.",
            "y",
            value=names[rare],
        )
    rates = np.zeros((n_classes, n_classes))
    np.add.at(rates, (known.argmax(axis=1), codes), 1)
    rates /= counts
    condition = float(np.linalg.cond(rates))
    if not condition <= _LARGEST_CONDITION:
        raise InvalidInput(
            f"the confusion matrix of the {len(known)} labelled rows has a condition number of "
            f"{condition:.3g}, above {_LARGEST_CONDITION:.0f}: some classes are predicted alike "
            "whatever is true, so their shares cannot be told apart. Merge them, or use method='em'"
            " with calibrated probabilities.",
            "labelled_log_proba",
        )
    return rates, counts


def _by_confusion(rows: Floats, rates: Floats, counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Solve for the shares that give the predictions made; return them and their variances."""
    predicted = np.bincount(rows.argmax(axis=1), minlength=rows.shape[1]) / len(rows)
    inverse = np.linalg.inv(rates)
    prior = _onto_simplex(inverse @ predicted)
    noise = (np.diag(predicted) - np.outer(predicted, predicted)) / len(rows)
    for share, rate, count in zip(prior, rates.T, counts, strict=True):
        noise += share**2 * (np.diag(rate) - np.outer(rate, rate)) / count
    return prior, np.diag(inverse @ noise @ inverse.T)


def _onto_simplex(shares: Floats) -> Floats:
    """Return the nearest shares that are not negative and sum to one."""
    falling = np.sort(shares)[::-1]
    surplus = (np.cumsum(falling) - 1) / np.arange(1, shares.size + 1)
    last = np.flatnonzero(falling > surplus)[-1]
    return np.asarray(np.maximum(shares - surplus[last], 0.0))
