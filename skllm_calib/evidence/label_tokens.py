"""From token probabilities to one probability per label.

A causal language model shows a distribution over *tokens*; a classifier needs one over *labels*.
A label may be one token, several, or share its first tokens with another label; the same label may
be written " spam", "Spam" or "SPAM"; and a hosted model lists only its k most likely tokens. This
module knows which continuations spell which label, how much probability is proven to belong to
each, how much more the tokens that are not listed may add, and which prefix to ask about next.

It is pure: bytes and numbers in, numbers out. Backends use it to decide what to ask, and the
``logprobs`` signal to sum what comes back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.label_words import (
    begins_opening,
    case_variants,
    ends_word,
    is_key,
    strip_opening,
)
from skllm_calib.evidence.token_lists import Distribution, Sent, Token, TokenList, read_list

__all__ = ["Distribution", "LabelMass", "LabelTree", "Token", "label_tree"]

Usual = Collection[bytes] | None

# Tokens kept only to be shown to the user: the model's own favourites, whatever they mean.
N_SHOWN = 5
# Blanks before an answer are looked behind from this share of the labels' probability on.
_BLANK = 0.05
# Nor less than this part of the tolerance, where labels hold next to nothing: there are too many.
_LEAST_BLANK = 0.3
# Openings that hold no more than this in all are no doubt about labels that hold still less.
_FEW_BLANKS = 0.02
_LONGEST_BLANK = 8  # bytes: a model that goes on with blanks writes no label
# Part expected to lead to a label of what no tokenizer writes so ("s" where "spam" is "sp", "am").
_UNUSUAL = 0.05
# A key is looked behind from this share of the labels' probability on: "A customer" is no "A".
_KEY_SHARE = 0.05
# Most of the labels' probability that may belong to one label or to another.
_UNSETTLED = 0.1


@dataclass(frozen=True, slots=True)
class LabelMass:
    """How the probability of one answer spreads over the labels.

    Attributes
    ----------
    point : ndarray of shape (n_labels,)
        Best estimate of the probability that the answer is this label. Sums to at most one.
    low, high : ndarray of shape (n_labels,)
        What is proven to belong to the label, and the most that can: they differ where a list
        was cut off or a label was only partly spelled out.
    seen : ndarray of bool of shape (n_labels,)
        False where no token of the label was listed, so that `point` is bounded, not observed.
    shared : float
        Probability of beginnings that fit several labels and were not followed up.
    unsettled : float
        Probability of what may be one label or another, also a label that may go on to be a
        longer one: the most by which `point` may be wrong for lack of what was written next.
    blank : float
        Probability of blanks and opening marks behind which nothing is known.
    left : float
        Probability of texts that begin like a label and go on as another word.
    """

    point: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    seen: NDArray[np.bool_]
    shared: float
    unsettled: float = 0.0
    blank: float = 0.0
    left: float = 0.0

    @property
    def off_label(self) -> float:
        """Probability that the answer is none of the labels, in [0, 1]."""
        return float(min(1.0, max(0.0, 1.0 - self.point.sum())))

    @property
    def is_settled(self) -> bool:
        """Whether nearly all of the probability was followed to where it tells labels apart."""
        total = float(self.point.sum())
        return self.unsettled <= _UNSETTLED * total and self.blank <= max(total, _FEW_BLANKS)


class _Match(NamedTuple):
    complete: int | None  # the label that is fully written
    partial: frozenset[int]  # the labels that could still be completed
    blank: bool  # nothing but opening marks so far


class _Tally:
    """The sums over the distributions of one answer, from which estimate and bounds are made.

    Attributes
    ----------
    low : list of float
        Probability of texts that spell the label in full.
    begun : list of float
        Probability of texts that only this label goes on from.
    split : list of float
        The label's part of beginnings that fit several labels.
    hidden : list of float
        The most that may still belong to the label besides `low` and `begun`.
    imputed : list of float
        What is assumed of a label that no list shows.
    seen : list of bool
        Whether a list shows the label.
    shared, unsettled : float
        Probability of beginnings that fit several labels; and of those for which no label that
        they fit was listed in full beside them.
    left : float
        Probability of what began like a label and went on as another word.
    open : dict of bytes to (float, frozenset of int)
        Probability of each beginning that was not followed up, and the labels it fits.
    blank : dict of bytes to float
        Probability of blanks and opening marks behind which nothing is known.
    cut : list of (float, bytes, int)
        The most that a label may have behind the end of the list of a prefix.
    keys : dict of bytes to float
        Probability of each key behind which nothing is known: it may begin another word.
    usual : collection of bytes or None
        The beginnings that the tokenizer itself writes; of others little is counted. None: unknown.
    """

    def __init__(self, n_labels: int, usual: Usual) -> None:
        self.usual = usual
        # Lists: to change a number in an array takes many times as long.
        self.low, self.begun, self.split, self.hidden, self.imputed = (
            [0.0] * n_labels for _ in range(5)
        )
        self.seen = [False] * n_labels
        self.shared = self.unsettled = self.left = 0.0
        self.blank: dict[bytes, float] = {}
        self.open: dict[bytes, tuple[float, frozenset[int]]] = {}
        self.cut: list[tuple[float, bytes, int]] = []
        self.keys: dict[bytes, float] = {}

    @property
    def observed(self) -> list[float]:
        """The estimate for each label, as far as it was listed."""
        return [sum(parts) for parts in zip(self.low, self.begun, self.split, strict=True)]

    def _hide(self, labels: Iterable[int], p: float) -> None:
        for k in labels:
            self.hidden[k] += p

    def add_unfollowed(
        self, written: bytes, match: _Match, p: float, followed: bool, complete: set[int]
    ) -> None:
        """Count a text behind which nothing is known, by what it spells or may become.

        `complete` are the labels that were listed in full at the same place: a tokenizer that
        writes them so does not begin them with a shorter token.
        """
        labels = list(match.partial)
        if match.blank:
            # What the model chooses after it is not known; to count it would be to invent.
            self.blank[written] = self.blank.get(written, 0.0) + p
            self._hide(labels, p)
            return
        if match.complete is None and self.usual is not None and written not in self.usual:
            p *= _UNUSUAL
        if labels:
            # Several cuts into tokens may lead to the same beginning.
            so_far = self.open[written][0] if written in self.open else 0.0
            self.open[written] = (so_far + p, match.partial)
        n_possible = len(match.partial - complete) + (match.complete is not None)
        if n_possible > 1 and not followed:
            self.unsettled += p
        if match.complete is not None:
            (self.begun if labels else self.low)[match.complete] += p
            self._hide(labels, p)
        elif followed or not labels:
            pass
        elif len(labels) == 1:
            self.begun[labels[0]] += p
            self.seen[labels[0]] = True
        else:
            # Nothing says which of these it is; they share it, and the bounds say so.
            self.shared += p
            self._hide(labels, p)
            for k in labels:
                self.split[k] += p / len(labels)
                self.seen[k] = True

    def add_stop(self, label: int, p: float, after: Distribution) -> None:
        """Count a label where the answer ends, though a longer label goes on from it."""
        # What is not listed as going on stays with the shorter label; what the list hides may
        # have gone on, so that much is not proven.
        listed = sum(math.exp(t.logprob) for t in after.tokens if t.text)
        stayed = p * max(0.0, 1.0 - listed)
        unproven = min(stayed, p * after.residual)
        self.low[label] += stayed - unproven
        self.begun[label] += unproven

    def add_unlisted(
        self, possible: frozenset[int], shown: set[int], p: float, at: Distribution
    ) -> None:
        """Bound what the end of a list hides from the labels that go on from its prefix."""
        cap = p * min(at.residual, at.smallest)
        self._hide(possible, cap)
        self.cut += [(cap, at.prefix, k) for k in possible]
        missing = possible - shown
        for k in missing:
            self.imputed[k] += p * min(at.smallest, at.residual / len(missing))


class LabelTree:
    """The ways to write each of a set of labels.

    Parameters
    ----------
    answers : sequence of str
        What the model is asked to write for each class, one text per class: option keys ("A") or
        the label's own words. Texts must differ.

    Notes
    -----
    A text counts as a label when it spells the label as given, in lower or upper case or
    capitalised, after any white space or opening mark, and ends there or before something that is
    neither letter nor digit. Case variants that two labels would share count for neither. Of two
    labels of which one begins with the other ("not", "not spam"), an answer is the longest one it
    spells out.
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = tuple(answers)
        owners: dict[bytes, set[int]] = {}
        for k, answer in enumerate(self.answers):
            for variant in case_variants(answer):
                owners.setdefault(variant, set()).add(k)
        exact = {answer.strip().encode(): k for k, answer in enumerate(self.answers)}
        # A variant that two labels share is kept only for the label that is written so.
        self._variants = {
            variant: exact.get(variant, min(who))
            for variant, who in owners.items()
            if variant in exact or len(who) == 1
        }
        self._keys = {k for k, a in enumerate(self.answers) if is_key(a.strip())}
        self._matches: dict[bytes, _Match] = {}
        self._firsts: dict[bytes, set[bytes]] = {}
        self._latest: tuple[object, Usual, _Tally] = (None, None, _Tally(self.n_labels, None))

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.answers)

    def spellings(self, label: int) -> list[str]:
        """Return the ways of writing a label that can only mean it, as given first."""
        own = [v.decode() for v, k in self._variants.items() if k == label]
        answer = self.answers[label].strip()
        return sorted(own, key=lambda v: (v != answer, v))

    def match(self, written: bytes) -> _Match:
        """Tell which label `written` spells and which it may still become."""
        if (known := self._matches.get(written)) is not None:
            return known
        bare = strip_opening(written)
        complete, length, partial = None, 0, set()
        quoted = written[: len(written) - len(bare)].strip().endswith((b"'", b"\xe2\x80\x98"))
        for variant, k in self._variants.items():
            if bare.startswith(variant):
                if len(variant) > length and ends_word(variant, bare[len(variant) :], quoted):
                    complete, length = k, len(variant)
            elif variant.startswith(bare):
                partial.add(k)
        if complete is not None:
            partial.discard(complete)
        elif not partial and begins_opening(bare):
            bare, partial = b"", set(range(self.n_labels))
        found = _Match(complete, frozenset(partial), not bare)
        if len(self._matches) < 100_000:  # a bound for very long runs, far above any vocabulary
            self._matches[written] = found
        return found

    def distribution(
        self, prefix: bytes, listed: Iterable[Sent | Token], written: Sent | None = None
    ) -> Distribution:
        """Keep of a list of tokens what can matter, so that it is cheap to store.

        Parameters
        ----------
        prefix : bytes
            What was written before them.
        listed : iterable of Sent
            The list as it was sent; what no model can have is an UnreadableReply.
        written : Sent or None, default=None
            The token that was then written.
        """
        return self.kept(prefix, read_list(listed, written))

    def kept(self, prefix: bytes, listed: TokenList) -> Distribution:
        """Keep what can matter of a list that was read."""
        tokens, mass, smallest = listed
        firsts = self._first_bytes(prefix)
        kept = [
            token
            for i, token in enumerate(tokens)
            if i < N_SHOWN
            or (
                (firsts is None or token.text[:1] in firsts)
                and self._matters(prefix, prefix + token.text)
            )
        ]
        return Distribution(prefix, tuple(kept), mass, smallest, len(tokens))

    def _first_bytes(self, prefix: bytes) -> set[bytes] | None:
        """Return with which bytes a label goes on after `prefix`; None where any may matter.

        Most of the hundreds of tokens of a list are ruled out by their first byte.
        """
        if self.match(prefix).blank or self.match(prefix).complete is not None:
            return None
        if prefix not in self._firsts:
            bare = strip_opening(prefix)
            n = len(bare)
            self._firsts[prefix] = {v[n : n + 1] for v in self._variants if v.startswith(bare)}
        return self._firsts[prefix]

    def _matters(self, prefix: bytes, written: bytes) -> bool:
        match = self.match(written)
        # What merely goes on behind a finished label stays that label's without being listed.
        return bool(match.partial) or match.complete != self.match(prefix).complete

    def _is_bare_key(self, written: bytes, match: _Match) -> bool:
        is_one = match.complete in self._keys and not match.partial
        return is_one and strip_opening(written) in self._variants

    def leaves(self, at: Distribution) -> float:
        """Return the probability with which a finished label goes on as something else."""
        label = self.match(at.prefix).complete
        if label is None:
            return 0.0
        others = (t for t in at.tokens if self.match(at.prefix + t.text).complete != label)
        return sum(math.exp(t.logprob) for t in others)

    def _left(self, at: Distribution) -> float:
        """Return the probability with which a finished label goes on as no label."""
        goes_on = ((t, self.match(at.prefix + t.text)) for t in at.tokens if t.text)
        return sum(math.exp(t.logprob) for t, m in goes_on if m.complete is None and not m.partial)

    def reduce(self, distributions: Mapping[bytes, Distribution]) -> LabelMass:
        """Sum what the distributions say of each label.

        Parameters
        ----------
        distributions : mapping of bytes to Distribution
            By prefix; the empty prefix must be there, deeper ones refine it.

        Returns
        -------
        LabelMass
        """
        tally = self._tally(distributions)
        # Censoring, not zero: a label that no list shows has at most the smallest listed
        # probability, and all such labels together at most the residual.
        low, begun, hidden = np.array([tally.low, tally.begun, tally.hidden])
        point = np.where(tally.seen, tally.observed, tally.imputed)
        total = point.sum()
        if total > 1.0:  # rounding in what the server reports
            point /= total
        return LabelMass(
            point,
            low=np.minimum(low, point),
            high=np.minimum(1.0, np.maximum(point, low + begun + hidden)),
            seen=np.array(tally.seen),
            shared=tally.shared,
            unsettled=tally.unsettled,
            blank=sum(tally.blank.values()),
            left=tally.left,
        )

    def pending(
        self,
        distributions: Mapping[bytes, Distribution],
        tolerance: float = 1e-3,
        *,
        behind_keys: bool = False,
        usual: Usual = None,
    ) -> list[bytes]:
        """Prefixes whose continuation could change some label noticeably, the likeliest first.

        A backend that can continue a prefix asks for these, adds what it got to `distributions`
        and calls again, until the list is empty. Then no label's share of the labels' probability
        is off by more than about `tolerance` times itself, or, for the least likely spellings of a
        label with a smaller share than `tolerance`, by a tenth of itself. With `behind_keys`, a
        key (a letter or a number) is looked behind as well, for it may begin another word. `usual`
        are the beginnings that the tokenizer writes itself; of others a twentieth is counted.
        """
        tally = self._tally(distributions, usual)
        point = tally.observed
        total = sum(point)
        worth = [
            (-mass, prefix)
            for prefix, (mass, labels) in tally.open.items()
            if prefix not in distributions
            and any(_noticeable(mass, point[k], total, tolerance) for k in labels)
        ]
        worth += [
            (-p, prefix)
            for prefix, p in tally.blank.items()
            if p > max(_BLANK * total, _LEAST_BLANK * tolerance)
            and len(prefix) <= _LONGEST_BLANK
            and prefix not in distributions
        ]
        if behind_keys:
            likely = _KEY_SHARE * total
            worth += [(-p, written) for written, p in tally.keys.items() if p > likely]
        return [prefix for _, prefix in sorted(worth)]

    def doubtful(
        self, distributions: Mapping[bytes, Distribution], tolerance: float = 1e-3
    ) -> list[tuple[bytes, int]]:
        """Pairs (prefix, label) where a token behind the cut could change the label noticeably.

        A backend that can read the probability of one chosen token does so for the label's own
        next token there; others leave it to the bounds.
        """
        tally = self._tally(distributions)
        point = tally.observed
        total = sum(point)
        return [
            (prefix, k)
            for cap, prefix, k in tally.cut
            if _noticeable(cap, point[k], total, tolerance)
        ]

    def _tally(self, distributions: Mapping[bytes, Distribution], usual: Usual = None) -> _Tally:
        key = tuple(distributions.items())
        known, counted_for, tally = self._latest
        if known != key or counted_for is not usual:  # a row is looked at several times in a row
            tally = _Tally(self.n_labels, usual)
            self._add(tally, distributions, b"", 1.0)
            self._latest = key, usual, tally
        return tally

    def _add(
        self,
        tally: _Tally,
        distributions: Mapping[bytes, Distribution],
        prefix: bytes,
        p_prefix: float,
    ) -> None:
        """Count what the distribution after a prefix, and those it leads to, say."""
        at = distributions[prefix]
        written_so_far: dict[bytes, float] = {}
        for token in at.tokens:
            if token.text:  # end-of-text tokens often decode to nothing
                written = prefix + token.text
                p = p_prefix * math.exp(token.logprob)
                written_so_far[written] = written_so_far.get(written, 0.0) + p
        shown: set[int] = set()
        matches = {written: self.match(written) for written in written_so_far}
        complete = {m.complete for m in matches.values() if m.complete is not None}
        for written, p in written_so_far.items():
            match = matches[written]
            if not match.blank:  # opening marks say nothing of a label: they do not show it
                shown |= match.partial
            if match.complete is not None:
                shown.add(match.complete)
                tally.seen[match.complete] = True
            there = distributions.get(written)
            # Where an answer ends that is no label, its list is empty and says nothing of labels.
            if there is None or not (there.tokens or match.complete is not None):
                followed = at.followed and there is None
                tally.add_unfollowed(written, match, p, followed, complete)
                if there is None and self._is_bare_key(written, match):
                    tally.keys[written] = tally.keys.get(written, 0.0) + p
                continue
            self._add(tally, distributions, written, p)
            if match.complete is not None:
                tally.add_stop(match.complete, p, there)
                tally.left += p * self._left(there)
        tally.add_unlisted(self.match(prefix).partial, shown, p_prefix, at)


@lru_cache(maxsize=64)
def label_tree(answers: tuple[str, ...]) -> LabelTree:
    """Return the tree of some answers; it remembers what it has found out about tokens."""
    return LabelTree(answers)


def _noticeable(mass: float, label: float, total: float, tolerance: float) -> bool:
    return mass > tolerance * label and (mass > tolerance * total or mass > 0.1 * label)
