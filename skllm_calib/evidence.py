"""The one place where requests, cache and backend meet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from skllm_calib.backends.base import BaseBackend, Message, Reply
from skllm_calib.cache import ResponseCache
from skllm_calib.exceptions import BackendError, UnreadableReply
from skllm_calib.signals.base import Evidence, Signal
from skllm_calib.usage import Usage

__all__ = ["RowRecord", "collect"]

_PAUSES = (0.05, 1.0)  # seconds between two looks at what another worker is asking, growing


@dataclass(frozen=True)
class RowRecord:
    """Everything known about one row: its evidence, or why there is none."""

    evidence: Evidence | None
    failure: BackendError | None
    replies: tuple[Reply, ...]
    usage: Usage

    @property
    def model(self) -> str:
        """The model as served."""
        return self.replies[0].model if self.replies else ""


def collect(
    conversations: Sequence[tuple[Message, ...]],
    answers: tuple[str, ...],
    signal: Signal,
    backend: BaseBackend,
    cache: ResponseCache | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[RowRecord]:
    """Ask what is not known yet, and make a record of each row.

    Parameters
    ----------
    conversations : sequence of tuple of Message
        One prompt a row.
    answers : tuple of str
        What the model is to write for each class.
    signal : Signal
        Says what to ask and reads the replies.
    backend : BaseBackend
        Answers.
    cache : ResponseCache or None
        Where replies are looked up and kept, each as it arrives.
    progress : callable or None, default=None
        Called with (requests answered so far, requests in all).

    Returns
    -------
    list of RowRecord
        In the order of the rows. A row that failed has a record like any other.
    """
    identity = backend.identity()
    wanted = [signal.requests(messages, answers) for messages in conversations]
    keyed = [[request.key(identity) for request in requests] for requests in wanted]
    unique = {
        key: request
        for keys, requests in zip(keyed, wanted, strict=True)
        for key, request in zip(keys, requests, strict=True)
    }
    replies: dict[str, Reply | BackendError] = {}
    spared: set[str] = set()  # answered by the cache, or by another worker meanwhile
    # Closed at once when the backend raises, so that nobody waits for what will not come.
    with contextlib.closing(_turns(list(unique), cache)) as turns:
        for known, to_ask in turns:
            replies |= {key: Reply.from_json(value) for key, value in known.items()}
            spared |= set(known)
            if progress is not None:
                progress(len(replies), len(unique))
            if not to_ask:
                continue
            for i, reply in backend.run([unique[key] for key in to_ask]):
                replies[to_ask[i]] = reply
                if cache is not None and isinstance(reply, Reply):
                    cache.set_many({to_ask[i]: reply.to_json()})
                if progress is not None:
                    progress(len(replies), len(unique))
    # A reply shared by several rows is counted at the first of them.
    return [_record(keys, replies, spared, signal, answers) for keys in keyed]


def _turns(
    keys: list[str], cache: ResponseCache | None
) -> Generator[tuple[dict[str, str], list[str]], None, None]:
    """Yield what is known and what to ask, in turns, until nothing is left.

    What another worker is asking at this moment is waited for. Nobody waits before all that it has
    claimed itself is answered, so no two can wait for each other; what the other one fails to get
    is asked by the first who still waits for it.
    """
    if cache is None:
        yield {}, keys
        return
    known = cache.get_many(keys)  # the usual case in a search: all there, and nothing to write
    left = [key for key in keys if key not in known]
    yield known, []
    owner = cache.new_owner()
    pause, longest = _PAUSES
    while left:
        try:
            known, mine = cache.claim(left, owner)
            yield known, mine
        finally:
            cache.release(owner)
        left = [key for key in left if key not in known and key not in set(mine)]
        if left and not known and not mine:
            time.sleep(pause)
            pause = min(longest, 1.5 * pause)


def _record(
    keys: Sequence[str],
    replies: dict[str, Reply | BackendError],
    paid: set[str],
    signal: Signal,
    answers: tuple[str, ...],
) -> RowRecord:
    usage = Usage()
    got: list[Reply] = []
    failure: BackendError | None = None
    for key in keys:
        reply = replies.get(key, UnreadableReply("the backend gave no answer to this request"))
        if isinstance(reply, BackendError):
            failure = failure or reply
        else:
            got.append(reply)
            usage += _used(reply, spared=key in paid)
            paid.add(key)
    evidence = None
    if failure is None:
        try:
            evidence = signal.reduce(answers, got)
        except BackendError as e:
            failure = e
    return RowRecord(evidence, failure, tuple(got), usage)


def _used(reply: Reply, *, spared: bool) -> Usage:
    if spared:
        return Usage(n_cache_hits=1)
    return Usage(1, 0, reply.prompt_tokens, reply.completion_tokens)
