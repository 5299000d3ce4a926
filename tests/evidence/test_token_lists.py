from __future__ import annotations

import math

import pytest

from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.evidence.token_lists import (
    Distribution,
    Sent,
    Token,
    check_distribution,
    read_list,
)
from skllm_calib.exceptions import UnreadableReply


def sent(text, p, number=None):
    return Sent(None if text is None else text.encode(), math.log(p), number)


def found(listed):
    return {token.text.decode(): pytest.approx(math.exp(token.logprob)) for token in listed.tokens}


def test_a_plain_list_is_sorted():
    listed = read_list([sent("B", 0.2), sent("A", 0.7)], sent("A", 0.7))
    assert [token.text for token in listed.tokens] == [b"A", b"B"]
    assert (listed.mass, listed.smallest) == pytest.approx((0.9, 0.2))


@pytest.mark.parametrize("text", ["A", "ham", " ", "\N{THUMBS UP SIGN}"])
@pytest.mark.parametrize("off", [0.0, 0.01])
def test_a_token_that_is_listed_twice_counts_once(text, off):
    again = Sent(text.encode(), math.log(0.45) - off)
    listed = read_list([again, sent(text, 0.45), sent("B", 0.55)], sent(text, 0.45))
    assert listed.mass == pytest.approx(1.0)
    assert len(listed.tokens) == 2


def test_tokens_of_one_text_and_two_numbers_are_two():
    listed = read_list([sent("A", 0.4, 1), sent("A", 0.2, 7), sent("A", 0.4, 1)])
    assert listed.mass == pytest.approx(0.6)


def test_the_written_token_that_the_list_leaves_out_is_put_back():
    listed = read_list([sent("B", 0.03), sent("The", 0.01)], sent("A", 0.95))
    assert found(listed) == {"A": 0.95, "B": 0.03, "The": 0.01}


@pytest.mark.parametrize("in_place", [True, False], ids=["in place of the last", "behind it"])
def test_a_written_token_without_a_rank_is_no_bound(in_place):
    ranked = [sent("A", 0.6), sent("B", 0.3), *([] if in_place else [sent("C", 0.05)])]
    listed = read_list([*ranked, sent("zzz", 1e-9)], sent("zzz", 1e-9))
    assert listed.smallest == pytest.approx(0.3 if in_place else 0.05)
    tree = LabelTree(["A", "B", "other"])
    at = tree.distribution(b"", [*ranked, sent("zzz", 1e-9)], sent("zzz", 1e-9))
    mass = tree.reduce({b"": at})
    assert mass.point[2] == pytest.approx(0.1 if in_place else 0.05)


def test_minus_infinity_in_its_spellings_is_left_out():
    ways = [None, -math.inf, -9999.0, -1e30]
    listed = read_list([sent("A", 0.7), *(Sent(b"B", way) for way in ways)])
    assert found(listed) == {"A": 0.7}


@pytest.mark.parametrize("value", [50.0, 0.1, math.inf, math.nan])
@pytest.mark.parametrize("where", ["first", "last", "written"])
def test_impossible_log_probabilities(value, where):
    bad = Sent(b"A", value)
    listed = [sent("B", 0.6), sent("C", 0.1)]
    listed = {"first": [bad, *listed], "last": [*listed, bad], "written": listed}[where]
    with pytest.raises(UnreadableReply, match="no model can have"):
        read_list(listed, bad if where == "written" else None)


@pytest.mark.parametrize(
    ("listed", "written"),
    [
        ([sent("A", 0.7), sent("B", 0.4)], None),
        ([sent("A", 1.0), sent("B", 1.0), sent("C", 1.0)], None),
        ([sent(None, 0.6), sent("A", 0.3)], None),
        ([sent("A", 0.6), sent("A", 0.2), sent("B", 0.1)], None),
        ([sent("A", 0.6), sent("B", 0.2)], sent("A", 0.9)),
        ([sent("A", 0.6), sent("B", 0.4)], sent("C", 0.9)),
        ([Sent(b"A", None), sent("B", 0.4)], Sent(b"A", None)),
    ],
    ids=["mass", "all at 0", "null", "twice", "other value", "not listed", "unknown"],
)
def test_lists_that_no_model_can_have(listed, written):
    with pytest.raises(UnreadableReply, match="no model can have") as failure:
        read_list(listed, written)
    assert "'" in str(failure.value)  # what the server sent


def test_rounding_is_no_reason():
    listed = read_list([Sent(b"A", 2e-4)], Sent(b"A", 2e-4))
    assert listed.tokens == [Token(b"A", 0.0)]
    assert read_list([sent("A", 0.7), sent("B", 0.3008)]).mass == 1.0


def test_an_unlikely_token_without_a_name_widens_the_bounds_only():
    listed = read_list([sent("A", 0.99), sent(None, 5e-4), sent("B", 1e-5)])
    assert found(listed) == {"A": 0.99, "B": 1e-5}
    assert listed.smallest == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("logprob", "mass", "smallest"),
    [(50.0, 1.0, 0.1), (math.nan, 0.5, 0.1), (-0.1, math.nan, 0.1), (-0.1, 1.5, 0.1), (-1, 0.4, 7)],
)
def test_distributions_from_elsewhere_are_checked(logprob, mass, smallest):
    with pytest.raises(UnreadableReply):
        check_distribution(Distribution(b"", (Token(b"A", logprob),), mass, smallest))


@pytest.mark.parametrize("nothing", [None, -math.inf])
def test_nothing_in_front_of_a_number(nothing):
    ranked = [sent("A", 0.8), Sent(b"B", nothing), sent("C", 0.05)]
    with pytest.raises(UnreadableReply, match="of a later token is not"):
        read_list(ranked)
    assert found(read_list([ranked[0], ranked[2], ranked[1]])) == {"A": 0.8, "C": 0.05}


def test_a_written_token_without_any_probability():
    with pytest.raises(UnreadableReply, match="that was written has no probability"):
        read_list([sent("B", 0.2), Sent(b"A", -math.inf)], Sent(b"A", -math.inf))
