"""Signals made of signals: several pooled, or one averaged over orders of the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import Dialogue, Evidence, Signal, checked_count, interleave
from skllm_calib.exceptions import BackendError, InvalidInput
from skllm_calib.log_proba.numerics import log_normalise

__all__ = ["FusedSignal", "OrderAveragedSignal"]


class FusedSignal(Signal):
    """Several signals of one model, pooled into one distribution.

    Parameters
    ----------
    signals : list of Signal
        The signals to pool.
    weights : array-like of shape (n_signals,) or None, default=None
        Weight of each signal, scaled to sum to one; None for equal weights. To fit them to labels,
        use ``LLMEnsembleClassifier.over(clf, signal=[...], weights="fit")``.

    Notes
    -----
    The pool is the normalised weighted geometric mean. A row fails if one of its signals does: a
    pool of fewer signals would need another calibration.

    References
    ----------
    .. [1] C. Genest and J. V. Zidek (1986). "Combining Probability Distributions: A Critique and
       an Annotated Bibliography." Statistical Science, 1.
    """

    name = "fused"

    def __init__(self, signals: Sequence[Signal] = (), *, weights: ArrayLike | None = None) -> None:
        self.signals = signals
        self.weights = weights

    @property
    def label(self) -> str:
        """The names of the pooled signals, such as "logprobs+self_reported"."""
        return "+".join(signal.label for signal in self._parts())

    def ask(self, question: Question) -> Dialogue:
        """Lead the dialogues of all signals side by side."""
        signals, weights = self._parts(), self._weights()
        parts = _all((yield from interleave([signal.ask(question) for signal in signals])))
        scores = np.array([part.log_proba for part in parts])
        by_name = dict(zip(names(signals), parts, strict=True))
        details = {
            "signals": {
                name: {"log_proba": e.log_proba, "off_label": e.off_label, **e.details}
                for name, e in by_name.items()
            },
            "weights": dict(zip(by_name, weights.tolist(), strict=True)),
            "written": parts[0].details.get("written", ""),
        }
        off_label = float(weights @ np.array([part.off_label for part in parts]))
        return Evidence(_pool(scores, weights), off_label, details)

    def identity(self) -> Any:
        """Return the identities of the pooled signals and their weights."""
        return {
            "name": self.name,
            "signals": [signal.identity() for signal in self._parts()],
            "weights": self._weights().tolist(),
        }

    def _parts(self) -> list[Signal]:
        return [_checked(signal, "signals", self.signals) for signal in self.signals]

    def _weights(self) -> NDArray[np.float64]:
        n = len(self.signals)
        if not n:
            raise InvalidInput("signal=[]: give at least one signal", "signal", value=[])
        if self.weights is None:
            return np.full(n, 1 / n)
        weights = np.asarray(self.weights, dtype=np.float64)
        if weights.shape != (n,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise InvalidInput(
                f"weights={self.weights!r}: must be {n} numbers, none of them negative, not all 0",
                "weights",
                value=self.weights,
            )
        scaled: NDArray[np.float64] = weights / weights.sum()
        return scaled


class OrderAveragedSignal(Signal):
    """A signal averaged over several orders of the options, so that no position is favoured.

    Parameters
    ----------
    signal : Signal
        The signal to average.
    n_orders : int, default=2
        Number of orders, at most the number of classes. The list of options is rotated by equal
        steps. With as many orders as classes, each class is once at each position, and a bias that
        adds to the log-probability of a position cancels exactly.

    Notes
    -----
    The log-probabilities are averaged. ``explain`` shows the label of each order
    (``labels_by_order``) and the proportion of the other orders whose label differs from that of
    the first (``order_flips``).

    References
    ----------
    .. [1] C. Zheng, H. Zhou, F. Meng, J. Zhou, M. Huang (2024). "Large Language Models Are Not
       Robust Multiple Choice Selectors." ICLR.
    """

    name = "order_averaged"

    def __init__(self, signal: Signal | None = None, *, n_orders: int = 2) -> None:
        self.signal = signal
        self.n_orders = n_orders

    def ask(self, question: Question) -> Dialogue:
        """Lead one dialogue per order, side by side."""
        signal = _checked(self.signal, "signal", self.signal)
        n_classes = len(question.texts)
        n_orders = min(checked_count("n_orders", self.n_orders), n_classes)
        shifts = [round(i * n_classes / n_orders) for i in range(n_orders)]
        parts = _all((yield from interleave([signal.ask(question.shifted(by)) for by in shifts])))
        scores = np.array([part.log_proba for part in parts])
        best = scores.argmax(axis=1)
        return Evidence(
            _pool(scores, np.full(len(parts), 1 / len(parts))),
            float(np.mean([part.off_label for part in parts])),
            {
                **parts[0].details,
                "n_orders": n_orders,
                "labels_by_order": [question.texts[k] for k in best],
                "order_flips": float((best[1:] != best[0]).mean()) if n_orders > 1 else 0.0,
            },
        )

    def identity(self) -> Any:
        """Return the identity of the averaged signal, and the number of orders."""
        signal = _checked(self.signal, "signal", self.signal)
        n_orders = checked_count("n_orders", self.n_orders)
        return {"name": self.name, "signal": signal.identity(), "n_orders": n_orders}


def names(signals: Sequence[Signal]) -> list[str]:
    """Return a distinct name for each signal."""
    out: list[str] = []
    for signal in signals:
        n = sum(name.split("_#")[0] == signal.name for name in out)
        out.append(f"{signal.name}_#{n + 1}" if n else signal.name)
    return out


def _checked(signal: Any, parameter: str, value: Any) -> Signal:
    if not isinstance(signal, Signal):
        raise InvalidInput(
            f"{parameter}={value!r}: {signal!r} is not a Signal object such as LogprobSignal(). "
            "Names are accepted only by the parameter `signal` of LLMClassifier",
            parameter,
            value=value,
        )
    return signal


def _all(ends: Sequence[Evidence | BackendError]) -> list[Evidence]:
    for end in ends:
        if isinstance(end, BackendError):
            raise end
    return [end for end in ends if isinstance(end, Evidence)]


def _pool(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return log_normalise(weights @ scores)
