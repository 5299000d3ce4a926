from __future__ import annotations

from skllm_calib.evidence.backends.anthropic.facts import ClaudeFacts
from skllm_calib.evidence.backends.hosted.facts import Continuation
from skllm_calib.evidence.backends.openai.dialect import OpenAIDialect


def test_what_was_found_out_can_be_written_down_without_the_texts():
    known = OpenAIDialect(lists_many=False, least_length=16)
    for row in ("a text", "another text"):
        known.note("x", row, "y")
        known.note_continuation(Continuation({"prefix": True}), row)
    known.note("x", "a text", 3)
    written = known.as_json()
    assert "text" not in written

    found = OpenAIDialect()
    found.learn_from_json(written)
    assert found.lists_many is False
    assert found.least_length == 16
    assert found.can_continue is True
    assert found.continuation == known.continuation
    assert found.is_known("x", "y")
    assert not found.is_known("x", 3)
    found.note("x", "a third text", 3)  # with another row, it is known
    assert found.is_known("x", 3)


def test_what_is_given_is_not_learned():
    forms = ({"type": "disabled"}, None)
    known, found = ClaudeFacts(thinking_forms=forms), ClaudeFacts(thinking_forms=forms)
    for row in ("a", "b"):
        known.note("a refused form", row, 0)
    found.learn_from_json(known.as_json())
    assert found.thinking("c") is None
    assert found.thinking_forms == forms
