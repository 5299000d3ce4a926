"""Label probabilities from the alternatives that a server lists, for all hosted providers.

They come from the first position of the answer, and from what was written behind it: the label may
begin behind a blank, a key may be the beginning of another word, and labels of several tokens or
of one beginning are told apart further on. Where the server continues an answer that was begun
for the model, all of that is read; else along sampled answers, with bounds for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.hosted.answer import Answer, Position, Usage
from skllm_calib.evidence.backends.hosted.facts import (
    LISTS_FEW,
    NO_LOGPROBS,
    Continuation,
    row_of,
)
from skllm_calib.evidence.backends.hosted.model import HostedModel
from skllm_calib.evidence.backends.hosted.thinking import begins_to_think
from skllm_calib.evidence.label_tokens import Distribution, LabelTree
from skllm_calib.evidence.token_lists import TokenList, read_list
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    UnreadableReply,
)

__all__ = ["LabelReader"]

# Tokens that are sampled to see how an answer goes on: a blank, a key, and what follows it.
_LEAST_SAMPLED, _MOST_SAMPLED = 3, 4
# How often another answer is sampled where the ones before do not settle what the label is.
_MORE_SAMPLES = 3
# What hosted models document as their most; what a server of one's own lists at no cost; and what
# it lists for rows where the labels hold so little that they hide even behind that.
_LISTED = (20, 500, 5_000, 50_000)
_SAME_LOGPROB = 0.1
# A label that goes on as another word with less than this is left as it is.
_OTHER_WORD = 0.05
# Seeds of further samples of a draw are not those of the next draws.
_DRAWS_APART = 100_003


class LabelReader:
    """Reads the labels of one request.

    Parameters
    ----------
    model : HostedModel
    tree : LabelTree
        The answers of the request.
    request : Request
    usage : Usage
        Where the calls are counted.
    top_logprobs : int or None
        How many alternatives to request at a position; None lets the reader choose.
    """

    def __init__(
        self,
        model: HostedModel,
        tree: LabelTree,
        request: Request,
        usage: Usage,
        top_logprobs: int | None,
    ) -> None:
        self._model = model
        self._dialect = model.dialect
        self._tree = tree
        self._messages = [message._asdict() for message in request.messages]
        self._row = row_of(request)
        self._draw = request.draw
        self._usage = usage
        self._top_logprobs = top_logprobs
        self._rung = 1 if self._dialect.lists_many else 0
        self._lists_few = False
        self._how = self._dialect.continuation  # perhaps found out by this row alone
        self._has_tried = self._dialect.can_continue is False
        self._lists: dict[Position, TokenList] = {}
        self._begun: dict[bytes, tuple[Position, ...]] = {}  # what was read in order to find out

    def read(self) -> Reply:
        """Return text, distributions and notes."""
        tree = self._tree
        seen = self._look(self._n_to_sample)
        found = {b"": self._distribution(seen.positions[0])}
        while tree.doubtful(found) and self._may_list_more():
            seen = self._look_further(seen)
            found = {b"": self._distribution(seen.positions[0])}
        notes = self._dialect.notes(seen.left_out, self._row, self._n_listed)
        if self._pending(found) and self._can_continue(seen.positions[1:]):
            found = self._follow(found)
        found = self._along_the_sample(found, seen)
        for n in range(1, _MORE_SAMPLES + 1):
            if tree.reduce(found).is_settled:
                break
            found = self._along_the_sample(found, self._look(self._n_to_sample, again=n))
        if self._pending(found):
            notes += (self._not_told_apart(),)
        distributions = tuple(found[prefix] for prefix in sorted(found))
        return Reply(seen.text, distributions, notes=notes, refused=seen.left_out)

    def _distribution(self, position: Position) -> Distribution:
        # Where nothing but the token that was written is shown, that is something.
        if not position.listed:
            position = position._replace(listed=(position.written,))
        return self._tree.kept(position.prefix, self._list(position))

    def _list(self, position: Position) -> TokenList:
        """Read a list once: that takes as long as to send the request."""
        if position not in self._lists:
            self._lists[position] = read_list(position.listed, position.written)
        return self._lists[position]

    def _pending(self, found: Mapping[bytes, Distribution]) -> list[bytes]:
        """Return beginnings to continue: no blanks, which chat templates trim."""
        return [p for p in self._tree.pending(found) if not self._tree.match(p).blank]

    def _along_the_sample(
        self, found: dict[bytes, Distribution], seen: Answer
    ) -> dict[bytes, Distribution]:
        """Add what was listed along an answer that was sampled, as far as it matters.

        Where beginnings were continued, hardly anything does: what is read of a row should not
        depend on a draw.
        """
        tree, found = self._tree, dict(found)
        way: dict[bytes, Distribution] = {}  # to where something matters, perhaps further on
        for position in seen.positions[1:]:
            prefix = position.prefix
            match = tree.match(prefix)
            if prefix in way or (not match.partial and match.complete is None):
                break  # after a token without text the answer has ended
            try:
                there = self._distribution(position)
            except UnreadableReply:  # nothing is known from there on
                break
            if prefix in found:
                continue
            open_here = prefix in tree.pending(found) or (match.partial and not self._continues)
            way[prefix] = there
            if open_here or tree.leaves(there) > _OTHER_WORD:
                found |= way
        return found

    @property
    def _continues(self) -> bool:
        return self._how is not None

    def _not_told_apart(self) -> str:
        note = "labels that begin alike were not all told apart"
        if self._how is None and self._has_tried:
            note += ": this server does not continue a given beginning"
        return note

    @property
    def _n_listed(self) -> int:
        """How many alternatives to request at a position."""
        if self._top_logprobs is not None:
            return self._top_logprobs
        few = self._lists_few or self._dialect.lists_many is False
        return _LISTED[0 if few else self._rung]

    def _may_list_more(self) -> bool:
        few = self._lists_few or self._dialect.lists_many is False
        return self._top_logprobs is None and not few and self._rung < len(_LISTED) - 1

    def _look_further(self, seen: Answer) -> Answer:
        """Request more alternatives; find out, from a row or two, whether the server lists them."""
        known = self._dialect
        self._rung += 1
        with known.lock:
            if known.lists_many is None:
                return self._find_out_whether_more_are_listed(seen)
        return self._look(self._n_to_sample) if known.lists_many else seen

    def _find_out_whether_more_are_listed(self, seen: Answer) -> Answer:
        known = self._dialect
        try:
            further = self._look(self._n_to_sample)
        except (BackendUnavailable, ContextTooLong):
            raise  # says nothing of the list; the next row tries again
        except BackendError:
            further = seen
        if len(further.positions[0].listed) > _LISTED[0]:
            known.lists_many = True
        else:
            self._lists_few = True
            known.note(LISTS_FEW, self._row)
            known.lists_many = False if known.is_known(LISTS_FEW) else None
        return further

    @property
    def _n_to_sample(self) -> int:
        """How many tokens to have written: enough to see where the label begins and ends."""
        longest = max(len(answer.encode()) for answer in self._tree.answers)
        return min(_MOST_SAMPLED, max(_LEAST_SAMPLED, longest))

    def _follow(self, found: dict[bytes, Distribution]) -> dict[bytes, Distribution]:
        """Read what follows each beginning that could still change a label."""
        how, tree, found = self._how, self._tree, dict(found)
        assert how is not None
        unreadable: set[bytes] = set()  # what becomes of them is not settled
        # A label has few tokens and few beginnings; the bound only guards against odd tokenizers.
        for _ in range(4 * tree.n_labels + 64):
            left = (p for p in self._pending(found) if p not in unreadable and _is_text(p))
            if (prefix := next(left, None)) is None:
                break
            try:
                there = self._begun.pop(prefix, None) or self._look(1, (how, prefix)).positions
                found[prefix] = (
                    self._distribution(there[0]._replace(prefix=prefix))
                    if there
                    else tree.distribution(prefix, ())  # nothing proven, all of it possible
                )
            except UnreadableReply:
                unreadable.add(prefix)
        if self._pending(found):
            return found
        # What is still open was too little to follow: too little to count, too.
        return {prefix: replace(there, followed=True) for prefix, there in found.items()}

    def _can_continue(self, sampled: Sequence[Position]) -> bool:
        """Tell whether an answer that was begun is continued; find out how, with two rows.

        The beginning of a sampled answer is given back to the model: it is continued if the next
        position then looks as it did in the sample. A new turn looks different.
        """
        known = self._dialect
        with known.lock:
            self._how = known.continuation
            if known.can_continue is None:
                words = (p for p in sampled if _is_text(p.prefix) and _is_word(p.prefix))
                if (seen := next((p for p in words if p.listed), None)) is None:
                    return False  # this row shows nothing to find out with; another one may
                self._how = self._find_continuation(seen)
                known.note_continuation(self._how, self._row)
        self._has_tried = True
        return self._continues

    def _find_continuation(self, seen: Position) -> Continuation | None:
        for how in self._model.continuations:
            try:
                again = self._look(1, (how, seen.prefix)).positions
            except (BackendUnavailable, ContextTooLong):
                raise  # says nothing of this way; the next row tries again
            except BackendError:
                continue
            if again and _look_alike(seen, again[0]):
                self._begun[seen.prefix] = again
                return how
        return None

    def _look(
        self, n_tokens: int, begun: tuple[Continuation, bytes] | None = None, *, again: int = 0
    ) -> Answer:
        """Return what was written and listed, at the first position at least.

        Only where a begun answer ends, nothing may be. `again` counts the samples of one answer:
        with a seed, each has its own.
        """
        known, model, messages = self._dialect, self._model, self._messages
        if known.no_logprobs is not None and known.is_known(NO_LOGPROBS):
            raise model.no_logprobs(known.no_logprobs)
        extra: Mapping[str, Any] = {}
        if begun is not None:
            how, prefix = begun
            turn = {"role": "assistant", "content": prefix.decode(), **how.message}
            messages, extra = [*messages, turn], how.extra
        # Some servers divide by the temperature before they report, and some models take no other
        # one than 1. At 1 all of them report the same. What is written is then a draw, so nothing
        # but the list is read: adding a written token from behind its end would make the labels
        # depend on that draw.
        answer = model.request(
            messages,
            self._usage,
            row=self._row,
            draw=self._draw + again * _DRAWS_APART,
            extra=extra,
            **model.pinned,
            max_tokens=n_tokens,
            temperature=1.0,
            top_logprobs=self._n_listed,
        )
        positions = answer.positions
        listed = self._list(positions[0]) if positions else None
        # Where there is a list, the text may be an unlikely draw from it.
        likeliest = answer.text
        if listed is not None and listed.tokens:
            likeliest = listed.tokens[0].text.decode(errors="replace")
        if answer.thought or begins_to_think(likeliest):
            raise model.reasons_first()
        if listed is not None and listed.tokens:
            known.shows_logprobs = True
            return answer
        if not positions and not answer.text.strip():
            if begun is not None:
                return answer
            raise UnreadableReply(
                f"the model {model.model!r} wrote nothing (finish_reason {answer.finish!r})"
            )
        if known.shows_logprobs:
            raise UnreadableReply(f"the server sent no log-probabilities with {answer.text!r}")
        what = "lists only the token it wrote" if positions else "the server sent none"
        known.no_logprobs = what
        raise model.no_logprobs(what)


def _is_text(prefix: bytes) -> bool:
    try:
        prefix.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_word(prefix: bytes) -> bool:
    """Tell whether a beginning survives chat templates, which trim blanks and read marks."""
    text = prefix.decode()
    return bool(text.strip()) and text == text.rstrip() and not set(text) & set("<|>[]")


def _look_alike(a: Position, b: Position) -> bool:
    """Tell whether two lists are those of the same place, up to a server's rounding."""
    seen, again = read_list(a.listed).tokens, read_list(b.listed).tokens
    if not seen or not again or seen[0].text != again[0].text:
        return False
    return abs(seen[0].logprob - again[0].logprob) < _SAME_LOGPROB
