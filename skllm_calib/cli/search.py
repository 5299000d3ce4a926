"""Find the wording of the question that suits a model, by its log-loss after calibration."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.console import aligned, remark, say
from skllm_calib.evidence.backends.base import AnswerForm
from skllm_calib.evidence.prompts import Prompt

__all__ = ["search_prompt"]

_MANY_CLASSES = 10  # with more, two examples of each make a prompt too long
_WORDINGS = {
    "classify": (None, None),
    "one of": ("Text: {text}\nAnswer:", "Classify the text. Answer with one of: {options}."),
    "text first": ("{text}\n\nWhich of these fits the text: {options}?\nAnswer:", None),
}


class _Candidate(NamedTuple):
    name: str
    prompt: Prompt
    n_shots: int


def search_prompt(
    classifier: CalibratedLLMClassifier,
    texts: Sequence[str],
    labels: Sequence[str],
    args: argparse.Namespace,
    fit_params: Mapping[str, Any],
) -> CalibratedLLMClassifier:
    """Try the wordings on the calibration rows, print how each did, and return the best.

    Each candidate is judged by the log-loss of its calibrated probabilities on rows that its
    calibrator has not seen, and its examples neither: the figure of its card. So every candidate
    asks once for each row, and a reply is never asked for again.

    Parameters
    ----------
    classifier : CalibratedLLMClassifier
        Of an ``LLMClassifier``; its own prompt is the first candidate.
    texts, labels : sequence of str
        The calibration rows.
    args : Namespace
        The arguments of the command.
    fit_params : dict
        Further parameters of ``fit``, such as weights.

    Returns
    -------
    CalibratedLLMClassifier
        The best one, not fitted.
    """
    candidates = _candidates(classifier, args)
    remark(
        args,
        f"Trying {len(candidates)} wordings on {len(texts)} rows: up to "
        f"{len(candidates) * len(texts):,} questions.",
    )
    with tempfile.TemporaryDirectory() as folder:
        trial = clone(classifier)
        if trial.estimator.cache is None:  # for the search alone; a reply serves several fits
            trial.estimator.set_params(cache=f"{folder}/replies.sqlite")
        # What is wrong with all of them is said here, as it is.
        clone(trial).fit(texts, labels, **fit_params)
        search = GridSearchCV(
            trial,
            [{"estimator__prompt": [c.prompt], "estimator__n_shots": [c.n_shots]}
             for c in candidates],
            scoring=_held_out,
            cv=[(np.arange(len(texts)), np.arange(len(texts)))],
            refit=False,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)  # the table says "failed"
            warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
            search.fit(texts, labels, **fit_params)
    raw = -search.cv_results_["mean_test_raw"]
    calibrated = -search.cv_results_["mean_test_calibrated"]
    best = int(np.nanargmin(calibrated))
    say(_shown(candidates, raw, calibrated, best))
    chosen = candidates[best]
    return clone(classifier).set_params(  # type: ignore[no-any-return]
        estimator__prompt=chosen.prompt, estimator__n_shots=chosen.n_shots
    )


def _candidates(classifier: CalibratedLLMClassifier, args: argparse.Namespace) -> list[_Candidate]:
    """Return the user's own wording first, then the built-in ones."""
    llm = classifier.estimator
    out = []
    if args.prompt or args.prompt_file or args.instruction or llm.n_shots:
        out.append(_Candidate("yours", llm.prompt, llm.n_shots))
    forms: tuple[AnswerForm, ...]
    forms = ("words", "keys") if args.answer == "auto" else (args.answer,)
    shots = (0, 2) if len(llm.classes) <= _MANY_CLASSES else (0,)
    for n_shots in shots:
        for form in forms:
            for name, (template, instruction) in _WORDINGS.items():
                # "One of" is about words, and examples say themselves what is wanted.
                if (form == "keys" and name == "one of") or (n_shots and name == "text first"):
                    continue
                prompt = Prompt(template, instruction=instruction, answer=form)
                out.append(_Candidate(name, prompt, n_shots))
    return out


def _held_out(
    classifier: CalibratedLLMClassifier, X: Sequence[str], y: Sequence[str]
) -> dict[str, float]:
    card = classifier.calibration_card_
    held_out = card["held_out"]
    # A wording that loses rows is not to win by losing the difficult ones.
    if held_out is None or card["n_failed_rows"] > 0.1 * len(y):
        return {"raw": np.nan, "calibrated": np.nan}
    return {
        "raw": -held_out["before"]["log_loss"],
        "calibrated": -held_out["after"]["log_loss"],
    }


def _shown(
    candidates: Sequence[_Candidate],
    raw: Sequence[float],
    calibrated: Sequence[float],
    best: int,
) -> str:
    rows = [["wording", "answer", "examples", "raw log-loss", "calibrated"]]
    remarks = [""]
    for i, (candidate, before, after) in enumerate(zip(candidates, raw, calibrated, strict=True)):
        figures = ["failed" if np.isnan(x) else f"{x:.3f}" for x in (before, after)]
        shots = str(candidate.n_shots or "-")
        rows.append([candidate.name, candidate.prompt.answer, shots, *figures])
        remarks.append("<- chosen" if i == best else "")
    return (
        "Wordings by their cross-validated log-loss on the calibration rows (lower is better; the\n"
        "chosen one's own figure flatters a little, as the best of several):\n\n"
        + aligned(rows, remarks)
        + "\n"
    )
