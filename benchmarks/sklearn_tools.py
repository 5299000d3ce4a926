"""Every tool of scikit-learn that takes a classifier, on texts: does it work, and what does it ask?

Each recipe below is what a user would write. It runs with a testing backend that reads the bundled
messages fairly well, and with a cache of its own; every question that reaches the backend, in
whatever process or thread, is a line in a file. "Asks per question" is 1.00 where nothing is asked
twice. Run: ``python benchmarks/sklearn_tools.py`` for the table as text, with ``--rst`` for the
documentation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import (
    PartialDependenceDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.fixes import parse_version

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    ResponseCache,
    calibration_scoring,
    log_loss_scorer,
)
from skllm_calib.backends import Request, TestingBackend
from skllm_calib.datasets import load_messages

CLASSES = ["negative", "positive"]
PLAIN = "Is this message negative or positive? {hint}\n\n{text}"
MOOD = "{text}\nMood of the customer? {hint}"  # the backend reads less well when asked like this
SCORING = calibration_scoring(labels=CLASSES)
# Temperature scaling came with 1.8.
METHODS = ["sigmoid", "isotonic", "temperature"]
METHODS = METHODS if parse_version(sklearn.__version__) >= parse_version("1.8") else METHODS[:2]


class CountingBackend(TestingBackend):
    """A testing backend that writes a line to a file for every question it is asked.

    The counts of `TestingBackend` are those of one process. Short lines appended to a file come
    out whole, whoever writes them, so the file counts for all processes together.
    """

    def __init__(
        self,
        rules: dict[str, dict[str, float]] | None = None,
        *,
        log: str = "asked.txt",
        delay: float = 0.0,
        off_label: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(rules, off_label=off_label, seed=seed, name="counting")
        self.log = log
        self.delay = delay

    def identity(self) -> dict[str, Any]:
        # Short, because it goes into the key of every request.
        whole = json.dumps(super().identity(), sort_keys=True)
        return {"provider": "testing", "digest": hashlib.sha256(whole.encode()).hexdigest()}

    def run(self, requests: Sequence[Request]) -> Iterator[Any]:
        identity = self.identity()
        with open(self.log, "ab", buffering=0) as f:
            for i, reply in super().run(requests):
                f.write(f"{requests[i].key(identity)}\n".encode())
                time.sleep(self.delay)  # a model takes its time, so that workers overlap
                yield i, reply


class Bench:
    """Labelled messages, classifiers that answer them, and the count of what was asked."""

    n_fit, n_new = 60, 30

    def __init__(self, folder: str | Path, delay: float = 0.0) -> None:
        texts, labels = load_messages(return_X_y=True)
        n = self.n_fit + self.n_new
        table = pd.DataFrame({"text": texts[:n]})
        table["n_words"] = [len(text.split()) for text in texts[:n]]
        table["n_marks"] = [text.count("!") + text.count("?") for text in texts[:n]]
        self.X, self.y, self.table = texts[: self.n_fit], labels[: self.n_fit], table[: self.n_fit]
        self.new, self.y_new = texts[self.n_fit : n], labels[self.n_fit : n]
        self.new_table = table[self.n_fit :]
        self.good = CountingBackend(_rules(texts[:n], labels[:n]), delay=delay)
        self.good.log = str(Path(folder) / "asked.txt")
        self.poor = clone(self.good).set_params(rules=_rules(texts[:n], labels[:n], poor=True))
        self.cache = ResponseCache(Path(folder) / "replies.sqlite")

    def llm(self, **options: Any) -> LLMClassifier:
        options = {"classes": CLASSES, "cache": self.cache, **options}
        return LLMClassifier(options.pop("model", self.good), **options)

    def asked(self) -> Counter[str]:
        """How often each question was asked, by whatever process."""
        path = Path(self.good.log)
        return Counter(path.read_text().split()) if path.exists() else Counter()


def _rules(
    texts: Sequence[str], labels: Sequence[str], poor: bool = False
) -> dict[str, dict[str, float]]:
    """What is answered to each text: right in about nine cases of ten, and much too sure."""
    rng = np.random.default_rng(0)
    good = 3 * rng.normal(1.6, 1.0, len(texts))
    less = 3 * rng.normal(0.9, 1.0, len(texts))

    def shares(logit: float, label: str) -> dict[str, float]:
        p = 1 / (1 + np.exp(-logit if label == "positive" else logit))
        return {a: float(p if a in ("positive", "good", "B") else 1 - p) for a in ANSWERS}

    asked_mood = {f"{t}\nMood": shares(x, y) for t, x, y in zip(texts, less, labels, strict=True)}
    strengths = less if poor else good
    return asked_mood | {t: shares(x, y) for t, x, y in zip(texts, strengths, labels, strict=True)}


ANSWERS = ("negative", "positive", "bad", "good", "A", "B")


# -- the recipes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A tool at work: `run(bench, n_jobs)` returns what it found, by the kind of result."""

    tool: str
    what: str
    run: Callable[[Bench, int | None], dict[str, Any]]
    questions: int | None  # how many different ones there are; None where the folds decide
    jobs: bool  # takes n_jobs


