from __future__ import annotations

import pytest

from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.questions import Question
from skllm_calib.exceptions import PromptError

ABC = ("ham", "news", "spam")


def question(answer="keys", examples=(), text="You won!", **prompt):
    return Question(Prompt(answer=answer, **prompt).bind(ABC), {"text": text}, examples)


def whole(messages):
    return "\n".join(message.content for message in messages)


@pytest.mark.parametrize("by", range(4))
def test_turning_the_options_keeps_each_class_with_its_key(by):
    turned = question().shifted(by)
    text = whole(turned.messages())
    listed = [line.split(") ") for line in text.splitlines() if ") " in line]
    assert [key for key, _ in listed] == ["A", "B", "C"]
    by_label = {label: key for key, label in listed}
    assert tuple(by_label[label] for label in ABC) == turned.answers == turned.keys
    assert listed[0][1] == ABC[by % 3]


def test_over_all_turns_each_class_has_each_key_once():
    keys = [question().shifted(by).answers for by in range(3)]
    for k in range(3):
        assert {answers[k] for answers in keys} == {"A", "B", "C"}


def test_words_are_listed_in_turn_and_stay_themselves():
    turned = question("words").shifted(1)
    assert "news, spam or ham" in whole(turned.messages())
    assert turned.answers == ABC
    assert turned.keys == ()


def test_turns_add_up_and_examples_follow():
    twice = question(examples=[({"text": "Lunch?"}, 0)]).shifted(1).shifted(1)
    assert twice.prompt.shift == 2
    assert twice.answers == ("B", "C", "A")
    assert twice.messages()[1].content == "B"
    assert question().shifted(3).messages() == question().messages()


def test_asking_for_something_else_takes_the_place_of_the_hint():
    asked = question().messages("How sure are you?")
    assert len(asked) == 1
    assert asked[0].content.endswith("\n\nHow sure are you?")
    assert "Answer" not in asked[0].content
    assert "A) ham" in asked[0].content
    assert "The labels are ham, news or spam." in whole(question("words").messages("Why?"))


def test_descriptions_are_still_listed():
    bound = Prompt(answer="words").bind(ABC, ["wanted", None, "unwanted"])
    text = whole(Question(bound, {"text": "x"}).messages("Why?"))
    assert "- ham: wanted" in text
    assert "- spam: unwanted" in text
    assert "Answer with" not in text


def test_nothing_else_is_asked_for():
    assert question("words").messages("")[0].content.endswith("You won! «" + fence() + "»")


def fence():
    return question("words").messages()[0].content.split("«")[1].split("»")[0]


def test_a_text_that_ends_like_the_prompt_keeps_its_end():
    asked = question(template="{options} {hint}\n{text}", text="My Answer:").messages("Why?")
    assert asked[0].content.endswith("My Answer:\n\nWhy?")


def test_after_examples_the_plain_question_comes_first():
    asked = question(examples=[({"text": "Lunch?"}, 0)]).messages("Why?")
    assert [m.role for m in asked] == ["user", "assistant", "user"]
    assert "Answer with a single letter" in asked[0].content
    assert asked[-1].content.endswith("Why?")
    assert "Answer:" not in asked[-1].content


def test_another_instruction():
    worded = question().reworded("Which is it?\n{options}\n{hint}")
    text = whole(worded.messages())
    assert text.startswith("Which is it?\nA) ham")
    assert "Classify" not in text
    with pytest.raises(PromptError, match=r"\{mood\}"):
        question().reworded("Which {mood}?")


def test_a_system_message_stays_when_the_instruction_is_another():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{text}"}]
    worded = Question(Prompt(chat).bind(ABC), {"text": "x"}).reworded("Which? {hint}")
    assert [m.role for m in worded.messages()] == ["system", "user"]
    assert "Which? Answer" in worded.messages()[1].content
