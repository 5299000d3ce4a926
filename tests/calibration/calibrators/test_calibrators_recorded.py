"""Calibration of recorded answers of real models, where the recording is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from skllm_calib.calibrators import resolve_calibrator

RECORDED = Path(__file__).parents[3] / "../shared/data/recorded/mmlu10k_many_models_logits.parquet"
LETTERS = list("ABCD")
N_LABELS = 200

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason="no recorded data here")


@pytest.fixture(scope="module")
def losses():
    """Mean held-out log-loss of each method for every third model, 200 labels, two draws."""
    columns = ["variant", "model", "label", *(f"logit_{letter}" for letter in LETTERS)]
    table = pd.read_parquet(RECORDED, columns=columns, filters=[("prompt", "==", "base")])
    rows = []
    for _, part in list(table.groupby(["variant", "model"], observed=True))[::3]:
        logits = part.iloc[:, 3:].to_numpy(dtype=float)
        y = part["label"].astype(str).to_numpy()
        for seed in range(2):
            order = np.random.default_rng(seed).permutation(len(y))
            fit, test = order[:N_LABELS], order[-4000:]
            row = {}
            for method in ("temperature", "vector", "auto"):
                calibrator = resolve_calibrator(method).fit(logits[fit], y[fit], classes=LETTERS)
                row[method] = log_loss(y[test], calibrator.predict_proba(logits[test]))
            raw = np.exp(logits[test] - np.logaddexp.reduce(logits[test], axis=1)[:, None])
            row["raw"] = log_loss(y[test], raw / raw.sum(axis=1, keepdims=True))
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["temperature", "vector", "auto"])
def test_two_hundred_labels_help_most_models(losses, method):
    assert len(losses) >= 10
    assert (losses[method] < losses["raw"]).mean() > 0.6
    assert losses[method].mean() < losses["raw"].mean() - 0.05


def test_biases_and_the_automatic_choice_do_not_lose(losses):
    assert losses["vector"].mean() < losses["temperature"].mean()
    assert losses["auto"].mean() < losses["temperature"].mean() + 0.002
