"""Probabilities as models write them."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from skllm_calib.evidence.signals._report_numbers import WORDS, as_probabilities, plain, read_number


def proba(*texts):
    return as_probabilities([read_number(plain(text)) for text in texts])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0.7",
            ".7",
            "0,7",
            ",7",
            "0.70",
            "+0.7",
            "7e-1",
            "7E-01",
            "70%",
            "70 %",
            "70.0%",
            "70,0 %",
        ),
        *("70 percent", "70 per cent", "70pct", "70 of 100", "7/10", "7 / 10", "7 out of 10"),
        *(
            "7 in 10",
            "0.7/1",
            "70/100",
            "0.6-0.8",
            "0.6 – 0.8",
            "60-80%",
            "60% - 80%",
            "60 to 80 %",
        ),
        *("between 0.6 and 0.8", "about 0.7", "approximately 70%", "~70%", "≈ 0.7", "= 0.7"),
        *("0.7 (fairly sure)", "0.7, as the link shows", '"0.7"', "(0.7)", "[0.7]", "**0.7**"),
        *(
            "with a probability of 0.7",
            "confidence: 70%",
            "p = 0.7",
            "likely",
            "Likely.",
            "probably",
        ),
        *("７０％", "０.７", "70٪", "7⁄10", "0.7\u200b"),
    ],
)
def test_seven_tenths_in_every_writing(text):
    assert proba(text) == pytest.approx([0.7])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 0.001), ("1/3", 1 / 3), ("0/1", 0.0), ("0", 0.0), ("1", 1.0), ("1%", 0.01)),
        *(("0.5%", 0.005), ("1.0", 1.0), ("100%", 1.0), ("100", 1.0), ("70", 0.7), ("99.5", 0.995)),
        *(("50/50", 0.5), ("0.5/0.5", 0.5), ("fifty-fifty", 0.5), ("1/1", 1.0), ("100/100", 1.0)),
        *(("very likely", 0.85), ("Very  unlikely", 0.1), ("a toss-up", 0.5), ("impossible", 0.0)),
    ],
)
def test_other_values(text, value):
    assert proba(text) == pytest.approx([value])


def test_every_word_is_read_and_a_probability():
    for word, value in WORDS.items():
        assert proba(word.upper()) == [value]
        assert 0 <= value <= 1


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-", "high", "true", "null", "spam", "seven", "%", ".", "e5", "/10", "very"),
        *("0.3 or 0.5", "0.3, 0.5", "70 and 80", "0.3.1", "0.7x", "70%%", "12:30", "7 2"),
        *("0.7 unlikely", "70% wrong", "0.7 not", "not 0.7", ">0.9", "<5%", "no more than 5%"),
    ],
)
def test_what_is_no_number_or_more_than_one_is_none(text):
    assert read_number(plain(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        *("-0.1", "−0.1", "-5%", "101", "100.5%", "120%", "1e9", "1e999", "NaN", "nan", "Infinity"),
        *("-inf", "inf", "12/10", "7/0", "0/0", "30/70", "0.3/0.7", "70%/100", "0.8-0.6", "80-60%"),
        *("0.5-80", "70% to 0.8", "9" * 400),
    ],
)
def test_a_number_that_is_no_probability_is_an_error(text):
    number = read_number(plain(text))
    assert number is not None
    with pytest.raises(ValueError, match="is no probability") as error:
        as_probabilities([number])
    assert len(str(error.value)) < 80


def test_numbers_without_a_unit_are_percentages_where_one_is_above_one():
    assert proba("99", "1") == [0.99, 0.01]
    assert proba("99.5", "0.5") == [0.995, 0.005]
    assert proba("1", "0") == [1.0, 0.0]
    assert proba("99", "1%") == [0.99, 0.01]
    assert proba("0.3", "70%") == [0.3, 0.7]
    assert as_probabilities([]) == []


def test_one_bad_number_spoils_the_report():
    with pytest.raises(ValueError, match=r"'-0\.2' is no probability"):
        proba("0.7", "-0.2")


@pytest.mark.parametrize("write", ["{:.6f}", "{:.6e}", "about {:.6f}", "{:.6f} (a guess)"])
def test_random_numbers_come_back(write):
    for value in np.random.default_rng(0).random(200):
        assert proba(write.format(value)) == pytest.approx([value], abs=1e-6)
        assert proba(f"{100 * value:.4f} %") == pytest.approx([value], abs=1e-6)
        assert proba(f"{value:.6f}".replace(".", ",")) == pytest.approx([value], abs=1e-6)


@pytest.mark.parametrize("unit", ["9", "1/", "1e", "about ", " ", "- ", "0.", "(", "p ", "1 "])
def test_long_texts_are_read_or_not_but_end(unit):
    number = read_number(unit * (100_000 // len(unit)))
    assert number is None or number.bare or isnan(number.value)


def test_plain_quotes():
    assert plain("“a”") == '"a"'
    assert plain('{"a": "“b”"}') == '{"a": "“b”"}'
    assert plain("it’s – ok") == "it's - ok"


@pytest.mark.parametrize("texts", [("8",), ("1.2",), ("2", "1"), ("10",), ("0.5", "3")])
def test_a_scale_that_may_be_out_of_ten_is_not_guessed_at(texts):
    with pytest.raises(ValueError, match=r"out of 10 or a percentage"):
        as_probabilities([read_number(text) for text in texts])


@pytest.mark.parametrize("texts", [("8%",), ("8/10",), ("90", "8"), ("1", "0")])
def test_where_the_scale_is_clear_small_numbers_are_read(texts):
    assert all(0 <= p <= 1 for p in as_probabilities([read_number(text) for text in texts]))
