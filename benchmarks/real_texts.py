"""The embedded model on five sets of real texts: raw, calibrated with 200 labels, and the prior.

For each set: a grid search over prompts on 200 calibration rows (log-loss of the calibrated
probabilities, five folds), the best prompt calibrated on the same rows, and rows never looked at to
test. Then the same with the command line: ``skllm-calib calibrate`` on the 200 rows with the prompt
found, ``skllm-calib evaluate`` on the rows to test. The texts are not part of the repository; give
their folder: ``python benchmarks/real_texts.py FOLDER [SET ...]``. Replies are cached, so a run
that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skllm_calib import (
    CalibratedLLMClassifier,
    LlamaCppBackend,
    LLMClassifier,
    Prompt,
    accept_threshold,
    calibration_scoring,
)
from skllm_calib.cli import main as command_line
from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.metrics import (
    brier_score,
    calibration_error_interval,
    calibration_noise_floor,
    debiased_calibration_error,
)

BINS: dict[str, Any] = {"n_bins": 10, "strategy": "quantile"}
# What a row is called in the prompt, rows to test, examples a class in the few-shot prompt.
SETS: dict[str, tuple[str, int, int]] = {
    "sms_spam": ("SMS message", 2000, 2),
    "vader_tweets3": ("sentiment of the tweet", 2000, 2),
    "clinc_domain10": ("topic of the request", 2000, 1),
    "hs_section21": ("goods description", 2000, 1),
    "banking77": ("question of a bank customer", 2000, 0),
}


def prompts(noun: str, examples: list[tuple[str, str]]) -> list[Prompt]:
    """Return the wordings to choose from; the few-shot one only where there are examples."""
    item = "Text: {text}\nAnswer:"
    ask = f"Classify the {noun}. {{hint}}"
    found = [
        Prompt(answer="words"),
        Prompt(item, instruction=ask, answer="words"),
        Prompt(answer="keys"),
        Prompt(item, instruction=f"Classify the {noun}:\n{{options}}\n{{hint}}", answer="keys"),
    ]
    if examples:
        turns = [{"role": "user", "content": ask}]
        for text, answer in examples:
            if turns[-1]["role"] == "user":
                turns[-1]["content"] += f"\n\nText: {_plain(text)}\nAnswer:"
            else:
                turns.append({"role": "user", "content": f"Text: {_plain(text)}\nAnswer:"})
            turns.append({"role": "assistant", "content": answer})
        found.append(Prompt([*turns, {"role": "user", "content": item}], answer="words"))
    return found


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


# The sections of the customs tariff in a word each, by their numeral.
SECTIONS = """
    I animals, II plants, III fats, IV food, V minerals, VI chemicals, VII plastics, VIII leather,
    IX wood, X paper, XI textiles, XII footwear, XIII stone, XIV jewellery, XV metal, XVI machines,
    XVII vehicles, XVIII instruments, XIX weapons, XX furniture, XXI art
