"""The customs office from end to end: classify, calibrate, certify, decide, review, recalibrate.

Goods descriptions of hs_section21.csv go to the 21 sections of the tariff. Two that know something
are pooled: SmolLM2, which has seen one example of a section in its prompt, and a model of the words
fitted on 500 old declarations. Then a zone is certified, a day's goods are decided about, people
answer from the queue (here the labels of the file answer), and all of it is done once more with
what they said.

    python benchmarks/customs_flow.py FOLDER [--out DIR] [--cache FILE]

FOLDER holds hs_section21.csv. The small model takes two to five seconds a row on a core; replies
are kept, so a second run takes a minute. DIR gets the reports, the queue and what the page of the
queue showed.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from real_texts import prompts, wording
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

from skllm_calib import (
    CalibratedLLMClassifier,
    CalibrationMonitor,
    CalibrationReport,
    LlamaCppBackend,
    LLMClassifier,
    LLMEnsembleClassifier,
    PredictionSets,
    ReviewPolicy,
    ReviewQueue,
    RiskMatrix,
)
from skllm_calib.exceptions import NotCertifiableError

CALIBRATE, CERTIFY, DAY, NEXT, OLD = 200, 400, 400, 200, 500
TARGET, CONFIDENCE, AUDIT = 0.95, 0.9, 0.2
# What a wrong section costs the office, roughly: excise, licences and weapons weigh more.
IMPACT = {
    "minor": ("I", "II", "IX", "X", "XI", "XII", "XIII", "XX", "XXI"),
    "moderate": ("III", "V", "VII", "VIII", "XV", "XVI", "XVII", "XVIII"),
    "major": ("IV", "VI", "XIV"),
    "severe": ("XIX",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("customs-output"))
    parser.add_argument("--cache", default="default")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    office = Office(args)
    print("1. classify and calibrate")
    office.classify()
    print("\n2. certify a zone, on rows that calibrated nothing")
    office.certify()
    print("\n3. decide about a day's goods")
    office.decide()
    print("\n4. people review, and audit a fifth of what was accepted")
    office.review()
    print("\n5. recalibrate with what they said")
    office.recalibrate()
    print("\n6. report on the next day's goods")
    office.report()


class Office:
    """The rows, and what has been made of them so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.X, self.y, self.parts = rows_of(args.folder)
        self.classes = np.unique(self.y)
        self.args = args
        impact = {
            c: level
            for c in self.classes
            for level, names in IMPACT.items()
            if c.partition(" ")[0] in names
        }
        self.matrix = RiskMatrix.five_by_five(impact=impact)

    def of(self, part: str) -> tuple[list[str], np.ndarray]:
        return self.X[self.parts[part]], self.y[self.parts[part]]

    def classify(self) -> None:
        old = slice(len(self.X) - OLD, len(self.X))
        words = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=30, max_iter=2000),
        ).fit(self.X[old], self.y[old])
        fit, llm = language_model(self.X, self.y, self.classes, self.args)
        self.X_fit, self.y_fit = [self.X[i] for i in fit], self.y[fit]
        pool = [("llm", llm), ("words", FrozenEstimator(words))]
        known = {
            "SmolLM2 alone": llm,
            "words alone": FrozenEstimator(words),
            "both, pooled": LLMEnsembleClassifier(pool, weights="fit"),
        }
        X, y = self.of("certify")
        for name, estimator in known.items():
            self.clf = CalibratedLLMClassifier(estimator).fit(self.X_fit, self.y_fit)
            proba = self.clf.predict_proba(X)
            show(name, y, proba, self.classes)
            print(f"      {promise(proba, y, self.classes)}")

    def certify(self) -> None:
        X, y = self.of("certify")
        self.reference = self.clf.predict_proba(X)
        self.policy = ReviewPolicy(TARGET, confidence=CONFIDENCE)
        self.policy.fit(y, self.reference, classes=self.classes)
        print(indented(self.policy.summary()))
        CalibrationReport.from_estimator(
            self.clf,
            X,
            y,
            policy=self.policy,
            policy_saw_rows=True,
            risk_matrix=self.matrix,
            title="Customs: sections of the tariff",
        ).save(self.args.out / "report.html")

    def decide(self) -> None:
        X, y = self.of("day")
        self.proba = self.clf.predict_proba(X)
        actions = self.policy.decide(self.proba)
        accepted, review = actions == "accept", actions == "review"
        right = self.policy.predict(self.proba) == y
        print(f"   {accepted.sum()} accepted, {review.sum()} to review of {len(actions)}")
        print(f"   truth: {right[accepted].mean():.1%} of the accepted are right")
        # Of the rows that go to a person, so that the promise is about these and not about all.
        doubtful = self.policy.decide(self.reference) == "review"
        sets = PredictionSets(coverage=0.9, confidence=CONFIDENCE)
        known = self.of("certify")[1][doubtful]
        sets.fit(known, self.reference[doubtful], classes=self.classes)
        shown = sets.predict_set(self.proba[review])
        inside = shown[np.arange(review.sum()), np.searchsorted(self.classes, y[review])]
        print(
            f"   a reviewer is shown {shown.sum(axis=1).mean():.1f} sections of "
            f"{len(self.classes)}; the right one is among them in {inside.mean():.1%}"
        )
        names, counts = np.unique(self.matrix.decide(self.proba), return_counts=True)
        by_matrix = ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True))
        print(f"   by the risk matrix instead: {by_matrix}")

    def review(self) -> None:
        X, y = self.of("day")
        path = self.args.out / "review.sqlite"
        path.unlink(missing_ok=True)
        queue = ReviewQueue(path, classes=self.classes, audit_share=AUDIT)
        decided = zip(
            self.proba,
            self.policy.predict(self.proba),
            self.policy.decide(self.proba).tolist(),
            self.policy.explain(self.proba),
            strict=True,
        )
        queue.add(
            {"id": i, "text": X[i], "proba": p, "label": label, "action": action, "reason": reason}
            for i, (p, label, action, reason) in enumerate(decided)
        )
        # For the pictures: the rows as they were before anybody looked.
        queue.write_rows(self.args.out / "rows.jsonl")
        (self.args.out / "classes.json").write_text(json.dumps(self.classes.tolist()))
        for row in queue.waiting():
            queue.add_label(row["id"], y[int(row["id"])], reviewer="the file")
        print(f"   {queue.accepted_error(confidence=CONFIDENCE)}")
        self.said = queue.export()
        weight = self.said.sample_weight
        print(f"   {len(weight)} labels, weighted to stand for {weight.sum():.0f} rows")
        monitor = CalibrationMonitor(
            detectors=("e_detector", "confidences", "predicted_labels"), max_weight=1 / AUDIT
        ).fit(self.of("certify")[1], self.reference, classes=self.classes)
        monitor.update(None, self.proba, ids=range(len(y)))
        monitor.add_labels([int(i) for i in self.said.ids], self.said.y, weight)
        state = monitor.summary()
        print(
            f"   the monitor: {monitor.status}, {state['labelled_confidence']:.1%} stated, "
            f"{state['labelled_accuracy']:.1%} right"
        )

    def recalibrate(self) -> None:
        weight = np.concatenate([np.ones(len(self.X_fit)), self.said.sample_weight])
        truth = np.concatenate([self.y_fit, self.said.y])
        again = CalibratedLLMClassifier(self.clf.estimator)
        again.fit(self.X_fit + self.said.texts, truth, sample_weight=weight)
        X, y = self.of("next")
        show("before", y, self.clf.predict_proba(X), self.classes)
        show("after", y, again.predict_proba(X), self.classes)
        X, y = self.of("certify")
        proba = again.predict_proba(X)
        print(f"      {promise(proba, y, self.classes)}")
        self.clf = again
        self.policy.fit(y, proba, classes=self.classes)

    def report(self) -> None:
        X, y = self.of("next")
        report = CalibrationReport.from_estimator(
            self.clf,
            X,
            y,
            policy=self.policy,
            risk_matrix=self.matrix,
            title="Customs: the next day",
        )
        report.save(self.args.out / "next-day.html")
        print(indented(report))


