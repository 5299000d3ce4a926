"""The page "Add a signal": its code runs, and keeps the contract."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scripted import LABELS, lead, listing, question
from signal_contract import HANDLERS, SignalContract, made_up

from skllm_calib import LLMClassifier
from skllm_calib.backends import Request
from skllm_calib.exceptions import UnreadableReply
from skllm_calib.signals import SIGNALS, Evidence, Signal

PAGE = Path(__file__).parents[3] / "docs" / "extending" / "signal.rst"


def run_the_page():
    """Run the blocks in one module, which can be pickled from, and take its line back."""
    registered = dict(SIGNALS)
    module = sys.modules[name] = ModuleType(name := "page_add_a_signal")
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", text, re.M):
        exec(compile(textwrap.dedent(block), str(PAGE), "exec"), module.__dict__)
    assert SIGNALS.pop("pairwise") is module.PairwiseSignal
    SIGNALS.update(registered)
    return module


page = run_the_page() if PAGE.exists() else None
pytestmark = pytest.mark.skipif(page is None, reason="not a checkout")
if page is not None:
    TestOfThePage = page.TestPairwise

    class TestAsTheTableRunsIt(SignalContract):
        @pytest.fixture
        def signal(self):
            return page.PairwiseSignal()


def test_pairs_are_compared_in_both_orders():
    labels = ("ham", "news", "spam")

    def answer(request):
        first, second = (1 + labels.index(label) for label in request.answers)
        return listing(request, [first / (first + second), second / (first + second)])

    evidence, ((*asked,),) = lead(page.PairwiseSignal(), question(labels=labels), answer)
    pairs = [request.answers for request in asked]
    assert len(pairs) == len(set(pairs)) == 6
    assert all(pair[::-1] in pairs for pair in pairs)
    won = np.log([[1 / 3, 1 / 4], [2 / 3, 2 / 5], [3 / 4, 3 / 5]]).mean(axis=1)
    np.testing.assert_allclose(evidence.details["mean_log_proba"], won)
    np.testing.assert_allclose(np.exp(evidence.log_proba), np.exp(won) / np.exp(won).sum())
    _, ((*asked,),) = lead(page.PairwiseSignal(both_orders=False), question(), answer)
    assert [request.answers for request in asked] == [LABELS]


class StarsSignal(Signal):
    """Asks what TestingBackend has no answer to."""

    name = "stars"

    def ask(self, question):
        wanted = [
            Request(
                question.messages(f"How well does {text} fit? Give 1 to 5 stars."), max_tokens=5
            )
            for text in question.texts
        ]
        stars = [reply.text.count("*") for reply in (yield wanted)]
        if not any(stars):
            raise UnreadableReply("no stars")
        score = np.array(stars, dtype=np.float64)
        return Evidence(score - np.logaddexp.reduce(score))


def give_stars(request):
    content = request.messages[-1].content
    return "*" * (1 + len(content) % 5) if "stars" in content else None


def test_a_question_of_another_kind_is_answered_by_a_function(monkeypatch):
    def proba():
        clf = LLMClassifier(made_up(), classes=list(LABELS), signal="stars", cache=None)
        return clf.predict_proba(["You won!"])

    monkeypatch.setitem(SIGNALS, "stars", StarsSignal)
    with pytest.raises(UnreadableReply, match="no stars"):
        proba()
    monkeypatch.setitem(HANDLERS, "stars", give_stars)
    assert np.isfinite(proba()).all()
    usual = LLMClassifier(made_up(), classes=list(LABELS), signal="logprobs", cache=None)
    assert np.isfinite(usual.predict_proba(["You won!"])).all()
