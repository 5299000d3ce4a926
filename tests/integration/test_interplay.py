"""With imbalanced-learn, Optuna, skore and MLflow: the real packages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict, cross_val_score

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, Prompt, ece_scorer, log_loss_scorer
from skllm_calib.persistence import TRUSTED_TYPES

TEXTS = [f"message {i:02d}" for i in range(60)]
FRAME = pd.DataFrame({"text": TEXTS}, index=range(100, 160))
LABELS = np.array(["ham", "spam"] * 30)
RARE = np.array(["ham", "ham", "ham", "ham", "spam"] * 12)


# ------------------------------------------------------------------------------ imbalanced-learn


@pytest.fixture
def over():
    sampling = pytest.importorskip("imblearn.over_sampling")
    return sampling.RandomOverSampler(random_state=0)


@pytest.fixture
def pipeline(over):
    return pytest.importorskip("imblearn.pipeline").make_pipeline


@pytest.mark.parametrize(
    "X",
    [FRAME, FRAME.assign(n=range(60)), np.array(TEXTS, dtype=object).reshape(-1, 1)],
    ids=["column", "table", "array"],
)
def test_resampled_texts_reach_the_classifier(counted, over, pipeline, X):
    clf = pipeline(over, LLMClassifier(counted(), n_shots=3, cache=None)).fit(X, RARE)
    assert clf.predict(X).shape == (60,)
    labels = [label for _, label in clf[-1].examples_]
    assert sorted(labels) == ["ham"] * 3 + ["spam"] * 3
    if isinstance(X, pd.DataFrame):
        assert clf[-1].feature_names_in_.tolist() == X.columns.tolist()


def test_only_the_training_rows_are_resampled(counted, over, pipeline):
    backend = counted()
    clf = pipeline(over, LLMClassifier(backend, classes=["ham", "spam"], cache=None))
    proba = cross_val_predict(clf, FRAME, RARE, cv=3, method="predict_proba")
    np.testing.assert_array_equal(proba, clf[-1].predict_proba(TEXTS))
    assert set(backend.asked.values()) == {2}  # once by each of the two lines above


def test_calibration_belongs_outside_of_the_resampling(counted, over, pipeline):
    """Calibrated on resampled rows, it believes their shares of the classes."""
    backend = counted()
    llm = LLMClassifier(backend, cache=None)
    inside = pipeline(over, CalibratedLLMClassifier(llm, method="vector")).fit(FRAME, RARE)
    outside = CalibratedLLMClassifier(pipeline(over, llm), method="vector").fit(FRAME, RARE)
    share = np.mean(RARE == "spam")
    assert share == 0.2
    assert inside.predict_proba(FRAME)[:, 1].mean() > 0.4
    assert outside.predict_proba(FRAME)[:, 1].mean() == pytest.approx(share, abs=0.03)


# ----------------------------------------------------------------------------------------- Optuna


PROMPTS = {
    "short": "Ham or spam? {hint} {text}",
    "late": "{text} -- ham or spam? {hint}",
    "instruction": Prompt("{text}", instruction="Ham or spam? {hint}"),
}


def test_a_study_asks_each_prompt_once_a_text(counted, tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = counted()
    llm = LLMClassifier(backend, classes=["ham", "spam"], cache=tmp_path / "replies.sqlite")

    def objective(trial):
        prompt = trial.suggest_categorical("prompt", list(PROMPTS))
        method = trial.suggest_categorical("method", ["temperature", "platt"])
        raw = clone(llm).set_params(prompt=PROMPTS[prompt])
        clf = CalibratedLLMClassifier(raw, method=method)
        return cross_val_score(clf, TEXTS, LABELS, cv=2, scoring=log_loss_scorer).mean()

    space = {"prompt": list(PROMPTS), "method": ["temperature", "platt"]}
    study = optuna.create_study(  # in memory
        direction="maximize", sampler=optuna.samplers.GridSampler(space, seed=0)
    )
    study.optimize(objective)
    assert len(study.trials) == 6
    assert len(backend.asked) == len(PROMPTS) * len(TEXTS)
    assert set(backend.asked.values()) == {1}
    best = CalibratedLLMClassifier(
        clone(llm).set_params(prompt=PROMPTS[study.best_params["prompt"]]),
        method=study.best_params["method"],
    )
    again = cross_val_score(best, TEXTS, LABELS, cv=2, scoring=log_loss_scorer).mean()
    assert again == study.best_value
    assert max(trial.value for trial in study.trials) == study.best_value
    assert set(backend.asked.values()) == {1}


# ------------------------------------------------------------------------------------------ skore


def test_skore_reports(counted, tmp_path):
    skore = pytest.importorskip("skore")
    backend = counted()
    llm = LLMClassifier(backend, classes=["ham", "spam"], cache=tmp_path / "replies.sqlite")
    clf = CalibratedLLMClassifier(llm, method="temperature")
    report = skore.EstimatorReport(
        clf,
        X_train=TEXTS[:40],
        y_train=LABELS[:40],
        X_test=TEXTS[40:],
        y_test=LABELS[40:],
        pos_label="spam",
    )
    report.metrics.add(ece_scorer, name="ece")
    shown = report.metrics.summarize().frame()
    clf.fit(TEXTS[:40], LABELS[:40])
    assert report.metrics.log_loss() == -log_loss_scorer(clf, TEXTS[40:], LABELS[40:])
    assert abs(shown.loc["ece"].item()) == -ece_scorer(clf, TEXTS[40:], LABELS[40:])
    folds = skore.CrossValidationReport(
        clone(llm).set_params(classes=None), TEXTS, LABELS, splitter=3, pos_label="spam"
    )
    assert len(folds.metrics.log_loss()) == 1
    assert set(backend.asked.values()) == {1}


# ----------------------------------------------------------------------------------------- MLflow


@pytest.mark.filterwarnings("ignore")  # those of MLflow are its own affair
@pytest.mark.parametrize("calibrated", [False, True])
def test_mlflow_keeps_the_classifier_with_skops(counted, monkeypatch, tmp_path, calibrated):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-recognisable-0123456789")
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn")
    pytest.importorskip("skops")
    clf = LLMClassifier(counted(), cache=None)
    clf = CalibratedLLMClassifier(clf) if calibrated else clf
    clf.fit(FRAME, LABELS)
    mlflow_sklearn.save_model(
        clf,
        tmp_path / "model",
        serialization_format="skops",
        skops_trusted_types=list(TRUSTED_TYPES),
        pip_requirements=["skllm-calib"],
    )
    again = mlflow_sklearn.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(FRAME), clf.predict_proba(FRAME))
    served = pytest.importorskip("mlflow.pyfunc").load_model(str(tmp_path / "model"))
    assert served.predict(FRAME).tolist() == clf.predict(FRAME).tolist()
    for file in (tmp_path / "model").rglob("*"):
        if file.is_file():
            assert b"sk-recognisable" not in file.read_bytes()
