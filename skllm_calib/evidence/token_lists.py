"""Lists of likely tokens: what a server sent becomes a distribution here, or is refused.

Servers differ in what they list: the token that was written may be listed twice, in the place of
the last rank, or not at all; tokens may be null; log-probabilities may be above 0 or no numbers.
Whatever can be told apart is read; a list that no model can have is an error, for one row, and
never normalised into probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from skllm_calib.exceptions import UnreadableReply

__all__ = ["Distribution", "Sent", "Token", "TokenList", "check_distribution", "read_list"]

# Servers write minus infinity as a large negative number: JSON has no infinity.
_IMPOSSIBLE = -9000.0
# What rounding may add to a log-probability of 0 and to a sum of probabilities of 1.
_ROUNDING = 1e-3
# Log-probabilities of one token, said twice, that differ by more than this contradict each other.
_SAME = 0.05
# A token without a name that is less likely than this changes no label noticeably.
_NEGLIGIBLE = 1e-3
_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}".encode()


class Token(NamedTuple):
    """One token a model may write next: its bytes and its log-probability (natural log)."""

    text: bytes
    logprob: float


class Sent(NamedTuple):
    """One entry of a list of tokens, as a server sent it.

    Attributes
    ----------
    text : bytes or None
        What the token writes; None where the server does not say.
    logprob : float or None
        None where the server sent null, as many do for minus infinity.
    id : int or None
        Number of the token in the vocabulary, where it is known: different tokens may write the
        same.
    """

    text: bytes | None
    logprob: float | None
    id: int | None = None


class TokenList(NamedTuple):
    """A list of tokens that a model can have.

    Attributes
    ----------
    tokens : list of Token
        The likeliest first.
    mass : float
        Their probability, at most 1.
    smallest : float
        No token that is not listed can have more: the smallest probability that has a rank.
    """

    tokens: list[Token]
    mass: float
    smallest: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a model would write after `prefix`, as far as it is shown.

    Attributes
    ----------
    prefix : bytes
        The part of the answer written so far (empty at its start).
    tokens : tuple of Token
        The tokens that matter for the labels, and the few likeliest ones.
    listed_mass : float
        Probability of all the tokens that the model listed, also of those not kept here.
    smallest : float
        The smallest probability in the model's list: no token left out can have more.
    n_listed : int
        How many tokens were listed, also those not kept here.
    followed : bool
        True if every token that goes on to a label was followed up, as a backend that knows the
        tokenizer can do: a beginning without a distribution of its own is then known to lead to
        no label worth counting. False leaves it as a possibility.
    """

    prefix: bytes
    tokens: tuple[Token, ...]
    listed_mass: float
    smallest: float
    n_listed: int = 0
    followed: bool = False

    @property
    def residual(self) -> float:
        """Probability of everything that was not listed, in [0, 1]."""
        return min(1.0, max(0.0, 1.0 - self.listed_mass))


def read_list(sent: Iterable[Sent | Token], written: Sent | None = None) -> TokenList:
    """Read the list of one position.

    Parameters
    ----------
    sent : iterable of Sent
        The entries, in any order.
    written : Sent or None, default=None
        The token that was written there. It is a draw, which a server may list without its having
        a rank; so it sets no bound where it is the least likely one.

    Returns
    -------
    TokenList

    Raises
    ------
    UnreadableReply
        If no model can have such a list, or it contradicts what was written.
    """
    listed = [entry if type(entry) is Sent else Sent(*entry) for entry in sent]
    for entry in (*listed, *((written,) if written else ())):
        if not _value(entry) <= _ROUNDING:  # NaN is not
            raise _impossible("a log-probability must be a number, 0 or less", [entry])
    _check_order(listed)
    if written is not None and written.logprob == -math.inf:
        raise _impossible("the token that was written has no probability", [written, *listed])
    known, unnamed = _named(listed)
    ranked = _once_each(known)
    if written is not None:
        ranked, without_rank = _with_written(ranked, listed, written)
    else:
        without_rank = None
    probabilities = list(map(_probability, ranked))
    mass = sum(probabilities)
    if mass > 1.0 + _ROUNDING:
        raise _impossible(f"the probabilities of its tokens sum to {mass:.4g}", ranked)
    # An empty list bounds nothing: the token left out may have it all. What has no rank is last.
    bounds = probabilities if without_rank is None else probabilities[:-1]
    tokens = [Token(text or b"", min(0.0, float(logprob or 0.0))) for text, logprob, _ in ranked]
    return TokenList(tokens, min(1.0, mass), max(min(bounds, default=1.0), unnamed))


