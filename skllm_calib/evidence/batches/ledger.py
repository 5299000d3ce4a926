"""Ledger: which questions are in which batch, and what has come back, in the storage of a cache.

A batch is noted before it is handed in, with the names of its lines, and under its name at the
provider as soon as that is known. So whoever comes next, on any machine, finds it: at the moments
in between by what the provider lists. Results are safe here before the batch is crossed out.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from skllm_calib.evidence.backends.hosted.batches import (
    BatchService,
    Handed,
    NotThereError,
    Standing,
)
from skllm_calib.evidence.backends.hosted.failures import Problem
from skllm_calib.evidence.backends.hosted.replay import Line, LineResult
from skllm_calib.evidence.storage import Storage, failure_key
from skllm_calib.evidence.storage.base import BATCH, understood
from skllm_calib.exceptions import BackendError, RateLimited

__all__ = ["Ledger"]

_SETTLING = 10.0  # seconds after which a call that was sent has made its batch, or never will
_MOMENT = 0.2  # seconds between two attempts to have one's turn
_AT_ONCE = 500  # results kept in one transaction
_KEPT_FOR = 25 * 86_400.0  # seconds for which all providers keep results
_LATER = 86_400.0  # beyond the clock of any machine


class Ledger:
    """A context manager: the batches of one model, which one at a time may look at and change.

    Parameters
    ----------
    service : BatchService
    storage : Storage
    name : str
        Of the model, for the storage.
    """

    def __init__(self, service: BatchService, storage: Storage, name: str) -> None:
        self._service = service
        self._storage = storage
        self._name = name
        self._turn = storage.claims()
        self._batches: dict[str, Handed] = {}  # by token
        self._holder: dict[str, str] = {}  # by line, the token of its batch
        self._looked_at: set[str] = set()
        self._awaited: set[str] = set()
        self._wanted: dict[str, list[tuple[str, bytes]]] = {}  # names and lines, by path
        self._n_bytes = 0
        self._is_full = False

    def __enter__(self) -> Ledger:
        """Wait until nobody else looks, and read what is noted."""
        while not self._turn.claim([f"{BATCH}turn-{self._name}"], json.loads).mine:
            time.sleep(_MOMENT)
        self._batches = _read(self._storage.change(_shared(self._name), lambda text: text or "{}"))
        lists = self._storage.get([_list_key(token) for token in self._batches])
        for token in list(self._batches):
            if (names := lists.get(_list_key(token))) is not None:
                self._holder |= dict.fromkeys(json.loads(names), token)
            else:  # removed with all that was in the cache
                self._cross_out(token)
        return self

    def __exit__(self, *exc: object) -> None:
        """Let others look."""
        self._turn.release()

    @property
    def awaited(self) -> tuple[str, ...]:
        """The batches that are waited for: their names at the provider, or here."""
        batches = (batch for token, batch in self._batches.items() if token in self._awaited)
        return tuple(batch.id or batch.token for batch in batches)

    def results(self, names: Sequence[str]) -> dict[str, LineResult]:
        """Return what came back for lines, also from batches that are over by now."""
        found = self._kept(names)
        tokens = {self._holder.get(name) for name in names if name not in found}
        new = [t for t in tokens if t is not None and t not in self._looked_at]
        self._looked_at.update(new)
        n_over = sum(self._collect(token) for token in new)
        if n_over:
            found |= self._kept([name for name in names if name not in found])
        return found

    def forget(self, names: Iterable[str]) -> None:
        """Remove results that were read to the end."""
        self._remove([key for name in names for key in _keys(name)])

    def wait_for(self, line: Line) -> None:
        """Note a line for the next batch if it is in none; one that is full is handed in."""
        if (token := self._holder.get(line.id)) is not None:
            self._awaited.add(token)
            return
        written, limits = self._service.written(line), self._service.limits
        waiting = self._wanted.setdefault(line.path, [])
        self._n_bytes += len(written) + 1
        if waiting and (len(waiting) == limits.n_lines or self._n_bytes > limits.n_bytes):
            self.hand_in()
            self._n_bytes = len(written) + 1
            waiting = self._wanted.setdefault(line.path, [])
        waiting.append((line.id, written))

    def hand_in(self) -> None:
        """Hand in what is wanted."""
        wanted, self._wanted, self._n_bytes = self._wanted, {}, 0
        if self._is_full:
            return  # what is under way has to be over first
        for path, lines in wanted.items():
            self._hand_in(path, lines)

    def _hand_in(self, path: str, lines: Sequence[tuple[str, bytes]]) -> None:
        batch = Handed(secrets.token_hex(16), len(lines))
        names = [name for name, _ in lines]
        self._storage.put({_list_key(batch.token): json.dumps(names)})
        self._note(batch)

        def note_sent() -> None:
            self._note(replace(batch, sent=self._now()))

        try:
            made = self._service.submit(batch.token, path, [w for _, w in lines], note_sent)
        except BackendError:
            if self._batches[batch.token].sent is None:
                self._cross_out(batch.token)
            raise
        if isinstance(made, Problem):
            if 400 <= made.status < 500 and made.status != 408:
                self._cross_out(batch.token)
            raise self._service.failure(made)
        self._note(replace(self._batches[batch.token], id=made))
        self._holder |= dict.fromkeys(names, batch.token)
        self._looked_at.add(batch.token)
        self._awaited.add(batch.token)

    def _collect(self, token: str) -> bool:
        """Keep the results of a batch if it is over; tell whether there are new ones."""
        batch = self._batches[token]
        if batch.id is None and (batch := self._settled(batch)).id is None:
            return False
        try:
            standing = self._service.look(str(batch.id))
            if not standing.is_over:
                return False
            if standing.error:
                self._cross_out(token)
                self._refused(standing)
                return False
            self._keep_results(token, standing)
        except NotThereError as error:
            self._keep_nothing(batch, error)
        self._cross_out(token)
        return True

    def _keep_results(self, token: str, standing: Standing) -> None:
        missing = {name for name, holder in self._holder.items() if holder == token}
        for results in _in_parts(self._service.results(standing)):
            ours = [result for result in results if result.id in missing]
            self._keep(ours)
            missing.difference_update(result.id for result in ours)
        said = f"the batch ended ({standing.status}) before this line was answered"
        lost = (LineResult(name, 408, {"message": said}) for name in sorted(missing))
        for results in _in_parts(lost):
            self._keep(results)

    def _keep_nothing(self, batch: Handed, error: BackendError) -> None:
        """Give up what a provider has removed in the meantime; it is to be asked again."""
        if self._now() < (batch.sent or 0.0) + _KEPT_FOR:
            raise BackendError(
                f"the batch {batch.id} is not found: it is seen with the key that it was handed in "
                f"with, and was perhaps removed; {error}"
            )
        self._keep_results(batch.token, Standing(str(batch.id), "removed", is_over=True))

    def _settled(self, batch: Handed) -> Handed:
        """Find out whether a batch was made, of which nobody has noted the name."""
        others = {b.id for b in self._batches.values() if b.id is not None}
        members = {name for name, holder in self._holder.items() if holder == batch.token}
        while (sent := batch.sent) is not None:
            found = self._service.find(batch, members, others)
            if found.id is not None:
                batch = replace(batch, id=found.id)
                self._note(batch)
                return batch
            if found.is_open:
                return batch
            left = sent + _SETTLING - self._now()
            if left <= 0:
                break
            time.sleep(min(left, 1.0))
        self._cross_out(batch.token)
        return batch

    def _refused(self, standing: Standing) -> None:
        """Raise why a batch was refused as a whole, unless it is only too early."""
        if standing.is_full and self._batches:
            self._is_full = True
            return
        kind = RateLimited if standing.is_full else BackendError
        raise kind(
            f"the batch {standing.id} was refused, and nothing of it was asked: {standing.error}. "
            "What is to be asked goes into another batch at the next call"
        )

    # -- storage ---------------------------------------------------------------------------------

    def _kept(self, names: Sequence[str]) -> dict[str, LineResult]:
        keys = {name: _keys(name) for name in names}
        values = self._storage.get([key for pair in keys.values() for key in pair])
        read, damaged = understood(values, json.loads)
        self._remove(damaged)
        kept = {name: read.get(good) or read.get(bad) for name, (good, bad) in keys.items()}
        return {name: LineResult(name, *one) for name, one in kept.items() if one}

    def _keep(self, results: Sequence[LineResult]) -> None:
        items = {}
        for name, status, body in results:
            good, bad = _keys(name)
            items[bad if status >= 400 else good] = json.dumps([status, body])
        if items:
            self._storage.put(items)

    def _remove(self, keys: Sequence[str]) -> None:
        if keys:
            self._storage.remove(keys, time.time() + _LATER)

    def _now(self) -> float:
        """Return the time by the clock that all share."""
        times: list[float] = []

        def look(text: str | None, now: float) -> str:
            times.append(now)
            return text or "{}"

        self._storage.change_at(_shared(self._name), look)
        return times[0]

    def _note(self, batch: Handed) -> None:
        self._batches[batch.token] = batch

        def change(text: str | None) -> str:
            return _written({**_read(text), batch.token: batch})

        self._storage.change(_shared(self._name), change)

    def _cross_out(self, token: str) -> None:
        self._batches.pop(token, None)
        self._holder = {name: t for name, t in self._holder.items() if t != token}

        def change(text: str | None) -> str:
            return _written({t: batch for t, batch in _read(text).items() if t != token})

        self._storage.change(_shared(self._name), change)
        self._remove([_list_key(token)])


def _read(text: str | None) -> dict[str, Handed]:
    return {batch["token"]: Handed(**batch) for batch in json.loads(text or "{}").values()}


def _written(batches: Mapping[str, Handed]) -> str:
    return json.dumps({token: asdict(batch) for token, batch in batches.items()})


def _shared(name: str) -> str:
    return f"batches of {name}"


def _list_key(token: str) -> str:
    return f"{BATCH}list-{token}"


def _keys(name: str) -> tuple[str, str]:
    """Return where the result of a line is kept, and where an error is: as failures are."""
    return f"{BATCH}line-{name}", failure_key(f"{BATCH}line-{name}")


def _in_parts(results: Iterable[LineResult]) -> Iterator[list[LineResult]]:
    part: list[LineResult] = []
    for result in results:
        part.append(result)
        if len(part) == _AT_ONCE:
            yield part
            part = []
    yield part
