from __future__ import annotations

import json
import threading
from functools import partial

import numpy as np
import pytest
from contract import BackendContract

from skllm_calib.backends import Choice, Dropout, Message, Reply, Request, TestingBackend
from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.exceptions import BackendError

ANSWERS = ("ham", "spam")


def request(text="hello", **options):
    return Request((Message("user", text),), **{"answers": ANSWERS, **options})


def point(backend, *args, **options):
    ((_, reply),) = backend.run([request(*args, **options)])
    return LabelTree(ANSWERS).reduce({d.prefix: d for d in reply.distributions}).point


class TestTestingBackend(BackendContract):
    @pytest.fixture
    def backend(self, counted):
        return counted()

    @pytest.fixture
    def other(self, counted):
        return counted(seed=1)


def shouting_is_spam(request):
    return {"A": 1, "B": 3} if request.answers else "B"


class TestTestingBackendWithAFunction(BackendContract):
    @pytest.fixture
    def backend(self):
        return TestingBackend(shouting_is_spam)

    @pytest.fixture
    def other(self):
        return TestingBackend(lambda request: "A")


def test_rules(counted):
    backend = counted({"prize": {"ham": 1, "spam": 3}, "hello": {"ham": 1}})
    np.testing.assert_allclose(point(backend, "a prize"), [0.95 * 0.25, 0.95 * 0.75])
    np.testing.assert_allclose(point(backend, "hello"), [0.95, 0], atol=1e-6)


def test_drawn_answers_follow_content_and_seed(counted):
    first = point(counted(), "one")
    np.testing.assert_array_equal(point(counted(), "one"), first)
    assert not np.allclose(point(counted(), "two"), first)
    assert not np.allclose(point(counted(seed=1), "one"), first)
    # Asked again, a model still has the same probabilities; only what it writes is drawn anew.
    np.testing.assert_array_equal(point(counted(), "one", draw=1), first)
    assert first.sum() == pytest.approx(0.95)
    assert point(counted(off_label=0.0), "one").sum() == pytest.approx(1.0)


def with_examples(row):
    turns = [
        Message("user", "Ham or spam?\n\nText: «1234» 0.5 -1e2 pay now «1234»"),
        Message("assistant", "spam"),
        Message("user", "Text: «1234» 0.5 40 see you «1234»"),
        Message("assistant", "ham"),
        Message("user", "Text: «1234» 0.5 39.5 what is this? «1234»"),
        Message("assistant", "neither"),
        Message("user", f"Text: «7» {row} «7»"),
    ]
    return Request(tuple(turns), answers=ANSWERS)


@pytest.mark.parametrize(
    ("row", "answer"),
    [("0.5 -99 pay", "spam"), ("0.4 41 pay", "ham"), ("pay him now", "spam"), ("see", "ham")],
)
def test_it_learns_from_the_examples_in_the_prompt(counted, row, answer):
    ((_, reply),) = counted().run([with_examples(row)])
    assert reply.text == answer


def test_a_short_list_is_censored(counted):
    backend = counted({"": {"ham": 0.999, "spam": 0.001}}, n_listed=2)
    ((_, reply),) = backend.run([request()])
    mass = LabelTree(ANSWERS).reduce({d.prefix: d for d in reply.distributions})
    assert mass.seen.tolist() == [True, False]
    assert 0 < mass.point[1] <= mass.high[1]


def test_failures_cost_no_other_row(counted):
    backend = counted(fail_on=("bad",))
    answers = dict(backend.run([request("good"), request("bad"), request("fine")]))
    assert isinstance(answers[1], BackendError)
    assert "bad" in str(answers[1])
    assert answers[0].text
    assert answers[2].text


def test_counts(counted):
    backend = counted()
    list(backend.run([request("one"), request("one"), request("two")]))
    assert backend.asked == {"one": 2, "two": 1}
    assert type(backend)(name=backend.name).asked == backend.asked
    backend.forget()
    assert not backend.asked


def test_what_does_not_change_an_answer_is_no_part_of_the_identity():
    assert TestingBackend(fail_on=("x",)).identity() == TestingBackend().identity()
    assert TestingBackend(name="x").identity() != TestingBackend().identity()


# -- what the other signals ask --------------------------------------------------------------------


def asking(**options):
    text = "Answer with one word: ham or spam.\n\nText: a free prize"
    return Request((Message("user", text),), **options)


def answer(backend, request):
    ((_, reply),) = backend.run([request])
    return reply


RULES = {"free prize": {"ham": 0.25, "spam": 0.75}}


def test_text_is_a_label_drawn_at_the_temperature(counted):
    backend = counted(rules=RULES)
    assert answer(backend, asking(max_tokens=3)).text == "spam"
    drawn = [
        answer(backend, asking(max_tokens=3, temperature=1.0, draw=d)).text for d in range(200)
    ]
    assert 0.65 < drawn.count("spam") / 200 < 0.85
    again = answer(backend, asking(max_tokens=3, temperature=1.0, draw=7)).text
    assert again == drawn[7]
    assert answer(counted(), asking(max_tokens=3)).text in ("ham", "spam")  # without a rule


