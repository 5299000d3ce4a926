"""Every signal of one small model on real texts: raw, after 200 labels, and what a row costs.

``python benchmarks/signals.py FOLDER [SET ...]`` with the folder of ``real_texts.py``. One plain
question without examples for all signals, 200 labelled rows to calibrate, further rows to test.
Replies are cached, so a run that is stopped goes on where it was; the seconds a row are those of a
run that found nothing in the cache. ``--model transformers`` reads MC-dropout instead.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from real_texts import SETS, prompts, wording
from sklearn.metrics import log_loss

from skllm_calib import (
    CalibratedLLMClassifier,
    LlamaCppBackend,
    LLMClassifier,
    LLMEnsembleClassifier,
)
from skllm_calib.backends import TransformersBackend
from skllm_calib.metrics import calibration_error_interval, debiased_calibration_error
from skllm_calib.signals import (
    MCDropoutSignal,
    PTrueSignal,
    ReasonedSignal,
    SelfCheckSignal,
    SelfConsistencySignal,
    SelfReportedSignal,
)

BINS: dict[str, Any] = {"n_bins": 10, "strategy": "quantile"}
REASONED = ReasonedSignal(max_tokens=40)
# By name: parameters of the classifier. Texts are kept short, for this model writes slowly.
WAYS: dict[str, dict[str, Any]] = {
    "logprobs": {"signal": "logprobs"},
    "logprobs, 3 orders": {"signal": "logprobs", "order_averaging": 3},
    "logprobs, contextual": {"signal": "logprobs", "prior_correction": "contextual"},
    "logprobs, domain": {"signal": "logprobs", "prior_correction": "domain"},
    "logprobs, batch": {"signal": "logprobs", "prior_correction": "batch"},
    "self_reported": {"signal": SelfReportedSignal(form="distribution")},
    "p_true": {"signal": PTrueSignal()},
    "self_consistency": {"signal": SelfConsistencySignal(n_draws=5, max_tokens=6)},
    "reasoned": {"signal": REASONED},
    "self_check": {"signal": SelfCheckSignal(n_draws=2, max_tokens=30)},
}
DROPOUT: dict[str, dict[str, Any]] = {
    "mc_dropout, head": {"signal": MCDropoutSignal(where="head")},
    "mc_dropout, modules": {"signal": MCDropoutSignal(where="modules", n_passes=8)},
}
FUSED = {
    "logprobs + reasoned": ["logprobs", REASONED],
    "logprobs + self_consistency": ["logprobs", WAYS["self_consistency"]["signal"]],
    "logprobs + self_reported": ["logprobs", WAYS["self_reported"]["signal"]],
}


def figures(y: Any, proba: Any, classes: Any) -> dict[str, float]:
    """Measure the rows that were answered."""
    known = np.isfinite(proba).all(axis=1)
    y, proba = y[known], proba[known]
    interval = calibration_error_interval(y, proba, labels=classes, confidence=0.9, **BINS)
    return {
        "answered": float(known.mean()),
        "accuracy": float((classes[proba.argmax(axis=1)] == y).mean()),
        "log_loss": float(log_loss(y, proba, labels=classes)),
        "ece": float(debiased_calibration_error(y, proba, labels=classes, **BINS)),
        "ece_low": interval.low,
        "ece_high": interval.high,
    }


def cost(records: list[dict[str, Any]]) -> dict[str, float]:
    """Average what a row took, cached or not."""
    names = ("n_requests", "prompt_tokens", "completion_tokens")
    return {name: float(np.mean([record[name] for record in records])) for name in names}


def run(folder: Path, name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    noun = SETS[name][0]
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    random.Random(0).shuffle(rows)
    X, y = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    classes = np.unique(y)
    X_fit, y_fit = X[:200], y[:200]
    X_test, y_test = X[200 : 200 + args.n_test], y[200 : 200 + args.n_test]

    if args.model == "transformers":
        backend: Any = TransformersBackend("smollm2", n_threads=args.threads)
    else:
        backend = LlamaCppBackend("smollm2", n_threads=args.threads)
    llm = LLMClassifier(
        backend,
        classes=classes,
        label_texts={c: wording(c) for c in classes},
        prompt=prompts(noun, [])[1],
        on_error="nan",
    )
    ways = DROPOUT | {"logprobs": WAYS["logprobs"]} if args.model == "transformers" else WAYS
    out = []
    for way, params in ways.items():
        if args.ways and way not in args.ways:
            continue
        one = llm.set_params(signal="auto", order_averaging=1, prior_correction=None)
        one = one.set_params(**params)
        start = time.perf_counter()
        one.fit(X_fit, y_fit)
        records = one.explain(X_test)
        seconds = (time.perf_counter() - start) / len(X_test)
        raw = one.predict_proba(X_test)
        calibrated, n_labels = calibrate(one, X_fit, y_fit, X_test)
        fresh = not any(record["cached"] for record in records)
        out.append(
            {
                "set": name,
                "way": way,
                "n_labels": n_labels,
                "raw": figures(y_test, raw, classes),
                "calibrated": figures(y_test, calibrated, classes),
                "cost": cost(records) | ({"seconds": seconds} if fresh else {}),
            }
        )
        show(out[-1])
    for way, signals in FUSED.items() if args.model != "transformers" else ():
        if args.ways and way not in args.ways:
            continue
        one = llm.set_params(signal="logprobs", order_averaging=1, prior_correction=None)
        members = LLMEnsembleClassifier.over(one, signal=signals, weights="fit")
        calibrated, n_labels = calibrate(members, X_fit, y_fit, X_test)
        raw = LLMEnsembleClassifier.over(one, signal=signals).fit(X_fit, y_fit)
        out.append(
            {
                "set": name,
                "way": way,
                "n_labels": n_labels,
                "raw": figures(y_test, raw.predict_proba(X_test), classes),
                "calibrated": figures(y_test, calibrated, classes),
                "cost": {},
            }
        )
        show(out[-1])
    return out


def calibrate(clf: Any, X: list[str], y: Any, X_test: list[str]) -> tuple[Any, int]:
    """Fit on the rows that can be answered; return the probabilities of the others."""
    members = [member for _, member in clf.estimators] if hasattr(clf, "estimators") else [clf]
    known = np.all([np.isfinite(m.fit(X, y).predict_proba(X)).all(axis=1) for m in members], axis=0)
    X, y = [text for text, fine in zip(X, known, strict=True) if fine], y[known]
    return CalibratedLLMClassifier(clf).fit(X, y).predict_proba(X_test), len(y)


def show(r: dict[str, Any]) -> None:
    raw, after, cost_ = r["raw"], r["calibrated"], r["cost"]
    spent = " ".join(f"{value:6.1f}" for value in cost_.values())
    print(
        f"{r['set']:<14} {r['way']:<28} {raw['answered']:5.0%} {raw['accuracy']:.3f} "
        f"{after['accuracy']:.3f} | {raw['log_loss']:.3f} {after['log_loss']:.3f} | "
        f"{raw['ece']:.3f} {after['ece']:.3f} ({after['ece_low']:.3f}-{after['ece_high']:.3f}) | "
        f"{spent}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*", default=["sms_spam", "vader_tweets3", "clinc_domain10"])
    parser.add_argument("--model", choices=["llama.cpp", "transformers"], default="llama.cpp")
    parser.add_argument("--n-test", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="*", help="only these")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # rows that a small model does not answer are counted
    print(
        "set, signal, answered; then raw and calibrated: accuracy | log-loss | debiased ECE (90 % "
        "interval of the plain one) | a row: requests, tokens read, tokens written, seconds"
    )
    results = [r for name in args.sets for r in run(args.folder, name, args)]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
