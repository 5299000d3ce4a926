from __future__ import annotations

import pytest
from loopback import Answer, ChatModel, chosen, completion, decision, refusal, servers, systemone

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, OpenAIBackend, ResponseCache
from skllm_calib.backends import TestingBackend, clear_handles
from skllm_calib.evidence import probing
from skllm_calib.evidence.probing import AUTO_ORDER
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.exceptions import (
    AuthenticationFailed,
    BackendUnavailable,
    SignalUnavailable,
)

LABELS = ["ham", "spam"]
TEXTS = [f"message {i}" for i in range(12)]


@pytest.fixture(autouse=True)
def _forget():
    clear_handles()
    yield
    clear_handles()


class Hiding(TestingBackend):
    """Shows only some of the evidence; `hides` names the kinds of request that it refuses."""

    shows_logprobs = False

    def __init__(self, hides=(), down=None, unreadable=False, name="hiding"):
        super().__init__(name=name)
        self.hides = hides
        self.down = down
        self.unreadable = unreadable

    def identity(self):
        shown = [list(self.hides), self.unreadable]
        return {"provider": "testing", "model": f"hiding-{self.name}", "hides": shown}

    def run(self, requests):
        for i, request in enumerate(requests):
            if self.down:
                raise self.down
            kind = "logprobs" if request.answers else "decisions" if request.choices else "text"
            if kind in self.hides:
                yield i, SignalUnavailable(f"no {kind} here")
            else:
                (answer,) = (answer for _, answer in super().run([request]))
                if self.unreadable and request.schema:
                    answer = type(answer)("I would rather not say")
                yield i, answer


def first_available(backend, cache, **options):
    prompt = Prompt("{text} {hint}", answer="words").bind(LABELS)
    return probing.first_available(backend, cache, prompt, LABELS, **options)


def test_a_backend_that_always_shows_them_is_not_asked():
    backend = TestingBackend(name="unasked")
    backend.forget()
    assert first_available(backend, None).signal.name == "logprobs"
    assert not backend.asked


@pytest.mark.parametrize(
    ("hides", "unreadable", "expected"),
    [
        ((), False, "logprobs"),
        (("logprobs",), False, "decisions"),
        (("logprobs", "decisions"), False, "self_reported"),
        (("logprobs", "decisions"), True, "self_consistency"),
    ],
)
def test_the_best_that_is_shown_is_taken(hides, unreadable, expected):
    chosen = first_available(Hiding(hides, unreadable=unreadable), None)
    assert chosen.signal.name == expected
    for better in AUTO_ORDER[: AUTO_ORDER.index(expected)]:
        assert f"{better!r} is not available" in chosen.reason


def test_a_model_that_shows_nothing():
    with pytest.raises(SignalUnavailable, match=r"none of the signals.*no text here"):
        first_available(Hiding(("logprobs", "decisions", "text")), None)


def test_what_was_found_is_remembered():
    backend = Hiding(("logprobs",), name="remembered")
    backend.forget()
    first_available(backend, None)
    n = sum(backend.asked.values())
    first_available(backend, None)
    assert sum(backend.asked.values()) == n > 0


@pytest.mark.parametrize("failure", [AuthenticationFailed("no key"), BackendUnavailable("down")])
def test_while_the_model_cannot_be_asked_the_best_not_refused_is_taken(failure):
    chosen = first_available(Hiding(down=failure), None)
    assert chosen.signal.name == "logprobs"
    assert f"could not be asked which signals it offers: {failure}" in chosen.reason
    clf = auto(Hiding(down=failure)).fit(TEXTS)  # which needs no network
    with pytest.raises(type(failure)):
        clf.predict(TEXTS)


def test_what_could_not_be_asked_is_not_remembered():
    backend = Hiding(("logprobs", "decisions"), down=BackendUnavailable("down"))
    assert first_available(backend, None).signal.name == "logprobs"
    backend.down = None
    assert first_available(backend, None).signal.name == "self_reported"


# -- in the classifier -----------------------------------------------------------------------------


def auto(backend, **options):
    return LLMClassifier(backend, classes=LABELS, **{"cache": None, **options})


def test_fit_settles_it_and_says_so():
    clf = auto(Hiding(("logprobs", "decisions"))).fit(TEXTS)
    assert clf.signal_ == "self_reported"
    assert "no logprobs here" in clf.signal_reason_
    (record,) = clf.explain(TEXTS[:1])
    assert record["signal"] == "self_reported"
    assert "no decisions here" in record["signal_reason"]
    assert record["stated"].keys() == {"ham", "spam"}
    assert clf.fingerprint_["signal"] == "self_reported"


def test_it_is_on_the_card():
    clf = CalibratedLLMClassifier(auto(Hiding(("logprobs", "decisions"))))
    with pytest.warns(UserWarning, match="calibrated on 12 rows"):
        card = clf.fit(TEXTS, LABELS * 6).calibration_card_
    assert card["signal"] == "self_reported"
    assert "no logprobs here" in card["signal_reason"]
    assert "self_reported" in repr(card)


def test_nothing_is_switched_behind_the_back_of_the_user():
    """What fit settled stays, also when the model shows less, or more, than it did."""
    clf = auto(Hiding(("logprobs", "decisions"))).fit(TEXTS)
    clf.set_params(model=Hiding())
    assert clf.explain(TEXTS[:1])[0]["signal"] == "self_reported"
    clf = auto(Hiding()).fit(TEXTS)
    clf.set_params(model=Hiding(("logprobs",)))
    with pytest.raises(SignalUnavailable):
        clf.predict(TEXTS)