def rows_of(folder: Path) -> tuple[list[str], np.ndarray, dict[str, slice]]:
    with open(folder / "hs_section21.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    random.Random(0).shuffle(rows)
    parts, start = {}, CALIBRATE
    for name, size in (("certify", CERTIFY), ("day", DAY), ("next", NEXT)):
        parts[name] = slice(start, start := start + size)
    return [row["text"] for row in rows], np.array([row["label"].strip() for row in rows]), parts


def language_model(
    X: list[str], y: np.ndarray, classes: np.ndarray, args: argparse.Namespace
) -> tuple[list[int], LLMClassifier]:
    """Return the rows to calibrate on, which are not shown, and the model that is shown some."""
    first = y[:CALIBRATE]
    shown = sorted(int(i) for c in classes for i in np.flatnonzero(first == c)[:1])
    prompt = prompts("goods description", [(X[i], wording(y[i])) for i in shown])[-1]
    llm = LLMClassifier(
        LlamaCppBackend("smollm2", n_threads=args.threads),
        classes=classes,
        label_texts={c: wording(c) for c in classes},
        prompt=prompt,
        cache=args.cache,
    )
    return [i for i in range(CALIBRATE) if i not in shown], llm


def show(name: str, y: np.ndarray, proba: np.ndarray, classes: np.ndarray) -> None:
    right = (classes[proba.argmax(axis=1)] == y).mean()
    loss = log_loss(y, proba, labels=classes)
    print(f"   {name:<14} accuracy {right:.3f}, log-loss {loss:.3f}, {len(y)} rows")


def promise(proba: np.ndarray, y: np.ndarray, classes: np.ndarray) -> str:
    try:
        found = ReviewPolicy(TARGET, confidence=CONFIDENCE).fit(y, proba, classes=classes)
    except NotCertifiableError as e:
        return str(e)
    return f"{TARGET:.0%} right can be certified for {found.coverage_:.1%} of the rows"


def indented(text: Any) -> str:
    return "\n".join(f"   {line}" for line in str(text).splitlines())


if __name__ == "__main__":
    main()
