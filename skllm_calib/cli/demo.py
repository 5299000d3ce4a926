"""See a real language model, its raw confidence, and what 200 labels make of it. Offline."""

import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.classifier import cache_of, set_resume_hint
from skllm_calib.cli.console import progress_wanted, remark, say
from skllm_calib.datasets import load_messages
from skllm_calib.display.plotting import check_figure
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.exceptions import MissingDependency
from skllm_calib.operations.report.evaluation import (
    PICTURE,
    QUESTION,
    Scores,
    comparison,
    draw_comparison,
    evaluation,
    score,
    threshold,
    thresholds,
)
from skllm_calib.utils.layout import wrapped
from skllm_calib.utils.sampling import draw

_PROMPT = Prompt(
    "Message: {text}\nAnswer:",
    instruction="Classify the sentiment of the customer message. Answer with one word: {options}.",
    answer="words",
)
Texts = NDArray[np.str_]
_N_LABELLED = 200
_FEWEST = 40
_TARGETS = (0.99, 0.95, 0.90, 0.85, 0.80)


def run(args: SimpleNamespace) -> int:
    """Tell the story from the model to the decision."""
    start = time.perf_counter()
    set_resume_hint(args)
    find_smollm2()  # says how to get it
    plot = _plot_wanted(args)
    if args.n_rows is not None and args.n_rows < _FEWEST:
        raise ValueError(
            f"--n-rows {args.n_rows} is too few to show anything: take {_FEWEST} at least"
        )
    data = load_messages()
    chosen = draw(data.target, args.n_rows, seed=0)
    X, y = np.array(data.data)[chosen], np.array(data.target)[chosen]
    labelled = draw(y, min(_N_LABELLED, len(y) // 2), seed=0)
    rest = np.setdiff1d(np.arange(len(y)), labelled)
    _tell(
        f"A real language model (SmolLM2, 135 million parameters) reads {len(y)} short customer "
        "messages on this machine, offline, and says of each how likely it is negative or positive."
    )
    remark(args, "Asking the model; the first time takes a few minutes, later ones seconds ...")
    llm = LLMClassifier(
        "smollm2", prompt=_PROMPT, cache=cache_of(args), verbose=progress_wanted(args)
    )
    classifier = CalibratedLLMClassifier(llm)
    classifier.fit(X[labelled], y[labelled])
    scores, truth = score(classifier, X[rest].tolist()), y[rest]

    _show_calibration(scores, truth, Counter(y[labelled].tolist()))
    _show_decision(scores, truth, X[rest])
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    classifier.calibration_card_.save(folder / "card.json")
    if plot:
        draw_comparison(folder / "reliability.png", truth.tolist(), scores)
    say(f"\nWritten to {folder}: card.json{', reliability.png' * plot}")
    say(f"Done in {time.perf_counter() - start:.0f} seconds.")
    return 0


def _tell(text: str) -> None:
    say(f"{wrapped(text)}\n")


def _plot_wanted(args: SimpleNamespace) -> bool:
    if args.no_plot:
        return False
    try:
        check_figure("reliability.png", PICTURE)
    except MissingDependency as e:
        remark(args, f"No picture: {e}\n")
        return False
    return True


def _show_calibration(scores: Scores, truth: Texts, counts: Counter[str]) -> None:
    figures = evaluation(truth.tolist(), scores, counts)
    before, after = figures["raw"], figures["calibrated"]
    _tell(
        "Its raw confidence cannot be trusted: on average it claims to be "
        f"{before['mean_confidence']:.0%} sure, and {before['accuracy']:.0%} of its answers are "
        f"right. {counts.total()} labelled messages are enough to correct that; on the "
        f"{len(truth)} others it then claims {after['mean_confidence']:.0%} and gets "
        f"{after['accuracy']:.0%} right:"
    )
    say(comparison(figures) + "\n")


def _show_decision(scores: Scores, truth: Texts, texts: Texts) -> None:
    """Set the threshold on two thirds of the rows and try it on the others."""
    known = draw(truth, len(truth) * 2 // 3, seed=1)
    fresh = np.setdiff1d(np.arange(len(truth)), known)
    y = truth[known].tolist()
    found = [threshold(y, scores.calibrated[known], scores.labels, target) for target in _TARGETS]
    _tell(
        f"{QUESTION} {len(known)} of those {len(truth)} messages set the threshold. What "
        "can be promised with 95 % confidence:"
    )
    say(thresholds(found, len(known)) + "\n")
    # The loosest promise that holds, decided before seeing the fresh rows.
    best = next((one for one in reversed(found) if one["threshold"] is not None), None)
    if best is None:
        say("No threshold can be promised with so few labels: every message goes to a person.")
        return
    proba = scores.calibrated[fresh]
    passes = proba.max(axis=1) >= best["threshold"]
    labels = np.array(scores.labels)[proba.argmax(axis=1)]
    right = labels == truth[fresh]
    tried = "none reaches it, so all go to a person."
    if passes.any():
        tried = (
            f"{passes.sum()} pass ({passes.mean():.0%}), and {right[passes].mean():.0%} of them "
            f"are right. The other {(~passes).sum()} go to a person, who finds "
            f"{(~right[~passes]).sum()} wrong ones among them."
        )
    _tell(
        f"The threshold for {best['target']:.0%}, tried on the {len(passes)} messages left: "
        f"{tried} For example:"
    )
    # Short messages: the surest of each label, and two in doubt.
    confidence = proba.max(axis=1)
    short = np.array([len(texts[i]) <= 66 for i in fresh])
    order = np.argsort(confidence, kind="stable")
    shown = [i for i in order if short[i] and not passes[i]][:2]
    for label in scores.labels:
        sure = [i for i in order[::-1] if short[i] and passes[i] and labels[i] == label]
        shown = sure[:1] + shown
    for i in shown:
        action = "accept" if passes[i] else "review"
        say(f"  {action}  {labels[i]:<8}  {confidence[i]:.2f}  {texts[fresh[i]]}")
