"""Where scikit-learn's CalibratedClassifierCV fails on texts, beside CalibratedLLMClassifier.

Every trap is really run, with the scikit-learn that is installed. The texts are made up together
with the true probability of each label, and the testing backend is too sure of them in a regular
way, so the best possible log-loss is known. Run: ``python benchmarks/sklearn_traps.py`` for text,
with ``--rst`` for the documentation.
"""

from __future__ import annotations

import argparse
import hashlib
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss
from sklearn.utils.fixes import parse_version

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend

RATINGS = {1: "poor", 2: "fair", 3: "good"}
FROM_ZERO = {0: "poor", 1: "fair", 2: "good"}
HAS_TEMPERATURE = parse_version(sklearn.__version__) >= parse_version("1.8")
SHARPENING = 3.0  # the model's log-odds are this many times too large


class Reviewer(TestingBackend):
    """Knows the made-up reviews; overconfident."""

    def identity(self) -> dict[str, Any]:
        # Short, because it goes into the key of every request.
        whole = repr(super().identity())
        return {"provider": "testing", "digest": hashlib.sha256(whole.encode()).hexdigest()}


class Reviews:
    """Texts with ratings: rows to fit on and new ones, the truth, and a model to ask."""

    def __init__(self, n: int = 300, words: dict[int, str] = RATINGS, spread: float = 1.5) -> None:
        rng = np.random.default_rng(0)
        self.words = words
        self.labels = np.array(list(words))
        log_truth = rng.normal(0, spread, (2 * n, len(words)))
        log_truth -= np.logaddexp.reduce(log_truth, axis=1, keepdims=True)
        y = np.array([rng.choice(self.labels, p=np.exp(row)) for row in log_truth])
        texts = [f"Review {i}: it came, I opened it, I tried it." for i in range(2 * n)]
        self.X, self.new = texts[:n], texts[n:]
        self.y, self.y_new = y[:n], y[n:]
        self.truth = np.exp(log_truth[n:])
        self.rules = {
            text: dict(zip(words.values(), np.exp(SHARPENING * row).tolist(), strict=True))
            for text, row in zip(texts, log_truth, strict=True)
        }

    def llm(self, name: str = "reviews", **options: Any) -> LLMClassifier:
        model = Reviewer(self.rules, off_label=0.0, name=name)
        return LLMClassifier(model, label_texts=self.words, cache=None, **options)


