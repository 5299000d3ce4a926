"""Wordings of the question, tried on the calibration rows: which one calibrates best."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.utils.layout import aligned

__all__ = ["Candidate", "PromptSearch", "candidates", "search_prompts"]

_MANY_CLASSES = 10  # with more, two examples of each make a prompt too long
_WORDINGS = {
    "classify": (None, None),
    "one of": ("Text: {text}\nAnswer:", "Classify the text. Answer with one of: {options}."),
    "text first": ("{text}\n\nWhich of these fits the text: {options}?\nAnswer:", None),
}


class Candidate(NamedTuple):
    """A wording to try: its name, the prompt, and the number of examples in it."""

    name: str
    prompt: Any
    n_shots: int

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of a calibrated classifier that asks in this way."""
        return {"estimator__prompt": self.prompt, "estimator__n_shots": self.n_shots}


@dataclass(frozen=True)
class PromptSearch:
    """What a search found; ``str(search)`` is a table.

    Attributes
    ----------
    candidates : sequence of Candidate
        The wordings that were tried.
    raw_log_loss, log_loss : ndarray of shape (n_candidates,)
        Cross-validated log-loss before and after calibration, in nats; NaN where a wording failed.
    """

    candidates: Sequence[Candidate]
    raw_log_loss: NDArray[np.float64]
    log_loss: NDArray[np.float64]

    @property
    def best(self) -> dict[str, Any]:
        """Parameters of the wording with the lowest calibrated log-loss."""
        return self.candidates[int(np.nanargmin(self.log_loss))].params

    def __str__(self) -> str:
        best = int(np.nanargmin(self.log_loss))
        rows = [["wording", "answer", "examples", "raw log-loss", "calibrated"]]
        for one, *pair in zip(self.candidates, self.raw_log_loss, self.log_loss, strict=True):
            figures = ["failed" if np.isnan(x) else f"{x:.3f}" for x in pair]
            rows.append(
                [one.name, getattr(one.prompt, "answer", "auto"), str(one.n_shots or "-"), *figures]
            )
        remarks = ["", *("<- chosen" * (i == best) for i in range(len(self.candidates)))]
        return (
            "Wordings by their cross-validated log-loss on the calibration rows (lower is better; "
            "the\nchosen one's own figure flatters a little, as the best of several):\n\n"
            + aligned(rows, remarks)
        )


def candidates(llm: LLMClassifier, *, own: bool, answer: str = "auto") -> list[Candidate]:
    """Return the wordings to try: the prompt of `llm` if it is the user's own, and built-in ones.

    Parameters
    ----------
    llm : LLMClassifier
        The classifier whose question is to be found, with its classes.
    own : bool
        Whether its prompt is one of the candidates. One with examples always is.
    answer : {"auto", "words", "keys"}, default="auto"
        Form of the answer; "auto" tries both.
    """
    out, classes = [], np.unique(np.asarray(llm.classes))
    if own or llm.n_shots:
        out.append(Candidate("yours", llm.prompt, llm.n_shots))
    forms: Any = ("words", "keys") if answer == "auto" else (answer,)
    for n_shots in (0, 2) if len(classes) <= _MANY_CLASSES else (0,):
        for form in forms:
            for name, (template, instruction) in _WORDINGS.items():
                # "One of" is about words, and examples say themselves what is wanted.
                if (form == "keys" and name == "one of") or (n_shots and name == "text first"):
                    continue
                prompt = Prompt(template, instruction=instruction, answer=form)
                out.append(Candidate(name, prompt, n_shots))
    return out


def search_prompts(
    classifier: CalibratedLLMClassifier,
    X: Any,
    y: Any,
    candidates: Sequence[Candidate],
    **fit_params: Any,
) -> PromptSearch:
    """Fit a classifier with every wording, and tell how each did.

    Each is judged by the log-loss of its calibrated probabilities on rows that its calibrator has
    not seen, and its examples neither: the figure of its card. So every wording asks once for each
    row, and a reply is never asked for again.

    Raises
    ------
    ValueError
        If the data cannot be used with any wording, or every wording failed.
    """
    grid = [{name: [value] for name, value in one.params.items()} for one in candidates]
    with tempfile.TemporaryDirectory() as folder:
        trial = clone(classifier)
        if trial.estimator.cache is None:  # for the search alone; a reply serves several fits
            trial.estimator.set_params(cache=f"{folder}/replies.sqlite")
        clone(trial).fit(X, y, **fit_params)  # what is wrong with all is said here, as it is
        every = np.arange(len(y))
        search = GridSearchCV(trial, grid, scoring=_held_out, cv=[(every, every)], refit=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)  # the table says "failed"
            warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
            search.fit(X, y, **fit_params)
    losses = (-search.cv_results_[f"mean_test_{name}"] for name in ("raw", "calibrated"))
    return PromptSearch(candidates, *losses)


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
