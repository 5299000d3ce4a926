"""Faults of answers of one form: chat completions, lists of tokens, stated answers, decisions.

Chat completions are sent in the form of the API that is asked.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from faults import FAMILIES, READABLE, Fault, add, fault
from healthy import PROFILES, Healthy, Profile
from loopback import Answer, completion, decision, position

__all__ = ["FAULTS", "OTHER_WORDS", "READABLE", "faults_of", "kinds"]

OTHER_WORDS: set[str] = set()


def faults_of(profile: Profile) -> dict[str, Fault]:
    """Return the faults that can strike answers of a profile."""
    found = {name: f for family in profile.families for name, f in FAMILIES[family].items()}
    return {name: f for name, f in found.items() if name not in profile.without}


def kinds() -> set[str]:
    return {name for faults in FAULTS.values() for name in faults}


# Chat completions


@fault("chat")
def finish_error(healthy):
    return healthy.wrong().chat(finish_reason="error")


@fault("chat")
def finish_content_filter(healthy):
    return healthy.wrong().chat(finish_reason="content_filter")


def _choice(healthy: Healthy, **fields: Any) -> Answer:
    answer = healthy.chat()
    answer.body["choices"][0].update(fields)
    return answer


@fault("chat")
def empty_choices(healthy):
    answer = healthy.chat()
    answer.body["choices"] = []
    return answer


@fault("chat")
def null_choices(healthy):
    answer = healthy.chat()
    answer.body["choices"] = None
    return answer


@fault("chat")
def null_message(healthy):
    return _choice(healthy, message=None)


@fault("chat")
def null_content(healthy):
    message = {"role": "assistant", "content": None}
    return _choice(healthy, message=message, logprobs=None)


@fault("chat")
def refusal_field(healthy):
    return completion(None, refusal="I cannot help with that.")


@fault("chat", readable=True)
def reasoning_field(healthy):
    return healthy.chat(reasoning_content="Let me see. A? No, B.")


# Lists of tokens


def _logprobs(healthy: Healthy, content: Any) -> Answer:
    return _choice(healthy, logprobs=content)


@fault("tokens")
def no_logprobs(healthy):
    return _logprobs(healthy, None)


@fault("tokens")
def null_logprobs(healthy):
    return _logprobs(healthy, {"content": None})


@fault("tokens")
def empty_logprobs(healthy):
    return _logprobs(healthy, {"content": []})


def _edited(healthy: Healthy, edit: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> Any:
    entry = copy.deepcopy(healthy.position())
    edit(entry, entry["top_logprobs"])
    return completion(healthy.best, [entry])


@fault("tokens")
def no_alternatives(healthy):
    return _edited(healthy, lambda entry, top: top.clear())


def _all_at(value: Any) -> Fault:
    def make(healthy: Healthy) -> Any:
        def edit(entry, top):
            for each in (entry, *top):
                each["logprob"] = value

        return _edited(healthy, edit)

    return make


add("all_zeros", _all_at(0.0), "tokens")
add("all_null", _all_at(None), "tokens")
add("all_nan", _all_at(math.nan), "tokens")
add("all_infinite", _all_at(math.inf), "tokens")
add("all_texts", _all_at("high"), "tokens")


def _one_at(value: Any) -> Fault:
    return lambda healthy: _edited(healthy, lambda entry, top: top[0].update(logprob=value))


add("one_nan", _one_at(math.nan), "tokens")
add("one_plus_50", _one_at(50.0), "tokens")
add("one_plus_a_little", _one_at(0.1), "tokens")


@fault("tokens")
def mass_above_1(healthy):
    def edit(entry, top):
        for each in (entry, *top):
            each["logprob"] += math.log(1.5)

    return _edited(healthy, edit)


@fault("tokens", readable=True)
def duplicate_tokens(healthy):
    return _edited(healthy, lambda entry, top: top.insert(1, dict(top[0])))


@fault("tokens")
def duplicates_that_differ(healthy):
    other = {"logprob": math.log(0.01)}
    return _edited(healthy, lambda entry, top: top.append({**top[0], **other}))


@fault("tokens")
def null_token(healthy):
    return _edited(healthy, lambda entry, top: top[0].update(token=None, bytes=None))


@fault("tokens", readable=True)
def drawn_token_listed_in_addition(healthy):
    entry = position("Z", {**healthy.listed, "Z": 1e-6})
    return completion("Z", [entry])


@fault("tokens", readable=True)
def drawn_token_unlisted(healthy):
    return completion("Z", [position("Z", healthy.listed)])


# Where the label is


def _before(first: str) -> Fault:
    def make(healthy: Healthy) -> Answer:
        lead = position(first, {first: 0.98, "The": 0.01})
        return completion(first + healthy.best, [lead, healthy.position()])

    return make


for name, first in {
    "blank_first": " ",
    "line_break_first": "\n",
    "two_line_breaks_first": "\n\n",
    "byte_order_mark_first": "\ufeff",
    "stars_first": "**",
    "quote_first": '"',
    "end_of_thought_first": "</think>",
}.items():
    add(name, _before(first), "tokens", readable=True)
    OTHER_WORDS.add(name)


def _written(*tokens: str) -> Fault:
    """Return a fault: other words, of which each is nearly certain to its model."""

    def make(healthy: Healthy) -> Answer:
        positions = [position(token, {token: 0.97, "Z": 0.01}) for token in tokens]
        return completion("".join(tokens), positions, finish_reason="length")

    return make


for name, tokens in {
    "sentence_begins_with_key": ("A", " customer", " asked"),
    "refusal_begins_with_key": ("C", "annot", " help"),
    "word_begins_with_key": ("B", "oth", " are"),
    "refusal": ("I", "'m", " sorry"),
    "thinks": ("<think>", "\n", "Okay"),
}.items():
    add(name, _written(*tokens), "tokens")
    OTHER_WORDS.add(name)


OTHER_WORDS.add("character_split_over_tokens")


@fault("tokens")
def character_split_over_tokens(healthy):
    parts = [position("x", {"x": 0.9, "Z": 0.01}) for _ in range(2)]
    for part, byte in zip(parts, "é".encode(), strict=True):
        part.update(token="\ufffd", bytes=[byte])
        part["top_logprobs"][0].update(token="\ufffd", bytes=[byte])
    return completion("é", parts, finish_reason="length")


# Stated answers


def _said(text: str, **fields: Any) -> None:
    return lambda healthy: completion(text, **fields)


for name, text in {
    "stated_refusal": "A request like this I cannot answer.",
    "stated_template": '{"A": ..., "B": ..., "C": ...}',
    "stated_percent_and_fraction": '{"A": 60, "B": 0.3, "C": 0.1}',
    "stated_negative": '{"A": 1.5, "B": -0.3, "C": -0.2}',
    "stated_nan": '{"A": NaN, "B": 0.5, "C": 0.5}',
    "stated_nothing": '{"A": 0, "B": 0, "C": 0}',
    "stated_three_ones": '{"A": 1, "B": 1, "C": 1, "D": 1, "A": 0}',
    "stated_two_answers": '{"A": 0.9, "B": 0.1, "C": 0} or {"A": 0.1, "B": 0.8, "C": 0.1}',
    "stated_steps": "1. Read the text. 2. Weigh A, B and C. 3. Answer.",
    "stated_unfinished_thought": '<think>Say {"A": 0.9, "B": 0.05, "C": 0.05}? Perhaps',
    "stated_blank": "  \n",
    "stated_key_only": "A",
}.items():
    add(name, _said(text), "text")


@fault("text")
def stated_cut(healthy):
    return completion(healthy.stated[:17], finish_reason="length")


@fault("text")
def stated_cut_without_a_word(healthy):
    return completion(healthy.stated[:17])


@fault("text", readable=True)
def stated_after_thought(healthy):
    return completion(f'<think>{{"A": 0.3}}? No.</think>\n{healthy.stated}')


@fault("text", readable=True)
def stated_in_a_fence(healthy):
    return completion(f"Sure!\n```json\n{healthy.stated}\n```")


# Decisions


def _options(edit: Callable[[list[dict[str, Any]]], Any]) -> Fault:
    """Return a fault: other options, or what an edit makes of the right ones."""

    def make(healthy: Healthy) -> Answer:
        options = healthy.options
        found = edit(options)
        return healthy.decision(options if found is None else found)

    return make


def _best(options: list[dict[str, Any]]) -> dict[str, Any]:
    return max(options, key=lambda option: option["probability"])


def _best_at(value: Any) -> Fault:
    return _options(lambda options: _best(options).update(probability=value))


for name, value in {
    "nan": math.nan,
    "infinite": math.inf,
    "negative": -0.2,
    "text": "high",
    "true": True,
    "list": [0.5],
    "null": None,
    "plus_1": 1.0,
    "percent": 60,
}.items():
    add(f"option_{name}", _best_at(value), "decision")
add("no_options", _options(lambda options: []), "decision")
add("options_mapped", _options(lambda o: {e["value"]: e["probability"] for e in o}), "decision")
add("options_of_texts", _options(lambda options: [e["value"] for e in options]), "decision")
add("option_missing", _options(lambda options: options.remove(_best(options))), "decision")
add(
    "option_without_value",
    _options(lambda options: _best(options).pop("value") and None),
    "decision",
)
add("option_said_twice", _options(lambda o: [*o, {**_best(o), "probability": 0.0}]), "decision")
add("option_repeated", _options(lambda o: [*o, o[0]]), "decision", readable=True)
add("options_in_another_order", _options(lambda o: o[::-1]), "decision", readable=True)
_OTHER = {"value": "another", "probability": 0.0}
add("option_too_many", _options(lambda o: [*o, _OTHER]), "decision", readable=True)
add("other_options", _options(lambda o: [{**_OTHER, "probability": 1.0}]), "decision")


def _all_times(factor: float) -> Fault:
    return _options(lambda o: [{**e, "probability": factor * e["probability"]} for e in o])


add("options_in_percent", _all_times(100.0), "decision")
add("options_above_1", _all_times(1.5), "decision")
add("options_at_0", _all_times(0.0), "decision")


@fault("decision")
def decision_declined(healthy):
    return decision({"type": "refusal", "name": None})


@fault("decision")
def decision_of_another_type(healthy):
    return decision({"type": "predicate", "probability": 0.5})


@fault("decision")
def no_probabilities(healthy):
    return healthy.decision(None)


@fault("decision")
def no_answers(healthy):
    return decision()


@fault("decision")
def null_answers(healthy):
    return Answer(200, {**decision().body, "answers": None})


@fault("decision")
def answers_of_text(healthy):
    return decision(healthy.profile.classes[0])


FAULTS = {name: faults_of(profile) for name, profile in PROFILES.items()}
