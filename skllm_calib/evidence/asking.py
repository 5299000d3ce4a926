"""The one place where requests, cache and backend meet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from skllm_calib.evidence.backends.base import BaseBackend, Reply, Request
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.questions import Question
from skllm_calib.evidence.signals.base import Answered, Dialogue, Evidence, Signal
from skllm_calib.evidence.usage import Usage
from skllm_calib.exceptions import BackendError, SignalUnavailable, UnreadableReply

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
    questions: Sequence[Question],
    signal: Signal,
    backend: BaseBackend,
    cache: ResponseCache | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[RowRecord]:
    """Ask what is not known yet, and make a record of each row.

    Parameters
    ----------
    questions : sequence of Question
        One a row.
    signal : Signal
        Says what to ask and reads the replies.
    backend : BaseBackend
        Answers.
    cache : ResponseCache or None
        Where replies are looked up and kept, each as it arrives.
    progress : callable or None, default=None
        Called with (requests answered so far, requests known to be needed).

    Returns
    -------
    list of RowRecord
        In the order of the rows. A row that failed has a record like any other.
    """
    identity = backend.identity()
    rows = [_Row(signal.ask(question)) for question in questions]
    post = _Post(backend, cache, progress)
    while waiting := [row for row in rows if row.wants]:
        # All rows take a step at a time, so that a backend gets as many requests as there are.
        unique: dict[str, Request] = {}
        for row in waiting:
            row.keys = [request.key(identity) for request in row.wants]
            unique |= zip(row.keys, row.wants, strict=True)
        post.answer(unique)
        for row in waiting:
            row.advance(post)
    records = [row.record() for row in rows]
    if post.hopeless is not None and all(r.failure is post.hopeless for r in records):
        raise post.hopeless
    return records


class _Post:
    """Carries requests to the cache and the backend, and keeps the answers of this run."""

    def __init__(
        self,
        backend: BaseBackend,
        cache: ResponseCache | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._backend = backend
        self._cache = cache
        self._progress = progress
        self.answers: dict[str, Answered] = {}
        self.spared: set[str] = set()  # answered by the cache, or by another worker meanwhile
        self.hopeless: SignalUnavailable | None = None
        self._n_needed = 0

    def answer(self, requests: Mapping[str, Request]) -> None:
        """Get the answers to requests by their keys, but for those that are known."""
        unknown = {key: r for key, r in requests.items() if key not in self.answers}
        self._n_needed = len(self.answers) + len(unknown)
        # Closed at once when the backend raises, so that nobody waits for what will not come.
        with contextlib.closing(_turns(list(unknown), self._cache)) as turns:
            for known, to_ask in turns:
                self.answers |= {key: Reply.from_json(value) for key, value in known.items()}
                self.spared |= set(known)
                self._report()
                if not to_ask:
                    continue
                for kind in dict.fromkeys(map(_kind, unknown.values())):
                    self._run([key for key in to_ask if _kind(unknown[key]) == kind], unknown)
                    self._report()
        for key in unknown:
            nothing = UnreadableReply("the backend gave no answer to this request")
            self.answers.setdefault(key, nothing)

    def _run(self, keys: list[str], requests: Mapping[str, Request]) -> None:
        """Let the backend answer requests of one kind."""
        try:
            for i, answer in self._backend.run([requests[key] for key in keys]):
                self.answers[keys[i]] = answer
                if self._cache is not None and isinstance(answer, Reply):
                    self._cache.set_many({keys[i]: answer.to_json()})
                self._report()
        except SignalUnavailable as failure:
            # True of every request of this kind, but other kinds may do: a signal that asks for
            # both can still read the other one.
            self.hopeless = failure
            for key in keys:
                self.answers.setdefault(key, failure)

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(len(self.answers), self._n_needed)


class _Row:
    """The dialogue about one row, and what it took so far."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._evidence: Evidence | None = None
        self._failure: BackendError | None = None
        self._replies: list[Reply] = []
        self._usage = Usage()
        self.keys: list[str] = []
        self.wants: list[Request] = []
        self._step(None)

    def advance(self, post: _Post) -> None:
        """Take in the answers to what it wants, and say what it wants next."""
        answers = [post.answers[key] for key in self.keys]
        for key, answer in zip(self.keys, answers, strict=True):
            if isinstance(answer, Reply):
                self._replies.append(answer)
                self._usage += _used(answer, spared=key in post.spared)
                post.spared.add(key)  # a reply that several rows share is paid for by the first
        self._step(answers)

    def _step(self, answers: list[Answered] | None) -> None:
        self.wants = []
        try:
            wants = next(self._dialogue) if answers is None else self._dialogue.send(answers)
            while not wants:  # a step that needs nothing
                wants = self._dialogue.send([])
            self.wants = wants
        except StopIteration as end:
            self._evidence = end.value
        except BackendError as failure:
            self._failure = failure

    def record(self) -> RowRecord:
        return RowRecord(self._evidence, self._failure, tuple(self._replies), self._usage)


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


def _kind(request: Request) -> str:
    """Return what kind of evidence a request is for."""
    if request.choices:
        return "decision"
    return "labels" if request.answers else "text"


def _used(reply: Reply, *, spared: bool) -> Usage:
    if spared:
        return Usage(n_cache_hits=1)
    return Usage(1, 0, reply.prompt_tokens, reply.completion_tokens)
