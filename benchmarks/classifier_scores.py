"""Score matrices of classifiers that are no language models, for ``auto_design.py``.

``python benchmarks/classifier_scores.py TEXTS OUT`` trains small classifiers of scikit-learn on
the texts in a folder (CSV files with a text and a label column) and on data that scikit-learn
brings, and writes the log-probabilities of the rows that they have not seen to ``OUT/NAME.npz``.
They have 3 to 77 classes, unequal class shares, and both over- and under-confident scores. A
minute on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

# Of a file: how many rows train, and by which classifier.
TEXTS: dict[str, tuple[int, str]] = {
    "banking77": (800, "logistic"),
    "clinc_domain10": (300, "bayes"),
    "hs_section21": (600, "bayes"),
    "vader_tweets3": (500, "logistic"),
}
UNKNOWN = -30.0  # of a class that no training row has


def text_scores(path: Path, n_train: int, kind: str) -> tuple[Any, Any]:
    """Return log-probabilities and class numbers of the rows that did not train."""
    table = pd.read_csv(path)
    text = table.iloc[:, 0].astype(str)
    y = np.unique(table["label"].astype(str), return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(len(y))
    train, rest = order[:n_train], order[n_train:]
    words = TfidfVectorizer(sublinear_tf=True)
    seen = words.fit_transform(text.iloc[train])
    if kind == "bayes":
        model: Any = MultinomialNB(alpha=0.05).fit(seen, y[train])
        scores = 3 * model.predict_log_proba(words.transform(text.iloc[rest]))
    else:
        model = LogisticRegression(C=100, max_iter=300).fit(seen, y[train])
        scores = model.predict_log_proba(words.transform(text.iloc[rest]))
    out = np.full((len(rest), y.max() + 1), UNKNOWN)
    out[:, model.classes_] = scores
    return out, y[rest]


def forest_scores() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(y))
    train, rest = order[:200], order[200:]
    forest = RandomForestClassifier(50, max_depth=4, random_state=0).fit(X[train], y[train])
    return np.log(np.maximum(forest.predict_proba(X[rest]), 1e-4)), y[rest]


def margin_scores() -> tuple[Any, Any]:
    X, y = make_classification(
        6000, 20, n_informative=6, n_classes=5, class_sep=0.8, random_state=3
    )
    return 3 * LinearSVC(C=1).fit(X[:500], y[:500]).decision_function(X[500:]), y[500:]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python benchmarks/classifier_scores.py TEXTS OUT")
    texts, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    found = {"digits_forest": forest_scores(), "generated_svc": margin_scores()}
    for name, (n_train, kind) in TEXTS.items():
        if (texts / f"{name}.csv").exists():
            found[name] = text_scores(texts / f"{name}.csv", n_train, kind)
    for name, (log_proba, y) in found.items():
        np.savez_compressed(out / f"{name}.npz", log_proba=log_proba, y=y)
        print(f"{name}: {log_proba.shape[0]} rows, {log_proba.shape[1]} classes")


if __name__ == "__main__":
    main()