def test_a_schema_is_kept(counted):
    number = {"type": "number"}
    each = {"type": "object", "properties": {"ham": number, "spam": number}}
    text = answer(counted(rules=RULES), asking(schema=json.dumps(each))).text
    assert json.loads(text) == {"ham": 0.25, "spam": 0.75}
    named = {"label": {"enum": ["ham", "spam"]}, "probability": number}
    one = {"type": "object", "properties": named}
    text = answer(counted(rules=RULES), asking(schema=json.dumps(one))).text
    assert json.loads(text) == {"label": "spam", "probability": 0.75}
    several = {"type": "object", "properties": {"guesses": {"type": "array", "items": one}}}
    text = answer(counted(rules=RULES), asking(schema=json.dumps(several))).text
    assert [g["label"] for g in json.loads(text)["guesses"]] == ["spam", "ham"]


def test_decisions_and_passes_with_dropout(counted):
    backend = counted(rules=RULES)
    decided = answer(backend, asking(choices=(Choice("ham"), Choice("spam"))))
    assert decided.decision == pytest.approx((0.95 * 0.25, 0.95 * 0.75))
    dropping = asking(answers=("ham", "spam"), dropout=Dropout("head", 0.1, 5))
    reply = answer(backend, dropping)
    assert len(reply.passes) == 5
    assert len({passed[0].tokens for passed in reply.passes}) == 5
    assert answer(backend, dropping) == reply
    assert reply.distributions == answer(backend, asking(answers=("ham", "spam"))).distributions


# --------------------------------------------------------------------------- a function as rules


def said(handler, **options):
    ((_, reply),) = TestingBackend(handler, off_label=0.0).run([request(**options)])
    return reply


def test_a_function_sees_the_request_and_gives_probabilities():
    seen = []

    def handler(request):
        seen.append(request)
        return {"ham": 1, "spam": 3}

    backend = TestingBackend(handler)
    np.testing.assert_allclose(point(backend), [0.95 * 0.25, 0.95 * 0.75])
    assert seen == [request()]
    assert backend.asked.total() >= 1
    backend.forget()
    choices = (Choice("ham"), Choice("spam"))
    assert said(handler, answers=(), choices=choices).decision == (0.25, 0.75)
    schema = {"properties": {"ham": {}, "spam": {}}}
    text = said(handler, answers=(), schema=json.dumps(schema)).text
    assert json.loads(text) == {"ham": 0.25, "spam": 0.75}
    assert said(handler, answers=()).text == "spam"
    passes = said(handler, dropout=Dropout("head", 0.1, 5)).passes
    assert len({p[0].tokens[0].logprob for p in passes}) == 5


def test_a_function_gives_a_text():
    assert said(lambda r: "anything", answers=()).text == "anything"
    assert said(lambda r: "spam").distributions[0].tokens[0].text == b"spam"
    off_label = said(lambda r: "neither")
    assert LabelTree(ANSWERS).reduce({b"": off_label.distributions[0]}).point.sum() == 0
    choices = (Choice("ham"), Choice("spam"))
    assert said(lambda r: "ham", answers=(), choices=choices).decision == (1.0, 0.0)


def test_a_function_gives_a_reply_or_nothing():
    reply = Reply("mine", prompt_tokens=7)
    assert said(lambda r: reply) is reply
    assert said(lambda r: None) == said(None)


def test_a_function_fails():
    failure = BackendError("broken")

    def raises(request):
        raise failure

    assert said(lambda r: failure) is failure
    assert said(raises) is failure
    for problem in (KeyError("a mistake"), KeyboardInterrupt()):
        backend = TestingBackend(lambda r, problem=problem: (_ for _ in ()).throw(problem))
        with pytest.raises(type(problem)):
            list(backend.run([request()]))
    with pytest.raises(ZeroDivisionError):
        said(lambda r: ZeroDivisionError())
    with pytest.raises(TypeError, match="returned 7: it must return a Reply"):
        said(lambda r: 7)
    with pytest.raises(ValueError, match=r"a probability to \['A'\].*about \['ham', 'spam'\]"):
        said(lambda r: {"A": 1.0})


def test_functions_are_told_apart_by_what_they_do():
    def make(value):
        return lambda request: value

    def names(*handlers):
        return {json.dumps(TestingBackend(h).identity()["rules"]) for h in handlers}

    assert len(names(lambda r: "a", lambda r: "b", lambda r: r.messages, lambda r: r.draw)) == 4
    assert len(names(make("a"), make("b"))) == 2
    assert len(names(make("a"), make("a"))) == 1
    assert len(names(lambda r, x=1: x, lambda r, x=2: x)) == 2
    assert len(names(lambda r: max(r, key=lambda m: 1), lambda r: max(r, key=lambda m: 2))) == 2
    assert len(names(partial(shouting_is_spam), partial(said, "a"), partial(said, "b"))) == 3
    (name,) = names(shouting_is_spam)
    assert f"{__name__}.shouting_is_spam:" in name
    unpicklable = make(threading.Lock())
    assert len(names(unpicklable, make(threading.Lock()))) == 1
