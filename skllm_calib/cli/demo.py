"""See a real language model, its raw confidence, and what 200 labels make of it. Offline."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.console import progress_wanted, remark, say, wrapped
from skllm_calib.cli.figure import check_figure, draw_before_after
from skllm_calib.cli.options import add_cache, cache_of
from skllm_calib.cli.rows import draw
from skllm_calib.cli.scoring import (
    QUESTION,
    Scores,
    comparison,
    measure,
    prior_log_loss,
    score,
    threshold,
    thresholds,
)
from skllm_calib.datasets import load_messages
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.exceptions import MissingDependency

HELP = "see it work, offline, in a few minutes"

_PROMPT = Prompt(
    "Message: {text}\nAnswer:",
    instruction=(
        "Classify the sentiment of the customer message. Answer with one word: {options}."
    ),
    answer="words",
)
_N_LABELLED = 200
_FEWEST = 40
_TARGETS = (0.99, 0.95, 0.90, 0.85, 0.80)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--out", default="demo-output", metavar="DIR", help="folder to write to (%(default)s)"
    )
    parser.add_argument("--no-plot", action="store_true", help="without the picture")
    parser.add_argument(
        "--n-rows", type=int, metavar="N", help="use so many of the messages (default: all)"
    )
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Tell the story from the model to the decision."""
    start = time.perf_counter()
    args.how_to_resume = "Run it again: replies so far are kept, and only the rest is asked."
    find_smollm2()  # says how to get it
    plot = _plot_wanted(args)
    X, y = _messages(args.n_rows)
    n_labelled = min(_N_LABELLED, len(y) // 2)
    labelled = draw(y, n_labelled, seed=0)
    rest = sorted(set(range(len(y))) - set(labelled))

    say(
        wrapped(
            f"A real language model (SmolLM2, 135 million parameters) reads {len(y)} short "
            "customer messages on this machine, offline, and says of each how likely it is "
            "negative or positive."
        )
    )
    remark(args, "\nAsking the model; the first time takes a few minutes, later ones seconds ...")
    llm = LLMClassifier(
        "smollm2",
        prompt=_PROMPT,
        cache=cache_of(args),
        verbose=progress_wanted(args),
    )
    classifier = CalibratedLLMClassifier(llm)
    classifier.fit([X[i] for i in labelled], [y[i] for i in labelled])
    texts, truth = [X[i] for i in rest], [y[i] for i in rest]
    scores = score(classifier, texts)
    counts = Counter(y[i] for i in labelled)

    _show_calibration(scores, truth, counts)
    _show_decision(scores, truth, texts)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    classifier.calibration_card_.save(folder / "card.json")
    written = ["card.json"]
    if plot:
        draw_before_after(
            folder / "reliability.png", truth, scores.raw, scores.calibrated, scores.labels
        )
        written.append("reliability.png")
    say(f"\nWritten to {folder}: {', '.join(written)}")
    say(f"Done in {time.perf_counter() - start:.0f} seconds.")
    return 0


def _plot_wanted(args: argparse.Namespace) -> bool:
    if args.no_plot:
        return False
    try:
        check_figure("reliability.png")
    except MissingDependency as e:
        remark(args, f"No picture: {e}\n")
        return False
    return True


def _messages(n: int | None) -> tuple[list[str], list[str]]:
    data = load_messages()
    X, y = list(data.data), data.target.tolist()
    if n is not None and n < _FEWEST:
        raise ValueError(f"--n-rows {n} is too few to show anything: take {_FEWEST} at least")
    chosen = draw(y, n, seed=0)
    return [X[i] for i in chosen], [y[i] for i in chosen]


def _show_calibration(scores: Scores, truth: Sequence[str], counts: Counter[str]) -> None:
    before = measure(truth, scores.raw, scores.labels)
    after = measure(truth, scores.calibrated, scores.labels)
    stated = float(scores.raw.max(axis=1).mean())
    honest = float(scores.calibrated.max(axis=1).mean())
    say(
        "\n"
        + wrapped(
            f"Its raw confidence cannot be trusted: on average it claims to be {stated:.0%} sure, "
            f"and {before['accuracy']:.0%} of its answers are right. {counts.total()} labelled "
            f"messages are enough to correct that; on the {len(truth)} others it then claims "
            f"{honest:.0%} and gets {after['accuracy']:.0%} right:"
        )
        + "\n"
    )
    say(comparison(before, after, prior_log_loss(truth, counts, scores.labels)))


def _show_decision(scores: Scores, truth: Sequence[str], texts: Sequence[str]) -> None:
    """Set the threshold on two thirds of the rows and try it on the others."""
    known = draw(truth, len(truth) * 2 // 3, seed=1)
    fresh = sorted(set(range(len(truth))) - set(known))
    y = [truth[i] for i in known]
    found = [threshold(y, scores.calibrated[known], scores.labels, t) for t in _TARGETS]
    say(
        "\n"
        + wrapped(
            f"{QUESTION} {len(known)} of those {len(truth)} messages set the threshold. What can "
            "be promised with 95 % confidence:"
        )
        + "\n"
    )
    say(thresholds(found, len(known)))
    # The loosest promise that holds, decided before seeing the fresh rows.
    best = next((one for one in reversed(found) if one["threshold"] is not None), None)
    if best is None:
        say("\nNo threshold can be promised with so few labels: every message goes to a person.")
        return
    proba = scores.calibrated[fresh]
    passes = proba.max(axis=1) >= best["threshold"]
    best_label = [scores.labels[k] for k in proba.argmax(axis=1)]
    right = np.array([label == truth[i] for label, i in zip(best_label, fresh, strict=True)])
    say("\n" + wrapped(_tried(best["target"], passes, right)) + "\n")
    _show_examples(scores, texts, fresh, proba, passes)


def _tried(target: float, passes: NDArray[np.bool_], right: NDArray[np.bool_]) -> str:
    head = f"The threshold for {target:.0%}, tried on the {len(passes)} messages left:"
    if not passes.any():
        return f"{head} none reaches it, so all go to a person. For example:"
    return (
        f"{head} {passes.sum()} pass ({passes.mean():.0%}), and {right[passes].mean():.0%} of them "
        f"are right. The other {(~passes).sum()} go to a person, who finds "
        f"{(~right[~passes]).sum()} wrong ones among them. For example:"
    )


def _show_examples(
    scores: Scores,
    texts: Sequence[str],
    rows: Sequence[int],
    proba: NDArray[np.float64],
    passes: NDArray[np.bool_],
) -> None:
    """Show short messages: the surest of each label, and two in doubt."""
    confidence = proba.max(axis=1)
    short = np.array([len(texts[i]) <= 66 for i in rows])
    surest, doubtful = np.argsort(-confidence, kind="stable"), np.argsort(confidence, kind="stable")
    shown: list[int] = []
    for k in range(len(scores.labels)):
        shown += [i for i in surest if short[i] and passes[i] and proba[i].argmax() == k][:1]
    shown += [i for i in doubtful if short[i] and not passes[i]][:2]
    for i in shown:
        label = scores.labels[int(proba[i].argmax())]
        action = "accept" if passes[i] else "review"
        say(f"  {action}  {label:<8}  {confidence[i]:.2f}  {texts[rows[i]]}")
