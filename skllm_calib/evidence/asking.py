"""The one place where requests, cache and backend meet.

Rows are a stream: some are open at a time, each goes on when its own answers have come, and its
record is handed on when it is done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.kept_failures import (
    KEPT,
    PAID_MEANWHILE,
    read_failure,
    write_failure,
)
from skllm_calib.evidence.metered_runs import MeteredRuns
from skllm_calib.evidence.money.spending import Meter
from skllm_calib.evidence.row_dialogues import RowDialogue, RowRecord
from skllm_calib.evidence.runs import Runs, open_runs
from skllm_calib.evidence.signals.base import Answered
from skllm_calib.evidence.storage import failure_key
from skllm_calib.evidence.usage import Usage
from skllm_calib.evidence.workers import Worker
from skllm_calib.exceptions import BackendError
from skllm_calib.utils.progress import bar

__all__ = ["Done", "Row", "RowRecord", "ask_each", "ask_in_batches", "ask_rows"]

Row = Mapping[str, str] | BackendError
"""The texts of a row by field name, or why it cannot be asked about."""
Done = tuple[int, RowRecord]
"""The position of a row and what is known about it."""

_GROUP = 256  # rows that are looked up in the cache together
_N_OPEN = 8_192  # rows that wait for answers
_N_HELD = 4_096  # failed rows that are held back until it is clear whether any can be answered
_N_RECENT = 4_096  # answers that are remembered where there is no cache
_N_SETTLED, _SETTLED_PERIOD = 1_000, 5.0  # claims that are given up together; seconds
_PAUSES = (0.05, 1.0)  # seconds between two looks at what another worker is asking, growing


def ask_rows(model: BoundModel, rows: Sequence[Row]) -> list[RowRecord]:
    """Ask what is not known yet, and return a record of each row.

    Parameters
    ----------
    model : BoundModel
        Which model to ask, what to ask, and where each reply is kept as it arrives.
    rows : sequence of mapping or BackendError
        The texts of each row by field name, or why it cannot be asked about.

    Returns
    -------
    list of RowRecord
        In the order of the rows. A row that failed has a record like any other.

    Raises
    ------
    BackendError
        If the run was ended by a failure that every row shares, and none was answered.
    """
    records = dict(ask_each(model, rows, n_rows=len(rows)))
    return [records[i] for i in range(len(rows))]


def ask_each(
    model: BoundModel, rows: Iterable[Row], *, n_rows: int | None = None
) -> Iterator[Done]:
    """Ask what is not known yet, and yield the position and the record of each row once it is done.

    As :func:`ask_in_batches`, which yields those that are done at the same moment together.
    """
    for batch in ask_in_batches(model, rows, n_rows=n_rows):
        yield from batch


def ask_in_batches(
    model: BoundModel,
    rows: Iterable[Row],
    *,
    n_rows: int | None = None,
    n_ahead: int | None = None,
) -> Generator[list[Done], None, None]:
    """Ask what is not known yet, and yield positions and records of rows once they are done.

    Memory does not grow with the number of rows.

    Parameters
    ----------
    model : BoundModel
        Which model to ask, what to ask, and where each reply is kept as it arrives.
    rows : iterable of mapping or BackendError
        The texts of each row by field name, or why it cannot be asked about.
    n_rows : int or None, default=None
        How many rows there are, to show the progress.
    n_ahead : int or None, default=None
        How many rows are begun at most, counted from the first one that is not done.

    Raises
    ------
    BackendError
        If the run was ended by a failure that every row shares, and none was answered.
    """
    meter = model.meter()
    with contextlib.closing(meter), bar(model.verbose, "rows") as progress:
        exchange = _Exchange(model, rows, n_ahead, meter)
        n_done = 0
        for batch in _answered(exchange.records(), exchange):
            n_done += len(batch)
            meter.count_hits(sum(record.usage.n_cache_hits for _, record in batch))
            meter.tell()
            if progress is not None:
                progress(n_done, n_rows or n_done, str(meter.usage))
            yield batch


def _answered(batches: Iterator[list[Done]], exchange: _Exchange) -> Iterator[list[Done]]:
    """Yield records; raise the failure that all rows share."""
    held: list[Done] = []
    for batch in batches:
        fatal = exchange.fatal
        held += batch
        if fatal is None or not all(issubclass(end, type(fatal)) for end in exchange.ends):
            yield held
            held = []
        elif len(held) >= _N_HELD:
            raise fatal
    if held and exchange.fatal is not None:
        raise exchange.fatal


class _Exchange:
    """Takes requests to the cache and the backend, and answers to the rows that wait for them."""

    def __init__(
        self, model: BoundModel, rows: Iterable[Row], n_ahead: int | None, meter: Meter
    ) -> None:
        self._model = model
        self._meter = meter
        self._rows = enumerate(rows)
        self._n_ahead = n_ahead
        self._group = max(1, min(_GROUP, (n_ahead or _N_OPEN) // 4))
        self._worker = None if model.cache is None else Worker(model.cache, Reply.from_json)
        self._keeps_failures = model.cache is not None and model.cache.keep_failures
        self._runs: Runs | None = None
        self._next_row = 0
        self._all_begun = False
        self._open: dict[int, RowDialogue] = {}  # by position
        self._pending: list[RowDialogue] = []  # want what was not looked up yet
        self._again: list[RowDialogue] = []  # failed in replies of an earlier call
        self._asked_again: set[int] = set()
        self._done: list[Done] = []
        self.ends: set[type] = set()  # of the rows asked about: kinds of failures, or NoneType
        self._waiting: dict[str, list[RowDialogue]] = {}  # by the keys of what is being answered
        self._elsewhere: dict[str, Request] = {}  # what another worker is asking
        self._recent: dict[str, Answered] = {}
        self._settled: list[str] = []  # claims that are not needed any more
        self._n_handed = 0  # out to the backend, and not taken
        self._pause = _PAUSES[0]
        self._next_look = self._next_release = 0.0

    @property
    def fatal(self) -> BackendError | None:
        """What ended a run of the backend."""
        return None if self._runs is None else self._runs.fatal

    def records(self) -> Iterator[list[Done]]:
        """Yield positions and records of rows once they are done."""
        try:
            while True:
                looked_up = self._look_up_group()
                taken = self._take_arrived(wait=not looked_up and not self._done)
                if self._done:
                    done, self._done = self._done, []
                    yield done
                if looked_up or taken:
                    continue
                if self._all_begun and not self._open:
                    return
                if self._elsewhere and not self._n_handed:
                    self._wait_for_others()
        except BaseException:
            self._keep_the_rest()
            raise
        finally:
            if self._runs is not None:
                self._runs.close()
            if self._worker is not None:
                self._worker.release()

    # -- rows ------------------------------------------------------------------------------------

    def _look_up_group(self) -> bool:
        """Look up what rows want, many at a time; return whether there were any."""
        is_idle = self._runs is None or self._runs.is_idle
        lacks_work = self._runs is None or self._runs.n_waiting < self._runs.n_ahead
        while lacks_work and len(self._pending) < self._group and not self._done:
            if not self._begin_rows():
                break
        if self._again and (is_idle or len(self._again) >= self._group):
            self._ask_again()
        is_group = lacks_work and len(self._pending) >= self._group
        if not self._pending or not (is_idle or is_group):
            return self._look_elsewhere()
        rows, self._pending = self._pending, []
        self._look_up(rows)
        return True

    def _begin_rows(self) -> bool:
        """Begin so many rows that they make a group, if there are not too many already."""
        n_begun = len(self._open)
        if self._n_ahead is not None:
            n_begun = self._next_row - next(iter(self._open), self._next_row)
        if self._all_begun or n_begun + self._group > (self._n_ahead or _N_OPEN):
            return False
        rows = list(islice(self._rows, self._group))
        self._all_begun = len(rows) < self._group
        for i, row in rows:
            if isinstance(row, BackendError):
                self._done.append((i, RowRecord(None, row, (), Usage())))
            else:
                self._begin(i, row)
        self._next_row += len(rows)
        return bool(rows)

    def _begin(self, i: int, fields: Mapping[str, str]) -> None:
        model = self._model
        dialogue = model.averaged_signal.ask(model.question(fields))
        self._open[i] = row = RowDialogue(i, fields, dialogue, model.identity)
        self._go_on(row)

    def _go_on(self, row: RowDialogue) -> None:
        """Look up what a row wants next, or hand on its record."""
        if not row.is_over:
            self._pending.append(row)
            return
        record = row.record(self._model.max_off_label)
        if record.failure is not None and self._may_ask_again(row):
            self._again.append(row)
            return
        del self._open[row.position]
        self._asked_again.discard(row.position)
        self.ends.add(type(record.failure))
        self._done.append((row.position, record))

    def _may_ask_again(self, row: RowDialogue) -> bool:
        """Tell whether a failure was read from replies that nobody asked for in this call."""
        return (
            self._worker is not None
            and not self._keeps_failures
            and not row.was_asked
            and bool(row.keys)
            and row.position not in self._asked_again
        )

    def _ask_again(self) -> None:
        """Forget replies in which there was no answer, and ask for them again, once."""
        rows, self._again = self._again, []
        cache = self._model.cache
        assert cache is not None
        self._asked_again.update(row.position for row in rows)
        keys = {key for row in rows for key in row.keys}
        if cache.remove_earlier(list(keys), self._model.began):
            for row in rows:
                self._begin(row.position, row.fields)
        else:
            for row in rows:
                self._go_on(row)

    # -- the cache -------------------------------------------------------------------------------

    def _look_up(self, rows: Collection[RowDialogue]) -> None:
        """Get the answers that are known, and hand out the other requests."""
        wanted: dict[str, Request] = {}
        for row in rows:
            for key, request in list(row.missing.items()):
                if key in self._recent:
                    self._give(row, key, self._recent[key], from_cache=True)
                elif key in self._waiting:
                    self._waiting[key].append(row)
                else:
                    self._waiting[key], wanted[key] = [row], request
        self._recall(wanted)
        if self._worker is None:
            self._hand_out(wanted)
            return
        # The usual case in a search: all there, and nothing to write.
        self._deliver_known(self._worker.known([key for key in wanted if key in self._waiting]))
        self._claim({key: r for key, r in wanted.items() if key in self._waiting})

    def _claim(self, requests: Mapping[str, Request]) -> bool:
        """Hand out the requests that no other worker is asking; tell whether any was settled.

        What another worker is asking is looked up now and then. Nobody waits for it before all that
        he has claimed himself is answered, so no two can wait for each other; what the other one
        fails to get is asked by the first who still waits for it.
        """
        if not requests:
            return False
        assert self._worker is not None
        known, mine = self._worker.claim(list(requests))
        self._deliver_known(known)
        to_ask = {key: requests[key] for key in mine}
        self._recall(to_ask)  # what another worker has paid for meanwhile
        self._hand_out(to_ask)
        elsewhere = {
            key: r for key, r in requests.items() if key not in known and key not in to_ask
        }
        self._elsewhere |= elsewhere
        return len(elsewhere) < len(requests)

    def _look_elsewhere(self) -> bool:
        """Look, from time to time, what other workers have got."""
        if not self._elsewhere or time.monotonic() < self._next_look:
            return False
        requests, self._elsewhere = self._elsewhere, {}
        found = self._claim(requests)
        first, longest = _PAUSES
        self._pause = first if found else min(longest, 1.5 * self._pause)
        self._next_look = time.monotonic() + self._pause
        return found

    def _wait_for_others(self) -> None:
        assert self._worker is not None
        self._worker.release()
        time.sleep(max(0.0, self._next_look - time.monotonic()))

    def _recall(self, keys: Collection[str]) -> None:
        """Take what is known of failures that were paid for: in this call, or where they are kept.

        This call ends later than it began: others may have paid in between.
        """
        known = self._model.paid_failures
        if self._model.cache is not None:
            note, since = (
                (KEPT, 0.0) if self._keeps_failures else (PAID_MEANWHILE, self._model.began)
            )
            kept = self._model.cache.get_failures([k for k in keys if k not in known], since)
            for key, value in kept.items():
                if (failure := read_failure(value, note)) is not None:
                    known[key] = failure
        self._deliver_known({key: known[key] for key in keys if key in known})

    def _release(self, *, key: str) -> None:
        """Give up claims that are not needed any more, many at a time: others may wait for them."""
        self._settled.append(key)
        now = time.monotonic()
        if len(self._settled) >= _N_SETTLED or now >= self._next_release:
            assert self._worker is not None
            self._worker.release(self._settled)
            self._settled, self._next_release = [], now + _SETTLED_PERIOD

    # -- the backend -----------------------------------------------------------------------------

    def _hand_out(self, requests: Mapping[str, Request]) -> None:
        """Have the backend answer what is not known: the only way of a request out of here."""
        for key, request in requests.items():
            if key not in self._waiting:
                continue
            if self._runs is None:
                storage = None if self._model.cache is None else self._model.cache.storage
                runs = open_runs(self._model.backend, storage, request)
                self._runs = MeteredRuns(runs, self._meter)
            self._n_handed += 1
            if (failure := self._runs.put(key, request)) is not None:
                self._take(key, failure)

    def _take_arrived(self, *, wait: bool) -> bool:
        """Take in what has arrived; return whether there was anything."""
        n_taken = 0
        while self._runs is not None and n_taken < self._group:
            arrived = self._runs.take(wait=wait and not n_taken)
            if arrived is None:
                break
            self._take(*arrived)
            n_taken += 1
        return n_taken > 0

    def _take(self, key: str, answer: Answered) -> None:
        """Take in what a request came to: the only way of an answer of the backend in here."""
        self._keep(key, answer)
        self._n_handed -= 1
        self._deliver(key, answer, was_asked=True)
        if self._worker is not None:
            self._release(key=key)

    def _keep(self, key: str, answer: Answered) -> None:
        if self._worker is not None and isinstance(answer, Reply):
            self._worker.keep(key, answer.to_json())  # safe before it is used
        elif isinstance(answer, BackendError) and answer.is_billed:
            self._model.paid_failures[key] = answer
            if self._worker is not None:
                self._worker.keep(failure_key(key), write_failure(answer))

    def _keep_the_rest(self) -> None:
        """Keep what has arrived when something went wrong: all of it is paid for."""
        with contextlib.suppress(Exception):
            for key, answer in self._runs.rest() if self._runs is not None else ():
                self._keep(key, answer)

    # -- from answers to rows --------------------------------------------------------------------

    def _deliver_known(self, answers: Mapping[str, Answered]) -> None:
        for key, answer in answers.items():
            self._deliver(key, answer, was_asked=False)

    def _deliver(self, key: str, answer: Answered, *, was_asked: bool) -> None:
        """Give an answer to the rows that wait for it; the first of them has paid for it."""
        if self._worker is None:
            self._recent[key] = answer
            if len(self._recent) > _N_RECENT:
                del self._recent[next(iter(self._recent))]
        is_paid = was_asked
        for row in self._waiting.pop(key, ()):
            row.was_asked |= was_asked
            self._give(row, key, answer, from_cache=not is_paid)
            is_paid = False

    def _give(self, row: RowDialogue, key: str, answer: Answered, *, from_cache: bool) -> None:
        if row.take(key, answer, from_cache=from_cache):
            self._go_on(row)
