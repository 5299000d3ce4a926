"""Which class a written name means."""

from __future__ import annotations

import pytest

from skllm_calib.evidence.signals import _reports
from skllm_calib.evidence.signals._names import Names

LETTERED = Names(("A", "B"), ("spam", "not spam"))
BARE = Names((), ("ham", "spam", "not sure"))
NUMBERED = Names(("1", "2", "10"), ("x-ray", "yak", "zebra"))
MANY = Names((), ("credit_card", "credit", "Loan Request", "non-fiction"))


def test_names_are_to_be_had_where_replies_are_read():
    assert _reports.Names is Names


@pytest.mark.parametrize(
    "written",
    [
        *("A", "a", "A)", "(A)", "[A]", "A.", "A:", "Option A", "option a", "the answer A"),
        *("Choice: A", "**A**", "`A`", '"A"', "'A'", " A ", "Ａ", "A) spam", "(A) spam"),
        *("A: spam", "A - spam", "**A) spam**", "Option A: spam", "spam (A)", "spam (option A)"),
        *("spam", "SPAM", '"Spam"', "spam.", "label: spam", "A (spam, as the link shows)"),
    ],
)
def test_a_key_or_wording_in_any_dress_is_its_class(written):
    assert LETTERED.find(written) == 0


@pytest.mark.parametrize("written", ["A) not spam", "B) spam", "not spam (A)", "spam (B)"])
def test_a_key_with_the_wording_of_another_class_is_none(written):
    assert LETTERED.find(written) is None


@pytest.mark.parametrize("written", ["", "  ", "C", "AB", "spam?ham", "eggs", "Answer", "A" * 9999])
def test_what_is_on_no_list_is_none(written):
    assert LETTERED.find(written) is None


@pytest.mark.parametrize(
    ("written", "k"),
    [
        *(("Credit Card", 0), ("credit-card", 0), ("CREDIT_CARD", 0), ("creditCard", 0)),
        *(("credit", 1), ("loan_request", 2), ("loan  request", 2), ("LoanRequest", 2)),
        *(("non fiction", 3), ("nonfiction", 3), ("Non_Fiction", 3)),
        *(("credit cards", None), ("card", None), ("fiction", None)),
    ],
)
def test_wordings_may_differ_in_case_and_joints(written, k):
    assert MANY.find(written) == k


def test_what_tells_two_wordings_apart_is_needed():
    names = Names((), ("Java", "java", "a-b", "a_b", "c d"))
    assert [names.find(n) for n in ("Java", "java", "JAVA", "a-b", "a_b", "a b", "C_D")] == [
        *(0, 1, None, 2, 3, None, 4)
    ]


def test_signs_are_part_of_a_wording():
    names = Names((), ("C", "C++", "C#", "-1", "1"))
    assert [names.find(n) for n in ("c", "C++", "c#", "-1", "1", "+1")] == [0, 1, 2, 3, 4, None]


def test_a_key_goes_before_an_equal_wording():
    names = Names(("A", "B"), ("B", "A"))
    assert (names.find("A"), names.find("B")) == (0, 1)


@pytest.mark.parametrize(
    ("written", "k"),
    [
        *(("1", 0), ("10", 2), ("01", 0), ("１０", 2), ("Option 10", 2), ("#2", None), ("2)", 1)),
        *(
            ("100", None),
            ("0", None),
            ("3", None),
            ("1.0", None),
            ("10 zebra", 2),
            ("1) zebra", None),
        ),
    ],
)
def test_one_is_not_ten(written, k):
    assert NUMBERED.find(written) == k


@pytest.mark.parametrize(
    "written",
    [
        *("P(spam)", "p(A)", "Pr(spam)", "probability of spam", "the probability for A"),
        *("Likelihood of spam", "spam_probability", "spam confidence", "Confidence (A)", "A score"),
    ],
)
def test_the_probability_of_a_class_names_it(written):
    assert LETTERED.named(written) == 0
    assert LETTERED.find(written) is None


def test_the_probability_of_something_else_names_nothing():
    assert LETTERED.named("P(eggs)") is None
    assert LETTERED.named("probability") is None


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("This is spam.", {1}),
        ("SPAM!", {1}),
        ("It could be ham or spam", {0, 1}),
        ("I am not sure", {2}),  # the longest wording that fits
        ("spamming, hamper, anti-spam, spam-like", set()),
        ("This is not spam.", set()),
        ("It isn't spam but ham", set()),  # how far a denial reaches is not guessed
        ("It isn't spam. It is ham.", {0}),
        ("spam, not ham", {1}),
        ("Spam rather than ham", {1}),
        ("I don’t think this is spam", set()),
        ("Is this spam? No.", set()),
        ("Spam is unlikely.", set()),
        ("ham is not the right label; spam is", {1}),
        ("ham can be ruled out. spam", {1}),
        ("I am unable to say whether this is spam", set()),
        ("Let me see if it is spam.", set()),
        ("", set()),
    ],
)
def test_prose_mentions_what_it_names_and_does_not_deny(prose, found):
    assert BARE.mentioned(prose) == found


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("It is not spam", {1}),
        ("It is not  spam", {1}),
        ("A not_spam message", {1}),
        ("A message from a friend", set()),
        ("a", set()),
        ("I choose B", {1}),
        ("The answer is (A)", {0}),
        ("Option A.", {0}),
        ("Option A message", set()),  # "a message"
        ('My reply is "B".', {1}),
        ("option a", set()),
        ("plan B", set()),
    ],
)
def test_keys_count_in_prose_only_where_they_are_marked(prose, found):
    assert LETTERED.mentioned(prose) == found


def test_the_longest_wording_that_fits_is_mentioned():
    names = Names((), ("credit", "credit limit", "limit"))
    assert names.mentioned("It is about a credit limit.") == {1}


def test_numbers_in_prose_are_no_keys():
    assert NUMBERED.mentioned("There are 10 reasons and 2 more") == set()
    assert NUMBERED.mentioned("I pick 10") == {2}
    assert NUMBERED.mentioned("I pick 100") == set()


def test_short_wordings_count_in_prose_only_where_they_are_marked():
    names = Names((), ("0", "1", "x"))
    assert names.mentioned("There is 1 x here") == set()
    assert names.mentioned("The label is 1") == {1}


@pytest.mark.parametrize(
    "prose", ["spam " * 20_000, "option " * 15_000, "(" * 100_000, " " * 100_000]
)
def test_long_prose_is_read_to_its_end(prose):
    assert BARE.mentioned(prose) == ({1} if "spam" in prose else set())


def test_no_names_at_all():
    names = Names((), ())
    assert names.find("A") is None
    assert names.named("P(A)") is None
    assert not names.mentioned("A")