class OnlyProba(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with probabilities and no decision_function, as most wrappers of models are."""

    def __init__(self, llm: Any, decimals: int | None = None) -> None:
        self.llm = llm
        self.decimals = decimals

    def fit(self, X: Any, y: Any) -> OnlyProba:
        self.llm_ = clone(self.llm).fit(X, y)
        self.classes_ = self.llm_.classes_
        return self

    def predict_proba(self, X: Any) -> Any:
        proba = self.llm_.predict_proba(X)
        return proba if self.decimals is None else proba.round(self.decimals)

    def predict(self, X: Any) -> Any:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@dataclass(frozen=True)
class Seen:
    """What a trap showed; `best` is what nothing could beat."""

    measured: str
    theirs: str
    ours: str
    best: str
    proba: Any  # ours, on the new rows
    data: Reviews


def attempt(make: Callable[[], str]) -> str:
    """Return what comes out, or the error in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make()
        except Exception as e:
            return f"{type(e).__name__}: {str(e).splitlines()[0]}"


def theirs(estimator: Any, data: Reviews, method: str, **options: Any) -> Any:
    if method == "temperature" and not HAS_TEMPERATURE:
        raise NotImplementedError(f"scikit-learn {sklearn.__version__} has no such method")
    return CalibratedClassifierCV(estimator, method=method, **options).fit(data.X, data.y)


def loss(y: Any, proba: Any, labels: Any) -> str:
    return f"{log_loss(y, proba, labels=labels):.3f}"


def by_log_loss(data: Reviews, their: Callable[[], Any], our: Any) -> Seen:
    """Compare log-losses on the new rows."""
    proba = our.predict_proba(data.new)
    return Seen(
        "log-loss on new rows",
        attempt(lambda: loss(data.y_new, their().predict_proba(data.new), data.labels)),
        loss(data.y_new, proba, data.labels),
        loss(data.y_new, data.truth, data.labels),
        proba,
        data,
    )


# -- the traps -------------------------------------------------------------------------------------


def labels_1_2_3() -> Seen:
    data = Reviews()
    our = CalibratedLLMClassifier(data.llm(), method="temperature").fit(data.X, data.y)
    return by_log_loss(data, lambda: theirs(data.llm(), data, "temperature"), our)


def index_without_0() -> Seen:
    data = Reviews(words=FROM_ZERO)  # so that only the index can be at fault
    data.y = pd.Series(data.y, index=range(1, len(data.y) + 1))
    our = CalibratedLLMClassifier(data.llm(), method="temperature").fit(data.X, data.y)
    return by_log_loss(data, lambda: theirs(data.llm(), data, "temperature"), our)


def absent_class() -> Seen:
    data = Reviews()
    llm = data.llm(classes=[1, 2, 3])
    some = np.flatnonzero(data.y != 3)
    data.X, data.y = [data.X[i] for i in some], data.y[some]
    our = CalibratedLLMClassifier(llm, method="temperature").fit(data.X, data.y)
    return by_log_loss(data, lambda: theirs(llm, data, "sigmoid"), our)


def sigmoid_cap() -> Seen:
    data = Reviews(n=600, words={1: "poor", 3: "good"}, spread=2.0)

    def sure(proba: Any) -> str:
        surest = data.truth.max(axis=1) > 0.97
        return f"{proba.max(axis=1)[surest].mean():.3f}, highest of all {proba.max():.3f}"

    # The model's probabilities crowd at 0 and 1; a sigmoid of them cannot tell 0.99 from 0.9999.
    only_proba = OnlyProba(data.llm())
    proba = CalibratedLLMClassifier(only_proba, method="platt").fit(data.X, data.y)
    proba = proba.predict_proba(data.new)
    return Seen(
        "mean probability of rows that are truly 97 % sure or more",
        attempt(lambda: sure(theirs(only_proba, data, "sigmoid").predict_proba(data.new))),
        sure(proba),
        sure(data.truth),
        proba,
        data,
    )


def asks_per_row() -> Seen:
    data = Reviews()

    def asks(name: str, fit: Callable[[Any], Any]) -> tuple[str, Any]:
        llm = data.llm(name)
        llm.model.forget()
        clf = fit(llm)
        before = llm.model.asked.total()
        proba = clf.predict_proba(data.new)
        after = llm.model.asked.total()
        fitting, predicting = before / len(data.X), (after - before) / len(data.new)
        return f"{fitting:.2f} to fit, {predicting:.2f} to predict", proba

    ours, proba = asks(
        "ours", lambda llm: CalibratedLLMClassifier(llm, method="temperature").fit(data.X, data.y)
    )
    return Seen(
        "questions per row without a cache, ensemble=True",
        attempt(lambda: asks("theirs", lambda llm: theirs(llm, data, "sigmoid", ensemble=True))[0]),
        ours,
        "1.00 to fit, 1.00 to predict",
        proba,
        data,
    )


def rare_class() -> Seen:
    data = Reviews()
    rare = np.flatnonzero(data.y == 3)[3:]  # three rows of it stay
    keep = np.setdiff1d(np.arange(len(data.y)), rare)
    data.X, data.y = [data.X[i] for i in keep], data.y[keep]
    our = CalibratedLLMClassifier(data.llm(), method="temperature").fit(data.X, data.y)
    seen = by_log_loss(data, lambda: theirs(data.llm(), data, "sigmoid"), our)
    with_cv = attempt(lambda: str(theirs(data.llm(), data, "sigmoid", cv=5)))
    return replace(seen, theirs=f"{seen.theirs} by default; cv=5: {with_cv}")


def two_decimals() -> Seen:
    data = Reviews(words=FROM_ZERO)  # so that only the rounding can be at fault
    rounding = OnlyProba(data.llm(), decimals=2)

    def alone_and_together(clf: Any) -> str:
        together = clf.predict_proba(data.new)
        alone = np.vstack([clf.predict_proba([text]) for text in data.new[:50]])
        gap = np.abs(alone - together[:50]).max()
        return f"{loss(data.y_new, together, data.labels)}, {gap:.3f}"

    our = CalibratedLLMClassifier(rounding, method="temperature").fit(data.X, data.y)
    return Seen(
        "log-loss; how far a probability moves when its row is predicted alone",
        attempt(lambda: alone_and_together(theirs(rounding, data, "temperature"))),
        alone_and_together(our),
        f"{loss(data.y_new, data.truth, data.labels)}, 0.000",
        our.predict_proba(data.new),
        data,
    )


TRAPS: dict[str, Callable[[], Seen]] = {
    'integer labels 1, 2, 3; method="temperature"': labels_1_2_3,
    'labels in a pandas Series whose index has no 0; method="temperature"': index_without_0,
    "a declared class that no row has": absent_class,
    'method="sigmoid" on an estimator with predict_proba only': sigmoid_cap,
    "no cache": asks_per_row,
    "three rows of a class": rare_class,
    'probabilities rounded to two decimals; method="temperature"': two_decimals,
}
HEADER = ("trap", "measured", "CalibratedClassifierCV", "CalibratedLLMClassifier", "best possible")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rst", action="store_true", help="print a list-table")
    args = parser.parse_args()
    rows = []
    for name, trap in TRAPS.items():
        seen = trap()
        rows.append((name, seen.measured, seen.theirs, seen.ours, seen.best))
    if args.rst:
        print(".. list-table::\n   :header-rows: 1\n")
        for row in [HEADER, *rows]:
            cells = "\n".join(f"  - {cell}" for cell in row)
            print(textwrap.indent(cells, "   ").replace("     -", "   * -", 1))
        return
    print(f"scikit-learn {sklearn.__version__}")
    for row in rows:
        print(f"\n{row[0]}")
        for name, cell in zip(HEADER[1:], row[1:], strict=True):
            print(f"  {name:<24} {cell}")


if __name__ == "__main__":
    main()
