"""What every backend promises, as tests to inherit; see docs/extending/backend.rst."""

from __future__ import annotations

import json
import pickle

import pytest
from sklearn.base import clone

from skllm_calib.backends import BaseBackend, Dropout, LabelTree, Message, Reply, Request
from skllm_calib.exceptions import SignalUnavailable


class BackendContract:
    """Inherit, and give the fixtures `backend` and `other` (of another identity).

    Attributes
    ----------
    answers : tuple of str
        What requests for label probabilities are about.
    shows_logprobs : bool
        False for a backend that answers in texts only: a request for label probabilities must then
        fail with ``SignalUnavailable``, and all other tests ask for texts.
    """

    answers = ("A", "B")
    shows_logprobs = True

    @pytest.fixture
    def backend(self):
        raise NotImplementedError

    @pytest.fixture
    def other(self):
        raise NotImplementedError

    def request(self, text="hello", **options):
        options.setdefault("answers", self.answers if self.shows_logprobs else ())
        turns = (Message("system", "Answer A or B."), Message("user", text))
        return Request(turns, **options)

    def ask(self, backend, *requests):
        pairs = list(backend.run(list(requests)))
        assert sorted(i for i, _ in pairs) == list(range(len(requests)))
        return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]

    def test_each_request_has_one_reply_with_the_labels(self, backend):
        requests = [self.request(f"text {i}", answers=self.answers) for i in range(3)]
        for reply in self.ask(backend, *requests):
            if not self.shows_logprobs:
                assert type(reply) is SignalUnavailable
                continue
            assert isinstance(reply, Reply)
            assert reply.distributions[0].prefix == b""
            assert reply.model
            assert reply.prompt_tokens > 0
            mass = LabelTree(self.answers).reduce({d.prefix: d for d in reply.distributions})
            assert mass.seen.any()
            assert 0 < mass.point.sum() <= 1 + 1e-9
            assert all(t.logprob <= 1e-6 for d in reply.distributions for t in d.tokens)

    def test_no_requests_have_no_replies(self, backend):
        assert list(backend.run([])) == []

    def test_replies_do_not_depend_on_order_or_company(self, backend):
        requests = [self.request(f"text {i}") for i in range(3)]
        together = self.ask(backend, *requests)
        assert self.ask(backend, *requests[::-1])[::-1] == together
        assert self.ask(backend, requests[1]) == together[1:2]

    def test_text_without_labels(self, backend):
        (reply,) = self.ask(backend, self.request(answers=(), max_tokens=3))
        assert isinstance(reply.text, str)
        assert reply.distributions == ()

    def test_what_a_backend_cannot_do_costs_no_other_request(self, backend):
        special = self.request(answers=self.answers, dropout=Dropout("head", 0.1, 2))
        answer, plain = self.ask(backend, special, self.request())
        assert isinstance(plain, Reply)
        assert isinstance(answer, SignalUnavailable) or len(answer.passes) == 2

    def test_replies_keep_in_json(self, backend):
        (reply,) = self.ask(backend, self.request())
        assert Reply.from_json(reply.to_json()) == reply

    def test_identity_is_plain_and_tells_backends_apart(self, backend, other):
        identity = backend.identity()
        assert json.loads(json.dumps(identity)) == identity
        assert identity["provider"]
        assert "model" in identity or "name" in identity
        assert other.identity() != identity
        assert self.request().key(identity) != self.request().key(other.identity())

    def test_clones_and_pickles_are_small_and_the_same(self, backend):
        self.ask(backend, self.request())  # what is alive is not to be seen in the object
        stored = pickle.dumps(backend)
        assert len(stored) < 2_000
        for copy in (clone(backend), pickle.loads(stored)):
            assert isinstance(copy, BaseBackend)
            assert copy is not backend
            assert copy.get_params() == backend.get_params()
            assert copy.identity() == backend.identity()
        assert vars(backend).keys() == backend.get_params().keys()

    def test_stopping_early_is_harmless(self, backend):
        answers = backend.run([self.request(f"text {i}") for i in range(3)])
        next(answers)
        answers.close()
        assert len(self.ask(backend, self.request())) == 1