"""
SECTION_WORDS = dict(entry.split() for entry in SECTIONS.split(","))


def wording(label: str) -> str:
    """Write a label as a person would: no underscores; a word for a section of the tariff."""
    return SECTION_WORDS.get(label.partition(" ")[0]) or label.replace("_", " ").strip(" ?")


def run(folder: Path, name: str, args: argparse.Namespace) -> dict[str, Any]:
    noun, n_rows, n_shots = SETS[name]
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    random.Random(0).shuffle(rows)
    X, y = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    classes = np.unique(y)
    n_test = args.n_test or n_rows
    # The few examples come from the 200 and are left out of what the calibrator sees.
    shown = [i for c in classes for i in np.flatnonzero(y[:200] == c)[:n_shots]]
    shown.sort()
    fit = [i for i in range(200) if i not in shown]
    test = slice(200, 200 + n_test)
    X_fit, y_fit, X_test, y_test = [X[i] for i in fit], y[fit], X[test], y[test]

    llm = LLMClassifier(
        LlamaCppBackend("smollm2", n_threads=args.threads),
        classes=classes,
        label_texts={c: wording(c) for c in classes},
        verbose=1,
    )
    wordings = prompts(noun, [(X[i], wording(y[i])) for i in shown])
    if len(classes) > 10:  # a row takes seconds where many labels are spelled out without examples
        wordings = [p for p in wordings if p.answer == "keys" or isinstance(p.template, list)]
    search = GridSearchCV(
        CalibratedLLMClassifier(llm),
        {"estimator__prompt": wordings},
        scoring=calibration_scoring(labels=classes)["log_loss"],
        cv=StratifiedKFold(5, shuffle=True, random_state=0) if len(classes) < 20 else 5,
    )
    start = time.perf_counter()
    search.fit(X_fit, y_fit)
    clf = search.best_estimator_
    raw, calibrated = clf.estimator_.predict_proba(X_test), clf.predict_proba(X_test)
    counts = np.array([(y_fit == c).sum() for c in classes]) + 0.5
    prior = np.tile(counts / counts.sum(), (len(y_test), 1))
    out: dict[str, Any] = {
        "set": name,
        "K": len(classes),
        "n_fit": len(fit),
        "n_test": len(y_test),
        "minutes": (time.perf_counter() - start) / 60,
        "prompts": (-search.cv_results_["mean_test_score"]).round(4).tolist(),
        "best": int(search.best_index_),
        "calibrator": clf.calibration_card_["calibrator"],
    }
    for way, proba in (("raw", raw), ("calibrated", calibrated), ("prior", prior)):
        interval = calibration_error_interval(y_test, proba, labels=classes, confidence=0.9, **BINS)
        out[way] = {
            "accuracy": float((classes[proba.argmax(axis=1)] == y_test).mean()),
            "log_loss": float(log_loss(y_test, proba, labels=classes)),
            "brier": float(brier_score(y_test, proba, labels=classes)),
            "ece": interval.estimate,
            "ece_low": interval.low,
            "ece_high": interval.high,
            "ece_floor": float(calibration_noise_floor(proba, labels=classes, **BINS)),
            "ece_debiased": float(
                debiased_calibration_error(y_test, proba, labels=classes, **BINS)
            ),
        }
    out["accept"] = {}
    for target in (0.8, 0.9, 0.95, 0.99):
        try:
            found = accept_threshold(y_test, calibrated, target_precision=target, labels=classes)
            out["accept"][target] = f"p >= {found.threshold:.3f} on {found.coverage:.0%}"
        except NotCertifiableError as e:
            more = "more would not help" if e.n_more is None else f"about {e.n_more:.2g} more"
            out["accept"][target] = f"not certifiable ({more})"
    out["command_line"] = by_command_line(
        (X_fit, y_fit), (X_test, y_test), classes, search.best_params_["estimator__prompt"]
    )
    return out


def by_command_line(
    fit: tuple[list[str], Any], test: tuple[list[str], Any], classes: Any, prompt: Prompt
) -> dict[str, Any]:
    """Calibrate and evaluate with the commands, on files; return what ``--json`` writes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, (X, y) in (("fit.csv", fit), ("test.csv", test)):
            with open(folder / file, "w", encoding="utf-8", newline="") as f:
                csv.writer(f).writerows([("text", "label"), *zip(X, y, strict=True)])
        labels = [str(c).strip() for c in classes]
        texts = {label: wording(label) for label in labels}
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        quoted = ",".join('"' + label.replace('"', '""') + '"' for label in labels)
        columns = ["--text", "text", "--label", "label"]
        options = ["--classes", quoted, "--label-texts", str(folder / "texts.json")]
        options += ["--answer", prompt.answer, "--n-rows", "all", "--model", "smollm2"]
        if prompt.instruction:
            options += ["--instruction", prompt.instruction]
        if isinstance(prompt.template, list):
            (folder / "chat.json").write_text(json.dumps(prompt.template), encoding="utf-8")
            options += ["--prompt-file", str(folder / "chat.json")]
        elif prompt.template:
            options += ["--prompt", prompt.template]
        kept, figures = str(folder / "classifier"), str(folder / "figures.json")
        command_line(["calibrate", str(folder / "fit.csv"), *columns, *options, "--out", kept])
        command_line(
            [
                "evaluate",
                str(folder / "test.csv"),
                *columns,
                "--classifier",
                kept,
                "--json",
                figures,
            ]
        )
        return dict(json.loads(Path(figures).read_text(encoding="utf-8")))


def show(r: dict[str, Any]) -> None:
    print(
        f"\n{r['set']}: {r['K']} classes, {r['n_fit']} labels, {r['n_test']} rows to test, "
        f"prompt {r['best']} of {r['prompts']}, {r['calibrator']}, {r['minutes']:.1f} min"
    )
    print(f"  {'':<11}{'accuracy':>9}{'log-loss':>9}{'Brier':>7}   ECE (90 % interval, floor)")
    for way in ("raw", "calibrated", "prior"):
        m = r[way]
        print(
            f"  {way:<11}{m['accuracy']:>9.3f}{m['log_loss']:>9.3f}{m['brier']:>7.3f}   "
            f"{m['ece']:.3f} ({m['ece_low']:.3f}-{m['ece_high']:.3f}, {m['ece_floor']:.3f}), "
            f"debiased {m['ece_debiased']:.3f}"
        )
    print(f"  accept: {r['accept']}")
    cli = r["command_line"]
    print(
        f"  command line: log-loss {cli['raw']['log_loss']:.3f} raw, "
        f"{cli['calibrated']['log_loss']:.3f} calibrated, on {cli['n']} rows",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the CSV files")
    parser.add_argument("sets", nargs="*", default=list(SETS), help="which; default all")
    parser.add_argument("--n-test", type=int, help="rows to test, if fewer than 2,000")
    parser.add_argument("--threads", type=int, help="cores to use; default all")
    parser.add_argument("--json", type=Path, help="append the results here, one line per set")
    args = parser.parse_args()
    for name in args.sets:
        result = run(args.folder, name, args)
        show(result)
        if args.json:
            with open(args.json, "a", encoding="utf-8") as f:
                f.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
