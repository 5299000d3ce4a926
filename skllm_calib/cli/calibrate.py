"""Calibrate a language model on some labelled rows of a table, and keep it in a folder."""

import tempfile
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.classifier import build_classifier, cache_of
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.rows import labelled_rows, table_of, write_used
from skllm_calib.evidence.backends.providers import resolve_model
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.utils.layout import aligned
from skllm_calib.utils.sampling import draw

_MANY_CLASSES = 10  # with more, two examples of each make a prompt too long
_WORDINGS = {
    "classify": (None, None),
    "one of": ("Text: {text}\nAnswer:", "Classify the text. Answer with one of: {options}."),
    "text first": ("{text}\n\nWhich of these fits the text: {options}?\nAnswer:", None),
}


def run(args: SimpleNamespace) -> int:
    """Calibrate, save, and show the card."""
    args.how_to_resume = "Nothing was kept, because of --cache none."
    if cache_of(args) is not None:
        args.how_to_resume = (
            "Replies so far are kept: run the same command again and only the rest is asked."
        )
    resolve_model(args.model)  # an unknown name is an error before anything else happens
    table = table_of(args)
    rows = labelled_rows(table, args, args.weight)
    classes = args.classes or sorted(set(rows["label"]))
    if len(classes) < 2:
        raise ValueError(
            f"column {args.label!r} holds the one label {classes[0]!r}: there is nothing to tell "
            "apart; name the others with --classes"
        )
    for i, label in rows["label"].items():
        if label not in classes:
            raise ValueError(
                f"{table.name(i)} has the label {label!r} in column {args.label!r}, which is not "
                f"one of --classes {','.join(classes)}"
            )
    drawn = rows.iloc[draw(rows["label"].tolist(), args.n_rows, args.seed)]
    if args.n_rows is not None and len(drawn) < args.n_rows:
        remark(args, f"There are only {len(drawn)} labelled rows; all of them are used.")

    llm = build_classifier(args, classes, n_shots=args.n_shots, seed=args.seed)
    classifier = CalibratedLLMClassifier(llm, method=args.method)
    given = [drawn["text"].tolist(), drawn["label"].tolist()]
    weighted = {} if args.weight is None else {"sample_weight": drawn["weight"].tolist()}
    if args.search:
        classifier = _search(classifier, given, weighted, args)
    classifier.fit(*given, **weighted)
    for estimator in (classifier.estimator, classifier.estimator_):
        estimator.set_params(verbose=0)
    classifier.save(args.out)
    write_used(args.out, drawn, table)

    say(repr(classifier.calibration_card_))
    say(f"\nSaved to {args.out}")
    if left := len(rows) - len(drawn):
        remark(
            args,
            f"{left:,} labelled rows are left to test it on: skllm-calib evaluate {args.file} "
            f"--text {args.text} --label {args.label} --classifier {args.out}",
        )
    return 0


def _search(
    classifier: CalibratedLLMClassifier, given: list[Any], weighted: Any, args: SimpleNamespace
) -> CalibratedLLMClassifier:
    """Try the wordings on the calibration rows, print how each did, and return the best.

    Each is judged by the log-loss of its calibrated probabilities on rows that its calibrator has
    not seen, and its examples neither: the figure of its card. So every wording asks once for each
    row, and a reply is never asked for again.
    """
    named = _candidates(classifier, args)
    n = len(given[0])
    remark(args, f"Trying {len(named)} wordings on {n} rows: up to {len(named) * n:,} questions.")
    settings = [{"estimator__prompt": prompt, "estimator__n_shots": k} for _, prompt, k in named]
    grid = [{name: [value] for name, value in one.items()} for one in settings]
    with tempfile.TemporaryDirectory() as folder:
        trial = clone(classifier)
        if trial.estimator.cache is None:  # for the search alone; a reply serves several fits
            trial.estimator.set_params(cache=f"{folder}/replies.sqlite")
        clone(trial).fit(*given, **weighted)  # what is wrong with all is said here, as it is
        every = np.arange(n)
        search = GridSearchCV(trial, grid, scoring=_held_out, cv=[(every, every)], refit=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)  # the table says "failed"
            warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
            search.fit(*given, **weighted)
    losses = [-search.cv_results_[f"mean_test_{name}"] for name in ("raw", "calibrated")]
    best = int(np.nanargmin(losses[1]))
    rows = [["wording", "answer", "examples", "raw log-loss", "calibrated"]]
    for (name, prompt, k), *pair in zip(named, *losses, strict=True):
        figures = ["failed" if np.isnan(x) else f"{x:.3f}" for x in pair]
        rows.append([name, prompt.answer, str(k or "-"), *figures])
    say(
        "Wordings by their cross-validated log-loss on the calibration rows (lower is better; the\n"
        "chosen one's own figure flatters a little, as the best of several):\n\n"
        + aligned(rows, ["", *("<- chosen" * (i == best) for i in range(len(named)))])
        + "\n"
    )
    return clone(classifier).set_params(**settings[best])  # type: ignore[no-any-return]


def _candidates(
    classifier: CalibratedLLMClassifier, args: SimpleNamespace
) -> list[tuple[str, Prompt, int]]:
    """Return name, prompt and number of examples: the user's own first, then the built-in ones."""
    llm = classifier.estimator
    out = []
    if args.prompt or args.prompt_file or args.instruction or llm.n_shots:
        out.append(("yours", llm.prompt, llm.n_shots))
    forms: Any = ("words", "keys") if args.answer == "auto" else (args.answer,)
    for n_shots in (0, 2) if len(llm.classes) <= _MANY_CLASSES else (0,):
        for form in forms:
            for name, (template, instruction) in _WORDINGS.items():
                # "One of" is about words, and examples say themselves what is wanted.
                if (form == "keys" and name == "one of") or (n_shots and name == "text first"):
                    continue
                out.append((name, Prompt(template, instruction=instruction, answer=form), n_shots))
    return out


def _held_out(classifier: CalibratedLLMClassifier, X: Any, y: Any) -> dict[str, float]:
    card = classifier.calibration_card_
    held_out = card["held_out"]
    # A wording that loses rows is not to win by losing the difficult ones.
    if held_out is None or card["n_failed_rows"] > 0.1 * len(y):
        return {"raw": np.nan, "calibrated": np.nan}
    return {
        "raw": -held_out["before"]["log_loss"],
        "calibrated": -held_out["after"]["log_loss"],
    }
