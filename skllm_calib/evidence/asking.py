"""The one place where requests, cache and backend meet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.kept_failures import (
    KEPT,
    PAID_MEANWHILE,
    read_failure,
    write_failure,
)
from skllm_calib.evidence.sharing import sharing
from skllm_calib.evidence.signals.base import Answered, Dialogue, Evidence
from skllm_calib.evidence.storage import failure_key
from skllm_calib.evidence.usage import Usage
from skllm_calib.evidence.workers import Worker
from skllm_calib.exceptions import BackendError, UnreadableReply
from skllm_calib.utils.progress import bar

__all__ = ["RowRecord", "ask_rows"]

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


def ask_rows(model: BoundModel, rows: Sequence[Mapping[str, str]]) -> list[RowRecord]:
    """Ask what is not known yet, and return a record of each row.

    Parameters
    ----------
    model : BoundModel
        Which model to ask, what to ask, and where each reply is kept as it arrives.
    rows : sequence of mapping
        The texts of each row by field name.

    Returns
    -------
    list of RowRecord
        In the order of the rows. A row that failed has a record like any other.

    Raises
    ------
    BackendError
        If the run was ended by a failure that every row shares, and none was answered.
    """
    with bar(model.verbose, "requests") as progress:
        exchange = _Exchange(model, progress)
        dialogues = _hold(model, rows, exchange)
        records = [dialogue.record(model.max_off_label) for dialogue in dialogues]
        failed = [i for i, record in enumerate(records) if record.failure is not None]
        again = [i for i in failed if exchange.is_of_an_earlier_run(dialogues[i].all_keys)]
        if exchange.forget({key for i in again for key in dialogues[i].all_keys}):
            held = _hold(model, [rows[i] for i in again], exchange)
            for i, dialogue in zip(again, held, strict=True):
                records[i] = dialogue.record(model.max_off_label)
    fatal = exchange.fatal
    if fatal is not None and all(isinstance(r.failure, type(fatal)) for r in records):
        raise fatal
    return records


def _hold(
    model: BoundModel, rows: Sequence[Mapping[str, str]], exchange: _Exchange
) -> list[_RowDialogue]:
    """Hold the dialogue about each row, to its end."""
    signal = model.averaged_signal
    dialogues = [
        _RowDialogue(signal.ask(model.question(row)), "\n".join(row.values())) for row in rows
    ]
    # All rows take a step at a time, so that a backend gets as many requests as there are.
    while waiting := [dialogue for dialogue in dialogues if dialogue.wanted]:
        unique: dict[str, Request] = {}
        for dialogue in waiting:
            dialogue.keys = [request.key(model.identity) for request in dialogue.wanted]
            dialogue.all_keys.update(dialogue.keys)
            unique |= zip(dialogue.keys, dialogue.wanted, strict=True)
        exchange.answer(unique)
        for dialogue in waiting:
            dialogue.advance(exchange)
    return dialogues


class _Exchange:
    """Takes requests to the cache and the backend, and keeps the answers of this run."""

    def __init__(self, model: BoundModel, progress: Callable[[int, int], None] | None) -> None:
        self._model = model
        self._worker = None if model.cache is None else Worker(model.cache, Reply.from_json)
        self._keeps_failures = model.cache is not None and model.cache.keep_failures
        self._progress = progress
        self.answers: dict[str, Answered] = {}
        self.from_cache: set[str] = set()  # also what another worker asked meanwhile
        self.fatal: BackendError | None = None
        self._n_needed = 0
        self._began = time.time()

    def is_of_an_earlier_run(self, keys: Collection[str]) -> bool:
        """Tell whether a failure was read from replies that nobody asked for in this call."""
        asked = self._model.asked
        return bool(keys) and not any(key in asked for key in keys)

    def forget(self, keys: Collection[str]) -> bool:
        """Forget replies in which there was no answer, so that they are asked for again, once."""
        cache = self._model.cache
        if not keys or cache is None or self._keeps_failures:
            return False
        self._model.asked.update(keys)
        if not cache.remove_earlier(list(keys), self._began):
            return False
        for key in keys:
            self.answers.pop(key, None)
            self.from_cache.discard(key)
        return True

    def answer(self, requests: Mapping[str, Request]) -> None:
        """Get the answers to requests by their keys, but for those that are known."""
        self._recall([key for key in requests if key not in self.answers])
        unknown = {key: r for key, r in requests.items() if key not in self.answers}
        self._n_needed = len(self.answers) + len(unknown)
        # Closed at once when the backend raises, so that nobody waits for what will not come.
        storage = None if self._model.cache is None else self._model.cache.storage
        turns_of = _turns(list(unknown), self._worker)
        with contextlib.closing(turns_of) as turns, sharing(storage):
            for known, to_ask in turns:
                self.answers |= known
                self.from_cache |= set(known)
                self._recall(to_ask)  # what another worker has paid for meanwhile
                self._report()
                by_kind: dict[str, list[str]] = {}
                for key in to_ask:
                    if key not in self.answers:
                        by_kind.setdefault(_kind(unknown[key]), []).append(key)
                for keys in by_kind.values():
                    self._run(keys, unknown)
                    self._report()
        for key in unknown:
            nothing = UnreadableReply("the backend gave no answer to this request")
            self.answers.setdefault(key, nothing)

    def _run(self, keys: list[str], requests: Mapping[str, Request]) -> None:
        """Let the backend answer requests of one kind."""
        arriving = self._model.backend.run([requests[key] for key in keys])
        self._model.asked.update(keys)
        taken: list[tuple[int, Answered]] = []
        try:
            for i, answer in arriving:
                taken = [(i, answer)]
                self._take(keys[i], answer)
        except KeyboardInterrupt as interrupt:
            # Perhaps the last one was not kept, and more have arrived: all of them are paid for.
            for i, answer in chain(taken, _after(interrupt, arriving)):
                self._take(keys[i], answer)
            raise
        except BackendError as failure:
            # True of every request of this kind, but what came in is kept, and other kinds may do:
            # a signal that asks for both can still read the other one.
            self.fatal = failure
            for key in keys:
                self.answers.setdefault(key, failure)

    def _take(self, key: str, answer: Answered) -> None:
        if self._worker is not None and isinstance(answer, Reply):
            self._worker.keep(key, answer.to_json())  # safe before it is used
        elif isinstance(answer, BackendError) and answer.is_billed:
            self._model.paid_failures[key] = answer
            if self._worker is not None:
                self._worker.keep(failure_key(key), write_failure(answer))
        self.answers[key] = answer
        self._report()

    def _recall(self, keys: list[str]) -> None:
        """Take what is known of failures that were paid for: in this call, or where they are kept.

        This call ends later than it began: others may have paid in between.
        """
        known = self._model.paid_failures
        if self._model.cache is not None:
            note, since = (KEPT, 0.0) if self._keeps_failures else (PAID_MEANWHILE, self._began)
            kept = self._model.cache.get_failures([k for k in keys if k not in known], since)
            for key, value in kept.items():
                if (failure := read_failure(value, note)) is not None:
                    known[key] = failure
        self.answers |= {key: known[key] for key in keys if key in known}

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(len(self.answers), self._n_needed)


class _RowDialogue:
    """The dialogue about one row, and what it took so far."""

    def __init__(self, dialogue: Dialogue, subject: str = "") -> None:
        self._dialogue = dialogue
        self._subject = subject
        self._evidence: Evidence | None = None
        self._failure: BackendError | None = None
        self._replies: list[Reply] = []
        self._usage = Usage()
        self.keys: list[str] = []
        self.all_keys: set[str] = set()
        self.wanted: list[Request] = []
        self._step(None)

    def advance(self, exchange: _Exchange) -> None:
        """Take in the answers to what was wanted, and find out what is wanted next."""
        answers = [exchange.answers[key] for key in self.keys]
        for key, answer in zip(self.keys, answers, strict=True):
            if isinstance(answer, Reply):
                self._replies.append(answer)
                self._usage += _usage(answer, from_cache=key in exchange.from_cache)
                # A reply that several rows need is paid for by the first of them.
                exchange.from_cache.add(key)
        self._step(answers)

    def _step(self, answers: list[Answered] | None) -> None:
        self.wanted = []
        try:
            wanted = next(self._dialogue) if answers is None else self._dialogue.send(answers)
            while not wanted:  # a step that needs nothing
                wanted = self._dialogue.send([])
            self.wanted = [replace(request, subject=self._subject) for request in wanted]
        except StopIteration as end:
            self._evidence = end.value
        except BackendError as failure:
            self._failure = failure

    def record(self, max_off_label: float) -> RowRecord:
        evidence = self._evidence
        if evidence is not None and evidence.off_label > max_off_label:
            self._evidence, self._failure = None, _off_label(evidence, max_off_label)
        return RowRecord(self._evidence, self._failure, tuple(self._replies), self._usage)


def _off_label(evidence: Evidence, limit: float) -> UnreadableReply:
    """Say where the evidence went that fell on no label."""
    top = evidence.details.get("top_tokens") or []
    likeliest = ", ".join(f"{text!r} ({p:.0%})" for text, p in top[:3])
    where = f"; the likeliest beginnings are {likeliest}" if likeliest else ""
    written = "" if likeliest else f"; the model wrote {evidence.details.get('written', '')!r:.200}"
    return UnreadableReply(
        f"{evidence.off_label:.1%} of the evidence is on none of the labels "
        f"(max_off_label={limit:g}){where}{written}. Ask for the bare label in the prompt, or "
        "increase max_off_label"
    )


def _turns(
    keys: list[str], worker: Worker[Reply] | None
) -> Generator[tuple[dict[str, Reply], list[str]], None, None]:
    """Yield the replies that are known and the keys to ask, in turns, until no key is left.

    What another worker is asking at this moment is waited for. Nobody waits before all that it has
    claimed itself is answered, so no two can wait for each other; what the other one fails to get
    is asked by the first who still waits for it.
    """
    if worker is None:
        yield {}, keys
        return
    known = worker.known(keys)  # the usual case in a search: all there, and nothing to write
    yield known, []
    if left := [key for key in keys if key not in known]:
        yield from _claims(left, worker)


def _claims(
    left: list[str], worker: Worker[Reply]
) -> Generator[tuple[dict[str, Reply], list[str]], None, None]:
    pause, longest = _PAUSES
    while left:
        try:
            known, mine = worker.claim(left)
            yield known, mine
        finally:
            worker.release()
        settled = {*known, *mine}
        left = [key for key in left if key not in settled]
        if left and not known and not mine:
            time.sleep(pause)
            pause = min(longest, 1.5 * pause)


def _after(
    interrupt: KeyboardInterrupt, arriving: Iterator[tuple[int, Answered]]
) -> Iterator[tuple[int, Answered]]:
    """Yield what has arrived at a backend, which ends when it is told of an interrupt."""
    if isinstance(arriving, Generator):
        with contextlib.suppress(KeyboardInterrupt, StopIteration):
            yield arriving.throw(interrupt)
            yield from arriving


def _kind(request: Request) -> str:
    """Return what kind of evidence a request is for."""
    if request.choices:
        return "decision"
    return "labels" if request.answers else "text"


def _usage(reply: Reply, *, from_cache: bool) -> Usage:
    if from_cache:
        return Usage(n_cache_hits=1)
    return Usage(1, 0, reply.prompt_tokens, reply.completion_tokens)