RECIPES: list[Recipe] = []
FIT, NEW = Bench.n_fit, Bench.n_new
BOTH = FIT + NEW


def recipe(tool: str, what: str, questions: int | None, *, jobs: bool = False) -> Any:
    def keep(run: Callable[[Bench, int | None], dict[str, Any]]) -> Any:
        RECIPES.append(Recipe(tool, what, run, questions, jobs))
        return run

    return keep


@recipe("Pipeline", "texts cleaned, then classified", NEW)
def pipeline(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    pipe = make_pipeline(FunctionTransformer(_strip), b.llm()).fit(b.X, b.y)
    return {"proba": pipe.predict_proba(b.new), "labels": pipe.predict(b.new)}


def _strip(texts: Sequence[str]) -> list[str]:
    return [text.strip() for text in texts]


@recipe("ColumnTransformer", "log-probabilities beside numeric columns", BOTH, jobs=True)
def column_transformer(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    columns = ColumnTransformer(
        [("llm", b.llm(), ["text"]), ("counts", StandardScaler(), ["n_words", "n_marks"])],
        n_jobs=n_jobs,
    )
    pipe = make_pipeline(columns.set_output(transform="pandas"), LogisticRegression())
    pipe.fit(b.table, b.y)
    assert "llm__logprob_positive" in pipe[0].get_feature_names_out()
    return {"proba": pipe.predict_proba(b.new_table), "labels": pipe.predict(b.new_table)}


@recipe("FeatureUnion", "two prompts side by side as features", 2 * BOTH, jobs=True)
def feature_union(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    prompts = [("plain", b.llm(prompt=PLAIN)), ("mood", b.llm(prompt=MOOD))]
    pipe = make_pipeline(FeatureUnion(prompts, n_jobs=n_jobs), LogisticRegression())
    return {"proba": pipe.fit(b.X, b.y).predict_proba(b.new)}


@recipe(
    "VotingClassifier", "two prompts and a calibrated one; soft and hard", FIT + 2 * NEW, jobs=True
)
def voting(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    plain, mood = b.llm(prompt=PLAIN), b.llm(prompt=MOOD)
    voters = [("plain", plain), ("mood", mood)]
    voters += [("calibrated", CalibratedLLMClassifier(plain, method="vector"))]
    soft = VotingClassifier(voters, voting="soft", n_jobs=n_jobs).fit(b.X, b.y)
    hard = VotingClassifier(voters, voting="hard", n_jobs=n_jobs).fit(b.X, b.y)
    return {"proba": soft.predict_proba(b.new), "labels": hard.predict(b.new)}


@recipe("StackingClassifier", "raw and calibrated, two prompts, cv=3", 2 * BOTH, jobs=True)
def stacking(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    members = [
        ("plain", b.llm(prompt=PLAIN)),
        ("mood", b.llm(prompt=MOOD)),
        ("calibrated", CalibratedLLMClassifier(b.llm(prompt=PLAIN), method="vector")),
    ]
    stack = StackingClassifier(members, LogisticRegression(), cv=3, n_jobs=n_jobs).fit(b.X, b.y)
    return {"proba": stack.predict_proba(b.new), "labels": stack.predict(b.new)}


@recipe("StackingClassifier", 'cv="prefit", members never fitted', 2 * BOTH, jobs=True)
def stacking_prefit(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    members = [("plain", b.llm(prompt=PLAIN)), ("mood", b.llm(prompt=MOOD))]
    stack = StackingClassifier(members, LogisticRegression(), cv="prefit", n_jobs=n_jobs)
    return {"proba": stack.fit(b.X, b.y).predict_proba(b.new)}


@recipe("BaggingClassifier", "few-shot: other examples in each member; a table", None, jobs=True)
def bagging(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    bag = BaggingClassifier(b.llm(n_shots=1), n_estimators=3, random_state=0, n_jobs=n_jobs)
    bag.fit(b.table[["text"]], b.y)
    return {"proba": bag.predict_proba(b.new_table[["text"]])}


@recipe("CalibratedClassifierCV", "every method, ensemble True and False", BOTH, jobs=True)
def calibrated_cv(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    found = []
    for method in METHODS:
        for ensemble in (True, False):
            clf = CalibratedClassifierCV(b.llm(), method=method, ensemble=ensemble, n_jobs=n_jobs)
            found.append(clf.fit(b.X, b.y).predict_proba(b.new))
    return {"proba": found}


@recipe("CalibratedClassifierCV, FrozenEstimator", "a classifier never fitted, frozen", BOTH)
def calibrated_frozen(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    theirs = CalibratedClassifierCV(FrozenEstimator(b.llm()), method="sigmoid").fit(b.X, b.y)
    ours = CalibratedLLMClassifier(FrozenEstimator(b.llm()), method="vector").fit(b.X, b.y)
    return {"proba": [theirs.predict_proba(b.new), ours.predict_proba(b.new)]}


@recipe("GridSearchCV", "prompts, label_texts and signal", 3 * FIT + NEW, jobs=True)
def grid_search(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    grid = [
        {"prompt": [PLAIN, MOOD], "signal": ["auto", "logprobs"]},
        {"prompt": [PLAIN], "label_texts": [{"negative": "bad", "positive": "good"}]},
    ]
    search = GridSearchCV(b.llm(), grid, scoring=log_loss_scorer, cv=3, n_jobs=n_jobs)
    search.fit(b.X, b.y)
    assert search.best_params_["prompt"] == PLAIN
    return {"score": search.cv_results_["mean_test_score"], "proba": search.predict_proba(b.new)}


@recipe("GridSearchCV", "models: model and model__off_label", 3 * FIT + NEW, jobs=True)
def grid_search_models(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    grid = [{"model": [b.poor, b.good]}, {"model__off_label": [0.05, 0.1]}]
    search = GridSearchCV(b.llm(), grid, scoring=log_loss_scorer, cv=3, n_jobs=n_jobs)
    search.fit(b.X, b.y)
    assert search.cv_results_["rank_test_score"].argmax() == 0  # the poor model is the worst
    return {"score": search.cv_results_["mean_test_score"], "labels": search.predict(b.new)}


@recipe("GridSearchCV", "n_shots: other examples in each fold", None, jobs=True)
def grid_search_shots(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    search = GridSearchCV(b.llm(), {"n_shots": [0, 1, 2]}, cv=3, n_jobs=n_jobs).fit(b.X, b.y)
    return {"score": search.cv_results_["mean_test_score"], "labels": search.predict(b.new)}


@recipe("GridSearchCV", "method of CalibratedLLMClassifier, and prompts", 2 * FIT + NEW, jobs=True)
def grid_search_calibrators(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    grid = {"method": ["temperature", "vector", "platt"], "estimator__prompt": [PLAIN, MOOD]}
    search = GridSearchCV(
        CalibratedLLMClassifier(b.llm()),
        grid,
        scoring=SCORING,
        refit="log_loss",
        cv=3,
        n_jobs=n_jobs,
        return_train_score=True,
    ).fit(b.X, b.y)
    results = search.cv_results_
    return {
        "score": [results["mean_test_log_loss"], results["mean_train_ece"]],
        "proba": search.predict_proba(b.new),
    }


@recipe("RandomizedSearchCV", "prompts and models at random", None, jobs=True)
def randomized_search(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    space = {"prompt": [PLAIN, MOOD, None], "model": [b.good, b.poor]}
    search = RandomizedSearchCV(b.llm(), space, n_iter=4, cv=3, random_state=0, n_jobs=n_jobs)
    search.fit(b.X, b.y)
    return {"score": search.cv_results_["mean_test_score"], "labels": search.predict(b.new)}


@recipe("HalvingGridSearchCV", "prompts and models, on more and more rows", None, jobs=True)
def halving_grid_search(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    grid = {"prompt": [PLAIN, MOOD], "model": [b.good, b.poor]}
    search = HalvingGridSearchCV(
        b.llm(), grid, scoring=SCORING["log_loss"], cv=3, factor=2, random_state=0, n_jobs=n_jobs
    ).fit(b.X, b.y)
    return {"score": search.cv_results_["mean_test_score"], "labels": search.predict(b.new)}


@recipe("HalvingRandomSearchCV", "the same at random", None, jobs=True)
def halving_random_search(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    space = {"prompt": [PLAIN, MOOD], "model__off_label": [0.01, 0.02, 0.05]}
    search = HalvingRandomSearchCV(
        b.llm(), space, scoring=SCORING["log_loss"], cv=3, random_state=0, n_jobs=n_jobs
    ).fit(b.X, b.y)
    return {"score": search.cv_results_["mean_test_score"], "labels": search.predict(b.new)}


@recipe("cross_validate", "calibration_scoring(), training scores too", FIT, jobs=True)
def many_scores(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    clf = CalibratedLLMClassifier(b.llm(), method="vector")
    found = cross_validate(
        clf, b.X, b.y, scoring=SCORING, cv=3, return_train_score=True, n_jobs=n_jobs
    )
    return {"score": [found[f"{part}_{name}"] for part in ("train", "test") for name in SCORING]}


@recipe("cross_val_score", "log-loss", FIT, jobs=True)
def one_score(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    return {"score": cross_val_score(b.llm(), b.X, b.y, scoring=log_loss_scorer, n_jobs=n_jobs)}


@recipe("cross_val_predict", "all four methods, raw and calibrated", FIT, jobs=True)
def out_of_fold(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    def of(clf: Any, method: str) -> Any:
        return cross_val_predict(clf, b.X, b.y, cv=3, method=method, n_jobs=n_jobs)

    pair = (CalibratedLLMClassifier(b.llm(), method="vector"), b.llm())
    return {
        "labels": [of(clf, "predict") for clf in pair],
        "proba": [of(clf, "predict_proba") for clf in pair]
        + [np.exp(of(clf, "predict_log_proba")) for clf in pair],
        "score": [of(clf, "decision_function") for clf in pair],
    }


@recipe("learning_curve", "of the calibrated classifier", FIT, jobs=True)
def learning(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    clf = CalibratedLLMClassifier(b.llm(), method="vector")
    _, *scores = learning_curve(
        clf, b.X, b.y, train_sizes=[0.5, 1.0], cv=3, scoring=SCORING["log_loss"], n_jobs=n_jobs
    )
    return {"score": scores}


@recipe("validation_curve", "over prompts", 2 * FIT, jobs=True)
def validation(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    over: dict[str, Any] = {"param_name": "prompt", "param_range": [PLAIN, MOOD]}
    return {"score": validation_curve(b.llm(), b.X, b.y, cv=3, n_jobs=n_jobs, **over)}


@recipe("permutation_test_score", "20 permutations of the labels", FIT, jobs=True)
def permutation_test(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    score, permuted, p = permutation_test_score(
        b.llm(), b.X, b.y, n_permutations=20, random_state=0, n_jobs=n_jobs
    )
    assert score > permuted.max()
    return {"score": [score, p]}


@recipe("TunedThresholdClassifierCV", "threshold for balanced accuracy", BOTH, jobs=True)
def tuned_threshold(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    clf = TunedThresholdClassifierCV(b.llm(), scoring="balanced_accuracy", n_jobs=n_jobs)
    clf.fit(b.X, b.y)
    return {"score": clf.best_score_, "labels": clf.predict(b.new)}


@recipe("FixedThresholdClassifier", "a classifier never fitted, at 0.7", NEW)
def fixed_threshold(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    clf = FixedThresholdClassifier(
        FrozenEstimator(b.llm()), threshold=0.7, pos_label="positive", response_method="auto"
    )
    return {"labels": clf.fit(b.X, b.y).predict(b.new)}


def beside_the_text(b: Bench) -> Any:
    columns = [("llm", b.llm(), "text"), ("counts", StandardScaler(), ["n_words"])]
    return make_pipeline(ColumnTransformer(columns), LogisticRegression()).fit(b.table, b.y)


@recipe("permutation_importance", "columns of a table, beside the text", FIT, jobs=True)
def importance(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    pipe = beside_the_text(b)
    found = permutation_importance(pipe, b.table, b.y, random_state=0, n_jobs=n_jobs)
    assert found.importances_mean.argmax() == 0  # the text is what counts
    return {"score": found.importances}


@recipe("permutation_importance", "columns that the prompt names", None, jobs=True)
def importance_in_prompt(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    llm = b.llm(prompt="A message of {n_words} words. {hint}\n\n{text}").fit(b.table, b.y)
    found = permutation_importance(llm, b.table, b.y, n_repeats=2, random_state=0, n_jobs=n_jobs)
    return {"score": found.importances}


@recipe("partial_dependence, PartialDependenceDisplay", "a numeric column beside the text", FIT)
def dependence(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    pipe = beside_the_text(b)
    table = b.table.astype({"n_words": float})
    found = partial_dependence(pipe, table, ["n_words"], kind="average")
    PartialDependenceDisplay.from_estimator(pipe, table, ["n_words"])
    return {"score": found["average"]}


@recipe("SelfTrainingClassifier", "on the log-probabilities; a third has no label", BOTH)
def self_training(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    partly = b.y.astype(object)
    partly[::3] = -1
    llm = b.llm()
    clf = SelfTrainingClassifier(LogisticRegression()).fit(llm.transform(b.X), partly)
    return {"proba": clf.predict_proba(llm.transform(b.new))}


@recipe(
    "CalibrationDisplay, RocCurveDisplay, PrecisionRecallDisplay, DetCurveDisplay, "
    "ConfusionMatrixDisplay",
    "from_estimator, raw and calibrated",
    BOTH,
)
def displays(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    calibrated = CalibratedLLMClassifier(b.llm(), method="vector").fit(b.X, b.y)
    for clf in (b.llm(), calibrated):
        RocCurveDisplay.from_estimator(clf, b.new, b.y_new, pos_label="positive")
        PrecisionRecallDisplay.from_estimator(clf, b.new, b.y_new, pos_label="positive")
        DetCurveDisplay.from_estimator(clf, b.new, b.y_new, pos_label="positive")
        ConfusionMatrixDisplay.from_estimator(clf, b.new, b.y_new)
        shown = CalibrationDisplay.from_estimator(clf, b.new, b.y_new, pos_label="positive")
    return {"score": shown.y_prob, "proba": calibrated.predict_proba(b.new)}


@recipe("LearningCurveDisplay, ValidationCurveDisplay", "from_estimator", None, jobs=True)
def curve_displays(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    over: dict[str, Any] = {"param_name": "n_shots", "param_range": [0, 1, 2]}
    first = LearningCurveDisplay.from_estimator(b.llm(), b.X, b.y, cv=3, n_jobs=n_jobs)
    second = ValidationCurveDisplay.from_estimator(b.llm(), b.X, b.y, cv=3, n_jobs=n_jobs, **over)
    return {"score": [first.test_scores, second.test_scores]}


@recipe("clone, set_params", "nested: a new estimator__model__seed asks anew", 2 * BOTH)
def nested_parameters(b: Bench, n_jobs: int | None) -> dict[str, Any]:
    clf = CalibratedLLMClassifier(b.llm(), method="vector").fit(b.X, b.y)
    copy = clone(clf).set_params(method="platt", estimator__signal="logprobs").fit(b.X, b.y)
    other = clone(clf).set_params(estimator__model__seed=1).fit(b.X, b.y)
    return {"proba": [c.predict_proba(b.new) for c in (clf, copy, other)]}


# -- what does not work, and why -------------------------------------------------------------------

HIDES_LABELS = "no: its members see 0 and 1 in place of the labels; the model is never told which"
NUMBERS_ONLY = "no: takes numbers only; give it the log-probabilities (transform)"
NO_COEFFICIENTS = "no: a language model has no coefficients to select by"
NO_TRAINING = "no sense: reweighting the rows does not change what a model answers"


def one_vs_rest(b: Bench) -> Any:
    three = b.llm(classes=[*CLASSES, "unclear"])
    y = np.where(np.arange(len(b.y)) % 3 == 0, "unclear", b.y)
    return OneVsRestClassifier(three).fit(b.X, y).predict_proba(b.new)


def output_code(llm: LLMClassifier) -> OutputCodeClassifier:
    return OutputCodeClassifier(llm, random_state=0)


def two_outputs(b: Bench) -> Any:
    return np.column_stack([b.y == "positive", b.table["n_words"] > 15]).astype(int)


def multi_output(b: Bench) -> Any:
    return MultiOutputClassifier(b.llm()).fit(b.X, two_outputs(b)).predict_proba(b.new)


def chain(b: Bench) -> Any:
    return ClassifierChain(b.llm()).fit(b.table, two_outputs(b))


def boosted(b: Bench) -> Any:
    boost = AdaBoostClassifier(b.llm(), n_estimators=3).fit(b.table[["text"]], b.y)
    return boost.predict(b.new_table[["text"]])


def on_table(tool: Any) -> Callable[[Bench], Any]:
    return lambda b: tool(b.llm()).fit(b.table, b.y)


NOT_SUPPORTED: dict[str, tuple[str, Callable[[Bench], Any]]] = {
    "OneVsRestClassifier": (HIDES_LABELS, one_vs_rest),
    "OneVsOneClassifier": (NUMBERS_ONLY, on_table(OneVsOneClassifier)),
    "OutputCodeClassifier": (HIDES_LABELS, on_table(output_code)),
    "MultiOutputClassifier": (HIDES_LABELS, multi_output),
    "ClassifierChain": (NUMBERS_ONLY, chain),
    "AdaBoostClassifier": (NO_TRAINING, boosted),
    "SelfTrainingClassifier (texts)": (NUMBERS_ONLY, on_table(SelfTrainingClassifier)),
    "SequentialFeatureSelector": (NUMBERS_ONLY, on_table(SequentialFeatureSelector)),
    "RFE": (NO_COEFFICIENTS, on_table(RFE)),
    "RFECV": (NO_COEFFICIENTS, on_table(RFECV)),
    "SelectFromModel": (NO_COEFFICIENTS, lambda b: on_table(SelectFromModel)(b).get_support()),
}


# -- running them ----------------------------------------------------------------------------------


def problems(found: dict[str, Any], b: Bench) -> list[str]:
    """What is wrong with a result; nothing, if the tool works."""
    out = []
    for kind, value in found.items():
        parts = value if isinstance(value, list | tuple) else [value]
        for part in map(np.asarray, parts):
            if kind == "score":
                out += [] if np.isfinite(part).all() else ["a score is not finite"]
                continue
            if kind == "proba" and not np.allclose(part.sum(axis=1), 1.0):
                out.append("rows of probabilities do not sum to one")
            labels = np.array(CLASSES)[part.argmax(axis=1)] if kind == "proba" else part
            right = np.mean(labels == (b.y_new if len(labels) == b.n_new else b.y))
            out += [] if right >= 0.75 else [f"only {right:.0%} of the labels are right"]
    return out


def run(r: Recipe, n_jobs: int | None = None, backend: str = "loky") -> tuple[Counter[str], str]:
    """Run a recipe with a cache of its own; return what it asked, and whether it worked."""
    # Overlapping work is what makes workers ask twice, so let a question take a while there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        b = Bench(folder, delay=0.0 if n_jobs is None else 0.002)
        try:
            with parallel_config(backend=backend):
                found = r.run(b, n_jobs)
        except Exception as e:
            return b.asked(), f"no: {type(e).__name__}: {e}".splitlines()[0]
        finally:
            plt.close("all")
        wrong = problems(found, b)
        return b.asked(), "no: " + "; ".join(wrong) if wrong else "yes"


def rate(asked: Counter[str]) -> str:
    return f"{asked.total() / len(asked):.2f}" if asked else "-"


HEADER = (
    "tool", "what is done", "works", "questions", "asked", "asks per question",
    "n_jobs=2, processes", "n_jobs=2, threads",
)  # fmt: skip


def table_rows() -> Iterator[tuple[str, ...]]:
    for r in RECIPES:
        asked, works = run(r)
        counts = [str(len(asked)), str(asked.total()), rate(asked)]
        if r.questions is not None and len(asked) != r.questions:
            works += f" (but {r.questions} questions were to be expected)"
        for backend in ("loky", "threading"):
            counts.append(rate(run(r, 2, backend)[0]) if r.jobs else "-")
        yield (r.tool, r.what, works, *counts)
    for tool, (reason, _) in NOT_SUPPORTED.items():
        yield (tool, "", reason, *["-"] * 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rst", action="store_true", help="print a list-table")
    args = parser.parse_args()
    mpl.use("Agg")
    warnings.simplefilter("ignore", FutureWarning)
    if args.rst:
        print(".. list-table::\n   :header-rows: 1\n")
    for row in [HEADER, *table_rows()] if args.rst else table_rows():
        if args.rst:
            print(
                textwrap.indent("\n".join(f"- {cell}" for cell in row), "     ").replace(
                    "     - ", "   * - ", 1
                ),
                flush=True,
            )
        else:
            named = zip(HEADER[3:], row[3:], strict=True)
            print(
                f"{row[0]}: {row[1]}\n    {row[2]}; " + ", ".join(f"{k} {v}" for k, v in named),
                flush=True,
            )


if __name__ == "__main__":
    main()
