"""Constant calibration: the shares of the classes, whatever the scores; the baseline."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skllm_calib.calibration.calibrators.base import BaseCalibrator, Parameters
from skllm_calib.log_proba.numerics import Codes, Floats

__all__ = ["ConstantCalibration"]


class ConstantCalibration(BaseCalibrator):
    r"""Answer every row with the shares of the classes among the labels.

    The baseline: it is calibrated, and it knows nothing. Its calibration error is the lowest
    possible with this number of labels, which is why no calibration error should be read without a
    proper score next to it; what has a larger log-loss has learned nothing from the scores.

    Shares are smoothed, ``(n_k + c) / (n + c * n_classes)``, so that a class without a label
    keeps a probability [1]_.

    It ignores the scores, and with them their order and the prediction.

    Parameters
    ----------
    pseudo_count : float, default=0.5
        The ``c`` above, in labels per class; a half is the prior of Jeffreys, one is Laplace's rule
        of succession.

    Attributes
    ----------
    class_prior_ : ndarray of shape (n_classes,)
        The smoothed shares of the classes; they sum to one.
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    .. [1] R. Krichevsky and V. Trofimov (1981). The performance of universal encoding. IEEE
       Transactions on Information Theory 27(2).

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.calibrators import ConstantCalibration
    >>> log_proba = np.log([[0.99, 0.01], [0.3, 0.7], [0.2, 0.8]])
    >>> calibrator = ConstantCalibration().fit(log_proba, ["ham", "ham", "spam"])
    >>> calibrator.predict_proba(log_proba).round(3)
    array([[0.625, 0.375],
           [0.625, 0.375],
           [0.625, 0.375]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "pseudo_count": [Interval(Real, 0, None, closed="neither")],
    }

    class_prior_: Floats

    def __init__(self, *, pseudo_count: float = 0.5) -> None:
        self.pseudo_count = pseudo_count

    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        counts = np.bincount(codes, weight, minlength=log_proba.shape[1]) + self.pseudo_count
        self.class_prior_ = counts / counts.sum()

    def _transform(self, log_proba: Floats) -> Floats:
        return np.tile(np.log(self.class_prior_), (len(log_proba), 1))

    @property
    def parameters_(self) -> Parameters:
        """Fitted shares of the classes as a plain list."""
        check_is_fitted(self)
        return {"class prior": self.class_prior_.tolist()}