def test_without_fit_it_is_found_out_at_the_first_row():
    clf = auto(Hiding(("logprobs", "decisions")))
    assert clf.predict(TEXTS).shape == (12,)
    assert "signal_" not in vars(clf)
    assert clf.explain(TEXTS[:1])[0]["signal"] == "self_reported"


def test_a_signal_asked_for_by_name_is_not_replaced():
    clf = auto(Hiding(("logprobs",)), signal="logprobs").fit(TEXTS)
    assert clf.signal_reason_ == "it was asked for"
    with pytest.raises(SignalUnavailable):
        clf.predict(TEXTS)


# -- servers that show little ----------------------------------------------------------------------

STATED = '{"A": 0.3, "B": 0.7}'
NO_LOGPROBS = refusal(400, "logprobs is not supported with this model", param="logprobs")
PAGE = Answer(403, "<html><h1>Forbidden</h1></html>")


@pytest.fixture
def serve(monkeypatch):
    with servers(monkeypatch) as start:
        yield start


def settled(server, **options):
    backend = OpenAIBackend("m", base_url=server.base_url, max_retries=2)
    return auto(backend, **options).fit(TEXTS)


@pytest.mark.parametrize(
    "answer",
    [
        *(refusal(status, "not here") for status in (400, 401, 403, 404, 405, 422, 429, 500, 503)),
        *(Answer(status, "<html>hello</html>") for status in (200, 403, 404, 502)),
        Answer(200, {"detail": "hello"}),
        Answer(200, b"{"),
    ],
    ids=lambda answer: f"{answer.status} {str(answer.body)[:12]}",
)
def test_whatever_the_decision_endpoint_answers(serve, answer):
    def respond(body):
        if "messages" not in body:
            return answer
        return NO_LOGPROBS if body.get("logprobs") else completion(STATED)

    server = serve(respond)
    clf = settled(server)
    assert clf.signal_ == "self_reported"
    assert clf.predict_proba(TEXTS[:1])[0] == pytest.approx([0.3, 0.7], abs=0.01)
    assert sum("messages" not in body for body in server.bodies()) <= 10


@pytest.mark.parametrize(
    "chat", [refusal(404, "Not Found"), refusal(403, "no chat here"), PAGE, refusal(501, "no")]
)
@pytest.mark.parametrize("path", ["decisions", "systemone"])
def test_a_server_that_only_decides(serve, chat, path):
    given = {"ham": 0.3, "spam": 0.7}

    def respond(body):
        if "state" in body and path == "systemone":
            return systemone(given)
        if "questions" in body and path == "decisions":
            return decision(chosen(given))
        return chat if "messages" in body or chat.status != 501 else refusal(404, "Not Found")

    clf = settled(serve(respond))
    assert clf.signal_ == "decisions"
    assert clf.predict_proba(TEXTS[:1])[0] == pytest.approx([0.3, 0.7], abs=0.01)


def test_a_model_that_knows_only_its_own_labels(serve):
    """A fine-tuned one: it shows log-probabilities of whatever it was trained to write."""

    def respond(body):
        own = all(label in str(body["messages"]) for label in LABELS)
        return ChatModel({"": {"A": 0.6, "B": 0.4} if own else {"ticket": 1.0}})(body)

    assert settled(serve(respond)).signal_ == "logprobs"


def test_log_probabilities_that_are_not_of_the_labels(serve):
    def respond(body):
        if "messages" not in body:
            return refusal(404, "Not Found")
        if body.get("logprobs"):
            return ChatModel({"": {"So": 0.6, "Got": 0.4}})(body)
        if body["max_tokens"] < 300:
            return completion("So the user wants two numbers; first", finish_reason="length")
        return completion(f"So it is B.</think>{STATED}")

    clf = settled(serve(respond))
    assert clf.signal_ == "self_reported"
    assert "'logprobs' is not available" in clf.signal_reason_
    assert clf.predict_proba(TEXTS[:1])[0] == pytest.approx([0.3, 0.7], abs=0.01)


def test_one_odd_first_reply_settles_nothing(serve):
    def respond(body):
        return (
            completion("A")
            if len(server.seen) == 1
            else ChatModel({"": {"A": 0.6, "B": 0.4}})(body)
        )

    server = serve(respond)
    assert settled(server).signal_ == "logprobs"


def test_what_passes_is_not_remembered(serve):
    def respond(body):
        if "messages" not in body:
            return refusal(503, "starting") if starting else decision(chosen({"ham": 1, "spam": 0}))
        return NO_LOGPROBS if body.get("logprobs") else completion(STATED)

    starting, server = True, serve(respond)
    assert settled(server).signal_ == "self_reported"
    starting = False
    assert settled(server).signal_ == "decisions"


def test_answered_probes_are_kept(serve, tmp_path):
    server = serve(ChatModel({"": {"A": 0.6, "B": 0.4}}))
    settled(server, cache=ResponseCache(tmp_path / "c.sqlite"))
    assert len(server.seen) == 1
    clear_handles()
    settled(server, cache=ResponseCache(tmp_path / "c.sqlite"))
    assert len(server.seen) == 1
    assert sum(body["max_tokens"] for body in server.bodies()) <= 4