def check_distribution(at: Distribution) -> None:
    """Raise UnreadableReply for a distribution that is none.

    Backends of your own make them, and a cache may hold some of an earlier version.
    """
    values = [token.logprob for token in at.tokens]
    mass = math.fsum(math.exp(min(value, 1.0)) for value in values)
    numbers = (at.listed_mass, at.smallest)
    if (
        any(not value <= _ROUNDING for value in values)  # NaN is not
        or not all(0.0 <= number <= 1.0 + _ROUNDING for number in numbers)
        or mass > 1.0 + _ROUNDING
    ):
        raise _impossible(f"a listed probability of {at.listed_mass:.4g}", at.tokens)


def _check_order(listed: Sequence[Sent]) -> None:
    """Refuse nothing in front of a number: lists begin with the likeliest, and null is the least.

    -9999 may stand there: so servers write that a token, perhaps the one drawn, has no rank.
    """
    if not {None, -math.inf}.intersection([logprob for _, logprob, _ in listed]):
        return
    numbers = [i for i, entry in enumerate(listed) if _value(entry) >= _IMPOSSIBLE]
    if numbers and any(_value(entry) == -math.inf for entry in listed[: numbers[-1]]):
        what = "a log-probability is null or minus infinity, and that of a later token is not"
        raise _impossible(what, listed)


def _named(listed: Sequence[Sent]) -> tuple[list[Sent], float]:
    """Return the entries that are possible, and the probability of the likeliest without a name."""
    possible = [entry for entry in listed if _value(entry) >= _IMPOSSIBLE]
    nameless = [entry for entry in possible if entry.text is None]
    if not nameless:
        return possible, 0.0
    most = max(map(_probability, nameless))
    if most > _NEGLIGIBLE:
        raise _impossible("a token is null", possible)
    return [entry for entry in possible if entry.text is not None], most


def _once_each(entries: Sequence[Sent]) -> list[Sent]:
    """Return each token once, the likeliest first."""
    seen: dict[int | bytes | None, float] = {}
    once = []
    for entry in sorted(entries, key=_value, reverse=True):
        text, _, number = entry
        token, value = (text if number is None else number), _value(entry)
        if token in seen:
            if abs(seen[token] - value) <= _SAME:
                continue
            if not _is_unreadable(entry):
                what = "a token is listed twice with different log-probabilities"
                raise _impossible(what, entries)
        seen[token] = value
        once.append(entry)
    if len(once) > 1 and _value(once[-1]) > -_ROUNDING:
        raise _impossible("every token has all of the probability", once)
    return once


def _with_written(
    ranked: list[Sent], listed: Sequence[Sent], written: Sent
) -> tuple[list[Sent], Sent | None]:
    """Compare a list with the token that was written.

    Returns
    -------
    ranked : list of Sent
        With the written token where it must have a rank but was left out.
    without_rank : Sent or None
        The written token, where it may stand at the end of the list without having a rank.
    """
    if written.text is None or not ranked:
        return ranked, None
    there = next((entry for entry in ranked if _is_same(entry, written)), None)
    if written.logprob is None or written.logprob < _IMPOSSIBLE:
        same = [entry for entry in listed if _is_same(entry, written)]
        if there is None and any(entry.logprob is None for entry in same):
            raise _impossible("the token that was written has no log-probability", ranked)
        return ranked, there if there is ranked[-1] else None
    if there is None:
        if _value(written) <= _value(ranked[-1]) + _SAME:
            return ranked, None  # drawn from behind the end of the list, so it says nothing more
        if sum(map(_probability, ranked)) + _probability(written) > 1.0 + _ROUNDING:
            raise _impossible("the token that was written is not in the list", [written, *ranked])
        return sorted([*ranked, written], key=_value, reverse=True), None
    if abs(_value(there) - _value(written)) > _SAME:
        raise _impossible(
            "the log-probability of the written token differs from the listed one",
            [written, *ranked],
        )
    return ranked, there if there is ranked[-1] else None


def _is_same(a: Sent, b: Sent) -> bool:
    return a.id == b.id if a.id is not None and b.id is not None else a.text == b.text


def _is_unreadable(entry: Sent) -> bool:
    """Tell whether many tokens look alike so: parts of characters, and marks that write nothing."""
    return not entry.text or _NO_CHARACTER in entry.text


def _value(entry: Sent | Token) -> float:
    logprob = entry[1]  # by its place, for this is called most of all
    return -math.inf if logprob is None else logprob


def _probability(entry: Sent) -> float:
    return math.exp(min(0.0, _value(entry)))


def _impossible(what: str, entries: Iterable[Sent | Token]) -> UnreadableReply:
    shown = ", ".join(
        f"{'null' if e.text is None else repr(e.text.decode(errors='replace'))}: {e.logprob}"
        for e in list(entries)[:4]
    )
    return UnreadableReply(
        f"the server sent log-probabilities that no model can have ({what}): {shown}"
    )
