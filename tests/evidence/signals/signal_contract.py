"""What every signal promises, as tests to inherit; those of the table run by themselves."""

from __future__ import annotations

import json
import pickle
import typing

import numpy as np
import pytest
from scripted import lead, question
from sklearn.base import clone

from skllm_calib import LLMClassifier
from skllm_calib.backends import Reply, TestingBackend
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    Refused,
    SignalUnavailable,
    UnreadableReply,
)

LABELS = ("ham", "news", "spam", "a longer one")
QUESTIONS = {
    "words": question(labels=LABELS, answer="words"),
    "keys": question(labels=LABELS, answer="keys"),
    "two": question(labels=LABELS[:2], answer="keys"),
    "one": question(labels=("ham",), answer="words"),
    "thirty": question(labels=tuple(f"class {i}" for i in range(30)), answer="keys"),
    "another order": question(labels=LABELS, answer="keys").shifted(2),
    "examples": question(labels=LABELS, answer="words", examples=[({"text": "Lunch?"}, 0)]),
}
every_question = pytest.mark.parametrize("about", QUESTIONS.values(), ids=QUESTIONS)


# Functions that answer what TestingBackend alone cannot, by the name of the signal that asks it.
# They get every request of every test, and return None for those that are not theirs.
HANDLERS = {}


def handled(request):
    """Answer with the first function that knows the request."""
    answers = (handler(request) for handler in HANDLERS.values())
    return next((answer for answer in answers if answer is not None), None)


def made_up(**options):
    """Return a backend that answers every signal of the table."""
    return TestingBackend(handled if HANDLERS else None, **options)


class SignalContract:
    """Inherit, and give the fixture `signal`; also `backend`, where that needs a function."""

    @pytest.fixture
    def signal(self):
        raise NotImplementedError

    @pytest.fixture
    def backend(self):
        return made_up()

    def lead(self, signal, about, backend):
        """Return the evidence about a question, and what was asked on the way to it."""

        def answer(request):
            ((_, reply),) = backend.run([request])
            return reply

        return lead(signal, about, answer)

    # -- parameters --------------------------------------------------------------------------------

    def test_it_is_an_estimator_with_parameters_only(self, signal):
        assert set(vars(signal)) == set(signal.get_params(deep=False))
        copied = pickle.loads(pickle.dumps(signal))
        assert repr(copied) == repr(signal) == repr(clone(signal))
        assert copied.identity() == signal.identity()
        assert isinstance(signal.name, str)
        assert signal.name
        assert (type(signal).__doc__ or "").strip()

    def test_its_identity_is_plain_and_has_every_parameter(self, signal):
        identity = signal.identity()
        assert json.loads(json.dumps(identity)) == identity
        assert signal.name in (
            identity,
            identity if isinstance(identity, str) else identity["name"],
        )
        for name, value in another_value(signal).items():
            changed = clone(signal).set_params(**{name: value})
            assert changed.identity() != identity, name
            assert json.loads(json.dumps(changed.identity())) == changed.identity()

    # -- evidence ----------------------------------------------------------------------------------

    @every_question
    def test_it_returns_normalised_log_probabilities(self, signal, backend, about):
        evidence, _ = self.lead(signal, about, backend)
        assert evidence.log_proba.shape == (len(about.texts),)
        assert evidence.log_proba.dtype == np.float64
        assert np.isfinite(evidence.log_proba).all()
        assert np.exp(evidence.log_proba).sum() == pytest.approx(1.0, abs=1e-9)
        assert 0.0 <= evidence.off_label <= 1.0

    @every_question
    def test_what_is_asked_depends_on_the_content_alone(self, signal, backend, about):
        first, steps = self.lead(signal, about, backend)
        again, same_steps = self.lead(clone(signal), about, backend)
        assert [[r.key({}) for r in step] for step in steps] == [
            [r.key({}) for r in step] for step in same_steps
        ]
        np.testing.assert_array_equal(again.log_proba, first.log_proba)
        other = question("Lunch at one?", labels=about.texts)
        if steps and steps[0]:
            _, other_steps = self.lead(signal, other, backend)
            assert other_steps[0][0].key({}) != steps[0][0].key({})

    def test_what_it_shows_is_plain(self, signal, backend):
        clf = LLMClassifier(backend, classes=list(LABELS), signal=signal, cache=None)
        texts = ["You won!", "Lunch at one?"]
        records = clf.explain(texts)
        json.dumps(records)
        assert [record["signal"] for record in records] == [signal.label] * 2
        np.testing.assert_array_equal(
            clf.predict_proba(texts[::-1])[::-1], clf.predict_proba(texts)
        )

    # -- failures ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "failure",
        [
            BackendUnavailable("down"),
            Refused("declined"),
            SignalUnavailable("not here"),
            UnreadableReply("no choices"),
        ],
        ids=lambda failure: type(failure).__name__,
    )
    def test_without_an_answer_the_row_fails(self, signal, backend, failure):
        _, steps = self.lead(signal, QUESTIONS["words"], backend)
        if not any(steps):
            pytest.skip("asks nothing")
        with pytest.raises(type(failure)):
            lead(signal, QUESTIONS["words"], lambda _: failure)

    @pytest.mark.parametrize("text", ["", "I'd rather not say.", "x" * 10_000])
    def test_an_answer_that_says_nothing_is_unreadable(self, signal, backend, text):
        _, steps = self.lead(signal, QUESTIONS["keys"], backend)
        if not any(steps):
            pytest.skip("asks nothing")
        with pytest.raises(BackendError) as error:
            lead(signal, QUESTIONS["keys"], lambda _: Reply(text))
        assert str(error.value)
        assert len(str(error.value)) < 1_000

    def test_one_failure_among_the_answers_is_a_failure_or_left_out(self, signal, backend):
        """Never another exception, whichever request it is that fails."""
        whole, steps = self.lead(signal, QUESTIONS["words"], backend)
        for failing in range(sum(map(len, steps))):
            n_asked = iter(range(10_000))

            def answer(request, n_asked=n_asked, failing=failing):
                if next(n_asked) == failing:
                    return BackendUnavailable("down")
                ((_, reply),) = backend.run([request])
                return reply

            with pytest.raises(BackendUnavailable):
                lead(signal, QUESTIONS["words"], answer)
        assert np.isfinite(whole.log_proba).all()


def another_value(signal):
    """Return another value for each parameter of a signal, as far as its type tells one."""
    hints = typing.get_type_hints(type(signal).__init__)
    found = {}
    for name, value in signal.get_params(deep=False).items():
        choices = [arg for arg in _arguments(hints.get(name)) if arg != value]
        if isinstance(value, bool):
            found[name] = not value
        elif isinstance(value, int | float):
            found[name] = type(value)(value + 1)
        elif choices:
            found[name] = choices[0]
    return found


def _arguments(hint):
    """Return the strings that a type allows."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [arg for inner in typing.get_args(hint) for arg in _arguments(inner)]
