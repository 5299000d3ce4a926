import pytest

from skllm_calib.evidence.backends.hosted.thinking import begins_to_think, split_thinking

MARKS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("opening", "closing"), MARKS)
@pytest.mark.parametrize("around", ["", "\n", "\n\n "])
def test_reasoning_before_an_answer(opening, closing, around):
    text = f"{around}{opening}{around}Hm.{around}{closing}{around}ham\n"
    written = split_thinking(text)
    assert written.answer == "ham\n"
    assert written.reasoning.startswith("Hm.")
    assert split_thinking(text.replace(opening, "")).answer == "ham\n"
    assert split_thinking(f"{around}{opening}Hm, let me") == ("Hm, let me", None)
    assert begins_to_think(text)
    assert begins_to_think(opening.strip()[:-1])


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\n\n</think>\n\nham", "", "ham"),
        ("</think>ham", "", "ham"),
        ("<THINK>Hm.</THINK>ham", "Hm.", "ham"),
        ("<think>a</think>\n<think>b</think>ham", "ab", "ham"),
        ("<think>a</think>\n<think>b", "ab", None),
        ("<think>Hm.</think>", "Hm.", ""),
        ("<think>It says <think>, or so.</think>ham", "It says <think>, or so.", "ham"),
        ('<think>It says "</think>" there.</think>ham', 'It says "</think>" there.', "ham"),
        ('<think>It says "win"</think>"spam"', 'It says "win"', '"spam"'),
        ("Hm, `</think>` is a mark.</think>ham", "Hm, `</think>` is a mark.", "ham"),
        ("<think>Hm.</think>The mark is </think>.", "Hm.", "The mark is </think>."),
        ("<|channel|>final<|message|>ham", "", "ham"),
    ],
)
def test_where_it_ends(text, reasoning, answer):
    assert split_thinking(text) == (reasoning, answer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ham\n",
        "The mark <think> begins it.",
        "Write <think>...</think> around it.",
        "ham, because <think>Hm.</think>",
        'The marks are "<think>" and "</think>".',
        '{"label": "</think>"}',
        "`</think>` ends it",
        "[think about it] ham",
        "<thinker>",
    ],
)
def test_answers_stay_as_they_are(text):
    assert split_thinking(text) == ("", text)


@pytest.mark.parametrize("text", ["", "ham", "I think", "A <think>", "[th"])
def test_no_beginning_of_reasoning(text):
    assert not begins_to_think(text)
